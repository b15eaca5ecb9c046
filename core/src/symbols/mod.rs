//! Names of code addresses in the kernel and in processes, whose files may be hostile.
//!
//! Symbol tables of files are read by `binary`, within its limits, and given to blazesym as small
//! ELF files in memory. blazesym maps the files that it reads, and a container could truncate a
//! mapped file (SIGBUS).

mod allowance;
mod debuginfo;
mod distill;
mod files;
mod kernel;
mod maps;
mod perf_map;
mod process;
mod readable;
mod text;

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;

pub use debuginfo::SymbolFiles;
pub use distill::distill;
pub use maps::parse as parse_maps;
pub use perf_map::PerfMap;
pub use process::StackOwner;
pub use text::{addresses, build_ids};

/// Processes that are remembered at the same time.
const MAX_PROCESSES: usize = 512;
/// Bytes of mappings, perf maps and names of all of them. Beyond that, those used least recently are
/// forgotten.
const MAX_KEPT: usize = 128 << 20;

/// Names stacks, for all data sources of a stream.
pub struct Symbols {
    inner: RefCell<Inner>,
}

struct Inner {
    proc_root: PathBuf,
    /// The pid namespace of `proc_root`; 0 when not known.
    pidns: u64,
    kernel: kernel::Kernel,
    processes: HashMap<process::Key, process::Process>,
    /// Bytes of all processes.
    kept: usize,
    files: files::Files,
    /// Stacks that the map did not have, or whose process had ended, or for whose names there was no
    /// time.
    lost: u64,
}

impl Default for Symbols {
    fn default() -> Symbols {
        Symbols::new("/proc", 0, SymbolFiles { own: true, ..SymbolFiles::default() })
    }
}

impl Symbols {
    pub fn new(proc_root: &str, pidns: u64, sources: SymbolFiles) -> Symbols {
        Symbols {
            inner: RefCell::new(Inner {
                proc_root: proc_root.into(),
                pidns,
                kernel: kernel::Kernel::default(),
                processes: HashMap::new(),
                kept: 0,
                files: files::Files::new(sources),
                lost: 0,
            }),
        }
    }

    /// Writes `name; name; …` for kernel addresses, innermost first.
    pub fn kernel_stack(&self, addresses: impl Iterator<Item = u64>, out: &mut Vec<u8>) {
        let mut inner = self.inner.borrow_mut();
        for address in addresses {
            inner.kernel.name(address, out);
            out.extend_from_slice(b"; ");
        }
    }

    /// Writes the names of a process's addresses; an address without a name as a hexadecimal
    /// number.
    pub fn user_stack(&self, owner: &StackOwner, addresses: &[u64], out: &mut Vec<u8>) {
        let mut inner = self.inner.borrow_mut();
        let Inner { proc_root, pidns, processes, kept, files, lost, .. } = &mut *inner;
        let Some(pid) = owner.pid_in(*pidns) else {
            *lost += 1;
            return;
        };
        let key = process::Key::of(owner, pid);
        if !processes.contains_key(&key) {
            if processes.len() >= MAX_PROCESSES {
                forget_one(processes, kept);
            }
            match process::Process::open(proc_root, pid, owner, &mut files.reading) {
                Some(found) => {
                    *kept += found.size();
                    processes.insert(key, found);
                }
                // The process has ended, or another one has its pid by now.
                None => {
                    *lost += 1;
                    return;
                }
            }
        }
        if let Some(process) = processes.get_mut(&key) {
            let (before, refused) = (process.size(), files.reading.refused);
            process.stack(files, addresses, out);
            *kept = *kept - before + process.size();
            *lost += u64::from(files.reading.refused > refused);
        }
        while *kept > MAX_KEPT && processes.len() > 1 {
            forget_one(processes, kept);
        }
    }

    pub fn count_lost(&self) {
        self.inner.borrow_mut().lost += 1;
    }

    /// Build ids of files that debuginfod's cache does not have.
    pub fn missing(&self) -> Vec<String> {
        self.inner.borrow().files.sources.missing.iter().cloned().collect()
    }

    pub fn lost(&self) -> u64 {
        self.inner.borrow().lost
    }
}

/// Forgets the process that was used least recently.
fn forget_one(processes: &mut HashMap<process::Key, process::Process>, kept: &mut usize) {
    let oldest = processes.iter().min_by_key(|(_, p)| p.used).map(|(k, _)| *k);
    *kept -= oldest.and_then(|k| processes.remove(&k)).map_or(0, |p| p.size());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[no_mangle]
    #[inline(never)]
    extern "C" fn ig_py_known_function(n: u64) -> u64 {
        std::hint::black_box(n) + 1
    }

    fn named(owner: &StackOwner, addresses: &[u64]) -> (String, u64) {
        let symbols = Symbols::default();
        let mut out = Vec::new();
        symbols.user_stack(owner, addresses, &mut out);
        (String::from_utf8(out).unwrap(), symbols.lost())
    }

    #[test]
    fn functions_of_this_process_have_names() {
        let owner = StackOwner { pids: [(std::process::id(), 1), (0, 0)], ..StackOwner::default() };
        let address = ig_py_known_function as *const () as u64;
        let (text, lost) = named(&owner, &[address, address + 1, 0x10]);
        assert_eq!(text, "ig_py_known_function; ig_py_known_function; 0x10; ");
        assert_eq!(lost, 0);
    }

    #[test]
    fn another_executable_is_another_process() {
        let owner = StackOwner {
            pids: [(std::process::id(), 1), (0, 0)],
            inode: 1,
            ..StackOwner::default()
        };
        assert_eq!(named(&owner, &[1]), (String::new(), 1));
        assert_eq!(named(&StackOwner::default(), &[1]), (String::new(), 1));
    }

    #[test]
    fn the_number_of_our_pid_namespace_counts() {
        let owner = StackOwner { pids: [(10, 100), (20, 200)], ..StackOwner::default() };
        assert_eq!(owner.pid_in(200), Some(20));
        assert_eq!(owner.pid_in(0), Some(10));
        assert_eq!(owner.pid_in(300), None);
    }

    #[test]
    fn small_files_stand_for_the_symbols_of_large_ones() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        let distilled = distill(&own[..]).unwrap();
        assert!(distilled.size < own.len());
        for cut in [0, 16, 64, 1000, own.len() / 2, own.len() - 1] {
            let _ = distill(&own[..cut]);
        }
    }
}
