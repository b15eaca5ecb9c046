//! What a stream changes while it runs: its data sources, the lookups and the pending samples.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::admission::Admission;
use super::array_reader::ArrayReader;
use super::backlog::{Backlog, Change};
use super::decisions::Decisions;
use super::generations::Fate;
use super::loss_table::{Apart, LossTable};
use super::pace::Rarity;
use super::queue::Queue;
use super::rows::{Released, RowOwners};
use super::verdict::Verdict;
use crate::bpf::map::Counter;
use crate::bpf::object::Object;
use crate::bpf::reader::Reader;
use crate::errors::{Error, Kind, Result};
use crate::pipeline::datasource::{Counts, DataSource};
use crate::pipeline::steps::context::Owner;
use crate::schema::lookups::Lookups;
use crate::schema::plan;
use crate::wasm::Guest;

/// Bytes of each CPU's perf buffer when the plan does not say.
const PERF_BYTES: usize = 256 << 10;
/// A ring buffer that is full to this part is drained at once: what it contains is copied.
const FULL_PART: usize = 4;
/// Rendered bytes of a data source that may wait as containers change.
const MAX_FLUSHED: usize = 64 << 20;
/// The fastest that programs of one processor are taken to write, and all together, in bytes per
/// millisecond (300 000 opens a second, each with a path of 512 bytes): a ring buffer is left alone
/// as long as half of its free space lasts at that rate.
const BURST_RATE: usize = 256 << 10;
const MAX_BURST_RATE: usize = 1 << 20;

/// The counters of one data source.
pub struct Totals {
    pub datasource: String,
    pub counts: Counts,
    /// None: the object counts no losses.
    pub lost: Option<u64>,
    /// Events that the kernel lost, too: no part of `lost`.
    pub apart: Apart,
}

/// One data source: its pipeline, and where its samples come from.
pub struct DataSourceState {
    pub source: DataSource,
    pub reader: Option<Reader>,
    counter: Option<Counter>,
    /// None: the losses of all namespaces are counted as one.
    loss_table: Option<LossTable>,
    /// None for data sources that are no arrays, and while the array is being read.
    pub array: Option<ArrayReader>,
    /// Elements that were taken out of the map before the next array: those of containers that
    /// were identified since, or have ended.
    pub released: Released,
}

/// What becomes of an element that was taken out of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    Shown(Owner),
    /// It waits, is not wanted, or is counted as lost.
    LeftOut,
}

pub struct State {
    pub lookups: Lookups,
    pub datasources: Vec<DataSourceState>,
    /// None: no sample waits until its container is identified.
    pub admission: Option<Admission>,
    /// Samples that were copied out of the buffers.
    pub backlog: Backlog,
    /// The time of the last drain, if that found samples that are not rare, and took all of them.
    pub active: Option<Instant>,
    pub rarity: Rarity,
    /// The gadget's wasm module.
    pub guest: Option<Arc<Guest>>,
    /// Bytes per millisecond ([`burst_rate`]).
    pub burst_rate: usize,
}

/// How much one reading of the buffers takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// As much as there is room for.
    Room,
    /// Everything that the buffers contain: what there is no room for is lost.
    All,
}

/// What one reading of the buffers found.
pub struct Seen {
    pub samples: u64,
    /// A batch became full, so that samples may be left.
    pub full: bool,
}

/// True when the sample is to be processed now.
#[inline]
pub fn admitted(
    admission: &mut Option<Admission>,
    index: usize,
    source: &mut DataSource,
    sample: &[u8],
) -> Result<bool> {
    let (Some(admission), Some(mntns)) = (admission, source.mntns_of(sample)) else {
        return Ok(true);
    };
    let fate = admission.offer(index, mntns, sample)?;
    match fate {
        Fate::Pass | Fate::Pending => {}
        Fate::Rejected => source.discard(1),
        Fate::Lost => source.lose(1),
    }
    Ok(fate == Fate::Pass)
}

/// Decides about an element that no later reading finds again: it may wait for a decision.
pub fn taken(
    admission: &mut Option<Admission>,
    index: usize,
    source: &mut DataSource,
    element: &[u8],
) -> Result<Taken> {
    if let (Some(admission), Some(mntns)) = (admission.as_mut(), source.mntns_of(element)) {
        let rows = admission.rows()?.get(index).and_then(Option::as_ref);
        if rows.is_some_and(|rows| rows.is_shared(mntns)) {
            if !admission.selective {
                return Ok(Taken::Shown(Owner::Unknown));
            }
            source.lose(1);
            return Ok(Taken::LeftOut);
        }
    }
    Ok(match admitted(admission, index, source, element)? {
        true => Taken::Shown(Owner::Now),
        false => Taken::LeftOut,
    })
}

/// True when the element of an array is to be shown now. It stays where it is read from: one that
/// nothing is decided about is only left out.
pub fn shown(
    admission: &mut Option<Admission>,
    source: &mut DataSource,
    element: &[u8],
) -> Result<bool> {
    let (Some(admission), Some(mntns)) = (admission, source.mntns_of(element)) else {
        return Ok(true);
    };
    let fate = admission.view(mntns)?;
    match fate {
        Fate::Pass => {}
        Fate::Pending | Fate::Rejected => source.discard(1),
        Fate::Lost => source.lose(1),
    }
    Ok(fate == Fate::Pass)
}

impl State {
    /// Index of the data source with this name.
    pub fn find(&self, datasource: &str) -> Result<usize> {
        self.datasources
            .iter()
            .position(|d| d.source.name == datasource)
            .ok_or_else(|| Error::plan(format!("the plan has no data source {datasource}")))
    }

    /// The reader of an array, which the caller gives back.
    pub fn take_array(&mut self, index: usize) -> Result<ArrayReader> {
        let found = &mut self.datasources[index];
        found.array.take().ok_or_else(|| {
            let name = &found.source.name;
            Error::plan(format!("data source {name} has nothing to read from now"))
        })
    }

    /// Whose elements the map of a data source has; None when that is not followed.
    pub fn rows(&mut self, index: usize) -> Result<Option<&mut RowOwners>> {
        let Some(admission) = &mut self.admission else { return Ok(None) };
        Ok(admission.rows()?.get_mut(index).and_then(Option::as_mut))
    }

    pub fn each_rows(&mut self, work: &mut dyn FnMut(&mut RowOwners)) -> Result<()> {
        if let Some(admission) = &mut self.admission {
            admission.rows()?.iter_mut().flatten().for_each(work);
        }
        Ok(())
    }

    /// Keeps an element that was taken out of a map until the next array.
    pub fn keep_for_next(&mut self, index: usize, element: &[u8]) -> Result<()> {
        let State { lookups, datasources, admission, .. } = self;
        let DataSourceState { source, released, .. } = &mut datasources[index];
        if let Taken::Shown(owner) = taken(admission, index, source, element)? {
            let mntns = source.mntns_of(element).filter(|_| owner == Owner::Now);
            if !released.push(lookups, mntns, element) {
                source.lose(1);
            }
        }
        Ok(())
    }

    /// Processes samples in place until a batch is full.
    pub fn read(&mut self) -> Result<Seen> {
        let mut seen = Seen { samples: 0, full: false };
        let State { lookups, datasources, admission, .. } = self;
        for (index, DataSourceState { source, reader, .. }) in datasources.iter_mut().enumerate() {
            let Some(reader) = reader else { continue };
            let mut broken = Ok(());
            let result = reader.drain(&mut |sample| {
                seen.samples += 1;
                match admitted(admission, index, source, sample) {
                    Ok(true) => {}
                    Ok(false) => return true,
                    Err(e) => broken = Err(e),
                }
                let room = source.process(lookups, sample);
                seen.full |= !room;
                room
            });
            result.and(broken)?;
        }
        Ok(seen)
    }

    /// Copies samples out of the buffers. `full`: for want of room, more may be left in them.
    pub fn copy_out(&mut self, extent: Extent) -> Result<Seen> {
        let mut seen = Seen { samples: 0, full: false };
        let State { datasources, admission, backlog, .. } = self;
        for (index, DataSourceState { source, reader, .. }) in datasources.iter_mut().enumerate() {
            let Some(reader) = reader else { continue };
            if extent == Extent::Room && !backlog.has_room() {
                seen.full = true;
                break;
            }
            let mut broken = Ok(());
            let result = reader.drain(&mut |sample| {
                seen.samples += 1;
                match admitted(admission, index, source, sample) {
                    Ok(true) if backlog.has_room() => backlog.push(index, sample),
                    Ok(true) => source.refuse(),
                    Ok(false) => {}
                    Err(e) => broken = Err(e),
                }
                let goes_on = extent == Extent::All || backlog.has_room();
                seen.full |= !goes_on;
                goes_on
            });
            result.and(broken)?;
        }
        Ok(seen)
    }

    /// All events of a namespace that has ended are in the buffers. They are copied before
    /// `verdict`, while its container is still the one of this inode number; true when there were
    /// any. What is not wanted may stay: any user can make namespaces end all the time, and what is
    /// copied takes room that events need while the sink has none.
    pub fn copy_ended(&mut self, mntns: u64, generation: u64, verdict: Verdict) -> Result<bool> {
        if let Some(admission) = &mut self.admission {
            if admission.may_stay_unread(mntns, generation, verdict)? {
                return Ok(false);
            }
        }
        let any = self.copy_out(Extent::All)?.samples > 0;
        if let Some(admission) = &mut self.admission {
            admission.all_read();
        }
        Ok(any)
    }

    /// Processes samples of the backlog until a batch is full.
    pub fn process_backlog(&mut self) -> Result<()> {
        loop {
            self.apply_due()?;
            let State { lookups, datasources, backlog, .. } = self;
            let Some((index, sample)) = backlog.pop() else { return Ok(()) };
            if !datasources[index].source.process(lookups, sample) {
                // What comes next may not be of the backlog.
                return self.apply_due();
            }
        }
    }

    /// Applies the changes before which no sample waits any more.
    pub fn apply_due(&mut self) -> Result<()> {
        while let Some(change) = self.backlog.due() {
            change.apply(&mut self.lookups.containers)?;
        }
        Ok(())
    }

    /// Applies a change of the containers: samples of the backlog keep the names of their time. A
    /// container that is new has its names at once, for its first events.
    pub fn change(&mut self, change: Change) -> Result<()> {
        let containers = &mut self.lookups.containers;
        // No sample of the backlog has names of it, and none will get them by a change that waits.
        let mntns = change.mntns();
        let new = !containers.knows(mntns) && !self.backlog.defers(mntns);
        let arrays = self.datasources.iter().any(|d| d.source.is_array());
        if new || self.backlog.is_empty() {
            return change.apply(containers);
        }
        if arrays {
            // Elements of arrays have the names of now.
            self.flush()?;
            return change.apply(&mut self.lookups.containers);
        }
        self.backlog.defer(change);
        while self.backlog.has_too_many_changes() {
            match self.backlog.due() {
                Some(change) => change.apply(&mut self.lookups.containers)?,
                None => self.lose_oldest(),
            }
        }
        self.apply_due()
    }

    /// Renders all of the backlog, as far as there is room for what is rendered.
    fn flush(&mut self) -> Result<()> {
        let State { lookups, datasources, backlog, .. } = self;
        while let Some((index, sample)) = backlog.pop() {
            let source = &mut datasources[index].source;
            match source.rendered_bytes() < MAX_FLUSHED {
                true => {
                    source.process(lookups, sample);
                }
                false => source.refuse(),
            }
        }
        Ok(())
    }

    pub fn lose_oldest(&mut self) {
        if let Some((index, _)) = self.backlog.pop() {
            self.datasources[index].source.refuse();
        }
    }

    /// Gives up all samples that wait or are in the buffers, as lost ones; how many.
    pub fn give_up(&mut self) -> Result<u64> {
        let refused = |state: &State| -> u64 {
            state.datasources.iter().map(|d| d.source.counts.overflow).sum()
        };
        let before = refused(self);
        while !self.backlog.is_empty() {
            self.lose_oldest();
        }
        let State { datasources, admission, .. } = self;
        for (index, DataSourceState { source, reader, .. }) in datasources.iter_mut().enumerate() {
            let Some(reader) = reader else { continue };
            let mut broken = Ok(());
            let result = reader.drain(&mut |sample| {
                match admitted(admission, index, source, sample) {
                    Ok(true) => source.refuse(),
                    Ok(false) => {}
                    Err(e) => broken = Err(e),
                }
                true
            });
            result.and(broken)?;
        }
        Ok(refused(self) - before)
    }

    /// Processes or drops the samples of a namespace that has been decided about; true when
    /// there were any.
    ///
    /// `extent`: of all samples that wait, the number is bounded already.
    pub fn release(&mut self, queue: &Queue, verdict: Verdict, extent: Extent) -> bool {
        let mut any = false;
        for (index, sample) in queue.iter() {
            any = true;
            let Some(DataSourceState { source, released, .. }) = self.datasources.get_mut(index)
            else {
                continue;
            };
            match verdict {
                Verdict::Keep if source.is_array() && !source.is_open() => {
                    let mntns = source.mntns_of(sample);
                    if !released.push(&mut self.lookups, mntns, sample) {
                        source.lose(1);
                    }
                }
                Verdict::Keep if source.is_array() => {
                    source.process(&self.lookups, sample);
                }
                Verdict::Keep if extent == Extent::All || self.backlog.has_room() => {
                    self.backlog.push(index, sample);
                }
                Verdict::Keep => source.refuse(),
                Verdict::Reject => source.discard(1),
                Verdict::Lose => source.lose(1),
            }
        }
        for (index, count) in queue.overflow() {
            any = true;
            let Some(DataSourceState { source, .. }) = self.datasources.get_mut(index) else {
                continue;
            };
            match verdict {
                Verdict::Reject => source.discard(count),
                Verdict::Keep | Verdict::Lose => source.lose(count),
            }
        }
        any
    }

    /// What the kernel lost of namespaces that are not known to be selected, by data source.
    pub fn apart(&mut self) -> Result<Vec<Apart>> {
        let tables: Vec<Option<Vec<u8>>> = self
            .datasources
            .iter()
            .map(|d| d.loss_table.as_ref().map(LossTable::read).transpose())
            .collect::<Result<_>>()?;
        // After the tables are read: a notice is written before its namespace is pending.
        let nothing = Decisions::default();
        let decisions = match &mut self.admission {
            Some(admission) => admission.decisions()?,
            None => &nothing,
        };
        let sorted = self.datasources.iter_mut().zip(tables).map(|(d, raw)| {
            let table = d.loss_table.as_mut().zip(raw);
            table.map_or(Apart::default(), |(table, raw)| table.sort(&raw, decisions))
        });
        Ok(sorted.collect())
    }

    pub fn totals(&mut self) -> Result<Vec<Totals>> {
        // Programs count in the table first: what they count meanwhile is taken for lost later.
        let counters: Vec<Option<u64>> = self
            .datasources
            .iter()
            .map(|d| d.counter.as_ref().map(Counter::read).transpose())
            .collect::<Result<_>>()?;
        let apart = self.apart()?;
        let all = self.datasources.iter().zip(counters.into_iter().zip(apart));
        Ok(all.map(|(d, (counter, apart))| d.totals(counter, apart)).collect())
    }

    /// True when a ring buffer fills faster than it is read.
    pub fn is_pressed(&self) -> bool {
        let mut readers = self.datasources.iter().filter_map(|d| d.reader.as_ref());
        readers.any(is_pressed)
    }

    /// The time, `most` at most, for which every buffer has room without being drained.
    pub fn pause(&self, most: Duration) -> Duration {
        let readers = self.datasources.iter().filter_map(|d| d.reader.as_ref());
        readers.map(|reader| pause(reader, self.burst_rate)).fold(most, Duration::min)
    }
}

/// Bytes per millisecond that programs of all processors may write.
pub fn burst_rate() -> usize {
    // SAFETY: asks for a number. Not the processors of this process: programs run on all of them.
    let processors = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    let processors = usize::try_from(processors).unwrap_or(1).max(1);
    BURST_RATE.saturating_mul(processors).min(MAX_BURST_RATE)
}

fn is_pressed(reader: &Reader) -> bool {
    reader.filled().is_some_and(|(filled, size)| filled >= size / FULL_PART)
}

fn pause(reader: &Reader, burst_rate: usize) -> Duration {
    match reader.filled() {
        Some((filled, size)) if !is_pressed(reader) => {
            Duration::from_millis(((size - filled) / 2 / burst_rate) as u64)
        }
        _ => Duration::ZERO,
    }
}

impl DataSourceState {
    pub fn open(
        ds: &plan::DataSource,
        object: Option<&Object>,
        lookups: &mut Lookups,
        guest: Option<Arc<Guest>>,
    ) -> Result<DataSourceState> {
        Ok(DataSourceState {
            source: DataSource::compile_with(ds, lookups, guest)?,
            reader: reader(ds, object)?,
            counter: object.map(|o| counter(ds, o)).transpose()?.flatten(),
            loss_table: object.map(|o| loss_table(ds, o)).transpose()?.flatten(),
            array: ArrayReader::open(ds, object)?,
            released: Released::default(),
        })
    }

    /// Where elements that are taken out of a map tell their mount namespace; None for other data
    /// sources, and while the map is being read.
    pub fn rows_at(&self) -> Option<usize> {
        let taken = self.array.as_ref().is_some_and(ArrayReader::takes);
        self.source.mntns_at().filter(|_| taken)
    }

    /// Begins an array with the elements that no longer wait. What is returned is to be let go of
    /// after the array.
    pub fn begin(&mut self, lookups: &Lookups) -> Vec<Owner> {
        self.source.begin();
        self.released.show(&mut self.source, lookups)
    }

    fn totals(&self, counter: Option<u64>, apart: Apart) -> Totals {
        let counts = self.source.counts;
        let others = apart.others.saturating_add(apart.undecided).saturating_add(apart.shared);
        let kernel = counter.map(|all| all.saturating_sub(others));
        let perf = self.reader.as_ref().and_then(Reader::lost);
        let lost = match (kernel, perf) {
            // The kernel drops nothing of what an iterator shows or a map contains.
            (None, None) if self.source.is_array() || self.source.pushed => Some(counts.lost()),
            (None, None) => None,
            (a, b) => {
                Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0)).saturating_add(counts.lost()))
            }
        };
        Totals { datasource: self.source.name.clone(), counts, lost, apart }
    }
}

fn reader(ds: &plan::DataSource, object: Option<&Object>) -> Result<Option<Reader>> {
    let (Some(object), Some(map)) = (object, &ds.map) else { return Ok(None) };
    Reader::open(object.map_fd(map)?, map, ds.perf_bytes.unwrap_or(PERF_BYTES)).map(Some)
}

fn loss_table(ds: &plan::DataSource, object: &Object) -> Result<Option<LossTable>> {
    let Some(table) = &ds.loss_table else { return Ok(None) };
    LossTable::open(object.map_by_name(&table.section)?, table.offset, table.size).map(Some)
}

fn counter(ds: &plan::DataSource, object: &Object) -> Result<Option<Counter>> {
    match (&ds.loss_map, &ds.loss_var) {
        (None, None) => Ok(None),
        (Some(map), None) => Counter::per_cpu(object.map_by_name(map)?).map(Some),
        (None, Some(var)) => Counter::word(object.map_by_name(&var.section)?, var.offset).map(Some),
        (Some(_), Some(_)) => Err(Error::new(
            Kind::Plan,
            format!("data source {}: loss_map and loss_var exclude each other", ds.name),
        )),
    }
}
