//! One BPF object: open → configure → load → attach → close.

mod attaching;
mod configure;

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::ptr::NonNull;

use libbpf_rs::{AsRawLibbpf, Link, ObjectBuilder, OpenObject};
use libbpf_sys as sys;
use nix::sys::memfd::{memfd_create, MFdFlags};

use super::attachment::Attachment;
use super::facts::{
    borrow_fd, cause, load_error, map_facts, program_facts, settle_type, MapFacts, ProgramFacts,
};
use super::families::program_fd;
use super::map::{info, Map};
use super::ring::wakes;
use super::{log, pins};
use crate::errors::{Error, Kind, Result};

/// Far above the size of any gadget: a bound for hostile images.
const MAX_OBJECT: usize = 128 << 20;
const MAX_PROGRAMS: usize = 4096;
const MAX_MAPS: usize = 4096;
/// Level of the verifier's log (BPF_LOG_STATS of include/linux/bpf_verifier.h): errors and counts.
const LOG_STATS: u32 = 4;

enum State {
    Open(OpenObject),
    Loaded(libbpf_rs::Object),
    Closed,
}

pub struct Object {
    name: String,
    /// Dropped before `state`: a link must be closed before its program.
    links: HashMap<String, Link>,
    attachments: HashMap<u64, Box<dyn Attachment>>,
    last_attachment: u64,
    targets: HashMap<String, String>,
    /// libbpf reads the file when it loads the object.
    _types: Option<File>,
    state: State,
}

impl Object {
    /// `types` replaces the running kernel's BTF when the object is relocated.
    pub fn open(elf: &[u8], name: &str, types: Option<&[u8]>) -> Result<Object> {
        let fail = |message: String| Error::new(Kind::Open, message);
        if elf.len() > MAX_OBJECT {
            return Err(fail(format!(
                "object {name} has {} bytes, at most {MAX_OBJECT} are accepted",
                elf.len()
            )));
        }
        let types = types
            .map(in_memory)
            .transpose()
            .map_err(|e| fail(format!("cannot keep the kernel types for object {name}: {e}")))?;
        let (open, said) = log::capture(|| {
            let mut builder = ObjectBuilder::default();
            // libbpf puts the object's name into the names of data sections' maps: a constant name
            // keeps them valid.
            builder.name("gadget")?;
            if let Some(file) = &types {
                builder.btf_custom_path(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
            }
            builder.open_memory(elf)
        });
        let open = open.map_err(|e| {
            fail(format!("libbpf cannot open object {name}: {}", cause(&e))).with_log(said)
        })?;
        if open.progs().count() > MAX_PROGRAMS || open.maps().count() > MAX_MAPS {
            return Err(fail(format!(
                "object {name} has more than {MAX_PROGRAMS} programs or {MAX_MAPS} maps"
            )));
        }
        let object = Object {
            name: name.to_string(),
            links: HashMap::new(),
            attachments: HashMap::new(),
            last_attachment: 0,
            targets: HashMap::new(),
            _types: types,
            state: State::Open(open),
        };
        for program in object.raw_programs()? {
            settle_type(program);
        }
        Ok(object)
    }

    fn raw(&self) -> Result<*const sys::bpf_object> {
        match &self.state {
            State::Open(o) => Ok(o.as_libbpf_object().as_ptr()),
            State::Loaded(o) => Ok(o.as_libbpf_object().as_ptr()),
            State::Closed => Err(self.closed()),
        }
    }

    fn raw_programs(&self) -> Result<Vec<NonNull<sys::bpf_program>>> {
        let object = self.raw()?;
        let mut last = std::ptr::null_mut();
        Ok(std::iter::from_fn(|| {
            // SAFETY: a live object, and a program of it or null to begin.
            last = unsafe { sys::bpf_object__next_program(object, last) };
            NonNull::new(last)
        })
        .collect())
    }

    fn raw_maps(&self) -> Result<Vec<NonNull<sys::bpf_map>>> {
        let object = self.raw()?;
        let mut last = std::ptr::null_mut();
        Ok(std::iter::from_fn(|| {
            // SAFETY: a live object, and a map of it or null to begin.
            last = unsafe { sys::bpf_object__next_map(object, last) };
            NonNull::new(last)
        })
        .collect())
    }

    pub fn programs(&self) -> Result<Vec<ProgramFacts>> {
        Ok(self.raw_programs()?.into_iter().map(program_facts).collect())
    }

    pub fn maps(&self) -> Result<Vec<MapFacts>> {
        Ok(self.raw_maps()?.into_iter().map(map_facts).collect())
    }

    /// Whether the programs wake the reader of a ring buffer for each record
    /// ([`wakes::always`]).
    pub fn wakes_always(&self) -> Result<bool> {
        Ok(self.raw_programs()?.into_iter().all(|program| {
            let p = program.as_ptr();
            // SAFETY: a live program; the instructions are not changed meanwhile.
            unsafe {
                let (insns, count) = (sys::bpf_program__insns(p), sys::bpf_program__insn_cnt(p));
                !sys::bpf_program__autoload(p)
                    || (!insns.is_null()
                        && wakes::always(std::slice::from_raw_parts(insns, count as usize)))
            }
        }))
    }

    fn closed(&self) -> Error {
        Error::closed(&format!("object {}", self.name))
    }

    /// Where no BPF file system is mounted, maps that are to be pinned exist as long as the object.
    fn settle_pins(&self) -> Result<()> {
        if pins::possible() {
            return Ok(());
        }
        for map in self.raw_maps()? {
            // SAFETY: a live map of an object that is not loaded yet.
            unsafe { sys::bpf_map__set_pin_path(map.as_ptr(), std::ptr::null()) };
        }
        Ok(())
    }

    /// `brief`: of a program that the verifier refuses, the log has only the reason and how many
    /// instructions it has processed. Otherwise the program is verified once more, with each of
    /// these instructions in the log, which takes ten times as long.
    pub fn load(&mut self, brief: bool) -> Result<()> {
        self.open_object("load it again")?;
        self.settle_pins()?;
        if brief {
            for program in self.raw_programs()? {
                // SAFETY: a live program of an object that is not loaded yet.
                unsafe { sys::bpf_program__set_log_level(program.as_ptr(), LOG_STATS) };
            }
        }
        let State::Open(open) = std::mem::replace(&mut self.state, State::Closed) else {
            return Err(self.closed());
        };
        let (loaded, said) = log::capture(|| open.load());
        match loaded {
            Ok(object) => {
                self.state = State::Loaded(object);
                Ok(())
            }
            Err(e) => Err(load_error(&self.name, &cause(&e), said)),
        }
    }

    fn raw_program(&self, program: &str) -> Result<NonNull<sys::bpf_program>> {
        let mut programs = self.raw_programs()?.into_iter();
        programs
            .find(|p| program_facts(*p).name == program)
            .ok_or_else(|| no_program(&self.name, program))
    }

    /// A new descriptor for a loaded program.
    pub fn program_fd(&self, program: &str) -> Result<OwnedFd> {
        program_fd(self.raw_program(program)?)?
            .try_clone_to_owned()
            .map_err(|e| Error::map(format!("program {program} cannot be held: {e}")))
    }

    /// A new descriptor for a program; None when it is not loaded.
    pub fn loaded_program(&self, program: &str) -> Result<Option<OwnedFd>> {
        let raw = self.raw_program(program)?;
        // SAFETY: a live program.
        let loaded = unsafe { sys::bpf_program__fd(raw.as_ptr()) } >= 0;
        loaded.then(|| self.program_fd(program)).transpose()
    }

    /// A new descriptor for the loaded map (or data section) `name`.
    pub fn map_fd(&self, name: &str) -> Result<OwnedFd> {
        let found = self.raw_maps()?.into_iter().find(|m| map_facts(*m).name == name);
        // SAFETY: a live map; the descriptor stays open while self is borrowed.
        match found.and_then(|m| unsafe { borrow_fd(sys::bpf_map__fd(m.as_ptr())) }) {
            Some(fd) => fd
                .try_clone_to_owned()
                .map_err(|e| Error::map(format!("map {name} cannot be held: {e}"))),
            None => Err(Error::map(format!("object {} has no loaded map {name}", self.name))),
        }
    }

    pub fn section(&self, program: &str) -> Result<String> {
        Ok(program_facts(self.raw_program(program)?).section)
    }

    pub fn has_map(&self, name: &str) -> bool {
        self.raw_maps().unwrap_or_default().into_iter().any(|m| map_facts(m).name == name)
    }

    pub fn map_by_name(&self, name: &str) -> Result<Map> {
        Map::from_fd(self.map_fd(name)?)
    }

    /// The present content of a loaded data section. Each aligned word is read at once.
    pub fn data(&self, section: &str, offset: usize, size: usize) -> Result<Vec<u8>> {
        let content = self.map_by_name(section)?.lookup(&[0; 4])?.unwrap_or_default();
        match offset.checked_add(size).and_then(|end| content.get(offset..end)) {
            Some(part) => Ok(part.to_vec()),
            None => Err(Error::map(format!(
                "{size} bytes at offset {offset} are outside the {} bytes of {section}",
                content.len()
            ))),
        }
    }

    /// Kernel ids of the loaded maps.
    pub fn map_ids(&self) -> Vec<u32> {
        let maps = self.raw_maps().unwrap_or_default();
        maps.into_iter()
            // SAFETY: a live map; the descriptor stays open while self is borrowed.
            .filter_map(|m| unsafe { borrow_fd(sys::bpf_map__fd(m.as_ptr())) })
            .filter_map(|fd| info(fd).ok().map(|i| i.id))
            .collect()
    }

    /// Kernel ids of the loaded programs.
    pub fn program_ids(&self) -> Vec<u32> {
        let programs = self.raw_programs().unwrap_or_default();
        programs
            .into_iter()
            // SAFETY: a live program; the descriptor stays open while self is borrowed.
            .filter_map(|p| unsafe { borrow_fd(sys::bpf_program__fd(p.as_ptr())) })
            .filter_map(|fd| libbpf_rs::Program::id_from_fd(fd).ok())
            .collect()
    }

    pub fn close(&mut self) {
        self.detach();
        self.state = State::Closed;
    }
}

/// A file in memory with these bytes.
fn in_memory(bytes: &[u8]) -> std::io::Result<File> {
    let mut file = File::from(memfd_create(c"ig-py-types", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(bytes)?;
    Ok(file)
}

fn no_program(object: &str, program: &str) -> Error {
    Error::new(Kind::Load, format!("object {object} has no program {program}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_does_not_open() {
        for elf in [&b""[..], b"\x7fELF", &[0x7f; 4096]] {
            let error = Object::open(elf, "x", None).err().expect("must fail");
            assert_eq!(error.kind, Kind::Open);
        }
    }
}
