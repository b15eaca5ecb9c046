//! Classifiers: programs for the packets of one interface in one direction.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use libbpf_sys as sys;

use super::attachment::Attachment;
use super::dispatch::Dispatcher;
use super::families::{program_fd, refusal};
use super::{log, netns};
use crate::errors::Result;
use crate::fds::owned;

const TCX_INGRESS: u32 = 46;
const TCX_EGRESS: u32 = 47;
/// The next classifier decides about the packet.
const TC_ACT_UNSPEC: i32 = -1;
const PRIORITY: u32 = 1;

/// An interface: its namespace and its index, and the direction of packets as it sees it.
pub struct Interface<'a> {
    pub netns: BorrowedFd<'a>,
    pub ifindex: u32,
    pub ingress: bool,
}

/// A tcx link (Linux 6.6): closing its descriptor detaches the program.
struct Linked {
    _link: OwnedFd,
    _dispatcher: Dispatcher,
}

impl Attachment for Linked {}

/// A filter of a `clsact` queueing discipline. It stays attached when this process is killed.
struct Filter {
    netns: OwnedFd,
    ifindex: u32,
    ingress: bool,
    handle: u32,
    _dispatcher: Dispatcher,
}

impl Attachment for Filter {}

fn hook(ifindex: u32, ingress: bool) -> sys::bpf_tc_hook {
    sys::bpf_tc_hook {
        sz: size_of::<sys::bpf_tc_hook>() as sys::size_t,
        ifindex: ifindex as i32,
        attach_point: if ingress { sys::BPF_TC_INGRESS } else { sys::BPF_TC_EGRESS },
        ..Default::default()
    }
}

fn options() -> sys::bpf_tc_opts {
    sys::bpf_tc_opts {
        sz: size_of::<sys::bpf_tc_opts>() as sys::size_t,
        priority: PRIORITY,
        ..Default::default()
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        let (ifindex, ingress, handle) = (self.ifindex, self.ingress, self.handle);
        // The interface may have been deleted, and its filters with it.
        let _ = netns::within(self.netns.as_fd(), || {
            let options = sys::bpf_tc_opts { handle, ..options() };
            // SAFETY: hook and options live through the call.
            log::capture(|| unsafe { sys::bpf_tc_detach(&hook(ifindex, ingress), &options) });
        });
    }
}

/// Attaches `program` to an interface; it sees the namespace as `id`.
pub fn attach(
    program: NonNull<sys::bpf_program>,
    interface: &Interface<'_>,
    id: u32,
) -> Result<Box<dyn Attachment>> {
    let side = if interface.ingress { "ingress" } else { "egress" };
    let at = format!("{side} of interface {}", interface.ifindex);
    let failed = |e: &io::Error| refusal(program, &at, e);
    let kind = sys::BPF_PROG_TYPE_SCHED_CLS;
    let dispatcher = Dispatcher::new(kind, program_fd(program)?, id, TC_ACT_UNSPEC)?;
    let fd = dispatcher.program.as_raw_fd();
    let (ifindex, ingress) = (interface.ifindex, interface.ingress);
    let within = |e: io::Error| failed(&e);
    match netns::within(interface.netns, || link(fd, ifindex, ingress)).map_err(within)? {
        Ok(link) => return Ok(Box::new(Linked { _link: link, _dispatcher: dispatcher })),
        Err(e) if !is_unknown(&e) => return Err(failed(&e)),
        Err(_) => {}
    }
    let netns = interface.netns.try_clone_to_owned().map_err(|e| failed(&e))?;
    let handle = netns::within(interface.netns, || filter(fd, ifindex, ingress))
        .map_err(within)?
        .map_err(|e| failed(&e))?;
    Ok(Box::new(Filter { netns, ifindex, ingress, handle, _dispatcher: dispatcher }))
}

/// True when the kernel has no such links.
fn is_unknown(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | libc::EPERM))
}

fn link(program: i32, ifindex: u32, ingress: bool) -> io::Result<OwnedFd> {
    let options = sys::bpf_link_create_opts {
        sz: size_of::<sys::bpf_link_create_opts>() as sys::size_t,
        // Before other programs, which may drop the packet.
        flags: sys::BPF_F_BEFORE,
        ..Default::default()
    };
    let side = if ingress { TCX_INGRESS } else { TCX_EGRESS };
    // SAFETY: an open program; options live through the call; a fresh descriptor.
    unsafe { owned(sys::bpf_link_create(program, ifindex as i32, side, &options)) }
}

fn filter(program: i32, ifindex: u32, ingress: bool) -> io::Result<u32> {
    let result = |rc: i32| match rc {
        0 => Ok(()),
        rc => Err(io::Error::from_raw_os_error(-rc)),
    };
    let (outcome, _) = log::capture(|| {
        let mut hook = hook(ifindex, ingress);
        // SAFETY: hook and options live through the calls.
        match unsafe { sys::bpf_tc_hook_create(&mut hook) } {
            // Other programs may use the queueing discipline: it is not removed.
            rc if rc == -libc::EEXIST => {}
            rc => result(rc)?,
        }
        let mut options = sys::bpf_tc_opts { prog_fd: program, ..options() };
        // SAFETY: as above.
        result(unsafe { sys::bpf_tc_attach(&hook, &mut options) })?;
        Ok(options.handle)
    });
    outcome
}
