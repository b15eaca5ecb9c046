//! Reads the ring buffer of the scout once, for streams and for Python.

use std::collections::{HashMap, VecDeque};

use super::notice::{written, ScoutNotice, Written, MAX_RINGS};
use crate::bpf::ring::Ring;
use crate::errors::Result;

/// Notices that wait for Python; the memory is bounded when its thread stands still.
const MAX_NOTICES: usize = 8192;
/// As MAX_NOTICES, for namespaces of users: any user can create a thousand in a second.
const MAX_USER_NOTICES: usize = 8192;
/// Of these, Python gets so many at once, and looks then whether there are any of root's.
const USER_BATCH: usize = 16;
/// Changes that are remembered. A stream that is further behind learns only which namespaces
/// are pending now.
const MAX_CHANGES: usize = 4096;

/// A new namespace that streams must know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub mntns: u64,
    pub generation: u64,
    pub written: Written,
    /// It was created by a user, in another user namespace than the initial one.
    pub of_user: bool,
}

pub struct Reading {
    ring: Ring,
    /// Notices that were read, ever.
    order: u64,
    /// About root's namespaces, and about those of users.
    notices: [VecDeque<ScoutNotice>; 2],
    changes: VecDeque<Change>,
    /// (inode number, generation) of the namespaces that are not settled; true for those of users.
    pub pending: HashMap<(u64, u64), bool>,
    /// Namespaces that are settled, ever: root's, and those of users.
    settled: [u64; 2],
    /// Notices of new namespaces that were dropped because Python did not take them, as above.
    pub dropped: [u64; 2],
}

impl Reading {
    pub fn of(ring: Ring) -> Reading {
        Reading {
            ring,
            order: 0,
            notices: Default::default(),
            changes: VecDeque::new(),
            pending: HashMap::new(),
            settled: [0; 2],
            dropped: [0; 2],
        }
    }

    /// Takes what the ring buffer contains and calls `changed` for each change; true when there
    /// was anything.
    pub fn read(&mut self, changed: &mut dyn FnMut()) -> Result<bool> {
        let Reading { ring, order, notices, changes, pending, settled, dropped } = self;
        let mut any = false;
        ring.drain(&mut |record| {
            let Some(mut notice) = ScoutNotice::parse(record) else { return true };
            *order += 1;
            notice.order = *order;
            any = true;
            let id = (notice.mntns, notice.generation);
            // A namespace that is not pending has been decided about: nobody waits for the notice.
            let of_user = match notice.is_new_namespace() {
                true => notice.owner.is_some(),
                false => pending.get(&id).copied().unwrap_or(true),
            };
            let quota = usize::from(of_user);
            let kept = is_kept(&notice, of_user, notices[quota].len());
            if notice.is_new_namespace() {
                if !kept {
                    settled[quota] += 1;
                } else if pending.insert(id, of_user).is_some() {
                    // Two CPUs reported it at once, or the kernel's map had lost its entry.
                    settled[quota] += 1;
                }
                let written = written(record);
                changes.push_back(Change { mntns: id.0, generation: id.1, written, of_user });
                if changes.len() > MAX_CHANGES {
                    changes.pop_front();
                }
                changed();
            }
            if kept {
                notices[quota].push_back(notice);
            } else if notice.is_new_namespace() {
                dropped[quota] += 1;
            }
            true
        })?;
        Ok(any)
    }

    /// All about root's namespaces, then some about those of users; true when there are more.
    pub fn take_notices(&mut self) -> (Vec<ScoutNotice>, bool) {
        let [root, users] = &mut self.notices;
        let some = users.len().min(USER_BATCH);
        let found = root.drain(..).chain(users.drain(..some)).collect();
        (found, !users.is_empty())
    }

    /// Returns how many namespaces are settled now.
    pub fn settle(&mut self, mntns: u64, generation: u64) -> [u64; 2] {
        if let Some(of_user) = self.pending.remove(&(mntns, generation)) {
            self.settled[usize::from(of_user)] += 1;
        }
        self.settled
    }

    /// The last `count` changes; where they are not remembered, the pending namespaces.
    pub fn changes(&self, count: usize) -> Vec<Change> {
        match self.changes.len().checked_sub(count) {
            Some(known) => self.changes.range(known..).copied().collect(),
            None => self.now(),
        }
    }

    /// All pending namespaces.
    pub fn now(&self) -> Vec<Change> {
        let change = |((mntns, generation), of_user): (&(u64, u64), &bool)| Change {
            mntns: *mntns,
            generation: *generation,
            written: [0; MAX_RINGS],
            of_user: *of_user,
        };
        self.pending.iter().map(change).collect()
    }
}

/// The kernel reports a namespace that it let in only once: that notice is always kept. There are
/// at most as many as may be pending.
fn is_kept(notice: &ScoutNotice, of_user: bool, waiting: usize) -> bool {
    let most = if of_user { MAX_USER_NOTICES } else { MAX_NOTICES };
    waiting < most || notice.was_let_in()
}

#[cfg(test)]
mod tests {
    use super::super::notice::tests::record;
    use super::*;

    #[test]
    fn a_namespace_that_was_let_in_always_finds_room() {
        let mut notice = ScoutNotice::parse(&record(b"")).unwrap();
        assert!(is_kept(&notice, false, MAX_NOTICES));
        notice.flags = 1;
        assert!(is_kept(&notice, false, MAX_NOTICES - 1) && !is_kept(&notice, false, MAX_NOTICES));
        assert!(!is_kept(&notice, true, MAX_USER_NOTICES), "a user's namespaces have less room");
        notice.flags = 0;
        notice.kind = 2;
        assert!(is_kept(&notice, false, MAX_NOTICES - 1) && !is_kept(&notice, false, MAX_NOTICES));
    }
}
