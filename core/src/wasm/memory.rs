//! Buffers in the module's memory. A buffer is one number: its length in the high 32 bits, its
//! address in the low ones.

use std::ops::Range;

fn range(memory: &[u8], buffer: u64) -> Option<Range<usize>> {
    let (length, address) = ((buffer >> 32) as usize, (buffer & 0xffff_ffff) as usize);
    let end = address.checked_add(length).filter(|end| *end <= memory.len())?;
    Some(address..end)
}

/// The bytes of a buffer; 0 is an empty one.
pub fn bytes(memory: &[u8], buffer: u64) -> Result<&[u8], &'static str> {
    range(memory, buffer).map(|r| &memory[r]).ok_or("a buffer outside of the module's memory")
}

pub fn text(memory: &[u8], buffer: u64) -> Result<&str, &'static str> {
    std::str::from_utf8(bytes(memory, buffer)?).map_err(|_| "a text that is not UTF-8")
}

/// Writes `value` to the begin of a buffer.
pub fn write(memory: &mut [u8], buffer: u64, value: &[u8]) -> Result<(), &'static str> {
    let range = range(memory, buffer).ok_or("a buffer outside of the module's memory")?;
    let space = memory[range].get_mut(..value.len()).ok_or("a buffer that is too small")?;
    space.copy_from_slice(value);
    Ok(())
}

pub fn write_at(memory: &mut [u8], address: u32, value: &[u8]) -> Result<(), &'static str> {
    let start = address as usize;
    let space = start.checked_add(value.len()).and_then(|end| memory.get_mut(start..end));
    space.ok_or("an address outside of the module's memory")?.copy_from_slice(value);
    Ok(())
}

pub fn read_u32(memory: &[u8], address: u32) -> Option<u32> {
    let raw = memory.get(address as usize..(address as usize).checked_add(4)?)?;
    Some(u32::from_le_bytes(raw.try_into().ok()?))
}

pub fn read_u64(memory: &[u8], address: u32) -> Option<u64> {
    let raw = memory.get(address as usize..(address as usize).checked_add(8)?)?;
    Some(u64::from_le_bytes(raw.try_into().ok()?))
}
