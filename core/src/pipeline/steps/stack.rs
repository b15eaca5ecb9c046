//! Stacks: the number in an event leads to addresses in a map, and these to names.

use super::context::Context;
use crate::errors::Result;
use crate::schema::field::Fields;
use crate::schema::lookups::Lookups;
use crate::schema::plan;
use crate::symbols::{addresses, build_ids, StackOwner};

/// `gadget_kernel_stack`: a number in a map of stacks.
pub struct KernelStack {
    src: usize,
    dst: usize,
    map: usize,
}

/// `struct gadget_user_stack`: a number in a map of stacks, and what identifies the process.
pub struct UserStack {
    fields: UserStackFields,
    map: usize,
    build_id_map: Option<usize>,
    addresses: Option<usize>,
    build_ids: Option<usize>,
    symbols: Option<usize>,
}

/// Fields of the struct.
struct UserStackFields {
    stack_id: usize,
    major: usize,
    minor: usize,
    inode: usize,
    mtime_sec: usize,
    mtime_nsec: usize,
    base_addr_hash: usize,
    tgid: usize,
    pids: [(usize, usize); 2],
}

impl KernelStack {
    pub fn compile(
        plan: &plan::KernelStack,
        fields: &Fields,
        lookups: &mut Lookups,
    ) -> Result<KernelStack> {
        Ok(KernelStack {
            src: fields.integer(plan.src, "step kernel_stack")?,
            dst: fields.text_slot(plan.dst, "step kernel_stack")?,
            map: lookups.maps.index(&plan.map)?,
        })
    }

    pub fn output(&self) -> usize {
        self.dst
    }

    pub fn run(&self, cx: &mut Context<'_>) {
        let id = cx.word(self.src) as u32;
        let lookups = cx.lookups;
        match lookups.maps.lookup(self.map, &id.to_ne_bytes()) {
            Some(raw) => cx.slots.write_text(self.dst, |out| {
                lookups.symbols.kernel_stack(frames(&raw), out);
            }),
            None => count_lost(lookups, id),
        }
    }
}

impl UserStack {
    pub fn compile(
        plan: &plan::UserStack,
        fields: &Fields,
        lookups: &mut Lookups,
    ) -> Result<UserStack> {
        let role = "step user_stack";
        let number = |id: u32| fields.integer(id, role);
        let text = |id: Option<u32>| id.map(|id| fields.text_slot(id, role)).transpose();
        let members = &plan.members;
        let stack_fields = UserStackFields {
            stack_id: number(members.stack_id)?,
            major: number(members.major)?,
            minor: number(members.minor)?,
            inode: number(members.inode)?,
            mtime_sec: number(members.mtime_sec)?,
            mtime_nsec: number(members.mtime_nsec)?,
            base_addr_hash: number(members.base_addr_hash)?,
            tgid: number(members.tgid_level0)?,
            pids: [
                (number(members.pid_level0)?, number(members.pidns_level0)?),
                (number(members.pid_level1)?, number(members.pidns_level1)?),
            ],
        };
        Ok(UserStack {
            fields: stack_fields,
            map: lookups.maps.index(&plan.map)?,
            build_id_map: plan.build_id_map.as_ref().map(|m| lookups.maps.index(m)).transpose()?,
            addresses: text(plan.addresses)?,
            build_ids: text(plan.buildid)?,
            symbols: text(plan.symbols)?,
        })
    }

    pub fn outputs(&self) -> impl Iterator<Item = usize> {
        [self.addresses, self.build_ids, self.symbols].into_iter().flatten()
    }

    pub fn run(&self, cx: &mut Context<'_>) {
        let owner = self.fields.read(cx);
        // The program did not collect a stack.
        if owner.inode == 0 {
            return;
        }
        let number = cx.word(self.fields.stack_id) as u32;
        let id = number.to_ne_bytes();
        let lookups = cx.lookups;
        let Some(raw) = lookups.maps.lookup(self.map, &id) else {
            count_lost(lookups, number);
            return;
        };
        let found: Vec<u64> = frames(&raw).collect();
        if let Some(dst) = self.addresses {
            cx.slots.write_text(dst, |out| addresses(&found, out));
        }
        if let (Some(dst), Some(map)) = (self.build_ids, self.build_id_map) {
            let records = lookups.maps.lookup(map, &id).unwrap_or_default();
            cx.slots.write_text(dst, |out| build_ids(&records, out));
        }
        if let Some(dst) = self.symbols {
            cx.slots.write_text(dst, |out| lookups.symbols.user_stack(&owner, &found, out));
        }
    }
}

impl UserStackFields {
    fn read(&self, cx: &Context<'_>) -> StackOwner {
        let word = |index: usize| cx.word(index);
        StackOwner {
            pids: self.pids.map(|(pid, ns)| (word(pid) as u32, word(ns))),
            tgid: word(self.tgid) as u32,
            base_addr_hash: word(self.base_addr_hash) as u32,
            major: word(self.major) as u32,
            minor: word(self.minor) as u32,
            inode: word(self.inode),
            mtime: (word(self.mtime_sec), word(self.mtime_nsec) as u32),
        }
    }
}

/// Counts a stack that the map does not have. EFAULT of bpf_get_stackid() means that there was
/// none: a thread in user mode has no kernel stack, and a kernel thread has no user stack.
fn count_lost(lookups: &Lookups, id: u32) {
    if id as i32 != -libc::EFAULT {
        lookups.symbols.count_lost();
    }
}

/// The addresses of a stack in a map's value: up to the first zero.
fn frames(raw: &[u8]) -> impl Iterator<Item = u64> + '_ {
    raw.chunks_exact(8)
        .map(|bytes| bytes.try_into().map_or(0, u64::from_ne_bytes))
        .take_while(|address| *address != 0)
}
