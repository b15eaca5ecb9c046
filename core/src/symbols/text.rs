//! Stacks as text without names.

use std::io::Write;

/// `struct bpf_stack_build_id`: status, 20 bytes of build id, offset or address.
const BUILD_ID_RECORD: usize = 32;
const VALID: i32 = 1;
const ADDRESS: i32 = 2;

/// `0x0000000000401000; …`
pub fn addresses(addresses: &[u64], out: &mut Vec<u8>) {
    for address in addresses {
        // Writing to a Vec does not fail.
        let _ = write!(out, "0x{address:016x}; ");
    }
}

/// `<build id> +<offset>; …`; the address in hexadecimal where the file has no build id.
pub fn build_ids(records: &[u8], out: &mut Vec<u8>) {
    for record in records.chunks_exact(BUILD_ID_RECORD) {
        let status = record.first_chunk::<4>().map_or(0, |b| i32::from_ne_bytes(*b));
        let place = record.last_chunk::<8>().map_or(0, |b| u64::from_ne_bytes(*b));
        match status {
            VALID => {
                for byte in &record[4..24] {
                    let _ = write!(out, "{byte:02x}");
                }
                let _ = write!(out, " +{place:x}; ");
            }
            ADDRESS => {
                let _ = write!(out, "{place:x}; ");
            }
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(status: i32, place: u64) -> Vec<u8> {
        let mut bytes = status.to_ne_bytes().to_vec();
        bytes.extend_from_slice(&[0xab; 20]);
        bytes.extend_from_slice(&place.to_ne_bytes());
        bytes
    }

    #[test]
    fn build_ids_end_at_the_first_empty_one() {
        let records = [record(1, 0xf8011), record(2, 0x6e2f), record(0, 1), record(1, 1)].concat();
        let mut out = Vec::new();
        build_ids(&records, &mut out);
        let id = "ab".repeat(20);
        assert_eq!(String::from_utf8(out).unwrap(), format!("{id} +f8011; 6e2f; "));
    }

    #[test]
    fn addresses_have_sixteen_digits() {
        let mut out = Vec::new();
        addresses(&[0x401000, u64::MAX], &mut out);
        assert_eq!(out, b"0x0000000000401000; 0xffffffffffffffff; ");
    }
}
