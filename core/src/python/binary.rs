//! `Binary`: a file of a container to put probes into.

use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::binary::root;
use crate::bpf::inode::Identity;
use crate::bpf::{links, user};
use crate::errors::{Error, Kind, Result};

/// Duplicates a descriptor that Python passes by number.
pub fn duplicate(fd: i32) -> Result<OwnedFd> {
    let bad = |why: String| Error::new(Kind::Open, format!("file descriptor {fd}: {why}"));
    if fd < 0 {
        return Err(bad("negative".into()));
    }
    // SAFETY: only used to duplicate it, which fails when it is not open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    borrowed.try_clone_to_owned().map_err(|e| bad(e.to_string()))
}

#[pyclass(frozen, module = "ig_py._core")]
pub struct Binary {
    pub inner: user::Binary,
}

#[pymethods]
impl Binary {
    #[new]
    fn new(py: Python<'_>, root: i32, path: &str) -> PyResult<Binary> {
        let root = duplicate(root)?;
        let inner = py.detach(|| user::Binary::open(root.as_fd(), path))?;
        Ok(Binary { inner })
    }

    #[getter]
    fn identity<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        match self.inner.identity {
            Identity::Inode(address) => PyTuple::new(py, [address]),
            Identity::Stat { device, inode, changed_s, changed_ns } => {
                PyTuple::new(py, [device, inode, changed_s as u64, changed_ns as u64])
            }
        }
    }
}

#[pyfunction]
pub fn find_libraries(py: Python<'_>, root: i32, name: &str) -> PyResult<Vec<String>> {
    let root = duplicate(root)?;
    let found = py.detach(|| root::libraries(root.as_fd(), name));
    Ok(found.map_err(|e| {
        Error::new(Kind::Open, format!("cannot look for library {name} in the container: {e}"))
    })?)
}

#[pyfunction]
pub fn interfaces_into(py: Python<'_>, host: i32, container: i32) -> PyResult<Vec<u32>> {
    let (host, container) = (duplicate(host)?, duplicate(container)?);
    let found = py.detach(|| links::leading_into(host.as_fd(), container.as_fd()));
    Ok(found.map_err(|e| {
        Error::new(Kind::Open, format!("cannot find a container's network interfaces: {e}"))
    })?)
}

#[pyfunction]
pub fn link_news(py: Python<'_>, container: i32) -> PyResult<i32> {
    let container = duplicate(container)?;
    let made = py.detach(|| links::news(container.as_fd()));
    let made = made.map_err(|e| {
        Error::new(Kind::Open, format!("cannot follow a container's network interfaces: {e}"))
    })?;
    Ok(made.into_raw_fd())
}
