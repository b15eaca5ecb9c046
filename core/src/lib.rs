//! Native core of ig-py: libbpf loading, ring draining, decoding, rendering.
//! The contract with Python is `ig_py/_core.pyi`.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

mod btf;
mod errors;
mod pylog;

mod embedded {
    include!(concat!(env!("OUT_DIR"), "/headers.rs"));
}

#[pyfunction]
fn headers(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let result = PyDict::new(py);
    for (name, content) in embedded::HEADERS {
        result.set_item(name, PyBytes::new(py, content))?;
    }
    Ok(result)
}

#[pyfunction]
fn btf_to_c(py: Python<'_>, btf: Vec<u8>) -> PyResult<String> {
    Ok(py.detach(|| btf::to_c(&btf))?)
}

#[pyfunction]
fn libbpf_version() -> String {
    btf::libbpf_version()
}

#[pymodule]
fn _core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    pylog::install();
    m.add("CoreError", m.py().get_type::<errors::CoreError>())?;
    m.add_function(wrap_pyfunction!(headers, m)?)?;
    m.add_function(wrap_pyfunction!(btf_to_c, m)?)?;
    m.add_function(wrap_pyfunction!(libbpf_version, m)?)?;
    Ok(())
}
