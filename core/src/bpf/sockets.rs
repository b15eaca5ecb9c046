//! Socket filters: they see every packet of one network namespace and keep none.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use libbpf_sys as sys;
use nix::sys::socket::{socket, AddressFamily, SockFlag, SockType};

use super::attachment::Attachment;
use super::dispatch::Dispatcher;
use super::families::{program_fd, refusal};
use super::netns;
use crate::errors::Result;

struct Filter {
    _socket: OwnedFd,
    _dispatcher: Dispatcher,
}

impl Attachment for Filter {}

/// Attaches to every packet of the network namespace `fd`; programs see the namespace as `id`.
pub fn attach(
    program: NonNull<sys::bpf_program>,
    fd: BorrowedFd<'_>,
    id: u32,
) -> Result<Box<dyn Attachment>> {
    let at = format!("network namespace {id}");
    let dispatcher =
        Dispatcher::new(sys::BPF_PROG_TYPE_SOCKET_FILTER, program_fd(program)?, id, 0)?;
    let filter = dispatcher.program.as_raw_fd();
    let socket = netns::within(fd, || open(filter))
        .and_then(|opened| opened)
        .map_err(|e| refusal(program, &at, &e))?;
    Ok(Box::new(Filter { _socket: socket, _dispatcher: dispatcher }))
}

fn open(filter: i32) -> io::Result<OwnedFd> {
    let ok = |rc: i32| if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    // With protocol 0 the socket receives nothing until it is bound, and by then it has the filter.
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
    // SAFETY: the option is an int that lives through the call.
    ok(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_BPF,
            (&raw const filter).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    })?;
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: 0,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the address lives through the call and has the size given.
    ok(unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    })?;
    Ok(socket)
}
