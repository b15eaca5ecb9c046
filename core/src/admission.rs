//! A stream's view of the scout: which samples wait until their namespace is identified.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use crate::bpf::reader::Reader;
use crate::bpf::scout::Scout;
use crate::errors::Result;
use crate::hold::{Fate, Hold, Queue, Verdict};

/// Where one data source is read.
struct Place {
    /// Of its ring in the scout's notices.
    slot: usize,
    /// Of the sample that is being read.
    at: Arc<AtomicUsize>,
}

pub struct Admission {
    scout: Arc<Scout>,
    cursor: u64,
    hold: Hold,
    /// By lane; None: what is read is taken for the latest namespace's.
    places: Vec<Option<Place>>,
}

impl Admission {
    pub fn new<'a>(
        scout: Arc<Scout>,
        readers: impl Iterator<Item = Option<&'a Reader>>,
    ) -> Admission {
        let places: Vec<Option<Place>> = readers
            .map(|reader| {
                let (at, ring) = reader?.place()?;
                Some(Place { slot: scout.add_ring(ring)?, at })
            })
            .collect();
        let (cursor, pending) = scout.begin();
        let mut hold = Hold::of_rings(places.iter().flatten().map(|place| place.slot));
        for change in pending {
            hold.announce(change.mntns, change.birth, change.written);
        }
        Admission { scout, cursor, hold, places }
    }

    /// The scout tells of a namespace before it lets the first event of it pass, so that whoever
    /// looks after an event came finds the notice.
    fn follow(&mut self) -> Result<()> {
        for place in self.places.iter().flatten() {
            self.hold.consumed(place.slot, place.at.load(Ordering::Relaxed) as u64);
        }
        for change in self.scout.news(&mut self.cursor)? {
            if change.open {
                self.hold.announce(change.mntns, change.birth, change.written);
            } else {
                self.hold.shut(change.mntns, change.birth, change.written);
            }
        }
        Ok(())
    }

    #[inline]
    pub fn offer(&mut self, lane: usize, mntns: u64, sample: &[u8]) -> Result<Fate> {
        if self.scout.has_news(self.cursor) {
            self.follow()?;
        }
        let place = self.places.get(lane).and_then(Option::as_ref);
        let at = place.map(|p| (p.slot, p.at.load(Ordering::Relaxed) as u64));
        Ok(self.hold.offer(lane, at, mntns, sample))
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

impl Drop for Admission {
    fn drop(&mut self) {
        for place in self.places.iter().flatten() {
            self.scout.remove_ring(place.slot);
        }
    }
}
