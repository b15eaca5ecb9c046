//! Offsets of the structure members that the scout reads, from the running kernel's BTF.
//!
//! libbpf could relocate the object, but that takes some 20 ms, since it compares each name with
//! every type. Here one pass over the types finds all of them.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::fd::AsRawFd;

use super::mapping::Mapping;
use crate::errors::{Error, Kind, Result};

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";
const MAX_BTF: usize = 256 << 20;
const MAGIC: u16 = 0xeb9f;
const HEADER: usize = 24;
/// Nesting of anonymous structures.
const MAX_DEPTH: usize = 8;

// BTF_KIND_* (uapi/linux/btf.h).
const INT: u32 = 1;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const DECL_TAG: u32 = 17;
const ENUM64: u32 = 19;

const NAMES: [&str; 12] = [
    "task_struct",
    "nsproxy",
    "mnt_namespace",
    "ns_common",
    "pid",
    "pid_namespace",
    "user_namespace",
    "upid",
    "css_set",
    "cgroup_subsys_state",
    "cgroup",
    "kernfs_node",
];

struct Types<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Offset of type number `index + 1`.
    starts: Vec<u32>,
    named: HashMap<&'static str, u32>,
}

struct Member {
    offset: u32,
    kind: u32,
}

fn missing(what: &str) -> Error {
    Error::new(Kind::Unsupported, format!("the kernel's BTF has no {what}"))
}

fn word(raw: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(raw.get(at..at + 4)?.try_into().ok()?))
}

/// Bytes of a type behind its first 12.
fn extra(kind: u32, count: usize) -> usize {
    match kind {
        INT | VAR | DECL_TAG => 4,
        ARRAY => 12,
        STRUCT | UNION | DATASEC | ENUM64 => 12 * count,
        ENUM | FUNC_PROTO => 8 * count,
        _ => 0,
    }
}

impl<'a> Types<'a> {
    fn parse(raw: &'a [u8]) -> Option<Types<'a>> {
        if raw.len() < HEADER || raw.len() > MAX_BTF || raw[..2] != MAGIC.to_ne_bytes() {
            return None;
        }
        let part = |at: usize| {
            let header = word(raw, 4)? as usize;
            let start = header.checked_add(word(raw, at)? as usize)?;
            raw.get(start..start.checked_add(word(raw, at + 4)? as usize)?)
        };
        let (types, strings) = (part(8)?, part(16)?);
        let mut found = Types {
            types,
            strings,
            starts: Vec::with_capacity(types.len() / 24),
            named: HashMap::new(),
        };
        let mut at = 0;
        while at < types.len() {
            let info = word(types, at + 4)?;
            let (kind, count) = (info >> 24 & 31, (info & 0xffff) as usize);
            found.starts.push(at as u32);
            if kind == STRUCT && count > 0 {
                let name = found.text(word(types, at)?);
                if let Some(known) = NAMES.iter().find(|n| n.as_bytes() == name) {
                    found.named.entry(known).or_insert(at as u32);
                }
            }
            at += 12 + extra(kind, count);
        }
        Some(found)
    }

    fn text(&self, at: u32) -> &'a [u8] {
        let rest = self.strings.get(at as usize..).unwrap_or_default();
        &rest[..memchr::memchr(0, rest).unwrap_or(0)]
    }

    fn structure(&self, name: &str) -> Result<usize> {
        self.named
            .get(name)
            .map(|at| *at as usize)
            .ok_or_else(|| missing(&format!("struct {name}")))
    }

    fn find(&self, at: usize, name: &str, depth: usize) -> Option<Member> {
        let info = word(self.types, at + 4)?;
        for i in 0..(info & 0xffff) as usize {
            let member = at + 12 + 12 * i;
            let raw = word(self.types, member + 8)?;
            let bits = if info >> 31 == 1 { raw & 0xff_ffff } else { raw };
            let kind = word(self.types, member + 4)?;
            let its = self.text(word(self.types, member)?);
            if its == name.as_bytes() {
                return Some(Member { offset: bits / 8, kind });
            }
            if its.is_empty() && depth < MAX_DEPTH {
                let inner = *self.starts.get((kind as usize).checked_sub(1)?)? as usize;
                if let Some(found) = self.find(inner, name, depth + 1) {
                    return Some(Member { offset: bits / 8 + found.offset, ..found });
                }
            }
        }
        None
    }

    fn member(&self, structure: &str, name: &str) -> Result<Member> {
        self.find(self.structure(structure)?, name, 0)
            .ok_or_else(|| missing(&format!("member {name} of struct {structure}")))
    }

    fn offset(&self, structure: &str, name: &str) -> Result<u32> {
        self.member(structure, name).map(|m| m.offset)
    }

    fn elements(&self, array: u32) -> Option<u32> {
        let at = *self.starts.get((array as usize).checked_sub(1)?)? as usize;
        (word(self.types, at + 4)? >> 24 & 31 == ARRAY).then(|| word(self.types, at + 20))?
    }
}

/// The bytes of `struct offsets` of core/scout/scout.bpf.c.
pub fn of_running_kernel() -> Result<Vec<u8>> {
    let unreadable = |e| Error::new(Kind::Unsupported, format!("reading {VMLINUX}: {e}"));
    let file = File::open(VMLINUX).map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len() as usize;
    // Since Linux 6.16 the file can be mapped; read(2) returns one page per call.
    match Mapping::read_only(file.as_raw_fd(), size) {
        Ok(mapping) => of(mapping.bytes()),
        Err(_) => of(&fs::read(VMLINUX).map_err(unreadable)?),
    }
}

fn of(raw: &[u8]) -> Result<Vec<u8>> {
    let types = Types::parse(raw)
        .ok_or_else(|| Error::new(Kind::Btf, format!("{VMLINUX} is not understood")))?;
    let common = types.offset("mnt_namespace", "ns")?;
    let inum = types.offset("ns_common", "inum")?;
    let generation = match types.offset("mnt_namespace", "seq") {
        Ok(seq) => seq,
        Err(_) => common + types.offset("ns_common", "ns_id")?,
    };
    let parent = types
        .offset("kernfs_node", "__parent")
        .or_else(|_| types.offset("kernfs_node", "parent"))?;
    let subsys = types.member("css_set", "subsys")?;
    let upid = word(types.types, types.structure("upid")? + 8).unwrap_or(0);
    let words = [
        types.offset("task_struct", "pid")?,
        types.offset("task_struct", "tgid")?,
        types.offset("task_struct", "real_parent")?,
        types.offset("task_struct", "group_leader")?,
        types.offset("task_struct", "thread_pid")?,
        types.offset("task_struct", "comm")?,
        types.offset("task_struct", "nsproxy")?,
        types.offset("task_struct", "cgroups")?,
        types.offset("nsproxy", "mnt_ns")?,
        common + inum,
        types.offset("mnt_namespace", "user_ns")?,
        types.offset("user_namespace", "parent")?,
        types.offset("user_namespace", "level")?,
        types.offset("user_namespace", "owner")?,
        generation,
        types.offset("pid", "level")?,
        types.offset("pid", "numbers")?,
        upid,
        types.offset("upid", "nr")?,
        types.offset("upid", "ns")?,
        types.offset("pid_namespace", "ns")? + inum,
        subsys.offset,
        types.elements(subsys.kind).ok_or_else(|| missing("array css_set.subsys"))?,
        types.offset("css_set", "dfl_cgrp")?,
        types.offset("cgroup_subsys_state", "cgroup")?,
        types.offset("cgroup", "level")?,
        types.offset("cgroup", "kn")?,
        types.offset("kernfs_node", "name")?,
        types.offset("kernfs_node", "id")?,
        parent,
    ];
    Ok(words.iter().flat_map(|w| w.to_ne_bytes()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_btf_is_refused() {
        for raw in [&b""[..], b"\x9f\xeb", &[0xff; 4096]] {
            assert_eq!(of(raw).err().map(|e| e.kind), Some(Kind::Btf));
        }
    }

    #[test]
    fn cut_types_are_refused_or_lack_members() {
        let Ok(raw) = fs::read(VMLINUX) else { return };
        for part in [HEADER, HEADER + 7, raw.len() / 2, raw.len() - 1] {
            assert!(of(&raw[..part]).is_err());
        }
    }

    #[test]
    fn the_running_kernel_has_every_member() {
        if fs::metadata(VMLINUX).is_ok() {
            assert_eq!(of_running_kernel().unwrap().len(), 30 * 4);
        }
    }
}
