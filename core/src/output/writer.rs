//! A thread that writes, a bounded queue before it, and exact counts of what was not written.
//!
//! The thread that drains the kernel must not wait for a slow reader longer than the queue allows;
//! then the kernel's buffer fills, and the kernel counts what is lost. What was taken from the
//! kernel but could not be written is counted here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::eventfd::EventFd;

use super::file::{File, CHUNK};
use crate::errors::{Error, Result};
use crate::fds;
use crate::pipeline::datasource::BATCH_BYTES;
use crate::stream::Batch;

/// Given to a write that waits in the kernel when [`Writer::close`] has waited long enough.
const LAST: Duration = Duration::from_millis(100);
/// Between two drains under steady load, so that events come in time ([`crate::stream`]).
const TERMINAL_GATHER: Duration = Duration::from_millis(40);
const FILE_GATHER: Duration = Duration::from_millis(90);
/// Events a second that are rare, where nothing else has to be woken to write them, and elsewhere.
const RARE: u32 = 64;
const RARE_BY_THREAD: u32 = 32;

/// Events lost by the name of their data source.
pub type Lost = BTreeMap<String, u64>;

#[derive(Default)]
struct State {
    queue: VecDeque<Arc<Batch>>,
    /// Bytes of all batches in the queue.
    queued: usize,
    /// Bytes of the queue's first batch that were written.
    written: usize,
    closing: bool,
    given_up: bool,
    /// None: the thread has ended. The reader of a pipe sees its end when nothing has it open.
    file: Option<Arc<File>>,
    broken: Option<Errno>,
    until: Option<Instant>,
    lost: Lost,
    /// [`Shared::room`] is to be signalled.
    awaited: bool,
}

impl State {
    fn lose(&mut self, datasource: &str, events: u64) {
        if events > 0 {
            *self.lost.entry(datasource.to_string()).or_default() += events;
        }
    }

    fn ended(&self) -> bool {
        self.file.is_none()
    }

    fn has_room(&self, limit: usize) -> bool {
        let waits = self.until.is_none() && self.broken.is_none() && !self.closing;
        !waits || self.queued == 0 || self.queued + 2 * BATCH_BYTES <= limit
    }

    /// Tries to write a batch, with nothing in the queue. False: something is left, of which
    /// `written` bytes are written.
    fn write_all_of(&mut self, batch: &Batch) -> bool {
        let Some(file) = &self.file else { return false };
        let data = &batch.rendered.data;
        while self.written < data.len() {
            match file.write(&data[self.written..]) {
                Ok(count) => self.written += count,
                Err(Errno::EINTR) => {}
                // The thread waits for room, or finds the same error and reports it.
                Err(_) => return false,
            }
        }
        self.written = 0;
        true
    }

    /// Of the first batch, events that were written whole are not lost.
    fn lose_queued(&mut self) {
        while let Some(batch) = self.queue.pop_front() {
            let whole = if self.written > 0 { batch.whole_events(self.written as u64) } else { 0 };
            self.lose(&batch.datasource, batch.rendered.events - whole);
            self.written = 0;
        }
        self.queued = 0;
    }
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Ends the wait for room in the file.
    waker: EventFd,
    /// Tells that the queue has room.
    room: EventFd,
    /// Bytes that may wait for the reader.
    limit: usize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells that there is room, if that is awaited.
    fn tell(&self, state: &mut State, room: bool) {
        if room && std::mem::take(&mut state.awaited) {
            fds::wake(&self.room);
        }
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_until<'a>(
        &self,
        state: MutexGuard<'a, State>,
        until: Instant,
    ) -> MutexGuard<'a, State> {
        let left = until.saturating_duration_since(Instant::now());
        self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
    }
}

pub struct Writer {
    shared: Arc<Shared>,
    terminal: bool,
    never_waits: bool,
    /// Data sources whose batches mean nothing without those before: after one was given up, so
    /// are all that follow.
    continuous: BTreeSet<String>,
}

impl Writer {
    /// Writes to `fd`, which must stay open. `on_broken` is called once, in the writer's thread,
    /// when the reader has gone or the disk is full.
    pub fn open(
        fd: BorrowedFd<'_>,
        limit: usize,
        continuous: BTreeSet<String>,
        on_broken: impl FnOnce() + Send + 'static,
    ) -> Result<Writer> {
        let failed = |e: io::Error| Error::map(format!("cannot write to descriptor: {e}"));
        let file = File::of(fd).map_err(failed)?;
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            waker: fds::waker()?,
            room: fds::waker()?,
            limit,
        });
        let (terminal, never_waits) = (file.terminal, file.never_waits);
        let file = Arc::new(file);
        shared.lock().file = Some(Arc::clone(&file));
        let of_thread = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("ig-py-writer".into())
            .spawn(move || run(&of_thread, file, on_broken))
            .map_err(|e| Error::map(format!("cannot start the thread that writes: {e}")))?;
        Ok(Writer { shared, terminal, never_waits, continuous })
    }

    /// The time between two drains that suits the reader.
    pub fn gather(&self) -> Duration {
        if self.terminal {
            TERMINAL_GATHER
        } else {
            FILE_GATHER
        }
    }

    /// Events a second that are rare ([`crate::stream::Pace`]).
    pub fn rare(&self) -> u32 {
        if self.never_waits {
            RARE
        } else {
            RARE_BY_THREAD
        }
    }

    /// Writes a small batch where that takes no time, else queues it; waits while the queue is
    /// full, as [`Writer::wait_until`] allows. What is neither written nor queued is lost.
    pub fn put(&self, batch: Batch) {
        let size = batch.rendered.data.len();
        if size == 0 {
            return;
        }
        let mut state = self.shared.lock();
        let follows = self.continuous.contains(&batch.datasource);
        if follows && state.lost.contains_key(&batch.datasource) {
            state.lose(&batch.datasource, batch.rendered.events);
            return;
        }
        loop {
            let over = state.until.is_some_and(|until| Instant::now() >= until);
            let room = state.queued == 0 || state.queued + size <= self.shared.limit;
            if state.broken.is_some() || state.closing || (!room && over) {
                state.lose(&batch.datasource, batch.rendered.events);
                return;
            }
            if room {
                let small = self.never_waits && size <= CHUNK;
                if small && state.queue.is_empty() && state.write_all_of(&batch) {
                    return;
                }
                state.queued += size;
                state.queue.push_back(Arc::new(batch));
                // The thread that is woken then finds the lock free.
                drop(state);
                self.shared.changed.notify_all();
                return;
            }
            state = match state.until {
                Some(until) => self.shared.wait_until(state, until),
                None => self.shared.wait(state),
            };
        }
    }

    /// [`Writer::put`] waits for room until then only; before the first call, as long as the reader
    /// takes.
    pub fn wait_until(&self, until: Instant) {
        let mut state = self.shared.lock();
        state.until = Some(until);
        self.shared.tell(&mut state, true);
        drop(state);
        self.shared.changed.notify_all();
    }

    /// True when [`Writer::put`] does not wait: for a batch of the usual size, or as nothing is
    /// waited for.
    pub fn room(&self) -> bool {
        // Of the last time. The flag is set below, under the lock: no later sign is taken.
        let _ = self.shared.room.read();
        let mut state = self.shared.lock();
        state.awaited = !state.has_room(self.shared.limit);
        !state.awaited
    }

    /// Readable when there is room again, after [`Writer::room`] was false.
    pub fn sign_of_room(&self) -> BorrowedFd<'_> {
        self.shared.room.as_fd()
    }

    /// Why nothing can be written any more.
    pub fn broken(&self) -> Option<Errno> {
        self.shared.lock().broken
    }

    /// Events given up so far.
    pub fn lost(&self) -> Lost {
        self.shared.lock().lost.clone()
    }

    /// Waits for at most `timeout` until all that is queued is written; true when it is, or when
    /// nothing more can be written.
    pub fn written(&self, timeout: Duration) -> bool {
        let until = Instant::now() + timeout;
        let mut state = self.shared.lock();
        while !state.queue.is_empty() && !state.ended() && Instant::now() < until {
            state = self.shared.wait_until(state, until);
        }
        state.queue.is_empty() || state.ended()
    }

    /// Writes what is queued for at most `timeout`; the events that were never written.
    pub fn close(&self, timeout: Duration) -> Lost {
        let mut state = self.shared.lock();
        state.closing = true;
        self.shared.tell(&mut state, true);
        self.shared.changed.notify_all();
        state = self.ended(state, timeout);
        state.given_up = true;
        fds::wake(&self.shared.waker);
        state = self.ended(state, LAST);
        state.lose_queued();
        state.lost.clone()
    }

    fn ended<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        timeout: Duration,
    ) -> MutexGuard<'a, State> {
        let until = Instant::now() + timeout;
        while !state.ended() && Instant::now() < until {
            state = self.shared.wait_until(state, until);
        }
        state
    }
}

impl Drop for Writer {
    /// Ends the thread.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closing = true;
        state.given_up = true;
        self.shared.changed.notify_all();
        fds::wake(&self.shared.waker);
    }
}

fn run(shared: &Shared, file: Arc<File>, on_broken: impl FnOnce()) {
    let outcome = write_all(shared, &file);
    drop(file);
    let mut state = shared.lock();
    if let Err(errno) = outcome {
        state.broken = Some(errno);
        state.lose_queued();
    }
    state.file = None;
    shared.tell(&mut state, true);
    shared.changed.notify_all();
    drop(state);
    if outcome.is_err() {
        on_broken();
    }
}

/// Until the writer is closed and its queue is empty, or it gives up.
fn write_all(shared: &Shared, file: &File) -> nix::Result<()> {
    loop {
        let mut state = shared.lock();
        while state.queue.is_empty() && !state.closing {
            state = shared.wait(state);
        }
        let Some(batch) = state.queue.front().map(Arc::clone) else { return Ok(()) };
        let data = &batch.rendered.data;
        let mut at = state.written;
        drop(state);
        while at < data.len() {
            match file.write(&data[at..]) {
                Ok(count) => at += count,
                Err(Errno::EAGAIN) => file.wait(shared.waker.as_fd()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
            let mut state = shared.lock();
            state.written = at;
            if state.given_up {
                // close() counts what is left of this batch.
                return Ok(());
            }
        }
        let mut state = shared.lock();
        state.queue.pop_front();
        state.written = 0;
        state.queued -= data.len();
        // Not for each batch: the reader of the kernel's buffers goes on with several.
        let much = state.queued <= shared.limit / 2;
        shared.tell(&mut state, much);
        shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::datasource::Rendered;
    use std::io::Read;

    fn batch(datasource: &str, lines: u64) -> Batch {
        let data = b"line of text\n".repeat(lines as usize);
        let ends = (1..=lines as u32).map(|n| n * 13).collect();
        let rendered = Rendered { data, events: lines, ends, ..Rendered::default() };
        Batch { datasource: datasource.into(), rendered }
    }

    fn opened(limit: usize) -> (Writer, std::io::PipeReader, std::io::PipeWriter) {
        let (read, write) = std::io::pipe().unwrap();
        let writer = Writer::open(write.as_fd(), limit, BTreeSet::from(["pcap".into()]), || {});
        (writer.unwrap(), read, write)
    }

    #[test]
    fn all_is_written_in_order() {
        let (writer, mut read, write) = opened(1000);
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            read.read_to_end(&mut all).unwrap();
            all
        });
        for _ in 0..5000 {
            writer.put(batch("a", 20));
        }
        assert_eq!(writer.close(Duration::from_secs(30)), Lost::new());
        drop(write);
        assert_eq!(reader.join().unwrap().len(), 5000 * 20 * 13);
    }

    #[test]
    fn what_the_pipe_has_no_room_for_is_written_when_it_has() {
        let (writer, mut read, write) = opened(1 << 20);
        // A pipe holds 64 KiB: the writes fill it, and cut a batch.
        for _ in 0..3 {
            writer.put(batch("a", 2500));
        }
        assert!(!writer.written(Duration::from_millis(20)));
        let mut all = vec![0; 3 * 2500 * 13];
        read.read_exact(&mut all).unwrap();
        assert!(writer.written(Duration::from_secs(30)));
        assert_eq!(writer.close(Duration::from_secs(5)), Lost::new());
        drop(write);
        assert!(all.chunks_exact(13).all(|line| line == b"line of text\n"));
    }

    #[test]
    fn a_reader_that_stops_loses_what_is_not_whole() {
        let (writer, mut read, write) = opened(100);
        writer.wait_until(Instant::now());
        // More than a pipe holds.
        writer.put(batch("a", 20_000));
        writer.put(batch("b", 5));
        let lost = writer.close(Duration::from_millis(50));
        drop((writer, write));
        let mut all = Vec::new();
        read.read_to_end(&mut all).unwrap();
        assert_eq!(lost["a"] + (all.len() / 13) as u64, 20_000);
        assert_eq!(lost["b"], 5);
    }

    #[test]
    fn what_follows_a_gap_of_a_capture_is_lost() {
        let (writer, read, write) = opened(100);
        writer.wait_until(Instant::now());
        writer.put(batch("a", 20_000));
        writer.put(batch("pcap", 1));
        let mut rest = std::io::BufReader::new(read);
        let mut taken = vec![0; 20_000 * 13];
        rest.read_exact(&mut taken).unwrap();
        writer.put(batch("pcap", 2));
        assert_eq!(writer.close(Duration::from_secs(5)), Lost::from([("pcap".into(), 3)]));
        drop(write);
    }
}
