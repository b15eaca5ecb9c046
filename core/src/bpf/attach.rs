//! Attaches one loaded program by the kind in its section name and by its target.

use std::ffi::{CString, NulError};
use std::io;
use std::path::Path;
use std::ptr::NonNull;

use libbpf_rs::Link;
use libbpf_sys as sys;

use super::facts::ProgramFacts;
use super::log;
use crate::errors::{Error, Kind, Result};

/// The usual mount points of tracefs; the kernel mounts it below debugfs when it is accessed there.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing/events", "/sys/kernel/debug/tracing/events"];

/// The prefix of system call functions on this architecture.
#[cfg(target_arch = "x86_64")]
const SYSCALL_PREFIX: &str = "__x64_";
#[cfg(target_arch = "aarch64")]
const SYSCALL_PREFIX: &str = "__arm64_";
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const SYSCALL_PREFIX: &str = "";

/// The reason begins with this when the target does not exist.
const NO_SUCH: &str = "the kernel has no such";
const NOT_HERE: &str = "programs of this kind need more than a target to attach";

type Raw = *mut sys::bpf_link;

/// A section such as `?kprobe/do_exit` as (kind, target).
pub fn split(section: &str) -> (&str, &str) {
    let section = section.strip_prefix('?').unwrap_or(section);
    section.split_once('/').unwrap_or((section, ""))
}

/// True for kinds whose target is part of the loaded program (BTF id).
pub fn target_fixed_at_load(section: &str) -> bool {
    let kind = split(section).0;
    let kind = kind.strip_suffix(".s").unwrap_or(kind);
    matches!(kind, "fentry" | "fexit" | "fmod_ret" | "fsession" | "tp_btf" | "lsm" | "freplace")
}

fn tracefs_missing() -> bool {
    !TRACEFS.iter().any(|p| Path::new(p).is_dir())
}

pub fn attach(
    program: NonNull<sys::bpf_program>,
    facts: &ProgramFacts,
    target: Option<&str>,
) -> Result<Link> {
    let (kind, own_target) = split(&facts.section);
    let target = target.unwrap_or(own_target);
    let error = |kind: Kind, why: String| {
        let kind = if why.starts_with(NO_SUCH) { Kind::Absent } else { kind };
        let at = if target.is_empty() { String::new() } else { format!(" to {target}") };
        Error::new(
            kind,
            format!("cannot attach program {} ({}){at}: {why}", facts.name, facts.section),
        )
    };
    let (outcome, said) = log::capture(|| {
        // SAFETY: `program` belongs to a loaded object that outlives this call.
        unsafe { attach_kind(program.as_ptr(), kind, target) }
    });
    let link = match outcome {
        Err(Refusal::Unsupported(why)) => return Err(error(Kind::Unsupported, why)),
        Err(Refusal::Target(why)) => return Err(error(Kind::Attach, why)),
        Ok(Ok(link)) => link,
        Ok(Err(errno)) => {
            let e = io::Error::from_raw_os_error(errno);
            let needs_tracefs = matches!(
                kind,
                "tracepoint" | "tp" | "kprobe" | "kretprobe" | "uprobe" | "uretprobe"
            );
            let why = match errno {
                libc::EOPNOTSUPP => {
                    let why =
                        format!("programs of type {} do not attach here: {e}", facts.program_type);
                    return Err(error(Kind::Unsupported, why).with_log(said));
                }
                libc::ENOENT if matches!(kind, "tracepoint" | "tp") && !tracefs_missing() => {
                    NO_SUCH.to_string() + " tracepoint"
                }
                libc::ENOENT if needs_tracefs && tracefs_missing() => {
                    format!("{e}; tracefs is not mounted at /sys/kernel/tracing")
                }
                // libbpf returns ESRCH when no function matches; raw tracepoints return ENOENT.
                libc::ENOENT | libc::ESRCH
                    if kind.starts_with("kprobe") || kind.starts_with("kret") =>
                {
                    format!("{NO_SUCH} function or no kprobes: {e}")
                }
                libc::ENOENT if kind.starts_with("raw_t") => NO_SUCH.to_string() + " tracepoint",
                libc::EPERM | libc::EACCES => format!("{e}; CAP_BPF and CAP_PERFMON are needed"),
                _ => e.to_string(),
            };
            return Err(error(Kind::Attach, why).with_log(said));
        }
    };
    // SAFETY: a fresh link from libbpf, which nothing else owns.
    Ok(unsafe { Link::from_ptr(link) })
}

/// A refusal before the kernel is asked.
pub enum Refusal {
    Unsupported(String),
    Target(String),
}

impl From<NulError> for Refusal {
    fn from(_: NulError) -> Self {
        Refusal::Target("the target contains a NUL character".into())
    }
}

type Outcome = std::result::Result<std::result::Result<NonNull<sys::bpf_link>, i32>, Refusal>;

/// libbpf returns null and sets errno.
fn checked(link: Raw) -> std::result::Result<NonNull<sys::bpf_link>, i32> {
    NonNull::new(link).ok_or_else(|| io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

/// # Safety
/// `program` must be a program of a loaded object.
unsafe fn attach_kind(program: *const sys::bpf_program, kind: &str, target: &str) -> Outcome {
    match kind {
        "tracepoint" | "tp" => {
            let Some((category, name)) = target.split_once('/') else {
                return Err(Refusal::Target("the target must read CATEGORY/NAME".into()));
            };
            let (category, name) = (CString::new(category)?, CString::new(name)?);
            // SAFETY: the caller vouches for program; the strings outlive the call.
            Ok(checked(unsafe {
                sys::bpf_program__attach_tracepoint(program, category.as_ptr(), name.as_ptr())
            }))
        }
        "raw_tracepoint" | "raw_tp" | "raw_tracepoint.w" | "raw_tp.w" => {
            let name = CString::new(target)?;
            // SAFETY: as above.
            Ok(checked(unsafe { sys::bpf_program__attach_raw_tracepoint(program, name.as_ptr()) }))
        }
        // SAFETY: as above, in the next four.
        "kprobe" | "kretprobe" => unsafe { attach_kprobe(program, kind == "kretprobe", target) },
        "ksyscall" | "kretsyscall" => unsafe {
            attach_ksyscall(program, kind == "kretsyscall", target)
        },
        "kprobe.multi" | "kretprobe.multi" | "kprobe.session" => unsafe {
            attach_kprobe_multi(program, kind, target)
        },
        "uprobe" | "uretprobe" | "uprobe.s" | "uretprobe.s" => unsafe {
            attach_uprobe(program, kind.starts_with("uret"), target)
        },
        "usdt" | "usdt.s" => {
            let mut parts = target.splitn(3, ':');
            let (Some(path), Some(provider), Some(name)) =
                (parts.next(), parts.next(), parts.next())
            else {
                return Err(Refusal::Target("the target must read PATH:PROVIDER:NAME".into()));
            };
            let (path, provider, name) =
                (CString::new(path)?, CString::new(provider)?, CString::new(name)?);
            // SAFETY: as above; null options mean defaults.
            Ok(checked(unsafe {
                sys::bpf_program__attach_usdt(
                    program,
                    -1,
                    path.as_ptr(),
                    provider.as_ptr(),
                    name.as_ptr(),
                    std::ptr::null(),
                )
            }))
        }
        _ if target_fixed_at_load(kind) && !kind.starts_with("freplace") => {
            // SAFETY: as above.
            Ok(checked(unsafe {
                match kind {
                    "lsm" | "lsm.s" => sys::bpf_program__attach_lsm(program),
                    _ => sys::bpf_program__attach_trace(program),
                }
            }))
        }
        _ if kind.starts_with("socket") => Err(Refusal::Unsupported(NOT_HERE.into())),
        "perf_event" | "xdp" | "classifier" | "tc" | "tcx" | "cgroup_skb" | "sockops"
        | "sk_skb" | "sk_msg" | "flow_dissector" | "struct_ops" | "syscall" | "freplace" => {
            Err(Refusal::Unsupported(NOT_HERE.into()))
        }
        // SAFETY: as above.
        _ => Ok(checked(unsafe { sys::bpf_program__attach(program) })),
    }
}

/// `FUNCTION` or `FUNCTION+OFFSET`.
pub fn function_and_offset(target: &str) -> std::result::Result<(&str, u64), Refusal> {
    let Some((name, offset)) = target.split_once('+') else { return Ok((target, 0)) };
    let parsed = match offset.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => offset.parse(),
    };
    parsed.map(|o| (name, o)).map_err(|_| Refusal::Target(format!("bad offset {offset}")))
}

/// # Safety
/// `program` must be a program of a loaded object.
unsafe fn attach_kprobe(program: *const sys::bpf_program, retprobe: bool, target: &str) -> Outcome {
    let (name, offset) = function_and_offset(target)?;
    if name.is_empty() {
        return Err(Refusal::Target("no kernel function is named".into()));
    }
    let attempt = |name: &str| -> Outcome {
        let name = CString::new(name)?;
        let options = sys::bpf_kprobe_opts {
            sz: size_of::<sys::bpf_kprobe_opts>() as sys::size_t,
            offset: offset as sys::size_t,
            retprobe,
            ..Default::default()
        };
        // SAFETY: the caller vouches for program; name and options outlive the call.
        Ok(checked(unsafe {
            sys::bpf_program__attach_kprobe_opts(program, name.as_ptr(), &options)
        }))
    };
    let first = attempt(name)?;
    match first {
        // System calls are prefixed functions: sys_execve is __x64_sys_execve.
        Err(libc::ENOENT | libc::EINVAL | libc::EADDRNOTAVAIL) if !SYSCALL_PREFIX.is_empty() => {
            let second = attempt(&format!("{SYSCALL_PREFIX}{name}"))?;
            Ok(second.or(first))
        }
        first => Ok(first),
    }
}

/// # Safety
/// `program` must be a program of a loaded object.
unsafe fn attach_kprobe_multi(
    program: *const sys::bpf_program,
    kind: &str,
    pattern: &str,
) -> Outcome {
    if pattern.is_empty() {
        return Err(Refusal::Target("no kernel functions are named".into()));
    }
    let pattern = CString::new(pattern)?;
    let options = sys::bpf_kprobe_multi_opts {
        sz: size_of::<sys::bpf_kprobe_multi_opts>() as sys::size_t,
        retprobe: kind == "kretprobe.multi",
        session: kind == "kprobe.session",
        ..Default::default()
    };
    // SAFETY: the caller vouches for program; pattern and options outlive the call.
    Ok(checked(unsafe {
        sys::bpf_program__attach_kprobe_multi_opts(program, pattern.as_ptr(), &options)
    }))
}

/// # Safety
/// `program` must be a program of a loaded object.
unsafe fn attach_ksyscall(program: *const sys::bpf_program, retprobe: bool, name: &str) -> Outcome {
    let name = CString::new(name)?;
    let options = sys::bpf_ksyscall_opts {
        sz: size_of::<sys::bpf_ksyscall_opts>() as sys::size_t,
        retprobe,
        ..Default::default()
    };
    // SAFETY: the caller vouches for program; name and options outlive the call.
    Ok(checked(unsafe { sys::bpf_program__attach_ksyscall(program, name.as_ptr(), &options) }))
}

/// # Safety
/// `program` must be a program of a loaded object.
unsafe fn attach_uprobe(program: *const sys::bpf_program, retprobe: bool, target: &str) -> Outcome {
    let Some((path, symbol)) = target.rsplit_once(':') else {
        return Err(Refusal::Target("the target must read PATH:FUNCTION".into()));
    };
    let (function, offset) = function_and_offset(symbol)?;
    let (path, function) = (CString::new(path)?, CString::new(function)?);
    let options = sys::bpf_uprobe_opts {
        sz: size_of::<sys::bpf_uprobe_opts>() as sys::size_t,
        retprobe,
        func_name: function.as_ptr(),
        ..Default::default()
    };
    // SAFETY: the caller vouches for program; all strings outlive the call; -1 is every process.
    Ok(checked(unsafe {
        sys::bpf_program__attach_uprobe_opts(
            program,
            -1,
            path.as_ptr(),
            offset as sys::size_t,
            &options,
        )
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_split_at_the_first_slash() {
        assert_eq!(split("?tracepoint/syscalls/sys_enter_execve").1, "syscalls/sys_enter_execve");
        assert_eq!(split("uprobe//usr/bin/x:main"), ("uprobe", "/usr/bin/x:main"));
        assert_eq!(split("xdp"), ("xdp", ""));
    }

    #[test]
    fn load_time_targets() {
        assert!(target_fixed_at_load("fentry/vfs_read"));
        assert!(target_fixed_at_load("lsm.s/bprm_check_security"));
        assert!(!target_fixed_at_load("kprobe/vfs_read"));
    }

    #[test]
    fn offsets_parse() {
        assert!(matches!(function_and_offset("f+0x10"), Ok(("f", 16))));
        assert!(matches!(function_and_offset("f"), Ok(("f", 0))));
        assert!(function_and_offset("f+zz").is_err());
    }
}
