//! Fields and their values.

use super::super::data::{self, Given};
use super::super::engine::{parts, Caller, Linker};
use super::super::handles::Handle;
use super::super::host::{Host, Said};
use super::super::kinds::Kind;
use super::super::memory;
use super::sources::source;
use super::Registered;

pub fn register(linker: &mut Linker) -> Registered {
    linker
        .func_wrap("ig", "dataSourceGetField", |mut c: Caller<'_>, ds: u32, name: u64| -> u32 {
            let (memory, host) = parts(&mut c);
            let found = get_field(memory, host, ds, name);
            host.answer("dataSourceGetField", found, 0)
        })?
        .func_wrap(
            "ig",
            "dataSourceAddField",
            |mut c: Caller<'_>, ds: u32, name: u64, kind: u32| -> u32 {
                let (memory, host) = parts(&mut c);
                let made = add_field(memory, host, ds, name, kind);
                host.answer("dataSourceAddField", made, 0)
            },
        )?
        .func_wrap("ig", "fieldAddTag", |mut c: Caller<'_>, field: u32, tag: u64| -> u32 {
            let (memory, host) = parts(&mut c);
            let done = add_tag(memory, host, field, tag);
            host.status("fieldAddTag", done)
        })?
        .func_wrap(
            "ig",
            "fieldGetScalar",
            |mut c: Caller<'_>, field: u32, data: u32, kind: u32, error: u32| -> u64 {
                let (memory, host) = parts(&mut c);
                let found = get_scalar(host, field, data, kind);
                if found.is_err() && error != 0 {
                    if let Err(why) = memory::write_at(memory, error, &1u32.to_le_bytes()) {
                        host.log.refuse("fieldGetScalar", why);
                    }
                }
                host.answer("fieldGetScalar", found, 0)
            },
        )?
        .func_wrap(
            "ig",
            "fieldGetBuffer",
            |mut c: Caller<'_>, field: u32, data: u32, kind: u32, dst: u64| -> i32 {
                let (memory, host) = parts(&mut c);
                let found = get_buffer(memory, host, field, data, kind, dst);
                host.answer("fieldGetBuffer", found, -1)
            },
        )?
        .func_wrap(
            "ig",
            "fieldSet",
            |mut c: Caller<'_>, field: u32, data: u32, kind: u32, value: u64| -> u32 {
                let (memory, host) = parts(&mut c);
                let done = Given::of(kind, value, memory).map_err(String::from);
                let done = done.and_then(|given| host.set(field, data, &given));
                host.status("fieldSet", done)
            },
        )?;
    Ok(())
}

fn get_field(memory: &[u8], host: &mut Host, ds: u32, name: u64) -> Said<u32> {
    let source = source(host, ds)?;
    let index = host.model.field(source, memory::text(memory, name)?)?;
    host.add_handle(Handle::Field(source, index))
}

fn add_field(memory: &[u8], host: &mut Host, ds: u32, name: u64, kind: u32) -> Said<u32> {
    let source = source(host, ds)?;
    let index = host.model.add_field(source, memory::text(memory, name)?, kind)?;
    host.add_handle(Handle::Field(source, index))
}

fn add_tag(memory: &[u8], host: &mut Host, field: u32, tag: u64) -> Said<()> {
    let (source, index) = host.handles.field(field)?;
    host.model.add_tag(source, index, memory::text(memory, tag)?)
}

fn get_scalar(host: &Host, field: u32, data: u32, kind: u32) -> Said<u64> {
    let Some(Kind::Scalar(kind)) = Kind::of(kind) else {
        return Err(format!("kind {kind} is no scalar"));
    };
    Ok(host.read(field, data, |bytes| data::scalar(kind, bytes))??)
}

fn get_buffer(
    memory: &mut [u8],
    host: &Host,
    field: u32,
    data: u32,
    kind: u32,
    dst: u64,
) -> Said<i32> {
    if !matches!(Kind::of(kind), Some(Kind::String | Kind::Bytes)) {
        return Err(format!("kind {kind} is neither String nor Bytes"));
    }
    Ok(host.read(field, data, |bytes| {
        memory::write(memory, dst, bytes)?;
        i32::try_from(bytes.len()).map_err(|_| "a value that is too long")
    })??)
}
