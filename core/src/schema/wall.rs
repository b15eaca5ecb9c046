//! How boot timestamps become wall-clock times: the offset between both clocks, and the time zone.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::{clock_gettime, ClockId as Clock};

use crate::errors::{Error, Result};

const READINGS: usize = 5;
/// A time that the wall clock does not reach. The kernel takes what is beyond 2^63 ns as its end.
const NEVER: TimeSpec = TimeSpec::new(i64::MAX / 2_000_000_000, 0);

/// How often the file of the time zone is looked at.
const ZONE_LOOKS: Duration = Duration::from_secs(1);

extern "C" {
    /// tzset(3): the C library reads /etc/localtime again when it is another file than before. By
    /// itself localtime_r() reads it once.
    fn tzset();
}

/// Realtime minus boottime.
pub struct WallClock {
    offset_ns: i64,
    zone_look: Option<Instant>,
    changes: Option<Changes>,
}

struct Changes {
    /// Whether the wall clock was set since it was asked last.
    was_set: Box<dyn Fn() -> bool + Send>,
    measure: Box<dyn Fn() -> i64 + Send>,
}

impl Default for WallClock {
    fn default() -> WallClock {
        WallClock::fixed(0)
    }
}

impl WallClock {
    pub fn fixed(offset_ns: i64) -> WallClock {
        WallClock { offset_ns, zone_look: None, changes: None }
    }

    /// The clocks of this machine. Whenever the wall clock is set, also when the machine resumes,
    /// the kernel cancels the timer (timerfd_create(2), TFD_TIMER_CANCEL_ON_SET).
    pub fn of_machine() -> Result<WallClock> {
        let failed = |e| Error::map(format!("cannot follow the clock: {}", io::Error::from(e)));
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_REALTIME, flags).map_err(failed)?;
        let how = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
        timer.set(Expiration::OneShot(NEVER), how).map_err(failed)?;
        let timer = OwnedFd::from(timer);
        // Read as bytes: nix's own wait() takes a cancelled timer and an expired one as the same.
        let was_set = move || {
            let mut expirations = [0; 8];
            nix::unistd::read(&timer, &mut expirations) == Err(nix::errno::Errno::ECANCELED)
        };
        Ok(WallClock::following(Box::new(was_set), Box::new(measure)))
    }

    fn following(
        was_set: Box<dyn Fn() -> bool + Send>,
        measure: Box<dyn Fn() -> i64 + Send>,
    ) -> WallClock {
        let offset_ns = measure();
        WallClock { offset_ns, zone_look: None, changes: Some(Changes { was_set, measure }) }
    }

    #[inline]
    pub fn offset_ns(&self) -> i64 {
        self.offset_ns
    }

    /// To be called before samples are processed.
    pub fn refresh(&mut self) {
        if self.zone_look.is_none_or(|last| last.elapsed() >= ZONE_LOOKS) {
            self.zone_look = Some(Instant::now());
            // SAFETY: takes the C library's own lock; this process changes no variable meanwhile.
            unsafe { tzset() }
        }
        if let Some(Changes { was_set, measure }) = &self.changes {
            if was_set() {
                self.offset_ns = measure();
            }
        }
    }
}

/// The reading that took the shortest time: a reading may be preempted.
fn measure() -> i64 {
    let now = |clock| {
        let time = clock_gettime(clock).unwrap_or(TimeSpec::new(0, 0));
        time.tv_sec() * 1_000_000_000 + time.tv_nsec()
    };
    let reading = || {
        let before = now(Clock::CLOCK_BOOTTIME);
        let wall = now(Clock::CLOCK_REALTIME);
        let after = now(Clock::CLOCK_BOOTTIME);
        (after - before, wall - (before + (after - before) / 2))
    };
    (0..READINGS).map(|_| reading()).min().map_or(0, |(_, offset)| offset)
}

/// Seconds east of UTC where times are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Zone {
    #[default]
    Utc,
    Fixed(i32),
    /// This process's (TZ, /etc/localtime), which changes with the time of the year.
    Local,
}

impl Zone {
    pub fn at(self, unix_s: i64) -> i32 {
        match self {
            Zone::Utc => 0,
            Zone::Fixed(seconds) => seconds,
            Zone::Local => local_zone(unix_s),
        }
    }
}

fn local_zone(unix_s: i64) -> i32 {
    let mut civil = MaybeUninit::<libc::tm>::uninit();
    // SAFETY: both pointers are valid for the call, which writes the structure or returns null.
    let found = unsafe { libc::localtime_r(&raw const unix_s, civil.as_mut_ptr()) };
    match found.is_null() {
        // A year that does not fit.
        true => 0,
        // SAFETY: it was written.
        false => i32::try_from(unsafe { civil.assume_init() }.tm_gmtoff).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_offset_is_measured_again_when_the_clock_was_set() {
        let set = Arc::new(AtomicBool::new(false));
        let offset = Arc::new(AtomicI64::new(5));
        let (was_set, measured) = (Arc::clone(&set), Arc::clone(&offset));
        let mut clock = WallClock::following(
            Box::new(move || was_set.swap(false, Ordering::Relaxed)),
            Box::new(move || measured.load(Ordering::Relaxed)),
        );
        offset.store(7, Ordering::Relaxed);
        clock.refresh();
        assert_eq!(clock.offset_ns(), 5);
        set.store(true, Ordering::Relaxed);
        clock.refresh();
        assert_eq!(clock.offset_ns(), 7);
    }

    #[test]
    fn the_clocks_of_this_machine() {
        let mut clock = WallClock::of_machine().unwrap();
        clock.refresh();
        let boot = clock_gettime(Clock::CLOCK_BOOTTIME).unwrap();
        let wall = clock_gettime(Clock::CLOCK_REALTIME).unwrap();
        let apart = (wall.tv_sec() - boot.tv_sec()) - clock.offset_ns() / 1_000_000_000;
        assert!(apart.abs() <= 1, "{apart} s");
    }

    #[test]
    fn a_fixed_clock_stays() {
        let mut clock = WallClock::fixed(3);
        clock.refresh();
        assert_eq!(clock.offset_ns(), 3);
        assert_eq!((Zone::Utc.at(9), Zone::Fixed(60).at(9)), (0, 60));
    }
}
