//! `wasi_snapshot_preview1` for a module that has no files, no arguments and no environment. The
//! clocks and the random numbers are real. What it writes to its standard error is kept for the
//! message when it fails.

use std::time::{Duration, Instant};

use wasmi::{FuncType, Val, ValType};

use super::engine::{exit, late, parts, Caller, Linker};
use super::host::Host;
use super::{limits, memory};

const MODULE: &str = "wasi_snapshot_preview1";
const BAD_DESCRIPTOR: i32 = 8;
const BAD_ADDRESS: i32 = 21;
const INVALID: i32 = 28;
const NOT_SUPPORTED: i32 = 58;
/// Descriptors of the standard streams.
const STREAMS: u32 = 3;
const STDERR: u32 = 2;
const MAX_VECTORS: u32 = 1024;
const MAX_RANDOM: u32 = 1 << 20;
const MAX_SUBSCRIPTIONS: u32 = 64;
const SUBSCRIPTION: u32 = 48;
const EVENT: u32 = 32;

/// Functions that only fail, or do nothing, with their parameters (`i`: 32 bits, `I`: 64) and their
/// result.
const CLOSED: &[(&str, &str, i32)] = &[
    ("args_get", "ii", 0),
    ("environ_get", "ii", 0),
    ("fd_advise", "iIIi", BAD_DESCRIPTOR),
    ("fd_allocate", "iII", BAD_DESCRIPTOR),
    ("fd_close", "i", BAD_DESCRIPTOR),
    ("fd_datasync", "i", BAD_DESCRIPTOR),
    ("fd_fdstat_set_flags", "ii", BAD_DESCRIPTOR),
    ("fd_fdstat_set_rights", "iII", BAD_DESCRIPTOR),
    ("fd_filestat_get", "ii", BAD_DESCRIPTOR),
    ("fd_filestat_set_size", "iI", BAD_DESCRIPTOR),
    ("fd_filestat_set_times", "iIIi", BAD_DESCRIPTOR),
    ("fd_pread", "iiiIi", BAD_DESCRIPTOR),
    ("fd_prestat_dir_name", "iii", BAD_DESCRIPTOR),
    ("fd_prestat_get", "ii", BAD_DESCRIPTOR),
    ("fd_pwrite", "iiiIi", BAD_DESCRIPTOR),
    ("fd_readdir", "iiiIi", BAD_DESCRIPTOR),
    ("fd_renumber", "ii", BAD_DESCRIPTOR),
    ("fd_seek", "iIii", BAD_DESCRIPTOR),
    ("fd_sync", "i", BAD_DESCRIPTOR),
    ("fd_tell", "ii", BAD_DESCRIPTOR),
    ("path_create_directory", "iii", BAD_DESCRIPTOR),
    ("path_filestat_get", "iiiii", BAD_DESCRIPTOR),
    ("path_filestat_set_times", "iiiiIIi", BAD_DESCRIPTOR),
    ("path_link", "iiiiiii", BAD_DESCRIPTOR),
    ("path_open", "iiiiiIIii", BAD_DESCRIPTOR),
    ("path_readlink", "iiiiii", BAD_DESCRIPTOR),
    ("path_remove_directory", "iii", BAD_DESCRIPTOR),
    ("path_rename", "iiiiii", BAD_DESCRIPTOR),
    ("path_symlink", "iiiii", BAD_DESCRIPTOR),
    ("path_unlink_file", "iii", BAD_DESCRIPTOR),
    ("proc_raise", "i", NOT_SUPPORTED),
    ("sched_yield", "", 0),
    ("sock_accept", "iii", BAD_DESCRIPTOR),
    ("sock_recv", "iiiiii", BAD_DESCRIPTOR),
    ("sock_send", "iiiii", BAD_DESCRIPTOR),
    ("sock_shutdown", "ii", BAD_DESCRIPTOR),
];

pub fn register(linker: &mut Linker) -> Result<(), String> {
    register_all(linker).map_err(|e| e.to_string())
}

fn register_all(linker: &mut Linker) -> super::functions::Registered {
    for (name, parameters, result) in CLOSED {
        let kinds = parameters.chars().map(|c| match c {
            'I' => ValType::I64,
            _ => ValType::I32,
        });
        let kind = FuncType::new(kinds.collect::<Vec<_>>(), [ValType::I32]);
        linker.func_new(MODULE, name, kind, |_, _, results| {
            results[0] = Val::I32(*result);
            Ok(())
        })?;
    }
    linker
        .func_wrap(MODULE, "args_sizes_get", |mut c: Caller<'_>, n: u32, bytes: u32| {
            zeros(&mut c, [n, bytes])
        })?
        .func_wrap(MODULE, "environ_sizes_get", |mut c: Caller<'_>, n: u32, bytes: u32| {
            zeros(&mut c, [n, bytes])
        })?
        .func_wrap(MODULE, "clock_res_get", |mut c: Caller<'_>, id: u32, dst: u32| {
            let (memory, _) = parts(&mut c);
            match clock(id) {
                Some(_) => errno(memory::write_at(memory, dst, &1u64.to_le_bytes())),
                None => INVALID,
            }
        })?
        .func_wrap(MODULE, "clock_time_get", |mut c: Caller<'_>, id: u32, _: u64, dst: u32| {
            let (memory, _) = parts(&mut c);
            match clock(id) {
                Some(ns) => errno(memory::write_at(memory, dst, &ns.to_le_bytes())),
                None => INVALID,
            }
        })?
        .func_wrap(MODULE, "random_get", |mut c: Caller<'_>, dst: u32, length: u32| {
            let (memory, _) = parts(&mut c);
            random(memory, dst, length)
        })?
        .func_wrap(MODULE, "fd_fdstat_get", |mut c: Caller<'_>, fd: u32, dst: u32| {
            let (memory, _) = parts(&mut c);
            if fd >= STREAMS {
                return BAD_DESCRIPTOR;
            }
            // A character device without rights.
            let mut status = [0; 24];
            status[0] = 2;
            errno(memory::write_at(memory, dst, &status))
        })?
        .func_wrap(MODULE, "fd_read", |mut c: Caller<'_>, fd: u32, _: u32, _: u32, count: u32| {
            let (memory, _) = parts(&mut c);
            match fd {
                0 => errno(memory::write_at(memory, count, &[0; 4])),
                _ => BAD_DESCRIPTOR,
            }
        })?
        .func_wrap(
            MODULE,
            "fd_write",
            |mut c: Caller<'_>, fd: u32, vectors: u32, n: u32, count: u32| {
                let (memory, host) = parts(&mut c);
                write(memory, host, fd, vectors, n, count)
            },
        )?
        .func_wrap(
            MODULE,
            "poll_oneoff",
            |mut c: Caller<'_>, subscriptions: u32, events: u32, n: u32, count: u32| {
                let (memory, host) = parts(&mut c);
                let now = Instant::now();
                let wait = match poll(memory, subscriptions, events, n, count) {
                    Ok(wait) => wait,
                    Err(code) => return Ok(code),
                };
                let left = host.deadline.saturating_duration_since(now);
                std::thread::sleep(wait.min(left));
                host.work.slept();
                if wait > left {
                    Err(late())
                } else {
                    Ok(0)
                }
            },
        )?
        .func_wrap(MODULE, "proc_exit", |_: Caller<'_>, code: i32| -> Result<(), wasmi::Error> {
            Err(exit(code))
        })?;
    Ok(())
}

fn errno(written: Result<(), &'static str>) -> i32 {
    if written.is_ok() {
        0
    } else {
        BAD_ADDRESS
    }
}

fn zeros(c: &mut Caller<'_>, places: [u32; 2]) -> i32 {
    let (memory, _) = parts(c);
    errno(places.iter().try_for_each(|at| memory::write_at(memory, *at, &[0; 4])))
}

/// The clock of this number in ns: real time, or one that never goes back.
fn clock(id: u32) -> Option<u64> {
    let id = match id {
        0 => libc::CLOCK_REALTIME,
        1 => libc::CLOCK_MONOTONIC,
        _ => return None,
    };
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes the timespec.
    unsafe { libc::clock_gettime(id, &mut time) };
    Some((time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64))
}

fn random(memory: &mut [u8], dst: u32, length: u32) -> i32 {
    let start = dst as usize;
    let end = start.checked_add(length as usize);
    let Some(space) = end.and_then(|end| memory.get_mut(start..end)) else { return BAD_ADDRESS };
    if length > MAX_RANDOM {
        return INVALID;
    }
    for chunk in space.chunks_mut(256) {
        // SAFETY: the chunk is writable; up to 256 bytes are given at once.
        if unsafe { libc::getrandom(chunk.as_mut_ptr().cast(), chunk.len(), 0) } < 0 {
            return INVALID;
        }
    }
    0
}

fn write(memory: &mut [u8], host: &mut Host, fd: u32, vectors: u32, n: u32, count: u32) -> i32 {
    if fd == 0 || fd >= STREAMS {
        return BAD_DESCRIPTOR;
    }
    let mut total = 0u32;
    for index in 0..n.min(MAX_VECTORS) {
        let Some(at) = vectors.checked_add(index * 8) else { return BAD_ADDRESS };
        let pair = (memory::read_u32(memory, at), memory::read_u32(memory, at.wrapping_add(4)));
        let (Some(address), Some(length)) = pair else { return BAD_ADDRESS };
        let buffer = u64::from(length) << 32 | u64::from(address);
        let Ok(bytes) = memory::bytes(memory, buffer) else { return BAD_ADDRESS };
        if fd == STDERR {
            let room = limits::STDERR.saturating_sub(host.stderr.len());
            host.stderr.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        total = total.saturating_add(length);
    }
    errno(memory::write_at(memory, count, &total.to_le_bytes()))
}

/// Writes the event of the first clock of all subscriptions; how long it is to be waited for.
fn poll(
    memory: &mut [u8],
    subscriptions: u32,
    events: u32,
    n: u32,
    count: u32,
) -> Result<Duration, i32> {
    if n == 0 || n > MAX_SUBSCRIPTIONS {
        return Err(INVALID);
    }
    let mut first: Option<(Duration, u64)> = None;
    for index in 0..n {
        let at = subscriptions.checked_add(index * SUBSCRIPTION).ok_or(BAD_ADDRESS)?;
        let word = |offset: u32| {
            let place = at.checked_add(offset).ok_or(BAD_ADDRESS)?;
            memory::read_u64(memory, place).ok_or(BAD_ADDRESS)
        };
        let (user, tag) = (word(0)?, word(8)? & 0xff);
        if tag != 0 {
            // Nothing ever comes from a stream.
            continue;
        }
        let (id, timeout, flags) = (word(16)? as u32, word(24)?, word(40)? as u16);
        let absolute = flags & 1 != 0;
        let now = if absolute { clock(id).ok_or(INVALID)? } else { 0 };
        let wait = Duration::from_nanos(timeout.saturating_sub(now));
        if first.is_none_or(|(shortest, _)| wait < shortest) {
            first = Some((wait, user));
        }
    }
    let (wait, user) = first.ok_or(NOT_SUPPORTED)?;
    let mut event = [0; EVENT as usize];
    event[..8].copy_from_slice(&user.to_le_bytes());
    memory::write_at(memory, events, &event).map_err(|_| BAD_ADDRESS)?;
    memory::write_at(memory, count, &1u32.to_le_bytes()).map_err(|_| BAD_ADDRESS)?;
    Ok(wait)
}
