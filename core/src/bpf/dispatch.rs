//! A small program in front of a gadget's packet program: it stores the network namespace in
//! `skb->cb[0]` and calls the gadget's program. There is one for each namespace, while the gadget
//! is loaded once.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use libbpf_sys as sys;

use super::map::Map;
use super::program::{self, insn};
use crate::errors::{Error, Result};

/// Offset of `cb` in `struct __sk_buff`.
const CB: i16 = 48;
const TAIL_CALL: i32 = 12;
/// The name of the programs and their tables.
const NAME: &CStr = c"ig_dispatch";

/// The program, and the table with the gadget's program.
pub struct Dispatcher {
    pub program: OwnedFd,
    /// The kernel empties the table when its last descriptor is closed.
    _table: Map,
}

impl Dispatcher {
    /// `otherwise` is the return value when the table is empty.
    pub fn new(
        kind: u32,
        gadget: BorrowedFd<'_>,
        netns: u32,
        otherwise: i32,
    ) -> Result<Dispatcher> {
        let table = Map::create("ig_dispatch", sys::BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 1)?;
        let store = sys::BPF_STX | sys::BPF_MEM | sys::BPF_W;
        let set = sys::BPF_ALU64 | sys::BPF_MOV | sys::BPF_K;
        let set32 = sys::BPF_ALU | sys::BPF_MOV | sys::BPF_K;
        let wide = sys::BPF_LD | sys::BPF_DW | sys::BPF_IMM;
        let of_map = (sys::BPF_PSEUDO_MAP_FD as u8) << 4 | 2;
        let insns = [
            insn(set32, 2, 0, netns as i32),
            insn(store, 2 << 4 | 1, CB, 0),
            insn(wide, of_map, 0, table.as_fd().as_raw_fd()),
            insn(0, 0, 0, 0),
            insn(set, 3, 0, 0),
            insn(sys::BPF_JMP | sys::BPF_CALL, 0, 0, TAIL_CALL),
            insn(set, 0, 0, otherwise),
            insn(sys::BPF_JMP | sys::BPF_EXIT, 0, 0, 0),
        ];
        let program = program::load_as(NAME, kind, 0, 0, &insns).map_err(|why| {
            Error::map(format!("cannot load the program before a packet program: {why}"))
        })?;
        // The first program that uses the table fixes the type of programs in it.
        table.update(&0u32.to_ne_bytes(), &(gadget.as_raw_fd() as u32).to_ne_bytes())?;
        Ok(Dispatcher { program, _table: table })
    }
}
