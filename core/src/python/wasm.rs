//! `WasmModule` and `WasmGuest`: the wasm module of a gadget.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::wasm::{Guest, Module, Stage};

#[pyclass(frozen, module = "ig_py._core")]
pub struct WasmModule {
    inner: Module,
}

#[pymethods]
impl WasmModule {
    #[new]
    fn new(py: Python<'_>, module: &[u8]) -> PyResult<WasmModule> {
        Ok(WasmModule { inner: py.detach(|| Module::compile(module))? })
    }

    #[getter]
    fn upcalls(&self) -> Vec<String> {
        self.inner.upcalls.clone()
    }
}

#[pyclass(frozen, module = "ig_py._core")]
pub struct WasmGuest {
    pub inner: Arc<Guest>,
}

#[pymethods]
impl WasmGuest {
    #[new]
    fn new(
        py: Python<'_>,
        module: &WasmModule,
        params: HashMap<String, String>,
        log_level: u32,
        callback_ms: u64,
    ) -> PyResult<WasmGuest> {
        let limit = Duration::from_millis(callback_ms);
        let guest = py.detach(|| Guest::new(&module.inner, params, log_level, limit))?;
        Ok(WasmGuest { inner: Arc::new(guest) })
    }

    fn declare(&self, py: Python<'_>, plan: &str) -> PyResult<()> {
        Ok(py.detach(|| self.inner.declare(plan))?)
    }

    fn call(&self, py: Python<'_>, stage: &str) -> PyResult<String> {
        let stage = Stage::of(stage)
            .ok_or_else(|| PyValueError::new_err(format!("no stage is named {stage}")))?;
        Ok(py.detach(|| self.inner.call(stage))?)
    }

    fn open_declarations(&self, py: Python<'_>) -> bool {
        py.detach(|| self.inner.open_declarations())
    }

    fn log(&self, py: Python<'_>) -> (Vec<(u32, String)>, u64) {
        let (lines, left_out) = py.detach(|| self.inner.take_log());
        (lines.into_iter().map(|line| (line.level, line.text)).collect(), left_out)
    }

    fn statistics(&self, py: Python<'_>) -> (u64, u64) {
        let statistics = py.detach(|| self.inner.statistics());
        (statistics.calls, statistics.failed)
    }
}
