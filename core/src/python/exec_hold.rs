//! `ExecHold` and `ExecWatch`: executions of container runtimes, as Python sees them.

use std::ffi::CString;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::exec_hold::{self, fanotify};

fn text(path: String) -> PyResult<CString> {
    CString::new(path).map_err(|e| PyValueError::new_err(e.to_string()))
}

#[pyclass(frozen, module = "ig_py._core")]
pub struct ExecHold {
    inner: exec_hold::ExecHold,
    #[pyo3(get)]
    marked: Vec<String>,
}

#[pymethods]
impl ExecHold {
    #[new]
    fn new(py: Python<'_>, paths: Vec<String>, deadline: f64) -> PyResult<ExecHold> {
        let deadline = Duration::try_from_secs_f64(deadline)
            .map_err(|e| PyValueError::new_err(e.to_string()))?;
        let given = paths.iter().cloned().map(text).collect::<PyResult<Vec<_>>>()?;
        let (inner, marked) = py.detach(|| exec_hold::ExecHold::open(&given, deadline))?;
        Ok(ExecHold { inner, marked: marked.into_iter().map(|i| paths[i].clone()).collect() })
    }

    fn fileno(&self) -> i32 {
        self.inner.fd()
    }

    #[getter]
    fn pid(&self) -> i32 {
        self.inner.pid()
    }

    fn requests(&self) -> PyResult<Vec<(u64, i32)>> {
        Ok(self.inner.requests()?.into_iter().map(|r| (r.serial, r.pid)).collect())
    }

    fn take(&self, serial: u64) {
        self.inner.take(serial);
    }

    fn release(&self, serial: u64) {
        self.inner.release(serial);
    }

    fn mark(&self, py: Python<'_>, path: String) -> PyResult<()> {
        let path = text(path)?;
        Ok(py.detach(|| self.inner.mark(&path))?)
    }

    fn counts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counts = self.inner.counts();
        let result = PyDict::new(py);
        for (name, count) in [
            ("released", &counts.released),
            ("expired", &counts.expired),
            ("passed", &counts.passed),
            ("waited", &counts.waited),
            ("longest", &counts.longest),
        ] {
            result.set_item(name, count.load(Ordering::Relaxed))?;
        }
        Ok(result)
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.inner.close());
    }
}

#[pyclass(frozen, module = "ig_py._core")]
pub struct ExecWatch {
    inner: fanotify::ExecWatch,
    #[pyo3(get)]
    marked: Vec<String>,
}

#[pymethods]
impl ExecWatch {
    #[new]
    fn new(py: Python<'_>, paths: Vec<String>) -> PyResult<ExecWatch> {
        let inner = fanotify::ExecWatch::new()?;
        let mut marked = Vec::new();
        for path in paths {
            let name = text(path.clone())?;
            if py.detach(|| inner.mark(&name)).is_ok() {
                marked.push(path);
            }
        }
        Ok(ExecWatch { inner, marked })
    }

    fn mark(&self, py: Python<'_>, path: String) -> PyResult<bool> {
        let name = text(path)?;
        Ok(py.detach(|| self.inner.mark(&name)).is_ok())
    }

    fn fileno(&self) -> i32 {
        self.inner.raw()
    }

    fn read(&self) -> PyResult<Vec<i32>> {
        Ok(self.inner.read()?)
    }
}

#[pyfunction]
pub fn exec_hold_refusal() -> Option<String> {
    fanotify::refusal().map(|e| e.to_string())
}
