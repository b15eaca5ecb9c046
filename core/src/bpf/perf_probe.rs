//! Probes features that use perf events: kprobes, uprobes, tracepoints.

use std::ffi::{CStr, CString};
use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;

use libbpf_sys as sys;

use super::program::load_nothing;
use crate::fds::owned;

const KPROBE_TYPE: &str = "/sys/bus/event_source/devices/kprobe/type";
const UPROBE_TYPE: &str = "/sys/bus/event_source/devices/uprobe/type";
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 1 << 3;
/// A function that compilers do not inline.
const FUNCTION: &str = "do_exit";

fn pmu(path: &str) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Opens a perf event and attaches a BPF program to it, as a real attachment does.
fn runs_bpf(attr: &mut sys::perf_event_attr, program_type: u32) -> bool {
    attr.size = size_of::<sys::perf_event_attr>() as u32;
    let (call, attr) = (libc::SYS_perf_event_open, &raw const *attr);
    // SAFETY: attr lives through the call; this process, any CPU; a fresh descriptor.
    let event = unsafe { owned(libc::syscall(call, attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC)) };
    let Ok(event) = event else { return false };
    let Some(program) = load_nothing(program_type) else { return false };
    const PERF_EVENT_IOC_SET_BPF: libc::c_ulong = 0x4004_2408;
    // SAFETY: both descriptors are open; the argument is an integer.
    unsafe { libc::ioctl(event.as_raw_fd(), PERF_EVENT_IOC_SET_BPF as _, program.as_raw_fd()) == 0 }
}

pub fn kprobe() -> bool {
    let Some(kind) = pmu(KPROBE_TYPE) else { return kprobe_by_tracefs() };
    let Ok(name) = CString::new(FUNCTION) else { return false };
    let mut attr = sys::perf_event_attr { type_: kind, ..Default::default() };
    attr.__bindgen_anon_3.config1 = name.as_ptr() as u64;
    runs_bpf(&mut attr, sys::BPF_PROG_TYPE_KPROBE)
}

/// Kernels without the kprobe PMU (before 4.17) define probes in a file.
fn kprobe_by_tracefs() -> bool {
    let name = format!("ig_py_probe_{}", std::process::id());
    for root in TRACEFS {
        let path = format!("{root}/kprobe_events");
        let append = |line: String| {
            fs::OpenOptions::new()
                .append(true)
                .open(&path)
                .and_then(|mut f| f.write_all(line.as_bytes()))
        };
        if append(format!("p:ig_py/{name} {FUNCTION}\n")).is_ok() {
            // A probe that stays defined remains until reboot.
            return append(format!("-:ig_py/{name}\n")).is_ok();
        }
    }
    false
}

pub fn uprobe() -> bool {
    let Some(kind) = pmu(UPROBE_TYPE) else { return false };
    let mut attr = sys::perf_event_attr { type_: kind, ..Default::default() };
    attr.__bindgen_anon_3.config1 = c"/proc/self/exe".as_ptr() as u64;
    // Offset 0 is the ELF header: mapped, never executed.
    attr.__bindgen_anon_4.config2 = 0;
    runs_bpf(&mut attr, sys::BPF_PROG_TYPE_KPROBE)
}

pub fn tracepoint() -> bool {
    let Some(id) = tracepoint_id() else { return false };
    let mut attr =
        sys::perf_event_attr { type_: sys::PERF_TYPE_TRACEPOINT, config: id, ..Default::default() };
    runs_bpf(&mut attr, sys::BPF_PROG_TYPE_TRACEPOINT)
}

fn tracepoint_id() -> Option<u64> {
    const EVENT: &str = "events/sched/sched_process_exec/id";
    let mounted =
        TRACEFS.iter().find_map(|root| fs::read_to_string(format!("{root}/{EVENT}")).ok());
    mounted.or_else(|| read_detached_tracefs(&CString::new(EVENT).ok()?))?.trim().parse().ok()
}

/// Reads a file of a tracefs that is not mounted at any path (fsmount(2), Linux 5.2).
fn read_detached_tracefs(path: &CStr) -> Option<String> {
    const FSCONFIG_CMD_CREATE: libc::c_long = 6;
    const CLOEXEC: libc::c_long = 1;
    // SAFETY: static and live strings, null where the call allows it, in all four calls; fresh
    // descriptors.
    unsafe {
        let fs = owned(libc::syscall(libc::SYS_fsopen, c"tracefs".as_ptr(), CLOEXEC)).ok()?;
        let null = std::ptr::null::<libc::c_char>();
        if libc::syscall(libc::SYS_fsconfig, fs.as_raw_fd(), FSCONFIG_CMD_CREATE, null, null, 0) < 0
        {
            return None;
        }
        let mount = owned(libc::syscall(libc::SYS_fsmount, fs.as_raw_fd(), CLOEXEC, 0)).ok()?;
        let flags = libc::O_RDONLY | libc::O_CLOEXEC;
        let file = owned(libc::openat(mount.as_raw_fd(), path.as_ptr(), flags)).ok()?;
        let mut text = String::new();
        fs::File::from(file).take(64).read_to_string(&mut text).ok()?;
        Some(text)
    }
}
