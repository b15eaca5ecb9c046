//! Attachments beyond the one link of a program: what is dropped is detached.

use std::os::fd::OwnedFd;

use libbpf_rs::Link;

/// Something attached for as long as it lives.
pub trait Attachment: Send {}

impl Attachment for Link {}
/// A link's descriptor, or a socket with a filter.
impl Attachment for OwnedFd {}
impl Attachment for Vec<Link> {}
