//! One run's data plane: readers, pipelines, waiting and counting.
//!
//! A stream may be used by several threads: one drains it, others add containers, decide about
//! pending namespaces, read arrays and ask for counters.

mod admission;
mod array_reader;
mod decisions;
mod loss_table;
pub mod pending;
pub mod queue;
mod state;
mod wakeup;

use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::bpf::object::Object;
use crate::bpf::scout::Scout;
use crate::errors::{Error, Result};
use crate::pipeline::datasource::Rendered;
use crate::pipeline::metrics::Series;
use crate::schema::lookups::Lookups;
use crate::schema::plan::{self, Plan};
use crate::symbols::{SymbolFiles, Symbols};

use admission::Admission;
use pending::Verdict;
use state::{admitted, DataSourceState, Extent, State};
use wakeup::Wakeup;

pub use state::Totals;

const MAX_DATASOURCES: usize = 256;
/// Time between two drains under steady load: one wake-up for many events. An event must be
/// printed within 50 ms; the rest of that time is for rendering and writing.
const GATHER: Duration = Duration::from_millis(24);

/// What one drain rendered of one data source.
pub struct Batch {
    pub datasource: String,
    pub rendered: Rendered,
}

pub struct Stream {
    wakeup: Wakeup,
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
            clock_offset_ns: plan.clock_offset_ns,
            timezone_offset_s: plan.timezone_offset_s,
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
        let state = State { lookups, datasources, admission: None, active: None };
        Ok(Stream { wakeup, state: Mutex::new(Some(state)) })
    }

    fn lock(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        work(self.lock().as_mut().ok_or_else(|| Error::closed("the stream"))?)
    }

    /// Drains what is there, else what comes within the time (negative: without a limit). Empty
    /// when a wake-up or a signal ends the wait.
    pub fn next_batches(&self, timeout_ms: i32) -> Result<Vec<Batch>> {
        let woken = timeout_ms != 0 && self.gather(timeout_ms)?;
        let batches = self.drain()?;
        if !batches.is_empty() || woken || timeout_ms == 0 || !self.wakeup.wait(timeout_ms)? {
            return Ok(batches);
        }
        self.drain()
    }

    /// Soon after a drain that found events, lets more events gather; true when a wake-up came
    /// meanwhile. The first event after a pause is not delayed.
    fn gather(&self, timeout_ms: i32) -> Result<bool> {
        let most = u64::try_from(timeout_ms).map_or(GATHER, Duration::from_millis).min(GATHER);
        loop {
            let pause = self.with(|state| {
                let since = state.active.map_or(most, |t| t.elapsed());
                Ok(state.pause(most.saturating_sub(since).as_millis() as usize))
            })?;
            if pause == 0 {
                return Ok(false);
            }
            // At most GATHER.
            if self.wakeup.sleep(pause as u16) {
                return Ok(true);
            }
        }
    }

    fn drain(&self) -> Result<Vec<Batch>> {
        self.with(|state| {
            let seen = state.read(Extent::Batch)?;
            let mut batches = Vec::new();
            let read = state.datasources.iter_mut().filter(|d| d.reader.is_some());
            for DataSourceState { source, .. } in read {
                if let Some(rendered) = source.take() {
                    batches.push(Batch { datasource: source.name.clone(), rendered });
                }
            }
            state.active = (seen.any && !seen.full).then(Instant::now);
            Ok(batches)
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
        let (index, mut array) = self.with(|state| {
            let index = state.find(datasource)?;
            let found = &mut state.datasources[index];
            let array = found.array.take().ok_or_else(|| {
                Error::plan(format!("data source {datasource} has nothing to read from now"))
            })?;
            found.source.begin();
            Ok((index, array))
        })?;
        let size = array.element_size();
        let outcome = array.read(netns, &mut |elements| {
            self.with(|state| {
                let State { lookups, datasources, .. } = state;
                for sample in elements.chunks_exact(size) {
                    datasources[index].source.process(lookups, sample);
                }
                Ok(true)
            })
        });
        self.with(|state| {
            let State { lookups, datasources, .. } = state;
            let found = &mut datasources[index];
            found.array = Some(array);
            let rendered = found.source.finish(lookups);
            Ok((Batch { datasource: datasource.to_string(), rendered }, outcome.err()))
        })
    }

    /// From now on samples of namespaces that the scout reports as new wait for
    /// [`Stream::decide`].
    pub fn admit_by(&self, scout: Arc<Scout>) -> Result<()> {
        self.with(|state| {
            let readers = state.datasources.iter().map(|d| d.reader.as_ref());
            state.admission = Some(Admission::new(scout, readers));
            Ok(())
        })
    }

    /// Decides about the samples of a namespace, those that wait and those to come. Generation 0
    /// is the one that has the inode number now.
    pub fn decide(&self, mntns: u64, generation: u64, verdict: Verdict) -> Result<()> {
        let waited = self.with(|state| {
            // All events of a namespace that has ended are in the buffers. They are read now,
            // while its container is still the one of this inode number.
            let seen = generation != 0 && state.read(Extent::All)?.any;
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

    /// Ends the wait of [`Stream::next_batches`] in another thread.
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
