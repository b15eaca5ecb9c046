//! Whether programs wake the reader of a ring buffer for each record (bpf-helpers(7),
//! bpf_ringbuf_submit: BPF_RB_NO_WAKEUP), as far as their instructions tell.

use libbpf_sys as sys;

/// Arguments of a function are in registers 1 to 5; it keeps those from 6 on.
const FIRST_KEPT: u8 = 6;
/// Bits of the mode of loads and stores, and the mode of atomic operations (uapi BPF_ATOMIC).
const MODE: u32 = 0xe0;
const ATOMIC: u32 = 0xc0;

/// False: some program may submit or discard a record without waking the reader. After such a
/// record, also one that was discarded, the kernel wakes for no other until the reader has come.
pub fn always(insns: &[sys::bpf_insn]) -> bool {
    let targets = targets(insns);
    insns.iter().enumerate().all(|(at, insn)| match flags_register(insn) {
        Some(register) => is_zero(insns, &targets, at, register),
        None => true,
    })
}

/// The register of the flags, if it is a call that ends a record.
fn flags_register(insn: &sys::bpf_insn) -> Option<u8> {
    if u32::from(insn.code) != sys::BPF_JMP | sys::BPF_CALL || source(insn) != 0 {
        return None;
    }
    match insn.imm as u32 {
        sys::BPF_FUNC_ringbuf_output => Some(4),
        sys::BPF_FUNC_ringbuf_submit
        | sys::BPF_FUNC_ringbuf_discard
        | sys::BPF_FUNC_ringbuf_submit_dynptr
        | sys::BPF_FUNC_ringbuf_discard_dynptr => Some(2),
        _ => None,
    }
}

/// Whether `register` is known to be zero at the instruction `end`: the way there is straight from
/// where it is set.
fn is_zero(insns: &[sys::bpf_insn], targets: &[bool], end: usize, mut register: u8) -> bool {
    for at in (0..end).rev() {
        if targets[at + 1] {
            return false;
        }
        let insn = &insns[at];
        let code = u32::from(insn.code);
        match code & 7 {
            sys::BPF_JMP | sys::BPF_JMP32 => match code & 0xf0 {
                sys::BPF_CALL if register >= FIRST_KEPT => {}
                sys::BPF_CALL | sys::BPF_JA | sys::BPF_EXIT => return false,
                _ => {}
            },
            sys::BPF_ALU64 | sys::BPF_ALU if destination(insn) == register => {
                if code & 0xf0 != sys::BPF_MOV || insn.off != 0 {
                    return false;
                }
                if code & 8 == sys::BPF_K {
                    return insn.imm == 0;
                }
                register = source(insn);
            }
            sys::BPF_LD | sys::BPF_LDX if destination(insn) == register => return false,
            // A load of a packet's bytes is a call.
            sys::BPF_LD if register < FIRST_KEPT && code & MODE != sys::BPF_IMM => return false,
            // An atomic operation may change either of its registers, or register 0.
            sys::BPF_STX
                if code & MODE == ATOMIC
                    && [0, source(insn), destination(insn)].contains(&register) =>
            {
                return false;
            }
            _ => {}
        }
    }
    false
}

/// For each instruction, and the end, whether another than the one before it may go there. What
/// cannot be told leads nowhere: the verifier refuses it.
fn targets(insns: &[sys::bpf_insn]) -> Vec<bool> {
    let mut found = vec![false; insns.len() + 1];
    for (at, insn) in insns.iter().enumerate() {
        let code = u32::from(insn.code);
        let away = match (code & 7, code & 0xf0) {
            (sys::BPF_JMP, sys::BPF_EXIT) => continue,
            // Of another function, or of the address of one, whose first instruction that is.
            (sys::BPF_JMP, sys::BPF_CALL) if source(insn) == sys::BPF_PSEUDO_CALL as u8 => insn.imm,
            (sys::BPF_LD, _) if source(insn) == sys::BPF_PSEUDO_FUNC as u8 => insn.imm,
            (sys::BPF_JMP, sys::BPF_CALL) => continue,
            (sys::BPF_JMP32, sys::BPF_JA) => insn.imm,
            (sys::BPF_JMP | sys::BPF_JMP32, _) => i32::from(insn.off),
            _ => continue,
        };
        let target = at as i64 + 1 + i64::from(away);
        if let Some(place) = usize::try_from(target).ok().and_then(|t| found.get_mut(t)) {
            *place = true;
        }
    }
    found
}

fn destination(insn: &sys::bpf_insn) -> u8 {
    insn.dst_reg()
}

fn source(insn: &sys::bpf_insn) -> u8 {
    insn.src_reg()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::program::insn;

    const MOV: u32 = sys::BPF_ALU64 | sys::BPF_MOV;
    const CALL: u32 = sys::BPF_JMP | sys::BPF_CALL;
    const JEQ: u32 = sys::BPF_JMP | sys::BPF_JEQ;

    fn set(register: u8, value: i32) -> sys::bpf_insn {
        insn(MOV | sys::BPF_K, register, 0, value)
    }

    fn copy(to: u8, from: u8) -> sys::bpf_insn {
        insn(MOV | sys::BPF_X, from << 4 | to, 0, 0)
    }

    fn submit() -> sys::bpf_insn {
        insn(CALL, 0, 0, sys::BPF_FUNC_ringbuf_submit as i32)
    }

    fn exit() -> sys::bpf_insn {
        insn(sys::BPF_JMP | sys::BPF_EXIT, 0, 0, 0)
    }

    #[test]
    fn programs_without_a_ring_buffer_wake_always() {
        assert!(always(&[set(0, 0), exit()]));
    }

    #[test]
    fn flags_that_are_zero() {
        assert!(always(&[copy(1, 6), set(2, 0), submit(), exit()]));
        let zero_kept = [set(7, 0), insn(CALL, 0, 0, 5), copy(2, 7), submit(), exit()];
        assert!(always(&zero_kept));
        let output = insn(CALL, 0, 0, sys::BPF_FUNC_ringbuf_output as i32);
        assert!(always(&[set(4, 0), set(2, 1), output, exit()]));
        assert!(!always(&[set(2, 0), set(4, 1), output, exit()]));
    }

    #[test]
    fn flags_that_are_or_may_be_another_value() {
        assert!(!always(&[set(2, 1), submit(), exit()]));
        assert!(!always(&[submit(), exit()]), "an argument of the program");
        assert!(!always(&[set(2, 0), insn(CALL, 0, 0, 5), submit(), exit()]), "lost by a call");
        let loaded = insn(sys::BPF_LDX | sys::BPF_MEM | sys::BPF_DW, 0x12, 0, 0);
        assert!(!always(&[set(2, 0), loaded, submit(), exit()]));
        let added = insn(sys::BPF_ALU64 | sys::BPF_ADD | sys::BPF_K, 2, 0, 1);
        assert!(!always(&[set(2, 0), added, submit(), exit()]));
    }

    #[test]
    fn another_way_to_the_call_may_have_other_flags() {
        let jump = insn(JEQ | sys::BPF_K, 0, 1, 0);
        assert!(!always(&[set(2, 1), jump, set(2, 0), submit(), exit()]));
        // A jump away changes nothing for those who stay.
        assert!(always(&[set(2, 0), insn(JEQ | sys::BPF_K, 0, 2, 0), submit(), exit(), exit()]));
        // The call is the first instruction of a function.
        let function = insn(CALL, (sys::BPF_PSEUDO_CALL as u8) << 4, 0, 2);
        assert!(!always(&[function, exit(), set(2, 0), submit(), exit()]));
    }
}
