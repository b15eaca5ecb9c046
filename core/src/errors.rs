//! The one error of the core: a kind, a sentence, and the text libbpf said.

use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::PyErr;

create_exception!(
    _core,
    CoreError,
    PyException,
    "A failure inside the core: args are (kind, message, log)."
);

/// What went wrong, as data for Python's error tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Open,
    Load,
    Verifier,
    Attach,
    Map,
    Btf,
    Plan,
    Unsupported,
    Closed,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Kind::Open => "open",
            Kind::Load => "load",
            Kind::Verifier => "verifier",
            Kind::Attach => "attach",
            Kind::Map => "map",
            Kind::Btf => "btf",
            Kind::Plan => "plan",
            Kind::Unsupported => "unsupported",
            Kind::Closed => "closed",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Error {
    pub kind: Kind,
    pub message: String,
    pub log: String,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), log: String::new() }
    }

    pub fn with_log(mut self, log: String) -> Self {
        self.log = log;
        self
    }

    pub fn plan(message: impl Into<String>) -> Self {
        Error::new(Kind::Plan, message)
    }

    pub fn closed(what: &str) -> Self {
        Error::new(Kind::Closed, format!("{what} is closed"))
    }
}

impl From<Error> for PyErr {
    fn from(e: Error) -> PyErr {
        CoreError::new_err((e.kind.as_str(), e.message, e.log))
    }
}
