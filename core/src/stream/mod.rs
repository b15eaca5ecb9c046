//! One run's data plane: readers, pipelines, waiting and counting.
//!
//! A stream may be used by several threads: one drains it, others add containers, decide about
//! pending namespaces, read arrays and ask for counters.

mod admission;
mod array_reader;
mod arrays;
pub mod backlog;
mod decisions;
mod emitted;
mod generations;
mod loss_table;
mod pace;
pub mod pending;
mod priority;
mod pump;
pub mod queue;
mod rows;
pub mod sink;
mod state;
pub mod verdict;
mod wakeup;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::bpf::map::Map;
use crate::bpf::object::Object;
use crate::bpf::scout::Scout;
use crate::errors::{Error, Result};
use crate::pipeline::metrics::Series;
use crate::schema::lookups::{ContainerValue, Lookups};
use crate::schema::plan::{self, Plan};
use crate::schema::wall::{WallClock, Zone};
use crate::symbols::{SymbolFiles, Symbols};
use crate::wasm::Guest;

use admission::Admission;
use backlog::{Backlog, Change};
use pace::Rarity;
use rows::RowOwners;
use state::{admitted, burst_rate, DataSourceState, Extent, State};
use verdict::Verdict;
use wakeup::Wakeup;

pub use pace::Pace;
pub use sink::Batch;
pub use state::Totals;

const MAX_DATASOURCES: usize = 256;
/// Samples that programs submit without a wake-up (BPF_RB_NO_WAKEUP) are seen after this.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

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
        Stream::open_with(plan, object, None)
    }

    /// As [`Stream::open`], with the gadget's wasm module and the map of mount namespaces that are
    /// wanted.
    pub fn open_with(
        plan: &str,
        object: Option<&Object>,
        guest: Option<(Arc<Guest>, Option<Map>)>,
    ) -> Result<Stream> {
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
        let guest = match guest {
            Some((guest, filter)) => {
                guest.bind(object.map(held_maps).transpose()?.unwrap_or_default(), filter);
                Some(guest)
            }
            None => None,
        };
        let wakeup = Wakeup::new()?;
        let mut datasources: Vec<DataSourceState> = Vec::new();
        for ds in &plan.datasources {
            if datasources.iter().any(|d| d.source.name == ds.name) {
                return Err(Error::plan(format!("two data sources are named {}", ds.name)));
            }
            let opened = DataSourceState::open(ds, object, &mut lookups, guest.clone())?;
            if let Some(reader) = &opened.reader {
                wakeup.watch(reader.epoll_fd())?;
            }
            datasources.push(opened);
        }
        if let Some(object) = object {
            lookups.maps.open(|name| object.map_by_name(name))?;
        }
        let texts = datasources.iter().map(|d| d.source.texts()).collect();
        let state = State {
            lookups,
            datasources,
            admission: None,
            backlog: Backlog::new(plan.backlog_bytes, texts),
            active: None,
            rarity: Rarity::default(),
            guest,
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

    /// Gives up all samples that wait to be rendered or are in the buffers, as lost ones; how many.
    pub fn give_up(&self) -> Result<u64> {
        self.with(State::give_up)
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

    /// A container has these namespaces from now on.
    pub fn set_container(
        &self,
        mntns: u64,
        netns: u64,
        values: Vec<(String, ContainerValue)>,
    ) -> Result<()> {
        self.with(|state| {
            state.each_rows(&mut |rows| rows.set(mntns))?;
            state.change(Change::Set { mntns, netns, values })
        })
    }

    /// No more elements of a mount namespace will come: it has ended, or is not wanted. Generation
    /// 0 is the one that has the number now.
    pub fn end_rows(&self, mntns: u64, generation: u64) -> Result<()> {
        self.with(|state| state.each_rows(&mut |rows| rows.end(mntns, generation)))
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
            let seen = generation != 0 && state.copy_ended(mntns, generation, verdict)?;
            let Some(admission) = &mut state.admission else { return Ok(seen) };
            let queue = admission.decide(mntns, generation, verdict)?;
            Ok(state.release(&queue, verdict, Extent::Room) || seen)
        })?;
        if waited {
            self.wake();
        }
        Ok(())
    }

    /// Decides about the samples of a container's namespace that had ended before the one that has
    /// the inode number now. `ended` sets the names of the first, `holder` those of the second,
    /// which has been decided about before: the samples of both keep theirs.
    pub fn decide_ended(
        &self,
        mntns: u64,
        generation: u64,
        verdict: Verdict,
        ended: Change,
        holder: Change,
    ) -> Result<()> {
        self.with(|state| {
            state.copy_out(Extent::All)?;
            state.change(ended)?;
            if let Some(admission) = &mut state.admission {
                let queue = admission.decide(mntns, generation, verdict)?;
                state.release(&queue, verdict, Extent::Room);
            }
            state.change(holder)
        })?;
        self.wake();
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
                state.release(queue, verdict, Extent::All);
            }
            Ok(())
        })
    }

    /// Stacks that the map no longer had, or whose process had ended.
    pub fn lost_stacks(&self) -> Result<u64> {
        self.with(|state| Ok(state.lookups.symbols.lost()))
    }

    /// From now on a callback of the wasm module is called behind all steps of a data source, or
    /// behind its filters, sorting or limit.
    pub fn subscribe(
        &self,
        datasource: &str,
        callback: u64,
        kind: u32,
        behind: &str,
    ) -> Result<()> {
        self.with(|state| {
            let index = state.find(datasource)?;
            state.datasources[index].source.subscribe(callback, kind, behind)
        })
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

    /// Changes the containers for events that are read from now on.
    pub fn change(&self, change: Change) -> Result<()> {
        self.with(|state| state.change(change))
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

/// The maps of a loaded object, held open for the wasm module.
fn held_maps(object: &Object) -> Result<HashMap<String, Arc<Map>>> {
    let loaded = object.maps()?.into_iter().filter_map(|facts| {
        let fd = object.map_fd(&facts.name).ok()?;
        Some(Map::from_fd(fd).map(|map| (facts.name, Arc::new(map))))
    });
    loaded.collect()
}

fn symbol_files(plan: &plan::Symbols) -> SymbolFiles {
    let cache = plan.debuginfod.as_ref().map(Into::into);
    SymbolFiles { own: plan.symtab, cache, ..SymbolFiles::default() }
}

#[cfg(test)]
mod tests;
