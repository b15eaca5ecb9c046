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
    /// This process, or the system, has no descriptor left.
    Descriptors,
    Btf,
    Plan,
    Unsupported,
    Closed,
    /// A wasm module cannot be used, or failed.
    Wasm,
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
            Kind::Descriptors => "descriptors",
            Kind::Btf => "btf",
            Kind::Plan => "plan",
            Kind::Unsupported => "unsupported",
            Kind::Closed => "closed",
            Kind::Wasm => "wasm",
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

    /// With the kind of a used up limit, when the message or libbpf's words tell of one. An error
    /// of the system is always written as std::io::Error writes it; of a load, libbpf gives only
    /// text.
    pub fn with_limit(mut self) -> Self {
        if no_descriptor(&self.message) || no_descriptor(&self.log) {
            self.kind = Kind::Descriptors;
        }
        self
    }

    pub fn plan(message: impl Into<String>) -> Self {
        Error::new(Kind::Plan, message)
    }

    pub fn closed(what: &str) -> Self {
        Error::new(Kind::Closed, format!("{what} is closed"))
    }
}

/// True when what the system or libbpf said tells that no descriptor is left.
pub fn no_descriptor(said: &str) -> bool {
    let full = [libc::EMFILE, libc::ENFILE].map(|code| format!("(os error {code})"));
    let told = |line: &str| line.contains("-EMFILE") || line.contains("-ENFILE");
    full.iter().any(|code| said.ends_with(code)) || said.lines().any(told)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_used_up_limit_is_not_what_the_call_was_about() {
        let cause = std::io::Error::from_raw_os_error(libc::EMFILE);
        let error = Error::new(Kind::Attach, format!("cannot attach program x: {cause}"));
        assert_eq!(error.with_limit().kind, Kind::Descriptors);
        let said = "libbpf: prog 'x': BPF program load failed: -EMFILE\n\
                    libbpf: prog 'x': -- BEGIN PROG LOAD LOG --\n";
        let error = Error::new(Kind::Verifier, "the verifier rejects x").with_log(said.into());
        assert_eq!(error.with_limit().kind, Kind::Descriptors);
        let error = Error::new(Kind::Verifier, "the verifier rejects x").with_log("-EACCES".into());
        assert_eq!(error.with_limit().kind, Kind::Verifier);
    }
}
