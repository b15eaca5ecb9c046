//! `ProgramStatistics`: what the kernel counts of every eBPF program.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;

use crate::bpf::statistics::{self, Counting};
use crate::errors::{Error, Result};

#[pyclass(frozen, module = "ig_py._core")]
pub struct ProgramStatistics {
    /// None once closed; Some(None) when the kernel is not asked to count.
    counting: Mutex<Option<Option<Counting>>>,
}

/// id, type, name, run time in ns, runs, ids of its maps.
type Row = (u32, u32, String, u64, u64, Vec<u32>);

fn read() -> Result<(Vec<Row>, BTreeMap<u32, u64>)> {
    let mut memory = BTreeMap::new();
    let mut rows = Vec::new();
    for program in statistics::programs()? {
        for map in &program.maps {
            if !memory.contains_key(map) {
                memory.insert(*map, statistics::map_memory(*map).unwrap_or(0));
            }
        }
        rows.push((
            program.id,
            program.kind,
            program.name,
            program.run_time_ns,
            program.run_count,
            program.maps,
        ));
    }
    Ok((rows, memory))
}

#[pymethods]
impl ProgramStatistics {
    #[new]
    #[pyo3(signature = (count = true))]
    fn new(py: Python<'_>, count: bool) -> PyResult<ProgramStatistics> {
        let counting = py.detach(|| count.then(Counting::begin).transpose())?;
        Ok(ProgramStatistics { counting: Mutex::new(Some(counting)) })
    }

    fn read(&self, py: Python<'_>) -> PyResult<(Vec<Row>, BTreeMap<u32, u64>)> {
        if self.counting.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            return Err(Error::closed("the statistics").into());
        }
        Ok(py.detach(read)?)
    }

    fn close(&self) {
        self.counting.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
