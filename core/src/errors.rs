//! The error of the core: a kind, a sentence, and the log of libbpf.

use std::ffi::CString;

/// The kind of a failure. Python maps it to its own exceptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Open,
    Load,
    Verifier,
    Attach,
    /// There is nothing to attach to.
    Absent,
    Map,
    /// The kernel refused memory for a map or its buffers.
    Memory,
    Btf,
    Plan,
    Unsupported,
    Closed,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Open => "open",
            Kind::Load => "load",
            Kind::Verifier => "verifier",
            Kind::Attach => "attach",
            Kind::Absent => "absent",
            Kind::Map => "map",
            Kind::Memory => "memory",
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
    /// The program that failed; empty when the failure is about none.
    pub program: String,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), log: String::new(), program: String::new() }
    }

    pub fn with_log(mut self, log: String) -> Self {
        self.log = log;
        self
    }

    pub fn of_program(mut self, name: &str) -> Self {
        self.program = name.to_string();
        self
    }

    pub fn map(message: impl Into<String>) -> Self {
        Error::new(Kind::Map, message)
    }

    /// A failed call on a map. Refused memory has a kind of its own: the caller can ask for less.
    pub fn of_map(cause: &std::io::Error, message: impl Into<String>) -> Self {
        let refused = matches!(cause.raw_os_error(), Some(libc::EPERM | libc::ENOMEM));
        Error::new(if refused { Kind::Memory } else { Kind::Map }, message)
    }

    pub fn plan(message: impl Into<String>) -> Self {
        Error::new(Kind::Plan, message)
    }

    pub fn closed(what: &str) -> Self {
        Error::new(Kind::Closed, format!("{what} is closed"))
    }
}

/// A NUL-terminated string for C.
pub fn c_text(kind: Kind, text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::new(kind, format!("{text:?} contains a NUL character")))
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.kind.as_str(), self.message)
    }
}

impl std::error::Error for Error {}
