//! Attaches programs that need more than the target in their section name.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use libbpf_rs::Link;
use libbpf_sys as sys;

use super::attachment::Attachment;
use super::facts::{borrow_fd, program_facts};
use super::log;
use crate::errors::{Error, Kind, Result};
use crate::fds::owned;

/// `PERF_FLAG_FD_CLOEXEC`.
const CLOEXEC: libc::c_ulong = 1 << 3;
/// The list of the online CPUs, as ranges.
const ONLINE: &str = "/sys/devices/system/cpu/online";
const MAX_CPU: u32 = 1 << 16;

type Program = NonNull<sys::bpf_program>;

pub fn refusal(program: Program, at: &str, why: &io::Error) -> Error {
    let facts = program_facts(program);
    let kind = match why.raw_os_error() {
        Some(libc::EOPNOTSUPP | libc::ENOSYS) => Kind::Unsupported,
        _ => Kind::Attach,
    };
    let hint = match why.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "; CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN are needed",
        _ => "",
    };
    Error::new(
        kind,
        format!("cannot attach program {} ({}) to {at}: {why}{hint}", facts.name, facts.section),
    )
}

/// The link that libbpf returned, or its error.
pub fn linked(raw: *mut sys::bpf_link) -> io::Result<Link> {
    match NonNull::new(raw) {
        // SAFETY: a fresh link from libbpf, which nothing else owns.
        Some(link) => Ok(unsafe { Link::from_ptr(link) }),
        None => Err(io::Error::last_os_error()),
    }
}

pub fn attempt(
    program: Program,
    at: &str,
    work: impl FnOnce() -> io::Result<Link>,
) -> Result<Link> {
    let (outcome, said) = log::capture(work);
    outcome.map_err(|e| refusal(program, at, &e).with_log(said))
}

/// The descriptor of a loaded program.
pub fn program_fd<'a>(program: Program) -> Result<BorrowedFd<'a>> {
    // SAFETY: a program of a live object; callers use the descriptor while they borrow it.
    unsafe { borrow_fd(sys::bpf_program__fd(program.as_ptr())) }.ok_or_else(|| {
        let name = program_facts(program).name;
        Error::new(Kind::Attach, format!("program {name} is not loaded"))
    })
}

/// How often a perf event samples.
pub enum Rate {
    /// Times a second.
    Frequency(u64),
    /// Once per this number of events.
    Period(u64),
}

/// Samples event (`kind`, `config`) on every online CPU.
pub fn perf_event(
    program: Program,
    kind: u32,
    config: u64,
    rate: &Rate,
) -> Result<Box<dyn Attachment>> {
    let cpus = online().map_err(|e| refusal(program, "perf events", &e))?;
    let mut links: Vec<Link> = Vec::with_capacity(cpus.len());
    for cpu in cpus {
        let at = format!("perf event {kind}:{config} of CPU {cpu}");
        let event = match open_event(kind, config, rate, cpu) {
            // The CPU went offline meanwhile.
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => continue,
            event => event.map_err(|e| refusal(program, &at, &e))?,
        };
        links.push(attempt(program, &at, || {
            // SAFETY: a live program and an open event, which the link keeps.
            linked(unsafe {
                sys::bpf_program__attach_perf_event(program.as_ptr(), event.as_raw_fd())
            })
        })?);
        // The link owns the descriptor.
        std::mem::forget(event);
    }
    Ok(Box::new(links))
}

fn open_event(kind: u32, config: u64, rate: &Rate, cpu: u32) -> io::Result<OwnedFd> {
    let mut attributes = sys::perf_event_attr {
        type_: kind,
        size: size_of::<sys::perf_event_attr>() as u32,
        config,
        ..Default::default()
    };
    match *rate {
        Rate::Frequency(times) => {
            attributes.set_freq(1);
            attributes.__bindgen_anon_1.sample_freq = times;
        }
        Rate::Period(events) => attributes.__bindgen_anon_1.sample_period = events,
    }
    let cpu = cpu as libc::c_int;
    // SAFETY: attributes live through the call; every process on one CPU; a fresh descriptor.
    unsafe {
        let attributes = &raw const attributes;
        owned(libc::syscall(libc::SYS_perf_event_open, attributes, -1, cpu, -1, CLOEXEC))
    }
}

fn online() -> io::Result<Vec<u32>> {
    let text = std::fs::read_to_string(ONLINE)?;
    cpus(text.trim()).ok_or_else(|| io::Error::other(format!("{ONLINE} is not a list of CPUs")))
}

/// `0-2,5` as numbers.
fn cpus(text: &str) -> Option<Vec<u32>> {
    let mut found = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if last >= MAX_CPU || first > last {
            return None;
        }
        found.extend(first..=last);
    }
    Some(found)
}

/// Attaches to the processes of the control group at `path` and below it.
pub fn cgroup(program: Program, path: &str) -> Result<Box<dyn Attachment>> {
    let at = format!("control group {path}");
    let directory = File::open(path).map_err(|e| refusal(program, &at, &e))?;
    let link = attempt(program, &at, || {
        // SAFETY: a live program and an open directory.
        linked(unsafe { sys::bpf_program__attach_cgroup(program.as_ptr(), directory.as_raw_fd()) })
    })?;
    Ok(Box::new(link))
}

/// Attaches to every packet of one interface, before the kernel's network stack.
pub fn xdp(program: Program, ifindex: u32) -> Result<Box<dyn Attachment>> {
    let link = attempt(program, &format!("interface {ifindex}"), || {
        // SAFETY: a live program.
        linked(unsafe { sys::bpf_program__attach_xdp(program.as_ptr(), ifindex as i32) })
    })?;
    Ok(Box::new(link))
}

/// A program that is attached to a map of sockets. Such links exist since Linux 6.10 only.
struct OfSockets {
    program: OwnedFd,
    map: OwnedFd,
    attach_type: sys::bpf_attach_type,
}

impl Attachment for OfSockets {}

impl Drop for OfSockets {
    fn drop(&mut self) {
        // SAFETY: open descriptors; a failure leaves nothing to do.
        unsafe {
            sys::bpf_prog_detach2(self.program.as_raw_fd(), self.map.as_raw_fd(), self.attach_type)
        };
    }
}

/// Attaches to the sockets in the map `map`.
pub fn sockmap(program: Program, map: OwnedFd, name: &str) -> Result<Box<dyn Attachment>> {
    let at = format!("map {name}");
    let fd = program_fd(program)?;
    // SAFETY: a live program.
    let attach_type = unsafe { sys::bpf_program__expected_attach_type(program.as_ptr()) };
    // SAFETY: open descriptors.
    let rc = unsafe { sys::bpf_prog_attach(fd.as_raw_fd(), map.as_raw_fd(), attach_type, 0) };
    if rc != 0 {
        return Err(refusal(program, &at, &io::Error::last_os_error()));
    }
    let held = fd.try_clone_to_owned().map_err(|e| refusal(program, &at, &e))?;
    Ok(Box::new(OfSockets { program: held, map, attach_type }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus() {
        assert_eq!(cpus("0"), Some(vec![0]));
        assert_eq!(cpus("0-2,5"), Some(vec![0, 1, 2, 5]));
        for bad in ["", "a", "2-1", "0-4294967295", "1,,2"] {
            assert_eq!(cpus(bad), None, "{bad}");
        }
    }
}
