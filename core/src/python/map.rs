//! `Map`: a BPF map that Python creates.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{PoisonError, RwLock};

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::bpf::map;
use crate::errors::{Error, Result};

#[pyclass(frozen, module = "ig_py._core")]
pub struct Map {
    inner: RwLock<Option<map::Map>>,
}

impl Map {
    fn with<T>(&self, work: impl FnOnce(&map::Map) -> Result<T>) -> Result<T> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        work(inner.as_ref().ok_or_else(|| Error::closed("the map"))?)
    }

    pub fn duplicate(&self) -> Result<OwnedFd> {
        self.with(|m| {
            m.as_fd()
                .try_clone_to_owned()
                .map_err(|e| Error::map(format!("the map cannot be held: {e}")))
        })
    }
}

#[pymethods]
impl Map {
    #[staticmethod]
    #[pyo3(signature = (name, r#type, key_size, value_size, max_entries))]
    fn create(
        py: Python<'_>,
        name: &str,
        r#type: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
    ) -> PyResult<Map> {
        let map =
            py.detach(|| map::Map::create(name, r#type, key_size, value_size, max_entries))?;
        Ok(Map { inner: RwLock::new(Some(map)) })
    }

    fn update(&self, py: Python<'_>, key: &[u8], value: &[u8]) -> PyResult<()> {
        Ok(py.detach(|| self.with(|m| m.update(key, value)))?)
    }

    fn delete(&self, py: Python<'_>, key: &[u8]) -> PyResult<bool> {
        Ok(py.detach(|| self.with(|m| m.delete(key)))?)
    }

    fn lookup<'py>(&self, py: Python<'py>, key: &[u8]) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let value = py.detach(|| self.with(|m| m.lookup(key)))?;
        Ok(value.map(|v| PyBytes::new(py, &v)))
    }

    fn keys<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let keys = py.detach(|| self.with(map::Map::keys))?;
        Ok(keys.iter().map(|k| PyBytes::new(py, k)).collect())
    }

    #[getter]
    fn id(&self) -> PyResult<u32> {
        Ok(self.with(|m| Ok(m.id()))?)
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| {
            let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
            inner.take();
        });
    }
}
