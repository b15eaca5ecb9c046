//! `Object`: one BPF object, from opening to closing.

use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use super::binary::{duplicate, Binary};
use super::map::Map;
use super::stream::{with_filter, Stream};
use super::wasm::WasmGuest;
use crate::bpf::families::{self, Rate};
use crate::bpf::iterate::{self, Scope};
use crate::bpf::tc::{self, Interface};
use crate::bpf::{object, sockets};
use crate::errors::Result;
use crate::stream;

/// The map with which libbpf's `usdt.bpf.h` gives programs the arguments of static probes.
const USDT_MAP: &str = "__bpf_usdt_specs";

#[pyclass(frozen, module = "ig_py._core")]
pub struct Object {
    inner: Mutex<object::Object>,
    /// Streams use maps of the object: closing it closes them.
    streams: Mutex<Vec<Weak<stream::Stream>>>,
}

impl Object {
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut object::Object) -> Result<T> + Send,
    ) -> PyResult<T> {
        Ok(py.detach(|| work(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner)))?)
    }
}

#[pymethods]
impl Object {
    #[new]
    #[pyo3(signature = (elf, name, types = None))]
    fn new(py: Python<'_>, elf: &[u8], name: &str, types: Option<&[u8]>) -> PyResult<Object> {
        let inner = py.detach(|| object::Object::open(elf, name, types))?;
        Ok(Object { inner: Mutex::new(inner), streams: Mutex::default() })
    }

    fn programs<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        self.with(py, |o| o.programs())?
            .into_iter()
            .map(|p| {
                let info = PyDict::new(py);
                info.set_item("name", p.name)?;
                info.set_item("section", p.section)?;
                info.set_item("type", p.program_type)?;
                info.set_item("insn_count", p.insn_count)?;
                Ok(info)
            })
            .collect()
    }

    fn maps<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        self.with(py, |o| o.maps())?
            .into_iter()
            .map(|m| {
                let info = PyDict::new(py);
                info.set_item("name", m.name)?;
                info.set_item("type", m.map_type)?;
                info.set_item("key_size", m.key_size)?;
                info.set_item("value_size", m.value_size)?;
                info.set_item("max_entries", m.max_entries)?;
                Ok(info)
            })
            .collect()
    }

    fn set_autoload(&self, py: Python<'_>, program: &str, load: bool) -> PyResult<()> {
        self.with(py, |o| o.set_autoload(program, load))
    }

    fn set_attach_target(&self, py: Python<'_>, program: &str, target: &str) -> PyResult<()> {
        self.with(py, |o| o.set_attach_target(program, target))
    }

    fn set_data(&self, py: Python<'_>, section: &str, offset: usize, data: &[u8]) -> PyResult<()> {
        self.with(py, |o| o.set_data(section, offset, data))
    }

    fn data(
        &self,
        py: Python<'_>,
        section: &str,
        offset: usize,
        size: usize,
    ) -> PyResult<Py<PyBytes>> {
        let found = self.with(py, |o| o.data(section, offset, size))?;
        Ok(PyBytes::new(py, &found).unbind())
    }

    #[pyo3(signature = (map, r#type, key_size, value_size))]
    fn set_map_type(
        &self,
        py: Python<'_>,
        map: &str,
        r#type: u32,
        key_size: u32,
        value_size: u32,
    ) -> PyResult<()> {
        self.with(py, |o| o.set_map_type(map, r#type, key_size, value_size))
    }

    fn set_max_entries(&self, py: Python<'_>, map: &str, max_entries: u32) -> PyResult<()> {
        self.with(py, |o| o.set_max_entries(map, max_entries))
    }

    fn reuse_map(&self, py: Python<'_>, map: &str, other: &Map) -> PyResult<()> {
        self.with(py, |o| o.reuse_map(map, other.duplicate()?.as_fd()))
    }

    #[pyo3(signature = (*, brief=false))]
    fn load(&self, py: Python<'_>, brief: bool) -> PyResult<()> {
        self.with(py, |o| o.load(brief))
    }

    fn attach(&self, py: Python<'_>, program: &str) -> PyResult<()> {
        self.with(py, |o| o.attach(program))
    }

    #[pyo3(signature = (program, r#type, config, *, frequency = 0, period = 0))]
    fn attach_perf_event(
        &self,
        py: Python<'_>,
        program: &str,
        r#type: u32,
        config: u64,
        frequency: u64,
        period: u64,
    ) -> PyResult<u64> {
        let rate = match period {
            0 => Rate::Frequency(frequency),
            n => Rate::Period(n),
        };
        self.with(py, |o| {
            o.attach_with(program, |p| families::perf_event(p, r#type, config, &rate))
        })
    }

    fn attach_cgroup(&self, py: Python<'_>, program: &str, path: &str) -> PyResult<u64> {
        self.with(py, |o| o.attach_with(program, |p| families::cgroup(p, path)))
    }

    fn attach_xdp(&self, py: Python<'_>, program: &str, ifindex: u32) -> PyResult<u64> {
        self.with(py, |o| o.attach_with(program, |p| families::xdp(p, ifindex)))
    }

    fn attach_sockmap(&self, py: Python<'_>, program: &str, map: &str) -> PyResult<u64> {
        self.with(py, |o| {
            let fd = o.map_fd(map)?;
            o.attach_with(program, |p| families::sockmap(p, fd, map))
        })
    }

    fn attach_socket(
        &self,
        py: Python<'_>,
        program: &str,
        netns: i32,
        netns_id: u32,
    ) -> PyResult<u64> {
        let fd = duplicate(netns)?;
        self.with(py, |o| o.attach_with(program, |p| sockets::attach(p, fd.as_fd(), netns_id)))
    }

    #[pyo3(signature = (program, netns, ifindex, *, ingress, netns_id))]
    fn attach_interface(
        &self,
        py: Python<'_>,
        program: &str,
        netns: i32,
        ifindex: u32,
        ingress: bool,
        netns_id: u32,
    ) -> PyResult<u64> {
        let fd = duplicate(netns)?;
        self.with(py, |o| {
            let interface = Interface { netns: fd.as_fd(), ifindex, ingress };
            o.attach_with(program, |p| tc::attach(p, &interface, netns_id))
        })
    }

    fn attach_binary(
        &self,
        py: Python<'_>,
        program: &str,
        binary: &Binary,
        target: &str,
    ) -> PyResult<u64> {
        let (section, described) =
            self.with(py, |o| Ok((o.section(program)?, o.has_map(USDT_MAP))))?;
        // Without the object's lock: the file may be large.
        let sites = py.detach(|| binary.inner.probe_sites(&section, target, described))?;
        self.with(py, |o| o.attach_with(program, |p| binary.inner.attach(p, &sites)))
    }

    fn release(&self, py: Python<'_>, attachment: u64) -> PyResult<bool> {
        let taken = self.with(py, |o| Ok(o.release(attachment)))?;
        let was_there = taken.is_some();
        // Without the object's lock: other programs may be attached meanwhile.
        py.detach(|| drop(taken));
        Ok(was_there)
    }

    // Any other default than a literal would be `...` in the signature that Python sees.
    #[pyo3(signature = (program, *, map = None, netns = None, pid = 0, limit = 268435456))]
    fn iterate(
        &self,
        py: Python<'_>,
        program: &str,
        map: Option<&str>,
        netns: Option<i32>,
        pid: u32,
        limit: usize,
    ) -> PyResult<Py<PyBytes>> {
        let netns = netns.map(duplicate).transpose()?;
        let (fd, map) =
            self.with(py, |o| Ok((o.program_fd(program)?, map.map(|m| o.map_fd(m)).transpose()?)))?;
        // Without the object's lock: a walk may take long, and other threads may attach meanwhile.
        let bytes = py.detach(|| {
            let scope = Scope {
                map: map.as_ref().map(AsFd::as_fd),
                netns: netns.as_ref().map(AsFd::as_fd),
                pid,
                tid: 0,
            };
            iterate::read(program, fd.as_fd(), &scope, limit)
        })?;
        Ok(PyBytes::new(py, &bytes).unbind())
    }

    fn detach(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |o| {
            o.detach();
            Ok(())
        })
    }

    fn map_ids(&self, py: Python<'_>) -> PyResult<Vec<u32>> {
        self.with(py, |o| Ok(o.map_ids()))
    }

    fn program_ids(&self, py: Python<'_>) -> PyResult<Vec<u32>> {
        self.with(py, |o| Ok(o.program_ids()))
    }

    #[pyo3(signature = (plan, guest = None, filter = None))]
    fn stream(
        &self,
        py: Python<'_>,
        plan: &str,
        guest: Option<&WasmGuest>,
        filter: Option<&Map>,
    ) -> PyResult<Stream> {
        let guest = with_filter(guest, filter)?;
        let opened = self.with(py, |o| stream::Stream::open_with(plan, Some(o), guest))?;
        let opened = Arc::new(opened);
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.retain(|s| s.strong_count() > 0);
        streams.push(Arc::downgrade(&opened));
        Ok(Stream::of(opened))
    }

    fn close(&self, py: Python<'_>) {
        let streams =
            std::mem::take(&mut *self.streams.lock().unwrap_or_else(PoisonError::into_inner));
        py.detach(|| {
            let mut object = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            // Streams are closed last: programs may write until they are detached.
            object.close();
            for stream in streams.iter().filter_map(Weak::upgrade) {
                stream.close();
            }
        });
    }
}
