//! A stream's view of the scout: which samples wait until their namespace is identified.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use super::decisions::Decisions;
use super::generations::Fate;
use super::pending::PendingSamples;
use super::queue::Queue;
use super::rows::RowOwners;
use super::verdict::Verdict;
use crate::bpf::reader::Reader;
use crate::bpf::scout::{Change, Scout};
use crate::errors::Result;

/// The ring buffer of one data source.
struct RingPosition {
    /// Its slot in the scout's notices.
    slot: usize,
    /// Position of the sample that is being read.
    at: Arc<AtomicUsize>,
}

pub struct Admission {
    scout: Arc<Scout>,
    /// Only selected containers are wanted: nothing of a pending namespace is shown before the
    /// decision.
    pub selective: bool,
    /// The changes that are known so far.
    cursor: u64,
    pending: PendingSamples,
    /// By data source; of those that are read from maps.
    rows: Vec<Option<RowOwners>>,
    /// By data source. None: its samples count for the latest generation.
    rings: Vec<Option<RingPosition>>,
    /// Of every buffer that is read, the positions of samples are known.
    placed: bool,
}

impl Admission {
    pub fn new<'a>(
        scout: Arc<Scout>,
        selective: bool,
        readers: impl Iterator<Item = Option<&'a Reader>>,
        rows: Vec<Option<RowOwners>>,
    ) -> Admission {
        let mut placed = true;
        let rings: Vec<Option<RingPosition>> = readers
            .map(|reader| {
                let found = reader?.position();
                let slot = found.and_then(|(at, ring)| Some((scout.add_ring(ring)?, at)));
                placed &= slot.is_some();
                slot.map(|(slot, at)| RingPosition { slot, at })
            })
            .collect();
        let (cursor, changes) = scout.begin();
        let pending = PendingSamples::of_rings(rings.iter().flatten().map(|ring| ring.slot));
        let mut admission = Admission { scout, selective, cursor, pending, rows, rings, placed };
        admission.announce(changes);
        admission
    }

    fn announce(&mut self, changes: Vec<Change>) {
        for change in changes {
            let Change { mntns, generation, written, of_user } = change;
            self.pending.announce(mntns, generation, written, of_user);
            for rows in self.rows.iter_mut().flatten() {
                rows.announce(mntns, generation);
            }
        }
    }

    /// Takes the scout's changes. The scout writes a notice before it lets the first event of a
    /// namespace through, so the notice of a sample's namespace is there when the sample is.
    fn follow(&mut self) -> Result<()> {
        for ring in self.rings.iter().flatten() {
            self.pending.consumed(ring.slot, ring.at.load(Ordering::Relaxed) as u64);
        }
        let changes = self.scout.news(&mut self.cursor)?;
        self.announce(changes);
        Ok(())
    }

    /// Whose elements the map of each data source has.
    pub fn rows(&mut self) -> Result<&mut [Option<RowOwners>]> {
        if self.scout.has_news(self.cursor) {
            self.follow()?;
        }
        Ok(&mut self.rows)
    }

    /// What was decided, and every namespace that is pending by now.
    pub fn decisions(&mut self) -> Result<&Decisions> {
        if self.scout.has_news(self.cursor) {
            self.follow()?;
        }
        Ok(&self.pending.decisions)
    }

    #[inline]
    pub fn offer(&mut self, datasource: usize, mntns: u64, sample: &[u8]) -> Result<Fate> {
        if self.scout.has_news(self.cursor) {
            self.follow()?;
        }
        let ring = self.rings.get(datasource).and_then(Option::as_ref);
        let position = ring.map(|r| (r.slot, r.at.load(Ordering::Relaxed) as u64));
        Ok(self.pending.offer(datasource, position, mntns, sample))
    }

    /// What becomes of an element that is shown now or left out, as it is only a view of what the
    /// kernel has: it is not copied.
    pub fn view(&mut self, mntns: u64) -> Result<Fate> {
        if self.scout.has_news(self.cursor) {
            self.follow()?;
        }
        Ok(match self.pending.fate(mntns) {
            Fate::Pending if !self.selective => Fate::Pass,
            fate => fate,
        })
    }

    /// True when samples of a namespace that has ended are still told from those of the next one
    /// of its number when they are read after `verdict`, and nothing of them is shown.
    pub fn may_stay_unread(
        &mut self,
        mntns: u64,
        generation: u64,
        verdict: Verdict,
    ) -> Result<bool> {
        if verdict == Verdict::Keep || !self.placed {
            return Ok(false);
        }
        self.follow()?;
        Ok(self.pending.may_stay_unread(mntns, generation))
    }

    /// Everything in the buffers has been read.
    pub fn all_read(&mut self) {
        self.pending.all_read();
    }

    pub fn decide(&mut self, mntns: u64, generation: u64, verdict: Verdict) -> Result<Queue> {
        self.follow()?;
        Ok(self.pending.decide(mntns, generation, verdict))
    }

    pub fn end(&mut self, verdict: Verdict) -> Vec<Queue> {
        self.pending.end(verdict)
    }

    pub fn waiting(&self) -> u64 {
        self.pending.waiting()
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        for ring in self.rings.iter().flatten() {
            self.scout.remove_ring(ring.slot);
        }
    }
}
