//! One BPF object: open → configure → load → attach → close.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use libbpf_rs::{AsRawLibbpf, Link, ObjectBuilder, OpenMapMut, OpenObject, OpenProgramMut};
use libbpf_sys as sys;

use super::facts::{
    borrow_fd, cause, load_error, map_facts, program_facts, section_name, settle_type, MapFacts,
    ProgramFacts,
};
use super::families::program_fd;
use super::held::Held;
use super::map::{info, Map, MapInfo};
use super::{attach, log, pins};
use crate::errors::{Error, Kind, Result};
use crate::fds::owned;

/// Far above any gadget; a bound on hostile images.
const MAX_OBJECT: usize = 128 << 20;
const MAX_PROGRAMS: usize = 4096;
const MAX_MAPS: usize = 4096;
/// Threads that detach at once.
const MAX_ENDING: usize = 16;

enum State {
    Open(OpenObject),
    Loaded(libbpf_rs::Object),
    Closed,
}

pub struct Object {
    name: String,
    /// Dropped before `state`: a link must go before its program.
    links: HashMap<String, Link>,
    held: HashMap<u64, Box<dyn Held>>,
    last_held: u64,
    targets: HashMap<String, String>,
    /// libbpf reads it when it loads.
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
            // libbpf puts the object's name into section map names: keep it plain.
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
            held: HashMap::new(),
            last_held: 0,
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

    fn closed(&self) -> Error {
        Error::closed(&format!("object {}", self.name))
    }

    fn open_object(&mut self, verb: &str) -> Result<&mut OpenObject> {
        match &mut self.state {
            State::Open(o) => Ok(o),
            State::Loaded(_) => Err(Error::new(
                Kind::Load,
                format!("object {} is loaded already: cannot {verb}", self.name),
            )),
            State::Closed => Err(Error::closed(&format!("object {}", self.name))),
        }
    }

    fn with_program<T>(
        &mut self,
        program: &str,
        work: impl FnOnce(&mut OpenProgramMut<'_>) -> T,
    ) -> Result<T> {
        let name = self.name.clone();
        let open = self.open_object("configure its programs")?;
        match open.progs_mut().find(|p| p.name() == OsStr::new(program)) {
            Some(mut p) => Ok(work(&mut p)),
            None => Err(no_program(&name, program)),
        }
    }

    fn with_map<T>(
        &mut self,
        map: &str,
        work: impl FnOnce(&mut OpenMapMut<'_>) -> Result<T>,
    ) -> Result<T> {
        let name = self.name.clone();
        let open = self.open_object("configure its maps")?;
        let found = open.maps_mut().find(|m| {
            // SAFETY: a live map of the open object.
            let internal = unsafe { sys::bpf_map__is_internal(m.as_libbpf_object().as_ptr()) };
            section_name(&m.name().to_string_lossy(), internal) == map
        });
        match found {
            Some(mut m) => work(&mut m),
            None => Err(Error::map(format!("object {name} has no map {map}"))),
        }
    }

    pub fn set_autoload(&mut self, program: &str, load: bool) -> Result<()> {
        self.with_program(program, |p| p.set_autoload(load))
    }

    pub fn set_attach_target(&mut self, program: &str, target: &str) -> Result<()> {
        let (fixed, said) = log::capture(|| {
            self.with_program(program, |p| {
                if !attach::target_fixed_at_load(&p.section().to_string_lossy()) {
                    return Ok(());
                }
                // The kernel's BTF id of the target goes into the program at load.
                p.set_attach_target(0, Some(target.to_string()))
            })
        });
        fixed?.map_err(|e| {
            Error::new(
                Kind::Attach,
                format!("program {program} cannot target {target}: {}", cause(&e)),
            )
            .with_log(said)
        })?;
        self.targets.insert(program.to_string(), target.to_string());
        Ok(())
    }

    pub fn set_data(&mut self, section: &str, offset: usize, data: &[u8]) -> Result<()> {
        self.with_map(section, |m| {
            let Some(initial) = m.initial_value_mut() else {
                return Err(Error::map(format!("map {section} has no initial data")));
            };
            let size = initial.len();
            let end = offset.checked_add(data.len());
            match end.and_then(|end| initial.get_mut(offset..end)) {
                Some(place) => {
                    place.copy_from_slice(data);
                    Ok(())
                }
                None => Err(Error::map(format!(
                    "{} bytes at offset {offset} are outside the {size} bytes of {section}",
                    data.len()
                ))),
            }
        })
    }

    pub fn set_map_type(&mut self, map: &str, kind: u32, key: u32, value: u32) -> Result<()> {
        self.with_map(map, |m| {
            let raw = m.as_libbpf_object().as_ptr();
            // SAFETY: a live map of an object that is not loaded yet, in all calls.
            let rc = unsafe {
                match sys::bpf_map__set_type(raw, kind) {
                    0 => match sys::bpf_map__set_key_size(raw, key) {
                        0 => sys::bpf_map__set_value_size(raw, value),
                        rc => rc,
                    },
                    rc => rc,
                }
            };
            if rc == 0 && kind == sys::BPF_MAP_TYPE_PERF_EVENT_ARRAY {
                // A ring's bytes are no count of CPUs: let libbpf take theirs.
                // SAFETY: as above.
                unsafe { sys::bpf_map__set_max_entries(raw, 0) };
            }
            match rc {
                0 => Ok(()),
                rc => Err(Error::map(format!(
                    "map {map} cannot become type {kind} with key {key} and value {value} bytes: {}",
                    std::io::Error::from_raw_os_error(-rc)
                ))),
            }
        })
    }

    pub fn set_max_entries(&mut self, map: &str, max_entries: u32) -> Result<()> {
        self.with_map(map, |m| {
            m.set_max_entries(max_entries).map_err(|e| {
                Error::map(format!("map {map} cannot have {max_entries} entries: {}", cause(&e)))
            })
        })
    }

    /// Puts `other` in place of `map`; refused when the kernel would treat them differently.
    pub fn reuse_map(&mut self, map: &str, other: BorrowedFd<'_>) -> Result<()> {
        let theirs =
            info(other).map_err(|e| Error::map(format!("the map for {map} is unusable: {e}")))?;
        self.with_map(map, |m| {
            let ours = MapInfo {
                id: 0,
                // SAFETY: a live map of the open object.
                map_type: unsafe { sys::bpf_map__type(m.as_libbpf_object().as_ptr()) },
                key_size: m.key_size(),
                value_size: m.value_size(),
                max_entries: m.max_entries(),
                flags: m.map_flags(),
            };
            let pairs = [
                ("type", ours.map_type, theirs.map_type),
                ("key size", ours.key_size, theirs.key_size),
                ("value size", ours.value_size, theirs.value_size),
                // Room for more does no harm.
                ("max entries", ours.max_entries, theirs.max_entries.min(ours.max_entries)),
                ("flags", ours.flags, theirs.flags),
            ];
            if let Some((what, a, b)) = pairs.into_iter().find(|(_, a, b)| a != b) {
                return Err(Error::map(format!(
                    "map {map} cannot be replaced by map {}: {what} is {a} in the object and {b} \
                     in the replacement",
                    theirs.id
                )));
            }
            m.reuse_fd(other)
                .map_err(|e| Error::map(format!("map {map} cannot be replaced: {}", cause(&e))))
        })
    }

    /// Maps that ask to be pinned are, where there is a file system for it; elsewhere they
    /// live as long as the object.
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

    pub fn load(&mut self) -> Result<()> {
        self.open_object("load it again")?;
        self.settle_pins()?;
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

    /// Attaches an attached program to one more target.
    pub fn attach_also(&mut self, program: &str, target: &str) -> Result<()> {
        let raw = self.raw_programs()?.into_iter().find(|p| program_facts(*p).name == program);
        let raw = raw.ok_or_else(|| no_program(&self.name, program))?;
        let link = attach::attach(raw, &program_facts(raw), Some(target))?;
        self.links.insert(format!("{program}@{target}"), link);
        Ok(())
    }

    pub fn attach(&mut self, program: &str) -> Result<()> {
        if let State::Open(_) = self.state {
            return Err(Error::new(
                Kind::Attach,
                format!("object {} is not loaded: cannot attach {program}", self.name),
            ));
        }
        let raw = self.raw_program(program)?;
        if self.links.contains_key(program) {
            return Err(Error::new(Kind::Attach, format!("program {program} is attached already")));
        }
        let target = self.targets.get(program).map(String::as_str);
        let link = attach::attach(raw, &program_facts(raw), target)?;
        self.links.insert(program.to_string(), link);
        Ok(())
    }

    fn raw_program(&self, program: &str) -> Result<NonNull<sys::bpf_program>> {
        let mut programs = self.raw_programs()?.into_iter();
        programs
            .find(|p| program_facts(*p).name == program)
            .ok_or_else(|| no_program(&self.name, program))
    }

    /// Attaches a loaded program by `work`; the number is for `release`.
    pub fn hold(
        &mut self,
        program: &str,
        work: impl FnOnce(NonNull<sys::bpf_program>) -> Result<Box<dyn Held>>,
    ) -> Result<u64> {
        let raw = self.raw_program(program)?;
        // Also says when it is not loaded.
        program_fd(raw)?;
        let held = work(raw)?;
        self.last_held += 1;
        self.held.insert(self.last_held, held);
        Ok(self.last_held)
    }

    /// Ends one attachment of `hold`; False when it has ended already.
    pub fn release(&mut self, number: u64) -> bool {
        self.held.remove(&number).is_some()
    }

    /// A descriptor of one's own for a loaded program.
    pub fn program_fd(&self, program: &str) -> Result<OwnedFd> {
        program_fd(self.raw_program(program)?)?
            .try_clone_to_owned()
            .map_err(|e| Error::map(format!("program {program} cannot be held: {e}")))
    }

    /// Detaches every program; maps stay readable.
    pub fn detach(&mut self) {
        end_together(self.links.drain().map(|(_, link)| link).collect());
        self.held.clear();
    }

    /// The same; None when it was not loaded.
    pub fn loaded_program(&self, program: &str) -> Result<Option<OwnedFd>> {
        let raw = self.raw_program(program)?;
        // SAFETY: a live program.
        let loaded = unsafe { sys::bpf_program__fd(raw.as_ptr()) } >= 0;
        loaded.then(|| self.program_fd(program)).transpose()
    }

    /// A descriptor of one's own for the loaded map (or section) `name`.
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

    /// What a loaded data section holds now; each aligned word of it is read whole.
    pub fn data(&self, section: &str, offset: usize, size: usize) -> Result<Vec<u8>> {
        let held = self.map_by_name(section)?.lookup(&[0; 4])?.unwrap_or_default();
        match offset.checked_add(size).and_then(|end| held.get(offset..end)) {
            Some(part) => Ok(part.to_vec()),
            None => Err(Error::map(format!(
                "{size} bytes at offset {offset} are outside the {} bytes of {section}",
                held.len()
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

/// A file of these bytes that has no name.
fn in_memory(bytes: &[u8]) -> std::io::Result<File> {
    // SAFETY: a static string; a fresh descriptor.
    let fd = unsafe { owned(libc::memfd_create(c"ig-py-types".as_ptr(), libc::MFD_CLOEXEC)) }?;
    let mut file = File::from(fd);
    file.write_all(bytes)?;
    Ok(file)
}

/// Ending the perf event of a tracepoint waits until no processor is inside (RCU), some 60 ms
/// each: they wait together.
fn end_together(mut links: Vec<Link>) {
    let each = links.len().div_ceil(MAX_ENDING).max(1);
    std::thread::scope(|scope| {
        while links.len() > each {
            let part = links.split_off(links.len() - each);
            // Where no thread is to be had, the links end with the closure.
            let _ = std::thread::Builder::new().spawn_scoped(scope, move || drop(part));
        }
        drop(links);
    });
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
