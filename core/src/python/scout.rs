//! `Scout`: what the kernel reports about mount namespaces, as Python sees it.

use std::os::fd::AsFd;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use super::map::Map;
use crate::bpf::scout;

#[pyclass(frozen, module = "ig_py._core")]
pub struct Scout {
    pub inner: Arc<scout::Scout>,
}

#[pyclass(frozen, get_all, module = "ig_py._core")]
pub struct ScoutNotice {
    mntns: u64,
    generation: u64,
    kind: u32,
    flags: u32,
    pid: u32,
    nspid: u32,
    ppid: u32,
    cgroup_id: u64,
    owner: Option<u32>,
    order: u64,
    comm: Py<PyBytes>,
    cgroup: Py<PyBytes>,
}

#[pymethods]
impl Scout {
    #[new]
    fn new(py: Python<'_>, pidns: u32, max_pending: [u32; 2]) -> PyResult<Scout> {
        let inner = py.detach(|| scout::Scout::load(pidns, max_pending))?;
        Ok(Scout { inner: Arc::new(inner) })
    }

    fn baseline(&self, py: Python<'_>, mntns: Vec<u64>) -> PyResult<()> {
        Ok(py.detach(|| self.inner.baseline(&mntns))?)
    }

    fn baseline_ended(&self, py: Python<'_>, mntns: Vec<u64>) -> PyResult<()> {
        Ok(py.detach(|| self.inner.baseline_ended(&mntns))?)
    }

    fn attach(&self, py: Python<'_>) -> PyResult<()> {
        Ok(py.detach(|| self.inner.attach())?)
    }

    fn attach_by_tracefs(&self, py: Python<'_>) -> PyResult<()> {
        Ok(py.detach(|| self.inner.attach_by_tracefs())?)
    }

    fn add_filter(&self, py: Python<'_>, map: &Map) -> PyResult<u32> {
        Ok(py.detach(|| self.inner.add_filter(map.duplicate()?.as_fd()))?)
    }

    fn remove_filter(&self, py: Python<'_>, slot: u32) -> PyResult<()> {
        Ok(py.detach(|| self.inner.remove_filter(slot))?)
    }

    fn withdraw(&self, py: Python<'_>, map: &Map, mntns: u64, generation: u64) -> PyResult<()> {
        Ok(py.detach(|| self.inner.withdraw(map.duplicate()?.as_fd(), mntns, generation))?)
    }

    fn is_superseded(&self, py: Python<'_>, mntns: u64, generation: u64) -> PyResult<bool> {
        Ok(py.detach(|| self.inner.is_superseded(mntns, generation))?)
    }

    fn fileno(&self) -> i32 {
        self.inner.fd()
    }

    fn notices(&self, py: Python<'_>) -> PyResult<Vec<ScoutNotice>> {
        let found = py.detach(|| self.inner.notices())?;
        let notice = |n: scout::ScoutNotice| ScoutNotice {
            mntns: n.mntns,
            generation: n.generation,
            kind: n.kind,
            flags: n.flags,
            pid: n.pid,
            nspid: n.nspid,
            ppid: n.ppid,
            cgroup_id: n.cgroup_id,
            owner: n.owner,
            order: n.order,
            comm: PyBytes::new(py, &n.comm).unbind(),
            cgroup: PyBytes::new(py, &n.cgroup).unbind(),
        };
        Ok(found.into_iter().map(notice).collect())
    }

    fn settle(&self, py: Python<'_>, mntns: u64, generation: u64) -> PyResult<()> {
        Ok(py.detach(|| self.inner.settle(mntns, generation))?)
    }

    fn counts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counts = py.detach(|| self.inner.counts())?;
        let result = PyDict::new(py);
        result.set_item("admitted", counts.admitted)?;
        result.set_item("pending", counts.pending)?;
        for (i, suffix) in ["", "_of_users"].iter().enumerate() {
            let missed = counts.missed[i] + counts.dropped[i];
            result.set_item(format!("missed{suffix}"), missed)?;
            result.set_item(format!("shut{suffix}"), counts.shut[i])?;
        }
        result.set_item("full", counts.full)?;
        Ok(result)
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.inner.close());
    }
}
