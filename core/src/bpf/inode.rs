//! The inode that the kernel uses for an open file. Containers of one image have the same library
//! in different overlay mounts: stat(2) returns different files, while a probe is put on the one
//! inode below.
//!
//! The file is mapped, and a small iterator program over this process's mappings (Linux 6.1)
//! returns the inode.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

use libbpf_sys as sys;
use nix::unistd::gettid;

use super::btf::Btf;
use super::iterate::{self, Scope};
use super::program::{self, insn};

/// Identifies a file as well as this kernel allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// The address of the inode that probes are put on. It is valid as long as the file is open.
    Inode(u64),
    /// Device, inode number and time of change: one file in two overlay mounts may look like two.
    Stat { device: u64, inode: u64, changed_s: i64, changed_ns: i64 },
}

const PAGE: usize = 4096;
/// Bytes per mapping in the iterator's output: its start, and the address of its inode.
const LINE: usize = 16;
/// Far more than the mappings of a process need (vm.max_map_count).
const MAX_OUTPUT: usize = 16 << 20;
/// `bpf_seq_write`.
const SEQ_WRITE: i32 = 127;

pub fn identity(file: &File) -> std::io::Result<Identity> {
    if let Some(inode) = below(file) {
        return Ok(Identity::Inode(inode));
    }
    let facts = file.metadata()?;
    Ok(Identity::Stat {
        device: facts.dev(),
        inode: facts.ino(),
        changed_s: facts.ctime(),
        changed_ns: facts.ctime_nsec(),
    })
}

fn below(file: &File) -> Option<u64> {
    static PROGRAM: OnceLock<Option<OwnedFd>> = OnceLock::new();
    let program = PROGRAM.get_or_init(load).as_ref()?;
    // SAFETY: a new mapping at an address of the kernel's choice, never read.
    let start = unsafe {
        let (protection, kind) = (libc::PROT_READ, libc::MAP_PRIVATE);
        libc::mmap(std::ptr::null_mut(), PAGE, protection, kind, file.as_raw_fd(), 0)
    };
    if start == libc::MAP_FAILED {
        return None;
    }
    // A thread has all mappings of its process.
    let tid = gettid().as_raw() as u32;
    let lines =
        iterate::read("mappings", program.as_fd(), &Scope { tid, ..Scope::default() }, MAX_OUTPUT);
    // SAFETY: mapped above and unmapped once.
    unsafe { libc::munmap(start, PAGE) };
    let word = |line: &[u8], at: usize| -> Option<u64> {
        Some(u64::from_ne_bytes(*line.get(at..)?.first_chunk()?))
    };
    let lines = lines.ok()?;
    let ours = lines.chunks_exact(LINE).find(|line| word(line, 0) == Some(start as u64))?;
    word(ours, 8).filter(|inode| *inode != 0)
}

/// The running kernel's types.
struct Types(Btf);

impl Types {
    fn load() -> Option<Types> {
        Btf::of_kernel().map(Types)
    }

    /// Bytes before `member` of `structure`, also inside of anonymous members.
    fn offset(&self, structure: &str, member: &str) -> Option<i16> {
        let name = CString::new(structure).ok()?;
        // SAFETY: the name outlives the call.
        let id =
            unsafe { sys::btf__find_by_name_kind(self.0 .0, name.as_ptr(), sys::BTF_KIND_STRUCT) };
        let bits = self.bits(u32::try_from(id).ok()?, member, 0)?;
        i16::try_from(bits / 8).ok()
    }

    fn bits(&self, id: u32, member: &str, depth: usize) -> Option<u32> {
        const MAX_DEPTH: usize = 8;
        if depth > MAX_DEPTH {
            return None;
        }
        // SAFETY: returns null or a type that lives as long as the BTF.
        let kind = unsafe { sys::btf__type_by_id(self.0 .0, id).as_ref()? };
        let what = kind.info >> 24 & 0x1f;
        if what != sys::BTF_KIND_STRUCT && what != sys::BTF_KIND_UNION {
            return None;
        }
        let count = (kind.info & 0xffff) as usize;
        let bit_fields = kind.info >> 31 != 0;
        // SAFETY: the type's members follow it.
        let members = unsafe {
            std::slice::from_raw_parts(
                (kind as *const sys::btf_type).add(1).cast::<sys::btf_member>(),
                count,
            )
        };
        members.iter().find_map(|m| {
            let at = if bit_fields { m.offset & 0x00ff_ffff } else { m.offset };
            // SAFETY: null or a NUL-terminated string that lives as long as the BTF.
            let name = unsafe {
                let text = sys::btf__name_by_offset(self.0 .0, m.name_off);
                (!text.is_null()).then(|| CStr::from_ptr(text))?
            };
            if name.to_bytes() == member.as_bytes() {
                return Some(at);
            }
            let inside = name.is_empty().then(|| self.bits(m.type_, member, depth + 1))??;
            Some(at + inside)
        })
    }
}

/// Writes (start, inode) of every mapping of a file.
fn load() -> Option<OwnedFd> {
    let types = Types::load()?;
    let start = types.offset("vm_area_struct", "vm_start")?;
    let file = types.offset("vm_area_struct", "vm_file")?;
    let inode = types.offset("file", "f_inode")?;
    // The context has pointers to meta, task and mapping; meta begins with the file to write.
    let (meta, mapping) = (0, 16);
    let load_word = sys::BPF_LDX | sys::BPF_MEM | sys::BPF_DW;
    let store_word = sys::BPF_STX | sys::BPF_MEM | sys::BPF_DW;
    let jump_zero = sys::BPF_JMP | sys::BPF_JEQ | sys::BPF_K;
    let copy = sys::BPF_ALU64 | sys::BPF_MOV | sys::BPF_X;
    let set = sys::BPF_ALU64 | sys::BPF_MOV | sys::BPF_K;
    let add = sys::BPF_ALU64 | sys::BPF_ADD | sys::BPF_K;
    // Registers as one byte: source in the upper four bits, destination in the lower.
    let pair = |to: u8, from: u8| from << 4 | to;
    let insns = [
        insn(copy, pair(6, 1), 0, 0),
        insn(load_word, pair(7, 6), mapping, 0),
        insn(jump_zero, 7, 12, 0),
        insn(load_word, pair(8, 7), file, 0),
        insn(jump_zero, 8, 10, 0),
        insn(load_word, pair(9, 8), inode, 0),
        insn(load_word, pair(2, 7), start, 0),
        insn(store_word, pair(10, 2), -16, 0),
        insn(store_word, pair(10, 9), -8, 0),
        insn(load_word, pair(1, 6), meta, 0),
        insn(load_word, pair(1, 1), 0, 0),
        insn(copy, pair(2, 10), 0, 0),
        insn(add, 2, 0, -16),
        insn(set, 3, 0, LINE as i32),
        insn(sys::BPF_JMP | sys::BPF_CALL, 0, 0, SEQ_WRITE),
        insn(set, 0, 0, 0),
        insn(sys::BPF_JMP | sys::BPF_EXIT, 0, 0, 0),
    ];
    let target = program::btf_id("task_vma", sys::BPF_TRACE_ITER).ok()?;
    let kind = sys::BPF_PROG_TYPE_TRACING;
    program::load_as(c"ig_inodes", kind, sys::BPF_TRACE_ITER, target, &insns).ok()
}
