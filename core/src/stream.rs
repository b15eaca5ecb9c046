//! One run's data plane: readers, pipelines, waiting and counting.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::admission::Admission;
use crate::bpf::map::Counter;
use crate::bpf::object::Object;
use crate::bpf::reader::Reader;
use crate::bpf::scout::Scout;
use crate::errors::{Error, Kind, Result};
use crate::fds;
use crate::fetch::Feed;
use crate::hold::{Fate, Queue, Verdict};
use crate::pipeline::metrics::Series;
use crate::pipeline::plan::{self, Plan};
use crate::pipeline::source::{Counts, Rendered, Source};
use crate::pipeline::world::World;
use crate::symbols::{Sources, Symbols};

const MAX_SOURCES: usize = 256;
/// Bytes of each CPU's perf buffer when the plan does not say.
const PERF_BYTES: usize = 256 << 10;
/// Time between two drains under steady load: one wake-up for many events. Of the 50 ms in
/// which an event must be printed, the rest is for rendering and writing.
const GATHER: Duration = Duration::from_millis(24);
/// A ring filled to this part is drained at once.
const FULL_PART: usize = 4;
/// The fastest that writers are taken to be, bytes a millisecond (300 000 events of
/// 3.5 KiB a second): as long as half of what is free lasts at that rate, a ring is left alone.
const BURST_RATE: usize = 1 << 20;

/// What one drain rendered of one data source.
pub struct Batch {
    pub datasource: String,
    pub rendered: Rendered,
}

pub struct Totals {
    pub datasource: String,
    pub counts: Counts,
    /// None: the object counts nothing.
    pub lost: Option<u64>,
}

struct Lane {
    source: Source,
    reader: Option<Reader>,
    counter: Option<Counter>,
    /// None also while it is read.
    feed: Option<Feed>,
}

struct State {
    world: World,
    lanes: Vec<Lane>,
    /// None: no event waits for its container.
    admission: Option<Admission>,
    /// When the last drain was, if it found events and took all.
    active: Option<Instant>,
}

pub struct Stream {
    /// All readers, and `waker`.
    epoll: OwnedFd,
    waker: OwnedFd,
    /// Set before the last wake-up, which then is never used up: no waiter misses it.
    closed: AtomicBool,
    state: Mutex<Option<State>>,
}

impl Stream {
    /// With an object: readers for every data source that names a map.
    pub fn open(plan: &str, object: Option<&Object>) -> Result<Stream> {
        let plan = Plan::parse(plan)?;
        if plan.datasources.len() > MAX_SOURCES {
            return Err(Error::plan(format!("more than {MAX_SOURCES} data sources")));
        }
        let mut world = World {
            clock_offset_ns: plan.clock_offset_ns,
            timezone_offset_s: plan.timezone_offset_s,
            symbols: Symbols::new(&plan.proc, plan.pidns, sources(&plan.symbols)),
            ..World::default()
        };
        let (epoll, waker) = (fds::epoll()?, fds::waker()?);
        fds::watch(&epoll, waker.as_raw_fd())?;
        let mut lanes: Vec<Lane> = Vec::new();
        for ds in &plan.datasources {
            if lanes.iter().any(|l| l.source.name == ds.name) {
                return Err(Error::plan(format!("two data sources are named {}", ds.name)));
            }
            let lane = Lane {
                source: Source::compile(ds, &mut world)?,
                reader: reader(ds, object, &epoll)?,
                counter: object.map(|o| counter(ds, o)).transpose()?.flatten(),
                feed: Feed::open(ds, object)?,
            };
            lanes.push(lane);
        }
        if let Some(object) = object {
            world.maps.open(|name| object.map_by_name(name))?;
        }
        Ok(Stream {
            epoll,
            waker,
            closed: AtomicBool::new(false),
            state: Mutex::new(Some(State { world, lanes, admission: None, active: None })),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        work(self.lock().as_mut().ok_or_else(|| Error::closed("the stream"))?)
    }

    /// What is there, or what comes within the time; empty when woken or interrupted.
    pub fn next_batches(&self, timeout_ms: i32) -> Result<Vec<Batch>> {
        let woken = timeout_ms != 0 && self.gather(timeout_ms)?;
        let batches = self.drain()?;
        if !batches.is_empty() || woken || timeout_ms == 0 || !self.wait(timeout_ms)? {
            return Ok(batches);
        }
        self.drain()
    }

    /// True when events wait and nobody woke us.
    fn wait(&self, timeout_ms: i32) -> Result<bool> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 8];
        // SAFETY: the array is writable for its length; the epoll lives in self.
        let n = unsafe {
            libc::epoll_wait(
                self.epoll.as_raw_fd(),
                events.as_mut_ptr(),
                events.len() as i32,
                timeout_ms.max(-1),
            )
        };
        if n < 0 {
            let cause = io::Error::last_os_error();
            // A signal: return, so that Python handles it.
            if cause.kind() == io::ErrorKind::Interrupted {
                return Ok(false);
            }
            return Err(Error::map(format!("waiting for events failed: {cause}")));
        }
        let mut woken = false;
        for event in &events[..n as usize] {
            woken |= event.u64 == self.waker.as_raw_fd() as u64;
        }
        if woken {
            self.sleep_until_woken(0);
        }
        Ok(n > 0 && !woken)
    }

    /// True when woken within the time; takes the wake-up.
    fn sleep_until_woken(&self, timeout_ms: i32) -> bool {
        let mut poll =
            libc::pollfd { fd: self.waker.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd on the stack.
        let n = unsafe { libc::poll(&mut poll, 1, timeout_ms) };
        if self.closed.load(Ordering::Acquire) {
            return true;
        }
        let mut count = 0u64;
        // SAFETY: an eventfd gives eight bytes, which `count` has; it never blocks.
        n > 0 && unsafe { libc::read(poll.fd, (&raw mut count).cast(), 8) } == 8
    }

    /// Soon after a drain that found events, lets them pile up; true when woken meanwhile.
    /// The first event after a pause is not delayed.
    fn gather(&self, timeout_ms: i32) -> Result<bool> {
        let most = u64::try_from(timeout_ms).map_or(GATHER, Duration::from_millis).min(GATHER);
        loop {
            let pause = self.with(|state| {
                let since = state.active.map_or(most, |t| t.elapsed());
                let left = most.saturating_sub(since).as_millis() as usize;
                let pauses = state.lanes.iter().filter_map(|l| l.reader.as_ref()).map(pause);
                Ok(pauses.fold(left, usize::min))
            })?;
            if pause == 0 {
                return Ok(false);
            }
            if self.sleep_until_woken(pause as i32) {
                return Ok(true);
            }
        }
    }

    fn drain(&self) -> Result<Vec<Batch>> {
        self.with(|state| {
            let (seen, full) = state.read(Extent::Batch)?;
            let mut batches = Vec::new();
            for Lane { source, .. } in state.lanes.iter_mut().filter(|l| l.reader.is_some()) {
                if let Some(rendered) = source.take() {
                    batches.push(Batch { datasource: source.name.clone(), rendered });
                }
            }
            state.active = (seen && !full).then(Instant::now);
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
            let State { world, lanes, admission, .. } = state;
            let index = find(lanes, datasource)?;
            let source = &mut lanes[index].source;
            if source.is_open() {
                return Err(Error::plan(format!("data source {datasource} is being fetched")));
            }
            source.begin();
            for sample in samples {
                if admitted(admission, index, source, sample)? {
                    source.process(world, sample);
                }
            }
            let rendered = match source.is_array() {
                true => source.finish(world),
                false => source.take().unwrap_or_else(|| source.empty(0)),
            };
            Ok(Batch { datasource: datasource.to_string(), rendered })
        })
    }

    /// Reads all that an array data source shows now, and what went wrong on the way.
    /// Others use the stream meanwhile; at most one fetch of a data source at a time.
    pub fn fetch(
        &self,
        datasource: &str,
        netns: &[BorrowedFd<'_>],
    ) -> Result<(Batch, Option<Error>)> {
        let (index, mut feed) = self.with(|state| {
            let index = find(&state.lanes, datasource)?;
            let lane = &mut state.lanes[index];
            let feed = lane.feed.take().ok_or_else(|| {
                Error::plan(format!("data source {datasource} has nothing to fetch from now"))
            })?;
            lane.source.begin();
            Ok((index, feed))
        })?;
        let size = feed.size();
        let outcome = feed.read(netns, &mut |elements| {
            self.with(|state| {
                let State { world, lanes, .. } = state;
                for sample in elements.chunks_exact(size) {
                    lanes[index].source.process(world, sample);
                }
                Ok(true)
            })
        });
        self.with(|state| {
            let State { world, lanes, .. } = state;
            let lane = &mut lanes[index];
            lane.feed = Some(feed);
            let rendered = lane.source.finish(world);
            Ok((Batch { datasource: datasource.to_string(), rendered }, outcome.err()))
        })
    }

    /// From now on events of namespaces that the scout saw begin wait until they are decided about.
    pub fn admit_by(&self, scout: Arc<Scout>) -> Result<()> {
        self.with(|state| {
            let readers = state.lanes.iter().map(|lane| lane.reader.as_ref());
            state.admission = Some(Admission::new(scout, readers));
            Ok(())
        })
    }

    /// What becomes of the events of a namespace, those that waited and those to come; `birth` 0:
    /// of the one that has the number now.
    pub fn decide(&self, mntns: u64, birth: u64, verdict: Verdict) -> Result<()> {
        let waited = self.with(|state| {
            // Of what has ended, all is written: read now, it gets the names of now, which the next
            // namespace of that number replaces.
            let seen = birth != 0 && state.read(Extent::All)?.0;
            let Some(admission) = &mut state.admission else { return Ok(seen) };
            let queue = admission.decide(mntns, birth, verdict)?;
            Ok(state.release(&queue, verdict) || seen)
        })?;
        if waited {
            self.wake();
        }
        Ok(())
    }

    /// Samples that wait for a decision.
    pub fn waiting(&self) -> Result<u64> {
        self.with(|state| Ok(state.admission.as_ref().map_or(0, Admission::waiting)))
    }

    /// The same for all that still wait, when nothing more is to come.
    pub fn end_waiting(&self, verdict: Verdict) -> Result<()> {
        self.with(|state| {
            let queues = state.admission.as_mut().map(Admission::end).unwrap_or_default();
            for queue in &queues {
                state.release(queue, verdict);
            }
            Ok(())
        })
    }

    /// Stacks that were not there any more, or whose process was not.
    pub fn lost_stacks(&self) -> Result<u64> {
        self.with(|state| Ok(state.world.symbols.lost()))
    }

    /// Events that were left out since a condition could not be decided.
    pub fn undecided(&self) -> Result<u64> {
        self.with(|state| Ok(state.lanes.iter().map(|lane| lane.source.undecided).sum()))
    }

    /// Build ids of files of which debuginfod's cache has nothing.
    pub fn missing_debuginfo(&self) -> Result<Vec<String>> {
        self.with(|state| Ok(state.world.symbols.missing()))
    }

    /// The metrics of a data source so far.
    pub fn metrics(&self, datasource: &str) -> Result<Vec<Series>> {
        self.with(|state| {
            let index = find(&state.lanes, datasource)?;
            Ok(state.lanes[index].source.series().to_vec())
        })
    }

    pub fn with_world<T>(&self, work: impl FnOnce(&mut World) -> Result<T>) -> Result<T> {
        self.with(|state| work(&mut state.world))
    }

    pub fn totals(&self) -> Result<Vec<Totals>> {
        self.with(|state| state.lanes.iter().map(Lane::totals).collect())
    }

    pub fn wake(&self) {
        fds::wake(&self.waker);
    }

    /// Frees readers and counters; idempotent. A waiting drain returns.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.wake();
        let state = self.lock().take();
        drop(state);
    }
}

/// How much is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// As far as batches have room.
    Batch,
    /// What buffers hold, however large batches become by it.
    All,
}

/// May the sample be processed now?
#[inline]
fn admitted(
    admission: &mut Option<Admission>,
    lane: usize,
    source: &mut Source,
    sample: &[u8],
) -> Result<bool> {
    let (Some(admission), Some(mntns)) = (admission, source.mntns_of(sample)) else {
        return Ok(true);
    };
    let fate = admission.offer(lane, mntns, sample)?;
    if fate == Fate::Rejected {
        source.discard(1);
    }
    Ok(fate == Fate::Pass)
}

impl State {
    /// Reads what there is: whether there was anything, and whether some may be left.
    fn read(&mut self, extent: Extent) -> Result<(bool, bool)> {
        let (mut seen, mut full) = (false, false);
        let State { world, lanes, admission, .. } = self;
        for (number, Lane { source, reader, .. }) in lanes.iter_mut().enumerate() {
            let Some(reader) = reader else { continue };
            let mut broken = Ok(());
            let result = reader.drain(&mut |sample| {
                seen = true;
                match admitted(admission, number, source, sample) {
                    Ok(true) => {}
                    Ok(false) => return true,
                    Err(e) => broken = Err(e),
                }
                let room = source.process(world, sample) || extent == Extent::All;
                full |= !room;
                room
            });
            result.and(broken)?;
        }
        Ok((seen, full))
    }

    /// True when there was anything.
    fn release(&mut self, queue: &Queue, verdict: Verdict) -> bool {
        let mut any = false;
        for (lane, sample) in queue.iter() {
            any = true;
            let Some(Lane { source, .. }) = self.lanes.get_mut(lane) else { continue };
            match verdict {
                // A batch that grows too large is bounded by what may wait.
                Verdict::Keep => {
                    source.process(&self.world, sample);
                }
                Verdict::Reject => source.discard(1),
                Verdict::Lose => source.lose(1),
            }
        }
        for (lane, count) in queue.overflow() {
            any = true;
            let Some(Lane { source, .. }) = self.lanes.get_mut(lane) else { continue };
            match verdict {
                Verdict::Reject => source.discard(count),
                Verdict::Keep | Verdict::Lose => source.lose(count),
            }
        }
        any
    }
}

/// How many milliseconds a reader may be left alone.
fn pause(reader: &Reader) -> usize {
    match reader.filled() {
        Some((filled, size)) if filled < size / FULL_PART => (size - filled) / 2 / BURST_RATE,
        _ => 0,
    }
}

impl Lane {
    fn totals(&self) -> Result<Totals> {
        let counts = self.source.counts;
        let kernel = self.counter.as_ref().map(Counter::read).transpose()?;
        let perf = self.reader.as_ref().and_then(Reader::lost);
        let lost = match (kernel, perf) {
            // Of what a program shows or a map holds, the kernel drops nothing.
            (None, None) if self.source.is_array() || self.source.pushed => Some(counts.lost()),
            (None, None) => None,
            (a, b) => {
                Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0)).saturating_add(counts.lost()))
            }
        };
        Ok(Totals { datasource: self.source.name.clone(), counts, lost })
    }
}

fn find(lanes: &[Lane], datasource: &str) -> Result<usize> {
    lanes
        .iter()
        .position(|l| l.source.name == datasource)
        .ok_or_else(|| Error::plan(format!("the plan has no data source {datasource}")))
}

fn sources(plan: &plan::Symbols) -> Sources {
    let cache = plan.debuginfod.as_ref().map(Into::into);
    Sources { own: plan.symtab, cache, ..Sources::default() }
}

fn reader(
    ds: &plan::DataSource,
    object: Option<&Object>,
    epoll: &OwnedFd,
) -> Result<Option<Reader>> {
    let (Some(object), Some(map)) = (object, &ds.map) else { return Ok(None) };
    let reader = Reader::open(object.map_fd(map)?, map, ds.perf_bytes.unwrap_or(PERF_BYTES))?;
    fds::watch(epoll, reader.epoll_fd())?;
    Ok(Some(reader))
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
