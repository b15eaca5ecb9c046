//! What the module says, until it is logged: bounded and rate limited.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::limits;

/// 0 error, 1 warning, 2 info, 3 debug, 4 trace.
pub const WARNING: u32 = 1;
pub const LEVELS: u32 = 5;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub level: u32,
    pub text: String,
}

pub struct Log {
    /// Lines of higher levels are not wanted.
    level: u32,
    lines: VecDeque<Line>,
    window: Instant,
    in_window: u32,
    /// Lines that were left out since the last were taken.
    left_out: u64,
}

impl Log {
    pub fn new(level: u32) -> Log {
        let window = Instant::now();
        Log { level, lines: VecDeque::new(), window, in_window: 0, left_out: 0 }
    }

    pub fn wants(&self, level: u32) -> bool {
        level <= self.level
    }

    pub fn say(&mut self, level: u32, text: &str) {
        if !self.wants(level) {
            return;
        }
        if self.window.elapsed() >= Duration::from_secs(1) {
            (self.window, self.in_window) = (Instant::now(), 0);
        }
        self.in_window = self.in_window.saturating_add(1);
        if self.in_window > limits::LOG_RATE || self.lines.len() >= limits::LOG_LINES {
            self.left_out += 1;
            return;
        }
        let mut end = text.len().min(limits::LOG_LINE);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.lines.push_back(Line { level, text: text[..end].to_string() });
    }

    /// A host function refuses its arguments.
    pub fn refuse(&mut self, function: &str, why: &str) {
        self.say(WARNING, &format!("{function}: {why}"));
    }

    /// The lines since the last call, and how many were left out.
    pub fn take(&mut self) -> (Vec<Line>, u64) {
        (self.lines.drain(..).collect(), std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted() {
        let mut log = Log::new(2);
        for _ in 0..limits::LOG_RATE + 10 {
            log.say(1, "x");
        }
        log.say(3, "not wanted");
        let (lines, left_out) = log.take();
        assert_eq!((lines.len(), left_out), (limits::LOG_RATE as usize, 10));
        assert_eq!(log.take(), (vec![], 0));
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let mut log = Log::new(4);
        log.say(4, &"é".repeat(limits::LOG_LINE));
        assert_eq!(log.take().0[0].text.len(), limits::LOG_LINE);
    }
}
