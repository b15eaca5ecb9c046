//! Attachments beyond the one link of a program: what is dropped is detached.

use std::os::fd::OwnedFd;

use libbpf_rs::Link;

/// Something attached for as long as it lives.
pub trait Held: Send {}

impl Held for Link {}
/// A link's descriptor, or a socket with a filter.
impl Held for OwnedFd {}
impl Held for Vec<Link> {}
