//! A stream's view of the scout: which samples wait until their namespace is identified.

use std::sync::Arc;

use crate::bpf::scout::Scout;
use crate::errors::Result;
use crate::hold::{Fate, Hold, Queue, Verdict};

pub struct Admission {
    scout: Arc<Scout>,
    cursor: u64,
    hold: Hold,
}

impl Admission {
    pub fn new(scout: Arc<Scout>) -> Admission {
        let (cursor, pending) = scout.begin();
        let mut hold = Hold::default();
        for change in pending {
            hold.announce(change.mntns, change.birth);
        }
        Admission { scout, cursor, hold }
    }

    /// The scout tells of a namespace before it lets the first event of it pass, so that whoever
    /// looks after an event came finds the notice.
    fn follow(&mut self) -> Result<()> {
        for change in self.scout.news(&mut self.cursor)? {
            if change.open {
                self.hold.announce(change.mntns, change.birth);
            } else {
                self.hold.forget(change.mntns);
            }
        }
        Ok(())
    }

    #[inline]
    pub fn offer(&mut self, lane: usize, mntns: u64, sample: &[u8]) -> Result<Fate> {
        if self.scout.has_news(self.cursor) {
            self.follow()?;
        }
        Ok(self.hold.offer(lane, mntns, sample))
    }

    pub fn decide(&mut self, mntns: u64, birth: u64, verdict: Verdict) -> Result<Queue> {
        self.follow()?;
        Ok(self.hold.decide(mntns, birth, verdict))
    }

    pub fn end(&mut self) -> Vec<Queue> {
        self.hold.end()
    }

    pub fn waiting(&self) -> u64 {
        self.hold.waiting()
    }
}
