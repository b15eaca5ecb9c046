//! Features of the running kernel, found by using them.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use libbpf_sys as sys;

use super::btf::Btf;
use super::map::{self, Map};
use super::mapping::page_size;
use super::perf_probe;
use super::program::{self, btf_id, insn, nothing};
use super::there::{NotThere, Probed};
use crate::errors::{Error, Kind, Result};
use crate::fds::owned;

/// BPF_FUNC_ktime_get_boot_ns.
const KTIME_GET_BOOT_NS: u32 = 125;
/// A hook that every bpf(2) call passes: this process triggers it at once.
const LSM_HOOK: &str = "bpf";
/// Functions that every kernel with BTF has.
const FUNCTIONS: [&str; 2] = ["vfs_read", "do_nanosleep"];

pub fn probe(feature: &str) -> Result<bool> {
    let probed = match feature {
        "ringbuf" => ringbuf(),
        "kprobe" => perf_probe::kprobe(),
        "uprobe" => perf_probe::uprobe(),
        "uprobe_multi" => uprobe_multi(),
        "kprobe_multi" => kprobe_multi(),
        "tracepoint" => perf_probe::tracepoint(),
        "raw_tracepoint" => raw_tracepoint(),
        "fentry" => fentry(),
        "lsm" => lsm(),
        "iter" => iter(),
        "btf" => btf(),
        "boot_ns" => boot_ns(),
        "run_stats" => run_stats(),
        _ => return Err(Error::new(Kind::Unsupported, format!("no feature is named {feature}"))),
    };
    match probed {
        Ok(()) => Ok(true),
        Err(not_there) => not_there.refusal(feature).map_or(Ok(false), Err),
    }
}

fn load(kind: u32, attach_type: u32, target: u32, insns: &[sys::bpf_insn]) -> Probed<OwnedFd> {
    program::load(kind, attach_type, target, insns).map_err(NotThere::of_bpf)
}

fn create(kind: u32, key: u32, value: u32, entries: u32) -> Probed<Map> {
    let fd = map::create("ig_probe", kind, key, value, entries).map_err(NotThere::of_bpf)?;
    Map::from_fd(fd).map_err(|_| NotThere::Lacking)
}

fn open_tracing(program: &OwnedFd) -> Probed<OwnedFd> {
    // SAFETY: an open program; tracing programs know their target, so no name; a fresh descriptor.
    Ok(unsafe { owned(sys::bpf_raw_tracepoint_open(std::ptr::null(), program.as_raw_fd())) }?)
}

fn ringbuf() -> Probed {
    create(sys::BPF_MAP_TYPE_RINGBUF, 0, 0, page_size() as u32).map(drop)
}

fn raw_tracepoint() -> Probed {
    let program = load(sys::BPF_PROG_TYPE_RAW_TRACEPOINT, 0, 0, &nothing())?;
    let name = c"sched_switch".as_ptr();
    // SAFETY: an open program and a static name; a fresh descriptor.
    unsafe { owned(sys::bpf_raw_tracepoint_open(name, program.as_raw_fd())) }?;
    Ok(())
}

fn fentry() -> Probed {
    let mut last = Err(NotThere::Lacking);
    for function in FUNCTIONS {
        last = fentry_of(function);
        if !matches!(last, Err(NotThere::Lacking)) {
            break;
        }
    }
    last
}

fn fentry_of(function: &str) -> Probed {
    let id = btf_id(function, sys::BPF_TRACE_FENTRY)?;
    let program = load(sys::BPF_PROG_TYPE_TRACING, sys::BPF_TRACE_FENTRY, id, &nothing())?;
    open_tracing(&program).map(drop)
}

/// A program can be attached to a hook although the BPF LSM is not active: only a run shows it.
fn lsm() -> Probed {
    let id = btf_id(LSM_HOOK, sys::BPF_LSM_MAC)?;
    let map = create(sys::BPF_MAP_TYPE_ARRAY, 4, 8, 1)?;
    let fd = std::os::fd::AsFd::as_fd(&map).as_raw_fd();
    // r1 = address of the value (pseudo 2); *(u64 *)r1 = 1; r0 = 0; exit.
    let pseudo = (sys::BPF_PSEUDO_MAP_VALUE as u8) << 4 | 1;
    let mut insns = vec![
        insn(sys::BPF_LD | sys::BPF_DW | sys::BPF_IMM, pseudo, 0, fd),
        insn(0, 0, 0, 0),
        insn(sys::BPF_ST | sys::BPF_MEM | sys::BPF_DW, 1, 0, 1),
    ];
    insns.extend(nothing());
    let program = load(sys::BPF_PROG_TYPE_LSM, sys::BPF_LSM_MAC, id, &insns)?;
    let _link = open_tracing(&program)?;
    // The first lookup runs the hook; the second sees what it wrote.
    let ran = (0..2).any(|_| matches!(map.lookup(&[0; 4]), Ok(Some(value)) if value[0] == 1));
    ran.then_some(()).ok_or(NotThere::Lacking)
}

fn link(program: &OwnedFd, kind: u32, options: &mut sys::bpf_link_create_opts) -> Probed {
    options.sz = size_of::<sys::bpf_link_create_opts>() as sys::size_t;
    // SAFETY: an open program; options and what they point to outlive the call; a fresh descriptor.
    unsafe { owned(sys::bpf_link_create(program.as_raw_fd(), 0, kind, options)) }?;
    Ok(())
}

fn uprobe_multi() -> Probed {
    let kind = sys::BPF_TRACE_UPROBE_MULTI;
    let program = load(sys::BPF_PROG_TYPE_KPROBE, kind, 0, &nothing())?;
    // The ELF header: mapped, never executed.
    let offsets: [libc::c_ulong; 1] = [0];
    let mut options = sys::bpf_link_create_opts::default();
    options.__bindgen_anon_1.uprobe_multi.path = c"/proc/self/exe".as_ptr();
    options.__bindgen_anon_1.uprobe_multi.offsets = offsets.as_ptr();
    options.__bindgen_anon_1.uprobe_multi.cnt = 1;
    link(&program, kind, &mut options)
}

fn kprobe_multi() -> Probed {
    let kind = sys::BPF_TRACE_KPROBE_MULTI;
    let program = load(sys::BPF_PROG_TYPE_KPROBE, kind, 0, &nothing())?;
    let mut names = [c"vfs_read".as_ptr()];
    let mut options = sys::bpf_link_create_opts::default();
    options.__bindgen_anon_1.kprobe_multi.syms = names.as_mut_ptr();
    options.__bindgen_anon_1.kprobe_multi.cnt = 1;
    link(&program, kind, &mut options)
}

fn iter() -> Probed {
    let id = btf_id("task", sys::BPF_TRACE_ITER)?;
    let program = load(sys::BPF_PROG_TYPE_TRACING, sys::BPF_TRACE_ITER, id, &nothing())?;
    let (kind, defaults) = (sys::BPF_TRACE_ITER, std::ptr::null());
    // SAFETY: an open program; a fresh descriptor.
    let link = unsafe { owned(sys::bpf_link_create(program.as_raw_fd(), 0, kind, defaults)) }?;
    // SAFETY: an open link; a fresh descriptor.
    unsafe { owned(sys::bpf_iter_create(link.as_raw_fd())) }?;
    Ok(())
}

fn btf() -> Probed {
    Btf::of_kernel().map(drop).ok_or_else(|| io::Error::last_os_error().into())
}

fn boot_ns() -> Probed {
    let mut insns = vec![insn(sys::BPF_JMP | sys::BPF_CALL, 0, 0, KTIME_GET_BOOT_NS as i32)];
    insns.extend(nothing());
    load(sys::BPF_PROG_TYPE_SOCKET_FILTER, 0, 0, &insns).map(drop)
}

fn run_stats() -> Probed {
    // SAFETY: no pointers; a fresh descriptor.
    unsafe { owned(sys::bpf_enable_stats(sys::BPF_STATS_RUN_TIME)) }.map_err(NotThere::of_bpf)?;
    Ok(())
}
