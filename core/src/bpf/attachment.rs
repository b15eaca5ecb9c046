//! Attachments of a program beside the one of its section: dropping the value detaches the program.

use std::os::fd::OwnedFd;

use libbpf_rs::Link;

/// A program stays attached as long as the value exists.
pub trait Attachment: Send {
    /// Whether detaching changes the object: it may not happen while another program is attached.
    fn changes_object(&self) -> bool {
        false
    }
}

impl Attachment for Link {}
/// The descriptor of a link, or a socket with a filter.
impl Attachment for OwnedFd {}
impl Attachment for Vec<Link> {}
