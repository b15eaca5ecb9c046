//! Small programs written in instructions and loaded without an object: for probes of features,
//! for iterators, and in front of packet programs.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::OwnedFd;

use libbpf_sys as sys;

use crate::fds::owned;

pub const fn insn(code: u32, registers: u8, off: i16, imm: i32) -> sys::bpf_insn {
    sys::bpf_insn {
        code: code as u8,
        _bitfield_align_1: [],
        _bitfield_1: sys::__BindgenBitfieldUnit::new([registers]),
        off,
        imm,
    }
}

/// r0 = 0; exit.
pub fn nothing() -> Vec<sys::bpf_insn> {
    vec![
        insn(sys::BPF_ALU64 | sys::BPF_MOV | sys::BPF_K, 0, 0, 0),
        insn(sys::BPF_JMP | sys::BPF_EXIT, 0, 0, 0),
    ]
}

/// Loads a program.
pub fn load(
    program_type: u32,
    attach_type: u32,
    target: u32,
    insns: &[sys::bpf_insn],
) -> io::Result<OwnedFd> {
    load_as(c"ig_probe", program_type, attach_type, target, insns)
}

/// Loads a program with a name.
pub fn load_as(
    name: &CStr,
    program_type: u32,
    attach_type: u32,
    target: u32,
    insns: &[sys::bpf_insn],
) -> io::Result<OwnedFd> {
    let mut options = sys::bpf_prog_load_opts {
        sz: size_of::<sys::bpf_prog_load_opts>() as sys::size_t,
        expected_attach_type: attach_type,
        attach_btf_id: target,
        attempts: 1,
        ..Default::default()
    };
    // SAFETY: instructions, names and options outlive the call; a fresh descriptor.
    unsafe {
        owned(sys::bpf_prog_load(
            program_type,
            name.as_ptr(),
            c"GPL".as_ptr(),
            insns.as_ptr(),
            insns.len() as sys::size_t,
            &mut options,
        ))
    }
}

pub fn load_nothing(program_type: u32) -> io::Result<OwnedFd> {
    load(program_type, 0, 0, &nothing())
}

/// BTF id of a kernel function as target of `attach_type`.
pub fn btf_id(name: &str, attach_type: u32) -> io::Result<u32> {
    let name = CString::new(name)?;
    // SAFETY: the name outlives the call.
    let id = unsafe { sys::libbpf_find_vmlinux_btf_id(name.as_ptr(), attach_type) };
    // Negative: the number of the error.
    u32::try_from(id).map_err(|_| io::Error::from_raw_os_error(-id))
}
