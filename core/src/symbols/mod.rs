//! Names of code addresses: of the kernel, and of processes whose files may be hostile.
//!
//! Symbol tables of files are read by `binary`, within its limits, and given to blazesym as
//! small ELF files in memory: it maps what it reads, and a mapped file of a container could be
//! cut short under it.

mod distill;
mod files;
mod kernel;
mod maps;
mod perf_map;
mod process;
mod text;

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;

pub use distill::distill;
pub use maps::parse as parse_maps;
pub use perf_map::PerfMap;
pub use process::Who;

/// Processes that are remembered at once.
const MAX_PROCESSES: usize = 512;

/// Where stacks are named; one for all data sources of a stream.
pub struct Symbols {
    inner: RefCell<Inner>,
}

struct Inner {
    proc_root: PathBuf,
    /// The pid namespace whose numbers `proc_root` shows; 0: not known.
    pidns: u64,
    kernel: kernel::Kernel,
    processes: HashMap<process::Key, process::Process>,
    files: files::Files,
    /// Stacks whose addresses were not there, or whose process was gone.
    lost: u64,
}

impl Default for Symbols {
    fn default() -> Symbols {
        Symbols::new("/proc", 0)
    }
}

impl Symbols {
    pub fn new(proc_root: &str, pidns: u64) -> Symbols {
        Symbols {
            inner: RefCell::new(Inner {
                proc_root: proc_root.into(),
                pidns,
                kernel: kernel::Kernel::default(),
                processes: HashMap::new(),
                files: files::Files::default(),
                lost: 0,
            }),
        }
    }

    /// `name; name; …` of kernel addresses, innermost first.
    pub fn kernel_stack(&self, addresses: impl Iterator<Item = u64>, out: &mut Vec<u8>) {
        let mut inner = self.inner.borrow_mut();
        for address in addresses {
            inner.kernel.name(address, out);
            out.extend_from_slice(b"; ");
        }
    }

    /// The same of a process's addresses; those without a name as hexadecimal numbers.
    pub fn user_stack(&self, who: &Who, addresses: &[u64], out: &mut Vec<u8>) {
        let mut inner = self.inner.borrow_mut();
        let Inner { proc_root, pidns, processes, files, lost, .. } = &mut *inner;
        let Some(pid) = who.pid_in(*pidns) else {
            *lost += 1;
            return;
        };
        let key = process::Key::of(who, pid);
        if !processes.contains_key(&key) {
            if processes.len() >= MAX_PROCESSES {
                let oldest = processes.iter().min_by_key(|(_, p)| p.used).map(|(k, _)| *k);
                oldest.map(|k| processes.remove(&k));
            }
            match process::Process::open(proc_root, pid, who) {
                Some(found) => {
                    processes.insert(key, found);
                }
                // It has ended, or its number is another one's by now.
                None => {
                    *lost += 1;
                    return;
                }
            }
        }
        if let Some(process) = processes.get_mut(&key) {
            process.stack(files, addresses, out);
        }
    }

    pub fn count_lost(&self) {
        self.inner.borrow_mut().lost += 1;
    }

    pub fn lost(&self) -> u64 {
        self.inner.borrow().lost
    }
}

pub use text::{addresses, build_ids};
