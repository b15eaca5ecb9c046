//! Reads the ring buffer of the scout once, for streams and for Python.

use std::collections::{HashSet, VecDeque};

use super::notice::{written, ScoutNotice, Written, MAX_RINGS};
use crate::bpf::ring::Ring;
use crate::errors::Result;

/// Notices that wait for Python; the memory is bounded when its thread stands still.
const MAX_NOTICES: usize = 8192;
/// Changes that are remembered. A stream that is further behind learns only which namespaces
/// are pending now.
const MAX_CHANGES: usize = 4096;

/// A new namespace that streams must know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub mntns: u64,
    pub generation: u64,
    /// False: its events do not pass the filters yet.
    pub open: bool,
    pub written: Written,
}

pub struct Reading {
    ring: Ring,
    notices: VecDeque<ScoutNotice>,
    changes: VecDeque<Change>,
    /// (inode number, generation) of the namespaces that are not settled.
    pub pending: HashSet<(u64, u64)>,
    /// Namespaces that are settled, ever.
    settled: u64,
    /// Notices that were dropped because Python did not take them.
    pub dropped: u64,
}

impl Reading {
    pub fn of(ring: Ring) -> Reading {
        Reading {
            ring,
            notices: VecDeque::new(),
            changes: VecDeque::new(),
            pending: HashSet::new(),
            settled: 0,
            dropped: 0,
        }
    }

    /// Takes what the ring buffer contains and calls `changed` for each change; true when there
    /// was anything.
    pub fn read(&mut self, changed: &mut dyn FnMut()) -> Result<bool> {
        let Reading { ring, notices, changes, pending, settled, dropped } = self;
        let mut any = false;
        ring.drain(&mut |record| {
            let Some(notice) = ScoutNotice::parse(record) else { return true };
            any = true;
            if notice.is_new_namespace() {
                let (mntns, generation) = (notice.mntns, notice.generation);
                if !pending.insert((mntns, generation)) {
                    // Two CPUs reported it at once, or the kernel's map had lost its entry.
                    *settled += 1;
                }
                let (open, written) = (notice.was_let_in(), written(record));
                changes.push_back(Change { mntns, generation, open, written });
                if changes.len() > MAX_CHANGES {
                    changes.pop_front();
                }
                changed();
            }
            if is_kept(&notice, notices.len()) {
                notices.push_back(notice);
            } else {
                *dropped += 1;
            }
            true
        })?;
        Ok(any)
    }

    pub fn take_notices(&mut self) -> Vec<ScoutNotice> {
        self.notices.drain(..).collect()
    }

    /// Returns how many namespaces are settled now.
    pub fn settle(&mut self, mntns: u64, generation: u64) -> u64 {
        if self.pending.remove(&(mntns, generation)) {
            self.settled += 1;
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
        let change = |(mntns, generation): &(u64, u64)| Change {
            mntns: *mntns,
            generation: *generation,
            open: true,
            written: [0; MAX_RINGS],
        };
        self.pending.iter().map(change).collect()
    }
}

/// The kernel reports a namespace that it let in only once: that notice is always kept. There are
/// at most as many as may be pending.
fn is_kept(notice: &ScoutNotice, waiting: usize) -> bool {
    waiting < MAX_NOTICES || notice.was_let_in()
}

#[cfg(test)]
mod tests {
    use super::super::notice::tests::record;
    use super::*;

    #[test]
    fn a_namespace_that_was_let_in_always_finds_room() {
        let mut notice = ScoutNotice::parse(&record(b"")).unwrap();
        assert!(is_kept(&notice, MAX_NOTICES));
        notice.flags = 1;
        assert!(is_kept(&notice, MAX_NOTICES - 1) && !is_kept(&notice, MAX_NOTICES));
        notice.flags = 0;
        notice.kind = 2;
        assert!(is_kept(&notice, MAX_NOTICES - 1) && !is_kept(&notice, MAX_NOTICES));
    }
}
