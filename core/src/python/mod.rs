//! The module for Python. It only converts; the GIL is released while the kernel, libbpf or the
//! pipeline works.

mod batch;
mod binary;
mod error;
mod exec_hold;
mod map;
mod object;
mod scout;
mod statistics;
mod stream;
mod wasm;
mod writer;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::bpf::btf_add::Member;
use crate::bpf::{btf, btf_add, log, probe};
use crate::embedded;
use crate::pipeline::filter;

#[pyfunction]
fn headers(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let result = PyDict::new(py);
    for (name, content) in embedded::HEADERS {
        result.set_item(name, PyBytes::new(py, content))?;
    }
    Ok(result)
}

#[pyfunction]
fn sockets_object(py: Python<'_>) -> Bound<'_, PyBytes> {
    PyBytes::new(py, embedded::SOCKETS)
}

#[pyfunction]
fn btf_to_c(py: Python<'_>, btf: Vec<u8>) -> PyResult<String> {
    Ok(py.detach(|| btf::to_c(&btf))?)
}

#[pyfunction]
fn btf_with_struct<'py>(
    py: Python<'py>,
    btf: &[u8],
    name: &str,
    size: u32,
    members: Vec<(String, u32, u32, u32)>,
) -> PyResult<Bound<'py, PyBytes>> {
    let members: Vec<Member> = members
        .into_iter()
        .map(|(name, offset, width, count)| Member { name, offset, width, count })
        .collect();
    let made = py.detach(|| btf_add::with_struct(btf, name, size, &members))?;
    Ok(PyBytes::new(py, &made))
}

#[pyfunction]
fn pattern_refusal(pattern: &str) -> Option<String> {
    filter::regex(pattern).err()
}

#[pyfunction]
fn libbpf_version() -> String {
    btf::libbpf_version()
}

#[pyfunction(name = "probe")]
fn probe_feature(py: Python<'_>, feature: &str) -> PyResult<bool> {
    Ok(py.detach(|| probe::probe(feature))?)
}

/// By default glibc raises its thresholds to the size of the largest freed block and keeps that
/// much memory (mallopt(3)). With fixed thresholds, the memory of an array is returned to the
/// kernel, while that of a batch is kept for the next one.
#[cfg(target_env = "gnu")]
fn give_back_large_blocks() {
    const LARGE: libc::c_int = 256 << 10;
    const SPARE: libc::c_int = 8 << 20;
    // SAFETY: sets numbers; refused, nothing changes.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        libc::mallopt(libc::M_TRIM_THRESHOLD, SPARE);
    }
}

#[cfg(not(target_env = "gnu"))]
fn give_back_large_blocks() {}

#[pymodule]
fn _core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    log::install();
    give_back_large_blocks();
    m.add("CoreError", error::class(m.py())?)?;
    m.add_class::<binary::Binary>()?;
    m.add_class::<map::Map>()?;
    m.add_class::<object::Object>()?;
    m.add_class::<stream::Stream>()?;
    m.add_class::<batch::Batch>()?;
    m.add_class::<writer::Writer>()?;
    m.add_class::<scout::Scout>()?;
    m.add_class::<statistics::ProgramStatistics>()?;
    m.add_class::<scout::ScoutNotice>()?;
    m.add_class::<wasm::WasmModule>()?;
    m.add_class::<wasm::WasmGuest>()?;
    m.add_class::<exec_hold::ExecHold>()?;
    m.add_class::<exec_hold::ExecWatch>()?;
    m.add_function(wrap_pyfunction!(exec_hold::exec_hold_refusal, m)?)?;
    m.add_function(wrap_pyfunction!(binary::find_libraries, m)?)?;
    m.add_function(wrap_pyfunction!(binary::interfaces_into, m)?)?;
    m.add_function(wrap_pyfunction!(binary::link_news, m)?)?;
    m.add_function(wrap_pyfunction!(headers, m)?)?;
    m.add_function(wrap_pyfunction!(sockets_object, m)?)?;
    m.add_function(wrap_pyfunction!(btf_to_c, m)?)?;
    m.add_function(wrap_pyfunction!(btf_with_struct, m)?)?;
    m.add_function(wrap_pyfunction!(pattern_refusal, m)?)?;
    m.add_function(wrap_pyfunction!(libbpf_version, m)?)?;
    m.add_function(wrap_pyfunction!(probe_feature, m)?)?;
    m.add_function(wrap_pyfunction!(stream::pipeline, m)?)?;
    Ok(())
}
