//! Probes features that use perf events: kprobes, uprobes, tracepoints.

use std::ffi::{CStr, CString};
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;

use libbpf_sys as sys;

use super::program::load_nothing;
use super::there::{NotThere, Probed};
use crate::fds::owned;

const KPROBE_TYPE: &str = "/sys/bus/event_source/devices/kprobe/type";
const UPROBE_TYPE: &str = "/sys/bus/event_source/devices/uprobe/type";
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 1 << 3;
/// A function that compilers do not inline.
const FUNCTION: &str = "do_exit";

fn number<T: std::str::FromStr>(text: &str) -> Probed<T> {
    text.trim().parse().map_err(|_| NotThere::Lacking)
}

fn pmu(path: &str) -> Probed<u32> {
    number(&fs::read_to_string(path)?)
}

/// Opens a perf event and attaches a BPF program to it, as a real attachment does.
fn runs_bpf(attr: &mut sys::perf_event_attr, program_type: u32) -> Probed {
    attr.size = size_of::<sys::perf_event_attr>() as u32;
    let (call, attr) = (libc::SYS_perf_event_open, &raw const *attr);
    // SAFETY: attr lives through the call; this process, any CPU; a fresh descriptor.
    let event = unsafe { owned(libc::syscall(call, attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC)) }?;
    let program = load_nothing(program_type).map_err(NotThere::of_bpf)?;
    const PERF_EVENT_IOC_SET_BPF: libc::c_ulong = 0x4004_2408;
    let (event, program) = (event.as_raw_fd(), program.as_raw_fd());
    // SAFETY: both descriptors are open; the argument is an integer.
    match unsafe { libc::ioctl(event, PERF_EVENT_IOC_SET_BPF as _, program) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error().into()),
    }
}

pub fn kprobe() -> Probed {
    let kind = match pmu(KPROBE_TYPE) {
        Err(NotThere::Lacking) => return kprobe_by_tracefs(),
        found => found?,
    };
    let name = CString::new(FUNCTION).map_err(|_| NotThere::Lacking)?;
    let mut attr = sys::perf_event_attr { type_: kind, ..Default::default() };
    attr.__bindgen_anon_3.config1 = name.as_ptr() as u64;
    runs_bpf(&mut attr, sys::BPF_PROG_TYPE_KPROBE)
}

/// Kernels without the kprobe PMU (before 4.17) define probes in a file.
fn kprobe_by_tracefs() -> Probed {
    let name = format!("ig_py_probe_{}", std::process::id());
    for root in TRACEFS {
        let path = format!("{root}/kprobe_events");
        let append = |line: String| {
            fs::OpenOptions::new()
                .append(true)
                .open(&path)
                .and_then(|mut f| f.write_all(line.as_bytes()))
        };
        match append(format!("p:ig_py/{name} {FUNCTION}\n")).map_err(NotThere::from) {
            Err(NotThere::Lacking) => {}
            Err(refused) => return Err(refused),
            // A probe that stays defined remains until reboot.
            Ok(()) => return Ok(append(format!("-:ig_py/{name}\n"))?),
        }
    }
    Err(NotThere::Lacking)
}

pub fn uprobe() -> Probed {
    let kind = pmu(UPROBE_TYPE)?;
    let mut attr = sys::perf_event_attr { type_: kind, ..Default::default() };
    attr.__bindgen_anon_3.config1 = c"/proc/self/exe".as_ptr() as u64;
    // Offset 0 is the ELF header: mapped, never executed.
    attr.__bindgen_anon_4.config2 = 0;
    runs_bpf(&mut attr, sys::BPF_PROG_TYPE_KPROBE)
}

pub fn tracepoint() -> Probed {
    let id = tracepoint_id()?;
    let mut attr =
        sys::perf_event_attr { type_: sys::PERF_TYPE_TRACEPOINT, config: id, ..Default::default() };
    runs_bpf(&mut attr, sys::BPF_PROG_TYPE_TRACEPOINT)
}

fn tracepoint_id() -> Probed<u64> {
    const EVENT: &str = "events/sched/sched_process_exec/id";
    for root in TRACEFS {
        match fs::read_to_string(format!("{root}/{EVENT}")).map_err(NotThere::from) {
            Err(NotThere::Lacking) => {}
            found => return number(&found?),
        }
    }
    let event = CString::new(EVENT).map_err(|_| NotThere::Lacking)?;
    number(&read_detached_tracefs(&event)?)
}

/// Reads a file of a tracefs that is not mounted at any path (fsmount(2), Linux 5.2).
fn read_detached_tracefs(path: &CStr) -> io::Result<String> {
    const FSCONFIG_CMD_CREATE: libc::c_long = 6;
    const CLOEXEC: libc::c_long = 1;
    // SAFETY: static and live strings, null where the call allows it, in all four calls; fresh
    // descriptors.
    unsafe {
        let fs = owned(libc::syscall(libc::SYS_fsopen, c"tracefs".as_ptr(), CLOEXEC))?;
        let null = std::ptr::null::<libc::c_char>();
        if libc::syscall(libc::SYS_fsconfig, fs.as_raw_fd(), FSCONFIG_CMD_CREATE, null, null, 0) < 0
        {
            return Err(io::Error::last_os_error());
        }
        let mount = owned(libc::syscall(libc::SYS_fsmount, fs.as_raw_fd(), CLOEXEC, 0))?;
        let flags = libc::O_RDONLY | libc::O_CLOEXEC;
        let file = owned(libc::openat(mount.as_raw_fd(), path.as_ptr(), flags))?;
        let mut text = String::new();
        fs::File::from(file).take(64).read_to_string(&mut text)?;
        Ok(text)
    }
}
