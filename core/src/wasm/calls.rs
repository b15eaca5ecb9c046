//! The module's exports that make up its life, and what a failed call is called.

use std::time::Duration;

use super::engine::Failure;
use super::limits;
use crate::errors::{Error, Kind};

/// A part of the module's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Init,
    PreStart,
    Start,
    Stop,
    PostStop,
}

impl Stage {
    pub fn of(name: &str) -> Option<Stage> {
        let all = [Stage::Init, Stage::PreStart, Stage::Start, Stage::Stop, Stage::PostStop];
        all.into_iter().find(|stage| stage.export() == name)
    }

    pub fn export(self) -> &'static str {
        match self {
            Stage::Init => "gadgetInit",
            Stage::PreStart => "gadgetPreStart",
            Stage::Start => "gadgetStart",
            Stage::Stop => "gadgetStop",
            Stage::PostStop => "gadgetPostStop",
        }
    }

    /// It is called before events are.
    pub fn starts(self) -> bool {
        matches!(self, Stage::Init | Stage::PreStart | Stage::Start)
    }

    pub fn limit(self) -> Duration {
        if self.starts() {
            limits::START
        } else {
            limits::STOP
        }
    }
}

/// Why `export` failed, with the first line that the module wrote to its standard error.
pub fn failed(export: &str, failure: &Failure, limit: Duration, stderr: &[u8]) -> Error {
    let why = match failure {
        Failure::Late => format!("it took longer than {} s", limit.as_secs_f32()),
        Failure::Busy => {
            format!("it executed more than {} instructions", limits::START_INSTRUCTIONS)
        }
        Failure::Exit(code) => format!("it ended itself with status {code}"),
        Failure::Trap(why) => why.clone(),
    };
    let text = String::from_utf8_lossy(stderr);
    let said = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let said = if said.is_empty() { String::new() } else { format!(": {}", said.trim()) };
    Error::new(Kind::Wasm, format!("{export}: {why}{said}"))
}
