//! `Stream` and `Batch`: the data plane as Python sees it.

use std::collections::HashMap;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyInt, PyString};
use pyo3::IntoPyObjectExt;

use super::batch::Batch;
use super::map::Map;
use super::scout::Scout;
use super::wasm::WasmGuest;
use super::writer::Writer;
use crate::bpf::map;
use crate::errors::Error;
use crate::output;
use crate::pipeline::metrics::Sum;
use crate::schema::lookups::ContainerValue;
use crate::stream::backlog::Change;
use crate::stream::sink::Sink;
use crate::stream::verdict::Verdict;
use crate::stream::{self, Pace};
use crate::wasm::Guest;

/// Between two drains for a sink in Python: an event comes within 50 ms; the rest of that time is
/// for the sink.
const GATHER: Duration = Duration::from_millis(24);
/// Events a second that are rare for a sink in Python.
const RARE: u32 = 32;

#[pyclass(frozen, module = "ig_py._core")]
pub struct Stream {
    inner: Arc<stream::Stream>,
}

impl Stream {
    pub fn of(inner: Arc<stream::Stream>) -> Stream {
        Stream { inner }
    }
}

struct ToWriter(Arc<output::Writer>);

impl Sink for ToWriter {
    fn put(&mut self, batch: stream::Batch) -> crate::errors::Result<()> {
        self.0.put(batch);
        Ok(())
    }

    fn room(&self) -> bool {
        self.0.room()
    }

    fn sign_of_room(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.sign_of_room())
    }
}

/// Full field name -> value, of a mapping.
fn container_values(values: &Bound<'_, PyAny>) -> PyResult<Vec<(String, ContainerValue)>> {
    let items = values.call_method0("items")?;
    let pairs = items.try_iter()?.map(|item| {
        let (name, value): (String, Bound<'_, PyAny>) = item?.extract()?;
        Ok((name, container_value(&value)?))
    });
    pairs.collect()
}

fn container_value(value: &Bound<'_, PyAny>) -> PyResult<ContainerValue> {
    if let Ok(flag) = value.cast::<PyBool>() {
        return Ok(ContainerValue::Bool(flag.is_true()));
    }
    if value.is_instance_of::<PyInt>() {
        return match value.extract::<u64>() {
            Ok(u) => Ok(ContainerValue::Uint(u)),
            Err(_) => Ok(ContainerValue::Int(value.extract()?)),
        };
    }
    if let Ok(text) = value.cast::<PyString>() {
        // Surrogates (undecodable bytes in names) have no UTF-8: they are replaced.
        return Ok(ContainerValue::Text(text.to_string_lossy().as_ref().into()));
    }
    Err(PyTypeError::new_err("a container's value must be str, int or bool"))
}

fn parse_verdict(text: &str) -> PyResult<Verdict> {
    match text {
        "keep" => Ok(Verdict::Keep),
        "reject" => Ok(Verdict::Reject),
        "lose" => Ok(Verdict::Lose),
        other => Err(PyValueError::new_err(format!("no verdict: {other}"))),
    }
}

#[pymethods]
impl Stream {
    /// Into a [`Writer`], nothing is done in Python while events come.
    #[pyo3(signature = (sink, timeout_ms, *, busy_ms = None))]
    fn pump(
        &self,
        py: Python<'_>,
        sink: &Bound<'_, PyAny>,
        timeout_ms: Option<u64>,
        busy_ms: Option<u64>,
    ) -> PyResult<u64> {
        let mut pace = Pace {
            gather: GATHER,
            rare: RARE,
            timeout: timeout_ms.map(Duration::from_millis),
            busy: busy_ms.map(Duration::from_millis),
        };
        if let Ok(writer) = sink.cast::<Writer>() {
            let writer = Arc::clone(&writer.get().inner);
            (pace.gather, pace.rare) = (writer.gather(), writer.rare());
            return Ok(py.detach(|| self.inner.pump(pace, &mut ToWriter(writer)))?);
        }
        let mut raised = None;
        let called = sink.clone().unbind();
        let outcome = py.detach(|| {
            self.inner.pump(pace, &mut |batch: stream::Batch| {
                let result =
                    Python::attach(|py| called.call1(py, (Batch { inner: batch },)).map(|_| ()));
                result.map_err(|error| {
                    raised = Some(error);
                    Error::closed("the sink")
                })
            })
        });
        match raised {
            Some(error) => Err(error),
            None => Ok(outcome?),
        }
    }

    fn push(
        &self,
        py: Python<'_>,
        datasource: &str,
        samples: Vec<Bound<'_, PyBytes>>,
    ) -> PyResult<Batch> {
        let raw: Vec<&[u8]> = samples.iter().map(|s| s.as_bytes()).collect();
        let batch = py.detach(|| self.inner.push(datasource, raw.into_iter()))?;
        Ok(Batch { inner: batch })
    }

    #[pyo3(
        signature = (datasource, netns = Vec::new()),
        text_signature = "($self, datasource, netns=())"
    )]
    fn read_array(
        &self,
        py: Python<'_>,
        datasource: &str,
        netns: Vec<RawFd>,
    ) -> PyResult<(Batch, String)> {
        if netns.iter().any(|fd| *fd < 0) {
            return Err(PyValueError::new_err("a network namespace is an open descriptor"));
        }
        // SAFETY: not negative; the caller keeps them open, else the kernel refuses them.
        let namespaces: Vec<BorrowedFd<'_>> =
            netns.iter().map(|fd| unsafe { BorrowedFd::borrow_raw(*fd) }).collect();
        let (batch, error) = py.detach(|| self.inner.read_array(datasource, &namespaces))?;
        Ok((Batch { inner: batch }, error.map(|e| e.message).unwrap_or_default()))
    }

    fn released_array(&self, py: Python<'_>, datasource: &str) -> PyResult<Option<Batch>> {
        let batch = py.detach(|| self.inner.released_array(datasource))?;
        Ok(batch.map(|inner| Batch { inner }))
    }

    fn take_ended(&self, py: Python<'_>, datasource: &str, mntns: Vec<u64>) -> PyResult<String> {
        let error = py.detach(|| self.inner.take_ended(datasource, &mntns))?;
        Ok(error.map(|e| e.message).unwrap_or_default())
    }

    fn end_rows(&self, py: Python<'_>, mntns: u64, generation: u64) -> PyResult<()> {
        Ok(py.detach(|| self.inner.end_rows(mntns, generation))?)
    }

    fn set_container(
        &self,
        py: Python<'_>,
        mntns: u64,
        netns: u64,
        values: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let given = container_values(values)?;
        Ok(py.detach(|| self.inner.set_container(mntns, netns, given))?)
    }

    fn decide_ended(
        &self,
        py: Python<'_>,
        mntns: u64,
        generation: u64,
        verdict: &str,
        ended: (u64, Bound<'_, PyAny>),
        holder: (u64, Bound<'_, PyAny>),
    ) -> PyResult<()> {
        let verdict = parse_verdict(verdict)?;
        let named = |(netns, values): (u64, Bound<'_, PyAny>)| -> PyResult<Change> {
            Ok(Change::Set { mntns, netns, values: container_values(&values)? })
        };
        let (ended, holder) = (named(ended)?, named(holder)?);
        Ok(py.detach(|| self.inner.decide_ended(mntns, generation, verdict, ended, holder))?)
    }

    fn end_container(&self, py: Python<'_>, mntns: u64) -> PyResult<()> {
        Ok(py.detach(|| self.inner.change(Change::End(mntns)))?)
    }

    fn drop_container(&self, py: Python<'_>, mntns: u64) -> PyResult<()> {
        Ok(py.detach(|| self.inner.change(Change::Drop(mntns)))?)
    }

    fn set_names(
        &self,
        py: Python<'_>,
        users: HashMap<u32, String>,
        groups: HashMap<u32, String>,
    ) -> PyResult<()> {
        let boxed = |m: HashMap<u32, String>| m.into_iter().map(|(k, v)| (k, v.into())).collect();
        let (users, groups) = (boxed(users), boxed(groups));
        Ok(py.detach(|| self.inner.with_lookups(|w| w.set_names(users, groups)))?)
    }

    fn admit_by(&self, py: Python<'_>, scout: &Scout, selective: bool) -> PyResult<()> {
        let scout = Arc::clone(&scout.inner);
        Ok(py.detach(|| self.inner.admit_by(scout, selective))?)
    }

    fn decide(&self, py: Python<'_>, mntns: u64, generation: u64, verdict: &str) -> PyResult<()> {
        let verdict = parse_verdict(verdict)?;
        Ok(py.detach(|| self.inner.decide(mntns, generation, verdict))?)
    }

    fn waiting(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(py.detach(|| self.inner.waiting())?)
    }

    fn end_waiting(&self, py: Python<'_>, verdict: &str) -> PyResult<()> {
        let verdict = parse_verdict(verdict)?;
        Ok(py.detach(|| self.inner.end_waiting(verdict))?)
    }

    fn metrics<'py>(
        &self,
        py: Python<'py>,
        datasource: &str,
    ) -> PyResult<Vec<(String, Vec<Bound<'py, PyAny>>)>> {
        let number = |sum: Sum| match sum {
            Sum::Count(n) => n.into_bound_py_any(py),
            Sum::Last(n) => n.into_bound_py_any(py),
            Sum::Float(f) => f.into_bound_py_any(py),
            Sum::Slots(slots) => slots.into_bound_py_any(py),
        };
        py.detach(|| self.inner.metrics(datasource))?
            .into_iter()
            .map(|s| Ok((s.keys, s.sums.into_iter().map(number).collect::<PyResult<_>>()?)))
            .collect()
    }

    #[pyo3(signature = (datasource, callback, r#type, behind))]
    fn subscribe(
        &self,
        py: Python<'_>,
        datasource: &str,
        callback: u64,
        r#type: u32,
        behind: &str,
    ) -> PyResult<()> {
        Ok(py.detach(|| self.inner.subscribe(datasource, callback, r#type, behind))?)
    }

    fn undecided(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(py.detach(|| self.inner.undecided())?)
    }

    fn refused(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(py.detach(|| self.inner.refused())?)
    }

    fn missing_debuginfo(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        Ok(py.detach(|| self.inner.missing_debuginfo())?)
    }

    fn give_up(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(py.detach(|| self.inner.give_up())?)
    }

    fn lost_stacks(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(py.detach(|| self.inner.lost_stacks())?)
    }

    fn counters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let result = PyDict::new(py);
        for totals in py.detach(|| self.inner.totals())? {
            let counters = PyDict::new(py);
            counters.set_item("received", totals.counts.received)?;
            counters.set_item("emitted", totals.counts.emitted)?;
            counters.set_item("discarded", totals.counts.discarded)?;
            counters.set_item("malformed", totals.counts.malformed)?;
            counters.set_item("unidentified", totals.counts.unidentified)?;
            counters.set_item("lost", totals.lost)?;
            counters.set_item("lost_others", totals.apart.others)?;
            counters.set_item("lost_unidentified", totals.apart.undecided + totals.apart.shared)?;
            result.set_item(totals.datasource, counters)?;
        }
        Ok(result)
    }

    fn wake(&self) {
        self.inner.wake();
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.inner.close());
    }
}

/// A module, and the map of mount namespaces that it may see.
pub fn with_filter(
    guest: Option<&WasmGuest>,
    filter: Option<&Map>,
) -> PyResult<Option<(Arc<Guest>, Option<map::Map>)>> {
    let Some(guest) = guest else { return Ok(None) };
    let filter = filter.map(|m| map::Map::from_fd(m.duplicate()?)).transpose()?;
    Ok(Some((Arc::clone(&guest.inner), filter)))
}

#[pyfunction]
#[pyo3(signature = (plan, guest = None))]
pub fn pipeline(py: Python<'_>, plan: &str, guest: Option<&WasmGuest>) -> PyResult<Stream> {
    let guest = with_filter(guest, None)?;
    let inner = py.detach(|| stream::Stream::open_with(plan, None, guest))?;
    Ok(Stream::of(Arc::new(inner)))
}
