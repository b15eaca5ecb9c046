//! Features of the running kernel, found by using them.

use std::os::fd::{AsRawFd, OwnedFd};

use libbpf_sys as sys;

use super::btf::Btf;
use super::map::Map;
use super::mapping::page_size;
use super::perf_probe;
use super::program::{btf_id, insn, load, load_nothing, nothing};
use super::statistics::Counting;
use crate::errors::{Error, Kind, Result};
use crate::fds::owned;

/// BPF_FUNC_ktime_get_boot_ns.
const KTIME_GET_BOOT_NS: u32 = 125;
/// A hook that every bpf(2) call passes: this process triggers it at once.
const LSM_HOOK: &str = "bpf";
/// Functions that every kernel with BTF has.
const FUNCTIONS: [&str; 2] = ["vfs_read", "do_nanosleep"];

pub fn probe(feature: &str) -> Result<bool> {
    Ok(match feature {
        "ringbuf" => ringbuf(),
        "kprobe" => perf_probe::kprobe(),
        "uprobe" => perf_probe::uprobe(),
        "uprobe_multi" => uprobe_multi(),
        "kprobe_multi" => kprobe_multi(),
        "tracepoint" => perf_probe::tracepoint(),
        "raw_tracepoint" => raw_tracepoint(),
        "fentry" => FUNCTIONS.iter().any(|f| fentry(f)),
        "lsm" => lsm(),
        "iter" => iter(),
        "btf" => btf(),
        "boot_ns" => boot_ns(),
        "run_stats" => Counting::begin().is_ok(),
        _ => return Err(Error::new(Kind::Unsupported, format!("no feature is named {feature}"))),
    })
}

fn open_tracing(program: &OwnedFd) -> Option<OwnedFd> {
    // SAFETY: an open program; tracing programs know their target, so no name; a fresh descriptor.
    unsafe { owned(sys::bpf_raw_tracepoint_open(std::ptr::null(), program.as_raw_fd())) }.ok()
}

fn ringbuf() -> bool {
    Map::create("ig_probe", sys::BPF_MAP_TYPE_RINGBUF, 0, 0, page_size() as u32).is_ok()
}

fn raw_tracepoint() -> bool {
    let Some(program) = load_nothing(sys::BPF_PROG_TYPE_RAW_TRACEPOINT) else { return false };
    let name = c"sched_switch".as_ptr();
    // SAFETY: an open program and a static name; a fresh descriptor.
    unsafe { owned(sys::bpf_raw_tracepoint_open(name, program.as_raw_fd())) }.is_ok()
}

fn fentry(function: &str) -> bool {
    let Some(id) = btf_id(function, sys::BPF_TRACE_FENTRY) else { return false };
    load(sys::BPF_PROG_TYPE_TRACING, sys::BPF_TRACE_FENTRY, id, &nothing())
        .is_some_and(|program| open_tracing(&program).is_some())
}

/// A program can be attached to a hook although the BPF LSM is not active: only a run shows it.
fn lsm() -> bool {
    let Some(id) = btf_id(LSM_HOOK, sys::BPF_LSM_MAC) else { return false };
    let Ok(map) = Map::create("ig_probe", sys::BPF_MAP_TYPE_ARRAY, 4, 8, 1) else { return false };
    let fd = std::os::fd::AsFd::as_fd(&map).as_raw_fd();
    // r1 = address of the value (pseudo 2); *(u64 *)r1 = 1; r0 = 0; exit.
    let pseudo = (sys::BPF_PSEUDO_MAP_VALUE as u8) << 4 | 1;
    let mut insns = vec![
        insn(sys::BPF_LD | sys::BPF_DW | sys::BPF_IMM, pseudo, 0, fd),
        insn(0, 0, 0, 0),
        insn(sys::BPF_ST | sys::BPF_MEM | sys::BPF_DW, 1, 0, 1),
    ];
    insns.extend(nothing());
    let Some(program) = load(sys::BPF_PROG_TYPE_LSM, sys::BPF_LSM_MAC, id, &insns) else {
        return false;
    };
    let Some(_link) = open_tracing(&program) else { return false };
    // The first lookup runs the hook; the second sees what it wrote.
    (0..2).any(|_| matches!(map.lookup(&[0; 4]), Ok(Some(value)) if value[0] == 1))
}

fn link(program: &OwnedFd, kind: u32, options: &mut sys::bpf_link_create_opts) -> bool {
    options.sz = size_of::<sys::bpf_link_create_opts>() as sys::size_t;
    // SAFETY: an open program; options and what they point to outlive the call; a fresh descriptor.
    unsafe { owned(sys::bpf_link_create(program.as_raw_fd(), 0, kind, options)) }.is_ok()
}

fn uprobe_multi() -> bool {
    let kind = sys::BPF_TRACE_UPROBE_MULTI;
    let Some(program) = load(sys::BPF_PROG_TYPE_KPROBE, kind, 0, &nothing()) else { return false };
    // The ELF header: mapped, never executed.
    let offsets: [libc::c_ulong; 1] = [0];
    let mut options = sys::bpf_link_create_opts::default();
    options.__bindgen_anon_1.uprobe_multi.path = c"/proc/self/exe".as_ptr();
    options.__bindgen_anon_1.uprobe_multi.offsets = offsets.as_ptr();
    options.__bindgen_anon_1.uprobe_multi.cnt = 1;
    link(&program, kind, &mut options)
}

fn kprobe_multi() -> bool {
    let kind = sys::BPF_TRACE_KPROBE_MULTI;
    let Some(program) = load(sys::BPF_PROG_TYPE_KPROBE, kind, 0, &nothing()) else { return false };
    let mut names = [c"vfs_read".as_ptr()];
    let mut options = sys::bpf_link_create_opts::default();
    options.__bindgen_anon_1.kprobe_multi.syms = names.as_mut_ptr();
    options.__bindgen_anon_1.kprobe_multi.cnt = 1;
    link(&program, kind, &mut options)
}

fn iter() -> bool {
    let Some(id) = btf_id("task", sys::BPF_TRACE_ITER) else { return false };
    let Some(program) = load(sys::BPF_PROG_TYPE_TRACING, sys::BPF_TRACE_ITER, id, &nothing())
    else {
        return false;
    };
    let (kind, defaults) = (sys::BPF_TRACE_ITER, std::ptr::null());
    // SAFETY: an open program; a fresh descriptor.
    let link = unsafe { owned(sys::bpf_link_create(program.as_raw_fd(), 0, kind, defaults)) };
    // SAFETY: an open link; a fresh descriptor.
    link.is_ok_and(|l| unsafe { owned(sys::bpf_iter_create(l.as_raw_fd())) }.is_ok())
}

fn btf() -> bool {
    Btf::of_kernel().is_some()
}

fn boot_ns() -> bool {
    let mut insns = vec![insn(sys::BPF_JMP | sys::BPF_CALL, 0, 0, KTIME_GET_BOOT_NS as i32)];
    insns.extend(nothing());
    load(sys::BPF_PROG_TYPE_SOCKET_FILTER, 0, 0, &insns).is_some()
}
