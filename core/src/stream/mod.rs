//! One run's data plane: readers, pipelines, waiting and counting.
//!
//! A stream may be used by several threads: one drains it, others add containers, decide about
//! pending namespaces, read arrays and ask for counters.

mod admission;
mod array_reader;
mod decisions;
mod generations;
mod loss_table;
mod pace;
pub mod pending;
pub mod queue;
mod rows;
mod state;
pub mod verdict;
mod wakeup;

use std::collections::HashSet;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::bpf::object::Object;
use crate::bpf::scout::Scout;
use crate::errors::{Error, Result};
use crate::pipeline::datasource::Rendered;
use crate::pipeline::metrics::Series;
use crate::pipeline::steps::context::Owner;
use crate::schema::lookups::{ContainerValue, Lookups};
use crate::schema::plan::{self, Plan};
use crate::schema::wall::{WallClock, Zone};
use crate::symbols::{SymbolFiles, Symbols};

use admission::Admission;
use pace::Rarity;
use rows::{let_go, RowOwners};
use state::{admitted, burst_rate, shown, taken, DataSourceState, Extent, State, Taken};
use verdict::Verdict;
use wakeup::Wakeup;

pub use pace::Pace;
pub use state::Totals;

const MAX_DATASOURCES: usize = 256;
/// Samples that programs submit without a wake-up (BPF_RB_NO_WAKEUP) are seen after this.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// What one drain rendered of one data source.
#[derive(Debug)]
pub struct Batch {
    pub datasource: String,
    pub rendered: Rendered,
}

impl Batch {
    /// Events that the first `written` bytes show whole.
    pub fn whole_events(&self, written: u64) -> u64 {
        self.rendered.ends.partition_point(|end| u64::from(*end) <= written) as u64
    }
}

pub struct Stream {
    wakeup: Wakeup,
    /// None: every sample wakes the reader.
    longest_wait: Option<Duration>,
    /// None once closed.
    state: Mutex<Option<State>>,
}

impl Stream {
    /// With an object, opens readers for every data source that names a map.
    pub fn open(plan: &str, object: Option<&Object>) -> Result<Stream> {
        let plan = Plan::parse(plan)?;
        if plan.datasources.len() > MAX_DATASOURCES {
            return Err(Error::plan(format!("more than {MAX_DATASOURCES} data sources")));
        }
        let mut lookups = Lookups {
            clock: plan
                .clock_offset_ns
                .map_or_else(WallClock::of_machine, |ns| Ok(WallClock::fixed(ns)))?,
            zone: plan.timezone_offset_s.map_or(Zone::Local, Zone::Fixed),
            symbols: Symbols::new(&plan.proc, plan.pidns, symbol_files(&plan.symbols)),
            ..Lookups::default()
        };
        let wakeup = Wakeup::new()?;
        let mut datasources: Vec<DataSourceState> = Vec::new();
        for ds in &plan.datasources {
            if datasources.iter().any(|d| d.source.name == ds.name) {
                return Err(Error::plan(format!("two data sources are named {}", ds.name)));
            }
            let opened = DataSourceState::open(ds, object, &mut lookups)?;
            if let Some(reader) = &opened.reader {
                wakeup.watch(reader.epoll_fd())?;
            }
            datasources.push(opened);
        }
        if let Some(object) = object {
            lookups.maps.open(|name| object.map_by_name(name))?;
        }
        let state = State {
            lookups,
            datasources,
            admission: None,
            active: None,
            rarity: Rarity::default(),
            burst_rate: burst_rate(),
        };
        let wakes = object.map_or(Ok(true), Object::wakes_always)?;
        let longest_wait = (!wakes).then_some(LONGEST_WAIT);
        Ok(Stream { wakeup, longest_wait, state: Mutex::new(Some(state)) })
    }

    fn lock(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        work(self.lock().as_mut().ok_or_else(|| Error::closed("the stream"))?)
    }

    /// Drains what comes until the time is over, or a wake-up or a signal ends the wait; the number
    /// of batches. With a timeout of zero it drains once, a bounded amount.
    pub fn pump(&self, pace: Pace, sink: &mut dyn FnMut(Batch) -> Result<()>) -> Result<u64> {
        let mut end = pace.timeout.map(|timeout| Instant::now() + timeout);
        let mut count = 0;
        loop {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            let woken = left != Some(Duration::ZERO) && self.gather(pace.gather, left)?;
            let (batches, rare) = self.drain(pace.rare)?;
            if let (0, Some(busy), false) = (count, pace.busy, batches.is_empty()) {
                let busy_end = Instant::now() + busy;
                end = Some(end.map_or(busy_end, |end| end.min(busy_end)));
            }
            let rest = batches.is_empty() || rare;
            for batch in batches {
                count += 1;
                sink(batch)?;
            }
            let over = end.is_some_and(|end| Instant::now() >= end);
            if woken || over || (rest && self.wait_ended(end)?) {
                return Ok(count);
            }
        }
    }

    /// Waits until samples are or may be there. True when a wake-up or a signal came.
    fn wait_ended(&self, end: Option<Instant>) -> Result<bool> {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let most = left.into_iter().chain(self.longest_wait).min();
        self.wakeup.wait(most.unwrap_or(Duration::MAX))
    }

    /// Soon after a drain that found events, lets more events gather unless they are rare; true
    /// when a wake-up came meanwhile. The first event after a pause is not delayed.
    fn gather(&self, time: Duration, left: Option<Duration>) -> Result<bool> {
        let most = left.map_or(time, |left| left.min(time));
        loop {
            let pause = self.with(|state| {
                let since = state.active.map_or(most, |t| t.elapsed());
                Ok(state.pause(most.saturating_sub(since)))
            })?;
            if pause.is_zero() {
                return Ok(false);
            }
            if self.wakeup.sleep(pause) {
                return Ok(true);
            }
        }
    }

    /// What was rendered, and whether events are rare: then no more of them have to gather.
    fn drain(&self, rare: u32) -> Result<(Vec<Batch>, bool)> {
        self.with(|state| {
            state.lookups.clock.refresh();
            let seen = state.read(Extent::Batch)?;
            let mut batches = Vec::new();
            let read = state.datasources.iter_mut().filter(|d| d.reader.is_some());
            for DataSourceState { source, .. } in read {
                if let Some(rendered) = source.take() {
                    batches.push(Batch { datasource: source.name.clone(), rendered });
                }
            }
            let now = Instant::now();
            let rare = state.rarity.add(seen.samples, now, rare) && !seen.full;
            state.active = (seen.samples > 0 && !seen.full && !rare).then_some(now);
            Ok((batches, rare))
        })
    }

    /// Runs samples through the pipeline of one data source, all of them.
    pub fn push<'a>(
        &self,
        datasource: &str,
        samples: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Batch> {
        self.with(|state| {
            let index = state.find(datasource)?;
            let State { lookups, datasources, admission, .. } = state;
            lookups.clock.refresh();
            let source = &mut datasources[index].source;
            if source.is_open() {
                return Err(Error::plan(format!("data source {datasource} is being read")));
            }
            source.begin();
            for sample in samples {
                if admitted(admission, index, source, sample)? {
                    source.process(lookups, sample);
                }
            }
            let rendered = match source.is_array() {
                true => source.finish(lookups),
                false => source.take().unwrap_or_else(|| source.empty(0)),
            };
            Ok(Batch { datasource: datasource.to_string(), rendered })
        })
    }

    /// Reads all that an array data source shows now; the second value is what failed. The stream
    /// can be used meanwhile; a second reading of the same data source is refused until this
    /// one has ended.
    pub fn read_array(
        &self,
        datasource: &str,
        netns: &[BorrowedFd<'_>],
    ) -> Result<(Batch, Option<Error>)> {
        let (index, mut array, held) = self.with(|state| {
            let index = state.find(datasource)?;
            state.lookups.clock.refresh();
            let array = state.take_array(index)?;
            if let Some(rows) = state.rows(index)? {
                rows.begin_reading();
            }
            let State { lookups, datasources, .. } = state;
            Ok((index, array, datasources[index].begin(lookups)))
        })?;
        let (size, takes) = (array.element_size(), array.takes());
        let outcome = array.read(netns, &mut |elements| {
            self.with(|state| {
                let State { lookups, datasources, admission, .. } = state;
                let source = &mut datasources[index].source;
                for sample in elements.chunks_exact(size) {
                    let owner = match takes {
                        true => taken(admission, index, source, sample)?,
                        false if shown(admission, source, sample)? => Taken::Shown(Owner::Now),
                        false => Taken::LeftOut,
                    };
                    if let Taken::Shown(owner) = owner {
                        source.process_of(lookups, sample, owner);
                    }
                }
                Ok(true)
            })
        });
        self.with(|state| {
            if let Some(rows) = state.rows(index)? {
                rows.end_reading(outcome.is_ok());
            }
            let State { lookups, datasources, .. } = state;
            let found = &mut datasources[index];
            found.array = Some(array);
            let rendered = found.source.finish(lookups);
            let_go(lookups, &held);
            Ok((Batch { datasource: datasource.to_string(), rendered }, outcome.err()))
        })
    }

    /// Takes the elements of mount namespaces that have ended out of the map of a data source, with
    /// the names of their containers: the next array shows them. To be called while nothing else
    /// can have these numbers. Returns what failed.
    pub fn take_ended(&self, datasource: &str, mntns: &[u64]) -> Result<Option<Error>> {
        let found = self.with(|state| {
            let index = state.find(datasource)?;
            let at = state.datasources[index].rows_at();
            at.map(|at| Ok((index, at, state.take_array(index)?))).transpose()
        })?;
        let Some((index, at, mut array)) = found else { return Ok(None) };
        let ended: HashSet<u64> = mntns.iter().copied().collect();
        let mut of_ended = |element: &[u8]| {
            let number = element.get(at..at + 8).and_then(|raw| raw.try_into().ok());
            number.is_some_and(|raw| ended.contains(&u64::from_ne_bytes(raw)))
        };
        let outcome = array.take_some(&mut of_ended, &mut |element| {
            self.with(|state| state.keep_for_next(index, element).map(|()| true))
        });
        self.with(|state| {
            state.datasources[index].array = Some(array);
            if let (Ok(()), Some(rows)) = (&outcome, state.rows(index)?) {
                rows.taken(mntns);
            }
            Ok(outcome.err())
        })
    }

    /// A container has these namespaces from now on.
    pub fn set_container(
        &self,
        mntns: u64,
        netns: u64,
        values: &[(String, ContainerValue)],
    ) -> Result<()> {
        self.with(|state| {
            state.each_rows(&mut |rows| rows.set(mntns))?;
            state.lookups.containers.set(mntns, netns, values)
        })
    }

    /// No more elements of a mount namespace will come: it has ended, or is not wanted. Generation
    /// 0 is the one that has the number now.
    pub fn end_rows(&self, mntns: u64, generation: u64) -> Result<()> {
        self.with(|state| state.each_rows(&mut |rows| rows.end(mntns, generation)))
    }

    /// An array of the elements that were read before their container was identified, and that no
    /// reading has shown since; None when there are none.
    pub fn released_array(&self, datasource: &str) -> Result<Option<Batch>> {
        self.with(|state| {
            let index = state.find(datasource)?;
            state.lookups.clock.refresh();
            let State { lookups, datasources, .. } = state;
            let found = &mut datasources[index];
            if found.released.is_empty() || found.source.is_open() {
                return Ok(None);
            }
            let held = found.begin(lookups);
            let rendered = found.source.finish(lookups);
            let_go(lookups, &held);
            Ok(Some(Batch { datasource: datasource.to_string(), rendered }))
        })
    }

    /// From now on samples of namespaces that the scout reports as new wait for
    /// [`Stream::decide`]. `selective`: only selected containers are wanted.
    pub fn admit_by(&self, scout: Arc<Scout>, selective: bool) -> Result<()> {
        self.with(|state| {
            let rows = state.datasources.iter();
            let rows = rows.map(|d| d.rows_at().map(|_| RowOwners::default())).collect();
            let readers = state.datasources.iter().map(|d| d.reader.as_ref());
            state.admission = Some(Admission::new(scout, selective, readers, rows));
            Ok(())
        })
    }

    /// Decides about the samples of a namespace, those that wait and those to come. Generation 0
    /// is the one that has the inode number now.
    pub fn decide(&self, mntns: u64, generation: u64, verdict: Verdict) -> Result<()> {
        let waited = self.with(|state| {
            // All events of a namespace that has ended are in the buffers. They are read now,
            // while its container is still the one of this inode number.
            let seen = generation != 0 && state.read(Extent::All)?.samples > 0;
            let Some(admission) = &mut state.admission else { return Ok(seen) };
            let queue = admission.decide(mntns, generation, verdict)?;
            Ok(state.release(&queue, verdict) || seen)
        })?;
        if waited {
            self.wake();
        }
        Ok(())
    }

    /// Samples that wait for a decision, and those that the kernel lost of undecided namespaces.
    pub fn waiting(&self) -> Result<u64> {
        self.with(|state| {
            let lost: u64 = state.apart()?.iter().map(|apart| apart.undecided).sum();
            Ok(lost + state.admission.as_ref().map_or(0, Admission::waiting))
        })
    }

    /// Decides about all samples that wait. To be called when no more decisions will come.
    pub fn end_waiting(&self, verdict: Verdict) -> Result<()> {
        self.with(|state| {
            let queues = state.admission.as_mut().map(|a| a.end(verdict)).unwrap_or_default();
            for queue in &queues {
                state.release(queue, verdict);
            }
            Ok(())
        })
    }

    /// Stacks that the map no longer had, or whose process had ended.
    pub fn lost_stacks(&self) -> Result<u64> {
        self.with(|state| Ok(state.lookups.symbols.lost()))
    }

    /// Events that were left out because a condition could not be decided.
    pub fn undecided(&self) -> Result<u64> {
        self.with(|state| Ok(state.datasources.iter().map(|d| d.source.undecided).sum()))
    }

    /// Events that were left out because an endpoint has an address of an unknown version.
    pub fn refused(&self) -> Result<u64> {
        self.with(|state| Ok(state.datasources.iter().map(|d| d.source.refused).sum()))
    }

    /// Build ids of files that debuginfod's cache does not have.
    pub fn missing_debuginfo(&self) -> Result<Vec<String>> {
        self.with(|state| Ok(state.lookups.symbols.missing()))
    }

    /// The metrics of a data source so far.
    pub fn metrics(&self, datasource: &str) -> Result<Vec<Series>> {
        self.with(|state| {
            let index = state.find(datasource)?;
            Ok(state.datasources[index].source.series().to_vec())
        })
    }

    pub fn with_lookups<T>(&self, work: impl FnOnce(&mut Lookups) -> Result<T>) -> Result<T> {
        self.with(|state| work(&mut state.lookups))
    }

    pub fn totals(&self) -> Result<Vec<Totals>> {
        self.with(State::totals)
    }

    /// Ends the wait of [`Stream::pump`] in another thread.
    pub fn wake(&self) {
        self.wakeup.wake();
    }

    /// Frees readers and counters; idempotent. A waiting drain returns.
    pub fn close(&self) {
        self.wakeup.close();
        let state = self.lock().take();
        drop(state);
    }
}

fn symbol_files(plan: &plan::Symbols) -> SymbolFiles {
    let cache = plan.debuginfod.as_ref().map(Into::into);
    SymbolFiles { own: plan.symtab, cache, ..SymbolFiles::default() }
}
