//! Running a BPF iterator once: link, read to the end, unlink.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libbpf_sys as sys;

use super::netns;
use crate::errors::{Error, Kind, Result};

/// One read; the kernel buffers at most as much as is asked for.
const CHUNK: usize = 64 << 10;

/// What an iterator needs beside its program.
#[derive(Default)]
pub struct Scope<'a> {
    /// The map whose elements `iter/bpf_map_elem` walks.
    pub map: Option<BorrowedFd<'a>>,
    /// The network namespace whose sockets `iter/tcp` and `iter/udp` walk.
    pub netns: Option<BorrowedFd<'a>>,
    /// The process that `iter/task`, `iter/task_file` and `iter/task_vma` walk; 0: all.
    pub pid: u32,
    /// The one thread that they walk; 0: all.
    pub tid: u32,
}

fn owned(fd: i32) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Opens the iterator of `program`; the link goes when the descriptor is closed.
fn open(program: BorrowedFd<'_>, scope: &Scope<'_>) -> io::Result<OwnedFd> {
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
    // SAFETY: an open program; options and info outlive the call.
    let link = owned(unsafe {
        sys::bpf_link_create(program.as_raw_fd(), 0, sys::BPF_TRACE_ITER, &options)
    })?;
    // SAFETY: an open link.
    owned(unsafe { sys::bpf_iter_create(link.as_raw_fd()) })
}

/// Everything that one walk of `program` writes, at most `limit` bytes.
pub fn read(
    name: &str,
    program: BorrowedFd<'_>,
    scope: &Scope<'_>,
    limit: usize,
) -> Result<Vec<u8>> {
    let walk = || -> Result<Vec<u8>> {
        let fail = |e: &io::Error| Error::map(format!("cannot run iterator {name}: {e}"));
        let fd = open(program, scope)
            .map_err(|e| Error::new(Kind::Attach, format!("cannot attach iterator {name}: {e}")))?;
        let mut file = File::from(fd);
        let (mut bytes, mut filled) = (Vec::new(), 0);
        loop {
            bytes.resize(filled + CHUNK, 0);
            match file.read(&mut bytes[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                // EAGAIN: a million objects in a row wrote nothing; it goes on from there.
                Err(e) if matches!(e.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) => {}
                Err(e) => return Err(fail(&e)),
            }
            if filled > limit {
                return Err(Error::new(
                    Kind::Memory,
                    format!("iterator {name} writes more than {limit} bytes"),
                ));
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    };
    match scope.netns {
        None => walk(),
        Some(fd) => netns::within(fd, walk).unwrap_or_else(|e| {
            Err(Error::new(
                Kind::Attach,
                format!("cannot run iterator {name} in another network namespace: {e}"),
            ))
        }),
    }
}
