//! What is set on an object before it is loaded.

use std::ffi::OsStr;

use libbpf_rs::{AsRawLibbpf, OpenMapMut, OpenObject, OpenProgramMut};
use libbpf_sys as sys;

use super::{no_program, Object, State};
use crate::bpf::attach;
use crate::bpf::facts::{cause, section_name};
use crate::bpf::log;
use crate::bpf::map::{info, MapInfo};
use crate::errors::{Error, Kind, Result};
use std::os::fd::BorrowedFd;

impl Object {
    pub(super) fn open_object(&mut self, verb: &str) -> Result<&mut OpenObject> {
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
                // The kernel needs the BTF id of the target when it loads the program.
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
                // The size of a ring buffer is no number of CPUs: with 0, libbpf takes their
                // number. SAFETY: as above.
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

    /// Uses `other` in place of `map`. Refused when type, sizes or flags differ.
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
                // `other` may have room for more entries.
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
}
