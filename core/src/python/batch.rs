//! `Batch`: what one drain rendered of one data source, as Python sees it.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors::{Error, Kind};
use crate::stream;

#[pyclass(frozen, module = "ig_py._core")]
pub struct Batch {
    pub inner: stream::Batch,
}

#[pymethods]
impl Batch {
    #[getter]
    fn datasource(&self) -> &str {
        &self.inner.datasource
    }

    #[getter]
    fn data<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.inner.rendered.data)
    }

    #[getter]
    fn events(&self) -> u64 {
        self.inner.rendered.events
    }

    fn whole_events(&self, written: u64) -> u64 {
        self.inner.whole_events(written)
    }

    fn rows<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let Some(kept) = &self.inner.rendered.kept else {
            let why = format!("the plan keeps no events of data source {}", self.inner.datasource);
            return Err(Error::new(Kind::Plan, why).into());
        };
        let mut text = Vec::with_capacity(kept.len() + 2);
        text.push(b'[');
        for (i, line) in kept.split(|b| *b == b'\n').filter(|l| !l.is_empty()).enumerate() {
            if i > 0 {
                text.push(b',');
            }
            text.extend_from_slice(line);
        }
        text.push(b']');
        let text = PyBytes::new(py, &text);
        py.import("json")?.call_method1("loads", (text,))
    }
}
