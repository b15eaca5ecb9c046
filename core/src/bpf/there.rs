//! The outcome of probing for a feature: a used up limit is not a missing feature.

use std::io;

use libbpf_sys as sys;

use super::program::load_nothing;
use crate::errors::{Error, Kind};

/// Ok when the feature is there.
pub type Probed<T = ()> = std::result::Result<T, NotThere>;

#[derive(Debug)]
pub enum NotThere {
    /// The kernel does not have it.
    Lacking,
    /// Not known: the kernel has no descriptor, no memory or no right for the attempt.
    Refused(io::Error),
}

impl From<io::Error> for NotThere {
    fn from(cause: io::Error) -> Self {
        match cause.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM) => NotThere::Refused(cause),
            _ => NotThere::Lacking,
        }
    }
}

impl NotThere {
    /// Of loading a program and creating a map: EPERM tells of locked memory (RLIMIT_MEMLOCK,
    /// before Linux 5.11) or of a missing capability when even the smallest program is refused
    /// with it; else of a feature that this kernel lacks or locks.
    pub fn of_bpf(cause: io::Error) -> Self {
        let refused = |e: io::Error| e.raw_os_error() == Some(libc::EPERM);
        match cause.raw_os_error() {
            Some(libc::EPERM)
                if load_nothing(sys::BPF_PROG_TYPE_SOCKET_FILTER).is_err_and(refused) =>
            {
                NotThere::Refused(cause)
            }
            _ => cause.into(),
        }
    }

    /// None when the feature is lacking.
    pub fn refusal(self, feature: &str) -> Option<Error> {
        let NotThere::Refused(cause) = self else { return None };
        let message = format!("cannot look whether the kernel has {feature}: {cause}");
        Some(Error::new(Kind::Memory, message).with_limit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_told_from_features() {
        let of = |code| NotThere::from(io::Error::from_raw_os_error(code)).refusal("x");
        for (code, kind) in [
            (libc::EMFILE, Kind::Descriptors),
            (libc::ENFILE, Kind::Descriptors),
            (libc::ENOMEM, Kind::Memory),
        ] {
            assert_eq!(of(code).unwrap().kind, kind);
        }
        for code in [libc::ENOENT, libc::EINVAL, libc::EOPNOTSUPP, libc::EPERM, libc::EACCES] {
            assert!(of(code).is_none(), "{code}");
        }
    }
}
