//! Network interfaces by rtnetlink(7): the host's interfaces whose other end is in a container.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::poll::{poll, PollFd, PollFlags};
use nix::sys::socket::{
    bind, recv, send, socket, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol,
    SockType,
};

use super::netns;

/// Interfaces of one network namespace.
pub const MAX_INTERFACES: usize = 4096;
/// Bytes of the replies to one dump; an interface takes some 1500.
const MAX_REPLY: usize = 32 << 20;
const BUFFER: usize = 64 << 10;
const REPLY_MS: u16 = 2000;

const HEADER: usize = 16;
const IFINFO: usize = 16;
const RTGEN: usize = 4;
const ATTRIBUTE: usize = 4;
const IFLA_LINK: u16 = 5;
const IFLA_LINKINFO: u16 = 18;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_INFO_KIND: u16 = 1;
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;
const NEST_MASK: u16 = 0x3fff;

/// An interface, as one reply describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    pub index: u32,
    pub up: bool,
    pub veth: bool,
    /// Index of the other end, in the namespace of that.
    pub peer: u32,
    /// This namespace's id for the namespace of the other end, if that is another one.
    pub peer_netns: Option<i32>,
}

fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.first_chunk()?))
}

/// The complete attributes, as (type, content).
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?) & NEST_MASK;
        let content = bytes.get(ATTRIBUTE..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, content))
    })
}

/// The complete messages, as (type, content).
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = number(bytes)? as usize;
        let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
        let content = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, content))
    })
}

/// An RTM_NEWLINK message's content.
pub fn interface(content: &[u8]) -> Option<Interface> {
    let header = content.get(..IFINFO)?;
    let flags = number(&header[8..])?;
    let mut found = Interface {
        index: number(&header[4..])?,
        up: flags & libc::IFF_UP as u32 != 0,
        ..Interface::default()
    };
    for (kind, value) in attributes(&content[IFINFO..]) {
        match kind {
            IFLA_LINK => found.peer = number(value)?,
            IFLA_LINK_NETNSID => found.peer_netns = Some(number(value)? as i32),
            IFLA_LINKINFO => {
                found.veth = attributes(value).any(|(k, v)| k == IFLA_INFO_KIND && v == b"veth\0");
            }
            _ => {}
        }
    }
    Some(found)
}

fn request(kind: u16, flags: i32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend(((HEADER + body.len()) as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(((libc::NLM_F_REQUEST | flags) as u16).to_ne_bytes());
    bytes.extend(1u32.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend(body);
    bytes
}

/// Sends one request in the calling thread's namespace and passes each reply to `sink`, which
/// returns false at the last one.
fn ask(bytes: &[u8], sink: &mut dyn FnMut(u16, &[u8]) -> io::Result<bool>) -> io::Result<()> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    send(socket.as_raw_fd(), bytes, MsgFlags::empty())?;
    let (mut buffer, mut total) = (vec![0u8; BUFFER], 0);
    loop {
        let mut polled = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        if poll(&mut polled, REPLY_MS).unwrap_or(0) <= 0 {
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        let got = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        total += got;
        if total > MAX_REPLY {
            return Err(io::Error::other("endless replies"));
        }
        for (kind, content) in messages(&buffer[..got]) {
            match i32::from(kind) {
                libc::NLMSG_DONE => return Ok(()),
                libc::NLMSG_ERROR => {
                    let code = number(content).unwrap_or_default() as i32;
                    return match code {
                        0 => Ok(()),
                        code => Err(io::Error::from_raw_os_error(-code)),
                    };
                }
                _ if !sink(kind, content)? => return Ok(()),
                _ => {}
            }
        }
    }
}

fn dump() -> io::Result<Vec<Interface>> {
    let mut found = Vec::new();
    let wanted = request(libc::RTM_GETLINK, libc::NLM_F_DUMP, &[0; IFINFO]);
    ask(&wanted, &mut |kind, content| {
        if kind == libc::RTM_NEWLINK {
            found.extend(interface(content));
        }
        if found.len() > MAX_INTERFACES {
            return Err(io::Error::other(format!("more than {MAX_INTERFACES} interfaces")));
        }
        Ok(true)
    })?;
    Ok(found)
}

/// The id of the namespace `fd` in the calling thread's namespace.
fn netns_number(fd: BorrowedFd<'_>) -> io::Result<Option<i32>> {
    let mut body = vec![0; RTGEN];
    body.extend(8u16.to_ne_bytes());
    body.extend(NETNSA_FD.to_ne_bytes());
    body.extend((fd.as_raw_fd() as u32).to_ne_bytes());
    let mut found = None;
    ask(&request(libc::RTM_GETNSID, 0, &body), &mut |_, content| {
        let mut parts = attributes(content.get(RTGEN..).unwrap_or_default());
        found = parts.find(|(k, _)| *k == NETNSA_NSID).and_then(|(_, v)| number(v));
        Ok(false)
    })?;
    Ok(found.map(|n| n as i32).filter(|n| *n >= 0))
}

/// Interfaces of namespace `host` whose other end is an interface of `container` that is up.
///
/// Both ends must name each other: a container can create any interfaces of its own.
pub fn leading_into(host: BorrowedFd<'_>, container: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let inside = netns::within(container, dump)??;
    let (outside, number) = netns::within(host, || Ok((dump()?, netns_number(container)?)))
        .and_then(|both: io::Result<_>| both)?;
    Ok(pairs(&inside, &outside, number))
}

/// A socket in namespace `container` that is readable when an interface has changed there.
pub fn news(container: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    netns::within(container, || {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkRoute,
        )?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, libc::RTMGRP_LINK as u32))?;
        Ok(socket)
    })?
}

fn pairs(inside: &[Interface], outside: &[Interface], container: Option<i32>) -> Vec<u32> {
    let leads = |o: &&Interface| {
        o.veth
            && o.peer_netns.is_some()
            && o.peer_netns == container
            && inside.iter().any(|i| i.veth && i.up && i.index == o.peer && i.peer == o.index)
    };
    outside.iter().filter(leads).map(|o| o.index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_there() {
        let found = dump().unwrap();
        assert!(found.iter().any(|i| !i.veth && i.peer_netns.is_none()));
    }

    #[test]
    fn both_ends_must_agree() {
        let end =
            |index, peer, netns| Interface { index, up: true, veth: true, peer, peer_netns: netns };
        let inside = [end(2, 7, Some(0)), end(3, 4, None), end(4, 3, None)];
        let outside = [end(7, 2, Some(5)), end(4, 3, Some(6)), end(8, 2, Some(5))];
        assert_eq!(pairs(&inside, &outside, Some(5)), [7]);
        assert_eq!(pairs(&inside, &outside, None), Vec::<u32>::new());
        let down = [Interface { up: false, ..end(2, 7, Some(0)) }];
        assert_eq!(pairs(&down, &outside, Some(5)), Vec::<u32>::new());
    }

    #[test]
    fn truncated_messages_end_the_walk() {
        let whole = request(libc::RTM_NEWLINK, 0, &[0; 40]);
        for length in 0..whole.len() {
            assert_eq!(messages(&whole[..length]).count(), 0);
        }
        assert_eq!(messages(&whole).count(), 1);
        assert_eq!(attributes(&[0, 0, 0, 0]).count(), 0);
        assert_eq!(attributes(&[3, 0, 0, 0]).count(), 0);
    }
}
