//! Embeds the C headers that `image build` hands to clang: those of the very
//! libbpf this crate links, and the eBPF API of this project. Compiles the objects
//! of our own, so that they need no compiler where ig-py runs.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    // Exported by libbpf-sys (links = "bpf") to its direct dependents.
    let libbpf =
        PathBuf::from(env::var_os("DEP_BPF_INCLUDE").expect("libbpf-sys exports its headers"));
    let api = manifest.join("../build/include");

    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={}", api.display());

    let mut headers = Vec::new();
    collect(&libbpf, &libbpf.join("bpf"), &mut headers);
    collect(&api, &api.join("gadget"), &mut headers);
    headers.sort();

    let mut source = String::from("pub static HEADERS: &[(&str, &[u8])] = &[\n");
    for (name, path) in &headers {
        println!("cargo:rerun-if-changed={}", path.display());
        writeln!(source, "    ({name:?}, include_bytes!({:?})),", path.display().to_string())
            .expect("writing to a string");
    }
    source.push_str("];\n");
    fs::write(out.join("headers.rs"), source).expect("OUT_DIR is writable");
    println!("cargo:rerun-if-env-changed=CLANG");
    compile(&manifest.join("scout"), "v2", &libbpf, &out);
    // v3 has atomic exchanges (Linux 5.12).
    compile(&manifest.join("sockets"), "v3", &libbpf, &out);
}

/// `NAME/NAME.bpf.c` to `NAME.bpf.o`. BPF is the same for every processor of one byte order.
fn compile(directory: &Path, cpu: &str, libbpf: &Path, out: &Path) {
    println!("cargo:rerun-if-changed={}", directory.display());
    let name = directory.file_name().expect("a directory").to_string_lossy();
    let source = directory.join(format!("{name}.bpf.c"));
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".into());
    let big = env::var("CARGO_CFG_TARGET_ENDIAN").is_ok_and(|e| e == "big");
    let status = Command::new(&clang)
        .args(["-target", if big { "bpfeb" } else { "bpfel" }, "-O2", "-g"])
        .arg(format!("-mcpu={cpu}"))
        .args(["-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-I"])
        .arg(directory)
        .arg("-I")
        .arg(libbpf)
        .arg("-c")
        .arg(&source)
        .arg("-o")
        .arg(out.join(format!("{name}.bpf.o")))
        .status()
        .unwrap_or_else(|e| panic!("building the core needs clang ({clang}; CLANG names it): {e}"));
    assert!(status.success(), "{clang} does not compile {}", source.display());
}

/// Adds every `*.h` below `dir` as (path relative to `root`, absolute path).
fn collect(root: &Path, dir: &Path, headers: &mut Vec<(String, PathBuf)>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(root, &path, headers);
        } else if path.extension().is_some_and(|e| e == "h") {
            let name = path.strip_prefix(root).expect("below root");
            let absolute = path.canonicalize().expect("an existing file");
            headers.push((name.to_string_lossy().into_owned(), absolute));
        }
    }
}
