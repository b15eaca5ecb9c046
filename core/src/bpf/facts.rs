//! What libbpf knows of an object's programs and maps, as plain values.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use libbpf_sys as sys;

use crate::errors::{no_descriptor, Error, Kind};

pub struct ProgramFacts {
    pub name: String,
    pub section: String,
    pub program_type: String,
    pub insn_count: usize,
}

pub struct MapFacts {
    pub name: String,
    pub map_type: u32,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
}

/// libbpf names the map of a data section after the object and the section. Here its name is that
/// of the section, as in the program's source.
pub fn section_name(full: &str, internal: bool) -> String {
    let known = [".rodata", ".data", ".bss", ".kconfig"];
    match known.iter().find(|s| internal && full.ends_with(**s)) {
        Some(section) => (*section).to_string(),
        None => full.to_string(),
    }
}

/// Sets the type of programs whose section libbpf does not know: gadgets have sections such as
/// `socket1`, `classifier/ingress/x` and `perf_event/x`. A program of any other unknown section is
/// not loaded, so that the others can be.
pub fn settle_type(program: NonNull<sys::bpf_program>) {
    let p = program.as_ptr();
    // SAFETY: a live program of an object that is not loaded, in all calls.
    unsafe {
        if sys::bpf_program__type(p) != sys::BPF_PROG_TYPE_UNSPEC {
            return;
        }
        let section = program_facts(program).section;
        let section = section.strip_prefix('?').unwrap_or(&section);
        let kind = match section {
            s if s.starts_with("socket") => sys::BPF_PROG_TYPE_SOCKET_FILTER,
            s if s.starts_with("classifier/") => sys::BPF_PROG_TYPE_SCHED_CLS,
            s if s.starts_with("perf_event/") => sys::BPF_PROG_TYPE_PERF_EVENT,
            _ => {
                sys::bpf_program__set_autoload(p, false);
                return;
            }
        };
        sys::bpf_program__set_type(p, kind);
    }
}

/// # Safety
/// A non-negative `fd` must stay open for `'a`.
pub unsafe fn borrow_fd<'a>(fd: i32) -> Option<BorrowedFd<'a>> {
    // SAFETY: the caller vouches for the lifetime; -1 is excluded.
    (fd >= 0).then(|| unsafe { BorrowedFd::borrow_raw(fd) })
}

fn type_name(kind: u32) -> String {
    // SAFETY: returns null or a static NUL-terminated string for any number.
    let name = unsafe { sys::libbpf_bpf_prog_type_str(kind) };
    if name.is_null() {
        return format!("type {kind}");
    }
    // SAFETY: not null, see above.
    unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
}

pub fn program_facts(program: NonNull<sys::bpf_program>) -> ProgramFacts {
    let p = program.as_ptr();
    // SAFETY: callers pass live programs of a live object; names are NUL-terminated.
    unsafe {
        ProgramFacts {
            name: CStr::from_ptr(sys::bpf_program__name(p)).to_string_lossy().into_owned(),
            section: CStr::from_ptr(sys::bpf_program__section_name(p))
                .to_string_lossy()
                .into_owned(),
            program_type: type_name(sys::bpf_program__type(p)),
            insn_count: sys::bpf_program__insn_cnt(p) as usize,
        }
    }
}

pub fn map_facts(map: NonNull<sys::bpf_map>) -> MapFacts {
    let m = map.as_ptr();
    // SAFETY: callers pass live maps of a live object; the name is NUL-terminated.
    unsafe {
        let name = CStr::from_ptr(sys::bpf_map__name(m)).to_string_lossy();
        MapFacts {
            name: section_name(&name, sys::bpf_map__is_internal(m)),
            map_type: sys::bpf_map__type(m),
            key_size: sys::bpf_map__key_size(m),
            value_size: sys::bpf_map__value_size(m),
            max_entries: sys::bpf_map__max_entries(m),
        }
    }
}

/// The innermost reason of a libbpf-rs error, one line.
pub fn cause(error: &libbpf_rs::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(next) = inner.source() {
        inner = next;
    }
    inner.to_string()
}

/// The error of a load, from libbpf's log: it names the failing program and marks the start of the
/// verifier's log.
pub fn load_error(object: &str, reason: &str, said: String) -> Error {
    let failed = said.lines().find_map(|line| {
        let (name, rest) = line.split_once("prog '")?.1.split_once('\'')?;
        // A target that the kernel does not have is logged before the load itself.
        rest.contains("failed").then(|| (name.to_string(), rest.contains("failed to find")))
    });
    // libbpf marks a log also where the load failed before the verifier began.
    let rejected = said.contains("-- BEGIN PROG LOAD LOG --")
        && !no_descriptor(reason)
        && !no_descriptor(&said);
    let program = failed.as_ref().map_or_else(String::new, |(name, _)| name.clone());
    match failed {
        Some((program, true)) => Error::new(
            Kind::Absent,
            format!("the kernel has nothing that program {program} of {object} could attach to"),
        ),
        Some((program, _)) if rejected => Error::new(
            Kind::Verifier,
            format!("the verifier rejects program {program} of {object}: {reason}"),
        ),
        Some((program, _)) => Error::new(
            Kind::Load,
            format!("the kernel does not load program {program} of {object}: {reason}"),
        ),
        None if refused_memory(&said).is_some() => Error::new(
            Kind::Memory,
            format!(
                "the kernel does not create map {} of {object}: {reason}",
                refused_memory(&said).unwrap_or_default()
            ),
        ),
        None if missing_symbol(&said).is_some() => Error::new(
            Kind::Load,
            format!(
                "the kernel tells no address of {}, which {object} needs",
                missing_symbol(&said).unwrap_or_default()
            ),
        ),
        None => Error::new(Kind::Load, format!("libbpf cannot load object {object}: {reason}")),
    }
    .of_program(&program)
    .with_log(said)
}

/// A symbol that the object requires and that is not in /proc/kallsyms.
fn missing_symbol(said: &str) -> Option<&str> {
    said.lines().find_map(|line| {
        let (name, rest) = line.split_once("extern '")?.1.split_once('\'')?;
        (rest.contains("(strong)") && rest.contains("not resolved")).then_some(name)
    })
}

/// The map for which the kernel gave no memory (locked memory gives EPERM).
fn refused_memory(said: &str) -> Option<&str> {
    said.lines().find_map(|line| {
        let (name, rest) = line.split_once("map '")?.1.split_once('\'')?;
        let refused = rest.contains("-EPERM") || rest.contains("-ENOMEM");
        (rest.contains("failed to create") && refused).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_named_by_section() {
        assert_eq!(section_name("gadget.rodata", true), ".rodata");
        assert_eq!(section_name(".rodata.str1.1", true), ".rodata.str1.1");
        assert_eq!(section_name("my.bss", false), "my.bss");
    }

    #[test]
    fn memory_that_is_refused_is_told_apart() {
        let said = "libbpf: map 'events': failed to create: -ENOMEM\n";
        let error = load_error("obj", "Cannot allocate memory", said.into());
        assert_eq!(error.kind, Kind::Memory);
        assert!(error.message.contains("map events of obj"));
        let said = "libbpf: map 'events': failed to create: -EINVAL\n";
        assert_eq!(load_error("obj", "Invalid argument", said.into()).kind, Kind::Load);
    }

    #[test]
    fn verifier_failures_name_the_program() {
        let said = "libbpf: prog 'bad': BPF program load failed: EACCES\n\
                    libbpf: prog 'bad': -- BEGIN PROG LOAD LOG --\n0: (95) exit\n";
        let error = load_error("obj", "Permission denied", said.into());
        assert_eq!(error.kind, Kind::Verifier);
        assert!(error.message.contains("program bad of obj"));
        assert!(error.log.contains("(95) exit"));
        assert_eq!(error.program, "bad");
    }

    #[test]
    fn a_program_for_which_no_descriptor_is_left_is_not_rejected() {
        let said = "libbpf: prog 'p': BPF program load failed: Too many open files\n\
                    libbpf: prog 'p': -- BEGIN PROG LOAD LOG --\nprocessed 9 insns\n";
        let error = load_error("obj", "Too many open files (os error 24)", said.into());
        assert_eq!((error.kind, &*error.program), (Kind::Load, "p"));
        assert_eq!(error.with_limit().kind, Kind::Descriptors);
    }

    #[test]
    fn a_missing_symbol_is_named() {
        let said = "libbpf: extern 'some_ops' (strong): not resolved\n";
        let error = load_error("obj", "No such process", said.into());
        assert_eq!(error.kind, Kind::Load);
        assert!(error.message.contains("no address of some_ops, which obj needs"));
    }

    #[test]
    fn a_missing_target_names_the_program() {
        let said = "libbpf: prog 'hook': failed to find kernel BTF type ID of 'bpf_lsm_x': -3\n\
                    libbpf: prog 'hook': failed to prepare load attributes: -3\n";
        let error = load_error("obj", "No such process", said.into());
        assert_eq!((error.kind, &*error.program), (Kind::Absent, "hook"));
    }
}
