//! The few instructions before a gadget's packet program: they tell it the network
//! namespace (`skb->cb[0]`) and call it. One for each namespace; the gadget is loaded once.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use libbpf_sys as sys;

use super::map::Map;
use super::program::{self, insn};
use crate::errors::{Error, Result};

/// Of `struct __sk_buff`.
const CB: i16 = 48;
const TAIL_CALL: i32 = 12;
/// Of programs and tables.
const NAME: &CStr = c"ig_dispatch";

/// A program of type `kind`, and the table that leads to the gadget's.
pub struct Dispatcher {
    pub program: OwnedFd,
    /// The kernel empties it when its last descriptor goes.
    _table: Map,
}

impl Dispatcher {
    /// `otherwise` is what it returns when there is nothing to call.
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
        let program = program::load_as(NAME, kind, 0, 0, &insns).ok_or_else(|| {
            let why = io::Error::last_os_error();
            Error::map(format!("cannot load the program before a packet program: {why}"))
        })?;
        // Loading fixed what kind of programs the table takes.
        table.update(&0u32.to_ne_bytes(), &(gadget.as_raw_fd() as u32).to_ne_bytes())?;
        Ok(Dispatcher { program, _table: table })
    }
}
