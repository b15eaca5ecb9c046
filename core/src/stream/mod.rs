//! One run's data plane: readers, pipelines, waiting and counting.
//!
//! A stream may be used by several threads: one drains it, others add containers, decide about
//! pending namespaces, read arrays and ask for counters.

mod admission;
mod array_reader;
pub mod backlog;
mod decisions;
mod generations;
mod loss_table;
mod pace;
pub mod pending;
mod priority;
pub mod queue;
mod rows;
pub mod sink;
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
use crate::pipeline::metrics::Series;
use crate::pipeline::steps::context::Owner;
use crate::schema::lookups::{ContainerValue, Lookups};
use crate::schema::plan::{self, Plan};
use crate::schema::wall::{WallClock, Zone};
use crate::symbols::{SymbolFiles, Symbols};

use admission::Admission;
use backlog::{Backlog, Change};
use pace::Rarity;
use priority::Priority;
use rows::{let_go, RowOwners};
use sink::Sink;
use state::{admitted, burst_rate, shown, taken, DataSourceState, Extent, Seen, State, Taken};
use verdict::Verdict;
use wakeup::Wakeup;

pub use pace::Pace;
pub use sink::Batch;
pub use state::Totals;

const MAX_DATASOURCES: usize = 256;
/// Samples that programs submit without a wake-up (BPF_RB_NO_WAKEUP) are seen after this.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// While the sink has no room and the backlog is full, losses of the kernel are looked for so often.
const STALLED_WAIT: Duration = Duration::from_secs(1);

/// What one drain did.
struct Drained {
    batches: Vec<Batch>,
    /// Samples were in the buffers.
    seen: bool,
    /// Events are rare: then no more of them have to gather.
    rare: bool,
    /// Samples wait to be rendered.
    waits: bool,
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
        let texts = datasources.iter().map(|d| d.source.texts()).collect();
        let state = State {
            lookups,
            datasources,
            admission: None,
            backlog: Backlog::new(plan.backlog_bytes, texts),
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
    ///
    /// While the sink has no room, and when a buffer fills faster than it is read, samples are
    /// copied to the backlog; without a time to wait, the sink is waited for.
    pub fn pump(&self, pace: Pace, sink: &mut dyn Sink) -> Result<u64> {
        let at_once = pace.timeout == Some(Duration::ZERO);
        let mut end = pace.timeout.map(|timeout| Instant::now() + timeout);
        let mut busy = pace.busy;
        let mut count = 0;
        let _raised = Priority::raised();
        loop {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            let room = at_once || sink.room();
            let woken = !at_once && self.gather(pace.gather, left, room)?;
            let Drained { batches, seen, rare, waits } = self.drain(room, pace.rare)?;
            let empty = batches.is_empty();
            if let Some(time) = busy.take_if(|_| seen || !empty) {
                let busy_end = Instant::now() + time;
                end = Some(end.map_or(busy_end, |end| end.min(busy_end)));
            }
            for batch in batches {
                count += 1;
                sink.put(batch)?;
            }
            let over = end.is_some_and(|end| Instant::now() >= end);
            if woken || (over && !(room && empty && waits)) {
                return Ok(count);
            }
            let ended = match (room, (empty || rare) && !waits) {
                (true, true) => self.wait_ended(end)?,
                (true, false) => false,
                (false, _) => self.wait_for_room(sink, end)?,
            };
            if ended {
                return Ok(count);
            }
        }
    }

    /// Waits until the sink has room, or until samples come for which the backlog has room. True
    /// when a wake-up or a signal came.
    fn wait_for_room(&self, sink: &dyn Sink, end: Option<Instant>) -> Result<bool> {
        let Some(sign) = sink.sign_of_room() else { return Ok(false) };
        let left = end.map_or(STALLED_WAIT, |end| end.saturating_duration_since(Instant::now()));
        let samples = self.with(|state| Ok(state.backlog.has_room()))?;
        self.wakeup.wait_also(sign, samples, left.min(STALLED_WAIT))
    }

    /// Waits until samples are or may be there. True when a wake-up or a signal came.
    fn wait_ended(&self, end: Option<Instant>) -> Result<bool> {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let most = left.into_iter().chain(self.longest_wait).min();
        self.wakeup.wait(most.unwrap_or(Duration::MAX))
    }

    /// Soon after a drain that found events, lets more events gather unless they are rare; true
    /// when a wake-up came meanwhile. The first event after a pause is not delayed.
    fn gather(&self, time: Duration, left: Option<Duration>, room: bool) -> Result<bool> {
        let most = left.map_or(time, |left| left.min(time));
        loop {
            let pause = self.with(|state| {
                if room && !state.backlog.is_empty() {
                    return Ok(Duration::ZERO);
                }
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

    fn drain(&self, room: bool, rare: u32) -> Result<Drained> {
        self.with(|state| {
            state.lookups.clock.refresh();
            let mut seen = Seen { samples: 0, full: false };
            let mut left = false;
            // What is in the buffers comes behind what is in the backlog.
            if !room || !state.backlog.is_empty() || state.is_pressed() {
                let copied = state.copy_out(Extent::Room)?;
                (seen.samples, left) = (copied.samples, copied.full);
            }
            if room && !state.backlog.is_empty() {
                state.process_backlog()?;
            } else if room && seen.samples == 0 {
                seen = state.read()?;
            }
            let waits = left || !state.backlog.is_empty();
            let mut batches = Vec::new();
            if !room {
                let seen = seen.samples > 0;
                state.active = seen.then(Instant::now);
                // Events come also while there is no room for them.
                let seen = seen || state.is_pressed();
                return Ok(Drained { batches, seen, rare: false, waits });
            }
            let read = state.datasources.iter_mut().filter(|d| d.reader.is_some());
            for DataSourceState { source, .. } in read {
                if let Some(rendered) = source.take() {
                    batches.push(Batch { datasource: source.name.clone(), rendered });
                }
            }
            let now = Instant::now();
            let rare = state.rarity.add(seen.samples, now, rare) && !seen.full;
            let gathers = seen.samples > 0 && !seen.full && !waits && !rare;
            state.active = gathers.then_some(now);
            Ok(Drained { batches, seen: seen.samples > 0, rare, waits })
        })
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
            // All events of a namespace that has ended are in the buffers. They are copied now,
            // while its container is still the one of this inode number.
            let seen = generation != 0 && state.copy_out(Extent::All)?.samples > 0;
            let Some(admission) = &mut state.admission else { return Ok(seen) };
            let queue = admission.decide(mntns, generation, verdict)?;
            Ok(state.release(&queue, verdict, Extent::Room) || seen)
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
                state.release(queue, verdict, Extent::All);
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

fn symbol_files(plan: &plan::Symbols) -> SymbolFiles {
    let cache = plan.debuginfod.as_ref().map(Into::into);
    SymbolFiles { own: plan.symtab, cache, ..SymbolFiles::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::datasource::Rendered;

    const PLAN: &str = include_str!("../../benches/trace_open.json");
    const MNTNS: u64 = 4_026_531_900;

    fn stream() -> (Stream, Vec<u8>) {
        let mut plan: serde_json::Value = serde_json::from_str(PLAN).unwrap();
        plan["backlog_bytes"] = serde_json::json!(backlog::MIN_BYTES);
        plan["datasources"][0]["output"] = serde_json::json!({"mode": "json"});
        let fields = plan["datasources"][0]["fields"].as_array().unwrap();
        let place = |name: &str| {
            let field = fields.iter().find(|f| f["full_name"] == name).unwrap();
            field["offset"].as_u64().unwrap() as usize
        };
        let size = plan["datasources"][0]["sample_size"].as_u64().unwrap();
        let mut sample = vec![0; size as usize];
        for (name, bytes) in [("proc.mntns_id", &MNTNS.to_ne_bytes()[..]), ("fname", b"/file")] {
            let at = place(name);
            sample[at..at + bytes.len()].copy_from_slice(bytes);
        }
        (Stream::open(&plan.to_string(), None).unwrap(), sample)
    }

    fn set(name: &str) -> Change {
        let name = ContainerValue::Text(name.into());
        Change::Set { mntns: MNTNS, netns: 0, values: vec![("runtime.containerName".into(), name)] }
    }

    fn push(stream: &Stream, sample: &[u8]) {
        let pushed = stream.with(|state| {
            state.backlog.push(0, sample);
            Ok(())
        });
        pushed.unwrap();
    }

    /// The names of the containers in what was rendered.
    fn names(rendered: &Rendered) -> Vec<String> {
        let lines = rendered.data.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let parsed = lines.map(|line| serde_json::from_slice::<serde_json::Value>(line).unwrap());
        parsed.map(|e| e["runtime"]["containerName"].as_str().unwrap().to_string()).collect()
    }

    #[test]
    fn samples_that_wait_keep_the_names_of_their_time() {
        let (stream, sample) = stream();
        let push = || push(&stream, &sample);
        push();
        stream.change(set("first")).unwrap(); // new: for the sample that waits, too
        push();
        stream.change(Change::End(MNTNS)).unwrap();
        stream.change(Change::Drop(MNTNS)).unwrap();
        push();
        stream.change(set("second")).unwrap();
        push();
        let rendered = stream.with(|state| {
            state.process_backlog()?;
            Ok(state.datasources[0].source.take().unwrap())
        });
        assert_eq!(names(&rendered.unwrap()), ["first", "first", "", "second"]);
        stream.change(Change::Drop(MNTNS)).unwrap();
        assert!(!stream.with(|state| Ok(state.lookups.containers.knows(MNTNS))).unwrap());
    }

    #[test]
    fn a_drop_of_no_container_takes_no_names_of_a_later_one() {
        let (stream, sample) = stream();
        push(&stream, &sample);
        // As of a namespace that is no container's, whose number a container gets.
        stream.change(Change::Drop(MNTNS)).unwrap();
        stream.change(set("later")).unwrap();
        push(&stream, &sample);
        let rendered = stream.with(|state| {
            state.process_backlog()?;
            Ok(state.datasources[0].source.take().unwrap())
        });
        assert_eq!(names(&rendered.unwrap())[1], "later");
        assert!(stream.with(|state| Ok(state.lookups.containers.knows(MNTNS))).unwrap());
    }

    #[test]
    fn changes_come_into_force_in_their_order() {
        let (stream, sample) = stream();
        stream.change(set("first")).unwrap();
        push(&stream, &sample);
        stream.change(Change::Drop(MNTNS)).unwrap();
        stream.change(set("second")).unwrap();
        stream.change(Change::Drop(MNTNS)).unwrap();
        stream.change(set("third")).unwrap();
        // What waits is given up: the changes behind it are due though nothing is read.
        stream
            .with(|state| {
                state.lose_oldest();
                state.apply_due()
            })
            .unwrap();
        push(&stream, &sample);
        let rendered = stream.with(|state| {
            state.process_backlog()?;
            Ok(state.datasources[0].source.take().unwrap())
        });
        assert_eq!(names(&rendered.unwrap()), ["third"]);
    }

    #[test]
    fn too_many_changes_cost_the_oldest_samples() {
        let (stream, sample) = stream();
        stream.change(set("first")).unwrap();
        for _ in 0..10 {
            push(&stream, &sample);
            for _ in 0..200 {
                stream.change(set("next")).unwrap();
            }
        }
        let counts = stream.with(|state| Ok(state.datasources[0].source.counts)).unwrap();
        assert!((1..10).contains(&counts.overflow), "{counts:?}");
        assert_eq!(counts.lost(), counts.overflow);
        assert_eq!(stream.give_up().unwrap(), 10 - counts.overflow);
        assert_eq!(stream.give_up().unwrap(), 0);
    }
}
