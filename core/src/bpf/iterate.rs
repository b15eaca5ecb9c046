//! Runs BPF iterators: each time a link is opened, its program runs over all objects.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use libbpf_sys as sys;

use super::netns;
use crate::errors::{Error, Kind, Result};
use crate::fds::owned;

/// Bytes per read(2); the kernel buffers at most as many as are asked for.
const CHUNK: usize = 64 << 10;

/// What an iterator walks.
#[derive(Default)]
pub struct Scope<'a> {
    /// The map whose elements `iter/bpf_map_elem` walks.
    pub map: Option<BorrowedFd<'a>>,
    /// The network namespace whose sockets `iter/tcp` and `iter/udp` walk.
    pub netns: Option<BorrowedFd<'a>>,
    /// The process that `iter/task`, `iter/task_file` and `iter/task_vma` walk; 0: all.
    pub pid: u32,
    /// The only thread that these walk; 0: all.
    pub tid: u32,
}

/// The link for the iterator `program`. It can be opened any number of times; `netns` counts when
/// it is opened.
pub fn link(name: &str, program: BorrowedFd<'_>, scope: &Scope<'_>) -> Result<OwnedFd> {
    let (pid, tid) = (scope.pid, scope.tid);
    let mut info = sys::bpf_iter_link_info {
        task: sys::bpf_iter_link_info__bindgen_ty_3 { pid, tid, ..Default::default() },
    };
    if let Some(map) = scope.map {
        info.map = sys::bpf_iter_link_info__bindgen_ty_1 { map_fd: map.as_raw_fd() as u32 };
    }
    let mut options = sys::bpf_link_create_opts {
        sz: size_of::<sys::bpf_link_create_opts>() as sys::size_t,
        ..Default::default()
    };
    if scope.map.is_some() || pid != 0 || tid != 0 {
        options.iter_info = &mut info;
        options.iter_info_len = size_of::<sys::bpf_iter_link_info>() as u32;
    }
    let kind = sys::BPF_TRACE_ITER;
    // SAFETY: an open program; options and info outlive the call; a fresh descriptor.
    unsafe { owned(sys::bpf_link_create(program.as_raw_fd(), 0, kind, &options)) }
        .map_err(|e| Error::new(Kind::Attach, format!("cannot attach iterator {name}: {e}")))
}

fn create(link: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: an open link; a fresh descriptor.
    unsafe { owned(sys::bpf_iter_create(link.as_raw_fd())) }
}

/// Feeds everything that one walk writes to `sink`, in pieces of any size, until `sink` returns
/// false.
pub fn walk(
    name: &str,
    link: BorrowedFd<'_>,
    netns: Option<BorrowedFd<'_>>,
    sink: &mut dyn FnMut(&[u8]) -> Result<bool>,
) -> Result<()> {
    let opened = match netns {
        None => create(link),
        // The kernel uses the namespace of the thread that opens the iterator; any thread may read
        // it.
        Some(fd) => netns::within(fd, || create(link)).and_then(|opened| opened),
    };
    let mut file = File::from(opened.map_err(|e| {
        let place = if netns.is_some() { " in another network namespace" } else { "" };
        Error::new(Kind::Attach, format!("cannot run iterator {name}{place}: {e}"))
    })?);
    let mut chunk = vec![0; CHUNK];
    loop {
        let filled = match file.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            // EAGAIN: the program wrote nothing for a million objects; the next read goes on there.
            Err(e) if matches!(e.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) => 0,
            Err(e) => return Err(Error::map(format!("cannot run iterator {name}: {e}"))),
        };
        if !sink(&chunk[..filled])? {
            return Ok(());
        }
    }
}

/// Everything that one walk of `program` writes, at most `limit` bytes.
pub fn read(
    name: &str,
    program: BorrowedFd<'_>,
    scope: &Scope<'_>,
    limit: usize,
) -> Result<Vec<u8>> {
    let link = link(name, program, scope)?;
    let mut bytes = Vec::new();
    walk(name, link.as_fd(), scope.netns, &mut |chunk| {
        bytes.extend_from_slice(chunk);
        if bytes.len() > limit {
            let why = format!("iterator {name} writes more than {limit} bytes");
            return Err(Error::new(Kind::Memory, why));
        }
        Ok(true)
    })?;
    Ok(bytes)
}
