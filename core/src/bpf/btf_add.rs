//! Adds types to the kernel's BTF, for objects that are relocated against the result.

use std::io;

use libbpf_sys as sys;

use super::btf::Btf;
use crate::errors::{c_text, Error, Kind, Result};

const MAX_MEMBERS: usize = 1024;
const MAX_SIZE: u32 = 1 << 20;

/// A number of `width` bytes at `offset`, or an array of `count` of them.
pub struct Member {
    pub name: String,
    pub offset: u32,
    pub width: u32,
    /// 0 when the member is no array.
    pub count: u32,
}

/// libbpf's answer: an id, or a negative error.
fn added(id: i32, what: &str) -> Result<i32> {
    if id >= 0 {
        return Ok(id);
    }
    let cause = io::Error::from_raw_os_error(-id);
    Err(Error::new(Kind::Btf, format!("cannot add {what} to the kernel's types: {cause}")))
}

/// The types of `raw` and one struct more.
pub fn with_struct(raw: &[u8], name: &str, size: u32, members: &[Member]) -> Result<Vec<u8>> {
    let fits = |m: &Member| {
        let bytes = u64::from(m.width) * u64::from(m.count.max(1));
        matches!(m.width, 1 | 2 | 4 | 8) && u64::from(m.offset) + bytes <= u64::from(size)
    };
    if size > MAX_SIZE || members.len() > MAX_MEMBERS || !members.iter().all(fits) {
        return Err(Error::new(Kind::Btf, format!("struct {name} of {size} bytes is impossible")));
    }
    let btf = Btf::parse(raw)?;
    let mut types = Vec::with_capacity(members.len());
    for member in members {
        let c_name = c_text(
            Kind::Btf,
            match member.width {
                1 => "unsigned char",
                2 => "unsigned short",
                4 => "unsigned int",
                _ => "unsigned long long",
            },
        )?;
        // SAFETY: a live BTF and a name that libbpf copies, here and below.
        let number = unsafe { sys::btf__add_int(btf.0, c_name.as_ptr(), member.width as _, 0) };
        let number = added(number, "a number")?;
        types.push(if member.count == 0 {
            number
        } else {
            // SAFETY: as above.
            added(unsafe { sys::btf__add_array(btf.0, number, number, member.count) }, "an array")?
        });
    }
    let c_name = c_text(Kind::Btf, name)?;
    // SAFETY: as above.
    added(unsafe { sys::btf__add_struct(btf.0, c_name.as_ptr(), size) }, name)?;
    for (member, id) in members.iter().zip(types) {
        let c_name = c_text(Kind::Btf, &member.name)?;
        // SAFETY: as above; the struct is the last type.
        let rc = unsafe { sys::btf__add_field(btf.0, c_name.as_ptr(), id, member.offset * 8, 0) };
        added(rc, &member.name)?;
    }
    let mut length = 0;
    // SAFETY: a live BTF; what it returns lives as long, and is copied.
    unsafe {
        let data = sys::btf__raw_data(btf.0, &mut length);
        if data.is_null() {
            return Err(Error::new(Kind::Btf, "the kernel's types cannot be written"));
        }
        Ok(std::slice::from_raw_parts(data.cast::<u8>(), length as usize).to_vec())
    }
}
