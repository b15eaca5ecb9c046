//! BTF, and its types as C by libbpf's dumper.

use std::ffi::{c_char, c_void, CString};
use std::io;

use libbpf_sys as sys;

use super::log;
use crate::errors::{Error, Kind, Result};

/// A distribution's vmlinux BTF has 5 to 10 MiB.
const MAX_BTF: usize = 256 << 20;
const BTF_MAGIC: u16 = 0xeb9f;
/// magic, version, flags, hdr_len, type_off, type_len, str_off, str_len.
const BTF_HEADER: usize = 24;

pub(super) struct Btf(pub(super) *mut sys::btf);

impl Btf {
    pub(super) fn parse(raw: &[u8]) -> Result<Btf> {
        check_header(raw)?;
        // SAFETY: pointer and length are of one live slice; libbpf copies it.
        let (btf, said) =
            log::capture(|| unsafe { sys::btf__new(raw.as_ptr().cast(), raw.len() as u32) });
        if btf.is_null() {
            return Err(fail("libbpf refuses the BTF blob", said));
        }
        Ok(Btf(btf))
    }

    /// The running kernel's BTF; None when the kernel has none.
    pub(super) fn of_kernel() -> Option<Btf> {
        // SAFETY: no arguments; null on failure, else owned by us.
        let btf = unsafe { sys::btf__load_vmlinux_btf() };
        (!btf.is_null()).then_some(Btf(btf))
    }
}

impl Drop for Btf {
    fn drop(&mut self) {
        // SAFETY: owned since it was made and freed once.
        unsafe { sys::btf__free(self.0) }
    }
}

struct Dump(*mut sys::btf_dump);

impl Drop for Dump {
    fn drop(&mut self) {
        // SAFETY: owned since btf_dump__new and freed once, before its BTF.
        unsafe { sys::btf_dump__free(self.0) }
    }
}

fn u32_at(raw: &[u8], at: usize) -> u64 {
    let mut word = [0; 4];
    word.copy_from_slice(&raw[at..at + 4]);
    u64::from(u32::from_ne_bytes(word))
}

/// Checks the header in 64 bit arithmetic, before any C code reads the blob.
fn check_header(raw: &[u8]) -> Result<()> {
    let bad = |why: String| Err(Error::new(Kind::Btf, format!("not a BTF blob: {why}")));
    if raw.len() < BTF_HEADER {
        return bad(format!("{} bytes are shorter than its header", raw.len()));
    }
    if raw.len() > MAX_BTF {
        return bad(format!("{} bytes, at most {MAX_BTF} are accepted", raw.len()));
    }
    let magic = u16::from_ne_bytes([raw[0], raw[1]]);
    if magic != BTF_MAGIC {
        return bad(format!("magic {magic:#06x} is not {BTF_MAGIC:#06x}"));
    }
    let header = u32_at(raw, 4);
    if header < BTF_HEADER as u64 || header > raw.len() as u64 {
        return bad(format!("header length {header}"));
    }
    let room = raw.len() as u64 - header;
    for (what, offset, length) in
        [("types", u32_at(raw, 8), u32_at(raw, 12)), ("strings", u32_at(raw, 16), u32_at(raw, 20))]
    {
        if offset + length > room {
            return bad(format!("{what} reach {} of {room} bytes", offset + length));
        }
    }
    let (strings, length) = ((header + u32_at(raw, 16)) as usize, u32_at(raw, 20) as usize);
    if length == 0 || raw[strings] != 0 || raw[strings + length - 1] != 0 {
        return bad("the string section is not bounded by NUL".into());
    }
    Ok(())
}

unsafe extern "C" fn on_text(
    ctx: *mut c_void,
    format: *const c_char,
    args: *mut sys::__va_list_tag,
) {
    // SAFETY: ctx is the Vec given to btf_dump__new below, used by one thread only.
    let sink = unsafe { &mut *ctx.cast::<Vec<u8>>() };
    // SAFETY: libbpf passes a printf format and its matching va_list.
    unsafe { log::format_va(format, args.cast(), sink) };
}

fn fail(what: &str, said: String) -> Error {
    let cause = io::Error::last_os_error();
    Error::new(Kind::Btf, format!("{what}: {cause}")).with_log(said)
}

/// C declarations of every type of `raw`, in dependency order.
pub fn to_c(raw: &[u8]) -> Result<String> {
    let btf = Btf::parse(raw)?;
    let mut text: Vec<u8> = Vec::with_capacity(raw.len() / 2);
    let sink: *mut Vec<u8> = &mut text;
    let (dump, said) = log::capture(|| {
        // SAFETY: btf outlives the dumper (dropped after it); sink outlives both.
        unsafe { sys::btf_dump__new(btf.0, Some(on_text), sink.cast(), std::ptr::null()) }
    });
    if dump.is_null() {
        return Err(fail("libbpf cannot prepare the BTF dump", said));
    }
    let dump = Dump(dump);
    // SAFETY: a live BTF.
    let count = unsafe { sys::btf__type_cnt(btf.0) };
    for id in 1..count {
        // SAFETY: a live dumper and an id below type_cnt.
        let (rc, said) = log::capture(|| unsafe { sys::btf_dump__dump_type(dump.0, id) });
        if rc != 0 {
            return Err(fail(&format!("libbpf cannot print BTF type {id}"), said));
        }
    }
    drop(dump);
    String::from_utf8(text).map_err(|_| Error::new(Kind::Btf, "type names are not UTF-8"))
}

/// Version of the libbpf that is linked into the core.
pub fn libbpf_version() -> String {
    // SAFETY: returns a static NUL-terminated string.
    let text = unsafe { std::ffi::CStr::from_ptr(sys::libbpf_version_string()) };
    CString::from(text).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(words: [u32; 5]) -> Vec<u8> {
        let mut raw = BTF_MAGIC.to_ne_bytes().to_vec();
        raw.extend([1, 0]);
        for w in words {
            raw.extend(w.to_ne_bytes());
        }
        raw
    }

    #[test]
    fn refuses_absurd_headers() {
        assert!(to_c(b"").is_err());
        assert!(to_c(&[0; 64]).is_err());
        assert!(to_c(&header([24, 0, u32::MAX, u32::MAX, u32::MAX])).is_err());
        assert!(to_c(&header([u32::MAX, 0, 0, 0, 1])).is_err());
        assert!(to_c(&header([24, 0, 0, 0, 0])).is_err());
    }

    #[test]
    fn prints_an_int_typedef() {
        let mut raw = header([24, 0, 28, 28, 14]);
        // INT "int" 32 bit signed; TYPEDEF "word_t" -> 1.
        for w in [1u32, 1 << 24, 4, 1 << 24 | 32] {
            raw.extend(w.to_ne_bytes());
        }
        for w in [5u32, 8 << 24, 1] {
            raw.extend(w.to_ne_bytes());
        }
        raw.extend(b"\0int\0word_t\0\0\0");
        assert_eq!(to_c(&raw).unwrap().trim(), "typedef int word_t;");
    }
}
