//! The dearest samples of a run, written to the file that `FUZZ_COSTS` names: as JSON, in the form
//! of `tests/fuzz/worst.py`.

use std::cell::RefCell;
use std::path::PathBuf;
use std::{env, fs};

use serde_json::{json, Value};

use crate::cost::Cost;

/// Smaller samples say nothing of what a byte costs.
pub const COUNTED_BYTES: usize = 1024;

#[derive(Default)]
struct Worst {
    samples: u64,
    time: Cost,
    memory: Cost,
    per_byte: Cost,
    file: Option<PathBuf>,
}

thread_local! {
    static WORST: RefCell<Worst> = RefCell::new(opened());
}

fn opened() -> Worst {
    let file = env::var_os("FUZZ_COSTS").map(PathBuf::from);
    if file.is_some() {
        // libFuzzer ends with exit(3) when its time is over.
        // SAFETY: `ended` is a function without arguments, as atexit(3) wants.
        unsafe { libc::atexit(ended) };
    }
    Worst { file, ..Worst::default() }
}

extern "C" fn ended() {
    // The thread's own values are gone when another thread ends the process: what was written
    // last stays.
    let _ = WORST.try_with(|worst| worst.borrow().write());
}

impl Worst {
    fn dearer_per_byte(&self, cost: &Cost) -> bool {
        cost.size >= COUNTED_BYTES
            && cost.microseconds_per_byte() > self.per_byte.microseconds_per_byte()
    }

    fn exceeded(&self, cost: &Cost) -> bool {
        cost.seconds > self.time.seconds
            || cost.memory > self.memory.memory
            || self.dearer_per_byte(cost)
    }

    fn write(&self) {
        let Some(file) = &self.file else { return };
        let content = json!({
            "samples": self.samples,
            "time": written(&self.time),
            "memory": written(&self.memory),
            "per_byte": written(&self.per_byte),
        });
        fs::write(file, content.to_string()).expect("the file of costs can be written");
    }
}

fn written(cost: &Cost) -> Value {
    json!({"seconds": cost.seconds, "mib": cost.mib(), "size": cost.size.max(1)})
}

/// True when *cost* is more than that of every sample before.
pub fn exceeds(cost: &Cost) -> bool {
    WORST.with_borrow(|worst| worst.exceeded(cost))
}

/// Count a sample, and take its cost into account.
pub fn learn(cost: &Cost) {
    WORST.with_borrow_mut(|worst| {
        worst.samples += 1;
        if !worst.exceeded(cost) {
            return;
        }
        if cost.seconds > worst.time.seconds {
            worst.time = *cost;
        }
        if cost.memory > worst.memory.memory {
            worst.memory = *cost;
        }
        if worst.dearer_per_byte(cost) {
            worst.per_byte = *cost;
        }
        // Now, as a crash of the next sample would lose it.
        worst.write();
    });
}
