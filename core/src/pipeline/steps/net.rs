//! Network addresses to text.

use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Bytes of an address in an endpoint, either version.
pub const ADDRESS: usize = 16;

/// True for the versions that have a text. `ig` does not show events with another one.
pub fn is_version(version: u64) -> bool {
    matches!(version, 4 | 6)
}

/// Writes nothing for another version.
pub fn address(version: u64, raw: &[u8], out: &mut Vec<u8>) {
    let _ = match (version, raw) {
        (4, [a, b, c, d, ..]) => write!(out, "{}", Ipv4Addr::new(*a, *b, *c, *d)),
        (6, raw) => match <[u8; ADDRESS]>::try_from(raw) {
            Ok(bytes) => {
                let address = Ipv6Addr::from(bytes);
                match address.to_ipv4_mapped() {
                    Some(mapped) => write!(out, "{mapped}"),
                    None => write_v6(address, out),
                }
            }
            Err(_) => Ok(()),
        },
        _ => Ok(()),
    };
}

fn write_v6(address: Ipv6Addr, out: &mut Vec<u8>) -> std::io::Result<()> {
    // Rust prints ::a.b.c.d for IPv4-compatible addresses; Go and RFC 5952 tools print hex.
    let [a, b, c, d, e, f, g, h] = address.segments();
    if [a, b, c, d, e, f] == [0; 6] && g != 0 {
        return write!(out, "::{g:x}:{h:x}");
    }
    write!(out, "{address}")
}

#[cfg(test)]
mod tests {
    fn text(version: u64, raw: &[u8]) -> String {
        let mut out = Vec::new();
        super::address(version, raw, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn both_versions() {
        let mut raw = [0; 16];
        raw[..4].copy_from_slice(&[127, 0, 0, 1]);
        assert_eq!(text(4, &raw), "127.0.0.1");
        assert_eq!(text(9, &raw), "");
        assert_eq!([0, 4, 5, 6, 256 + 4].map(super::is_version), [false, true, false, true, false]);
        let mut raw = [0; 16];
        raw[15] = 1;
        assert_eq!(text(6, &raw), "::1");
        raw[10] = 0xff;
        raw[11] = 0xff;
        assert_eq!(text(6, &raw), "0.0.0.1");
        let mut raw = [0; 16];
        raw[12..].copy_from_slice(&[1, 2, 3, 4]);
        assert_eq!(text(6, &raw), "::102:304");
        assert_eq!(text(6, &[0; 3]), "");
    }
}
