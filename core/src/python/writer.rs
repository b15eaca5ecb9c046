//! `Writer`: the thread that writes what was rendered, as Python sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

use super::batch::Batch;
use crate::output;
use crate::pipeline::datasource::Rendered;
use crate::stream;

#[pyclass(frozen, module = "ig_py._core")]
pub struct Writer {
    pub inner: Arc<output::Writer>,
}

fn os_error(errno: Errno) -> PyErr {
    PyOSError::new_err((errno as i32, errno.desc()))
}

/// The longest that is waited for anything, in seconds.
const MAX_SECONDS: f64 = 86_400.0;

fn duration(seconds: f64) -> PyResult<Duration> {
    if seconds.is_nan() {
        return Err(PyValueError::new_err("a time in seconds cannot be NaN"));
    }
    Ok(Duration::from_secs_f64(seconds.clamp(0.0, MAX_SECONDS)))
}

#[pymethods]
impl Writer {
    #[new]
    #[pyo3(signature = (fd, on_broken, *, limit, continuous))]
    fn new(
        py: Python<'_>,
        fd: RawFd,
        on_broken: Py<PyAny>,
        limit: usize,
        continuous: BTreeSet<String>,
    ) -> PyResult<Writer> {
        if fd < 0 {
            return Err(PyValueError::new_err("a file to write to is an open descriptor"));
        }
        let broken = move || {
            Python::attach(|py| {
                if let Err(error) = on_broken.call0(py) {
                    error.write_unraisable(py, None);
                }
            });
        };
        // SAFETY: not negative; the caller keeps it open, else the kernel refuses it.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let inner = py.detach(|| output::Writer::open(fd, limit, continuous, broken))?;
        Ok(Writer { inner: Arc::new(inner) })
    }

    #[getter]
    fn broken(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.inner.broken().map(|errno| os_error(errno).into_value(py).into_any())
    }

    fn __call__(&self, py: Python<'_>, batch: &Batch) {
        let rendered = &batch.inner.rendered;
        let copy = stream::Batch {
            datasource: batch.inner.datasource.clone(),
            rendered: Rendered {
                data: rendered.data.clone(),
                kept: None,
                events: rendered.events,
                ends: rendered.ends.clone(),
            },
        };
        py.detach(|| self.inner.put(copy));
    }

    fn put_text(&self, py: Python<'_>, datasource: String, text: Vec<u8>) {
        let rendered = Rendered { data: text, ..Rendered::default() };
        py.detach(|| self.inner.put(stream::Batch { datasource, rendered }));
    }

    fn limit_waits(&self, py: Python<'_>, seconds: f64) -> PyResult<()> {
        let until = Instant::now() + duration(seconds)?;
        py.detach(|| self.inner.wait_until(until));
        Ok(())
    }

    fn written(&self, py: Python<'_>, timeout: f64) -> PyResult<bool> {
        let timeout = duration(timeout)?;
        Ok(py.detach(|| self.inner.written(timeout)))
    }

    fn lost(&self, py: Python<'_>) -> BTreeMap<String, u64> {
        py.detach(|| self.inner.lost())
    }

    fn close(&self, py: Python<'_>, timeout: f64) -> PyResult<BTreeMap<String, u64>> {
        let timeout = duration(timeout)?;
        Ok(py.detach(|| self.inner.close(timeout)))
    }
}
