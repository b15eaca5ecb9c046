//! Draining: the buffers of the kernel, the backlog, and the sink of what was rendered.

use std::time::{Duration, Instant};

use crate::errors::Result;

use super::pace::Pace;
use super::priority::Priority;
use super::sink::{Batch, Sink};
use super::state::{DataSourceState, Extent, Seen};
use super::Stream;

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

impl Stream {
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
            let mut waits = left || !state.backlog.is_empty();
            let mut batches = Vec::new();
            if !room {
                let seen = seen.samples > 0;
                state.active = seen.then(Instant::now);
                // Events come also while there is no room for them.
                let seen = seen || state.is_pressed();
                return Ok(Drained { batches, seen, rare: false, waits });
            }
            if state.guest.is_some() {
                let more;
                (batches, more) = state.take_emitted();
                waits |= more;
            }
            let all = state.guest.is_some();
            let taken =
                |d: &&mut DataSourceState| d.reader.is_some() || (all && !d.source.is_array());
            let read = state.datasources.iter_mut().filter(taken);
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
}
