//! `CoreError`: the exception for [`Error`].

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use crate::errors::Error;

/// Written in Python: the stable ABI of Python 3.11 has no native class below an exception.
const SOURCE: &std::ffi::CStr = match std::ffi::CStr::from_bytes_with_nul(
    concat!(include_str!("core_error.py"), "\0").as_bytes(),
) {
    Ok(source) => source,
    Err(_) => panic!("core_error.py contains a NUL character"),
};

static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// The class, created when it is first asked for.
pub fn class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    let made = CLASS.get_or_try_init(py, || {
        let module = PyModule::from_code(py, SOURCE, c"core_error.py", c"ig_py._core")?;
        Ok::<_, PyErr>(module.getattr("CoreError")?.cast_into::<PyType>()?.unbind())
    })?;
    Ok(made.bind(py))
}

impl From<Error> for PyErr {
    fn from(e: Error) -> PyErr {
        Python::attach(|py| {
            let e = e.with_limit();
            let arguments = (e.kind.as_str(), e.message, e.log, e.program);
            match class(py).and_then(|class| class.call1(arguments)) {
                Ok(made) => PyErr::from_value(made),
                Err(failure) => failure,
            }
        })
    }
}
