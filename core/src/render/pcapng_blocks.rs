//! Blocks of a pcapng file (draft-ietf-opsawg-pcapng), little endian.

/// The most bytes of a packet that are kept: libpcap's limit for Ethernet.
pub const SNAPLEN: usize = 262_144;

const SECTION: u32 = 0x0A0D_0D0A;
const BYTE_ORDER: u32 = 0x1A2B_3C4D;
const VERSION: (u16, u16) = (1, 0);
const UNKNOWN_LENGTH: u64 = u64::MAX;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;
const ETHERNET: u16 = 1;

const SECTION_OS: u16 = 3;
const SECTION_APPLICATION: u16 = 4;
const INTERFACE_NAME: u16 = 2;
const INTERFACE_DESCRIPTION: u16 = 3;
const INTERFACE_TIME_UNIT: u16 = 9;
const INTERFACE_OS: u16 = 12;

const OS: &[u8] = b"linux";
const NANOSECONDS: &[u8] = &[9];

/// Longest value of an option.
pub const MAX_OPTION: usize = u16::MAX as usize;

pub fn section(out: &mut Vec<u8>) {
    block(SECTION, out, |out| {
        out.extend_from_slice(&BYTE_ORDER.to_le_bytes());
        out.extend_from_slice(&VERSION.0.to_le_bytes());
        out.extend_from_slice(&VERSION.1.to_le_bytes());
        out.extend_from_slice(&UNKNOWN_LENGTH.to_le_bytes());
        option(SECTION_OS, OS, out);
        option(SECTION_APPLICATION, b"ig-py", out);
        end_of_options(out);
    });
}

/// An interface's number is the count of interfaces before it in the section.
pub fn interface(name: &[u8], description: &[u8], out: &mut Vec<u8>) {
    block(INTERFACE, out, |out| {
        out.extend_from_slice(&ETHERNET.to_le_bytes());
        out.extend_from_slice(&[0, 0]);
        // libpcap refuses captures whose interfaces differ in it.
        out.extend_from_slice(&(SNAPLEN as u32).to_le_bytes());
        option(INTERFACE_NAME, name, out);
        if !description.is_empty() {
            option(INTERFACE_DESCRIPTION, description, out);
        }
        option(INTERFACE_TIME_UNIT, NANOSECONDS, out);
        option(INTERFACE_OS, OS, out);
        end_of_options(out);
    });
}

/// `captured` has at most [`SNAPLEN`] bytes; `length` is that of the packet.
pub fn packet(interface: u32, ns: u64, captured: &[u8], length: u32, out: &mut Vec<u8>) {
    block(PACKET, out, |out| {
        for word in [interface, (ns >> 32) as u32, ns as u32, captured.len() as u32, length] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(captured);
    });
}

fn block(kind: u32, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    body(out);
    pad(out, start);
    let total = ((out.len() - start + 4) as u32).to_le_bytes();
    out[start + 4..start + 8].copy_from_slice(&total);
    out.extend_from_slice(&total);
}

fn option(code: u16, value: &[u8], out: &mut Vec<u8>) {
    let value = &value[..value.len().min(MAX_OPTION)];
    let start = out.len();
    out.extend_from_slice(&code.to_le_bytes());
    out.extend_from_slice(&(value.len() as u16).to_le_bytes());
    out.extend_from_slice(value);
    pad(out, start);
}

fn end_of_options(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0; 4]);
}

/// Pads to a multiple of four bytes since `start`.
fn pad(out: &mut Vec<u8>, start: usize) {
    let length = (out.len() - start).next_multiple_of(4);
    out.resize(start + length, 0);
}
