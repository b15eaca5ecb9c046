//! Data sources and packets.

use super::super::engine::{parts, Caller, Linker};
use super::super::handles::{Handle, WRONG};
use super::super::host::{Host, Said};
use super::super::memory;
use super::super::outbox::Packet;
use super::Registered;

pub fn register(linker: &mut Linker) -> Registered {
    linker
        .func_wrap("ig", "newDataSource", |mut c: Caller<'_>, name: u64, kind: u32| -> u32 {
            let (memory, host) = parts(&mut c);
            let made = new_source(memory, host, name, kind);
            host.answer("newDataSource", made, 0)
        })?
        .func_wrap("ig", "getDataSource", |mut c: Caller<'_>, name: u64| -> u32 {
            let (memory, host) = parts(&mut c);
            let found = get_source(memory, host, name);
            host.answer("getDataSource", found, 0)
        })?
        .func_wrap(
            "ig",
            "dataSourceSubscribe",
            |mut c: Caller<'_>, ds: u32, kind: u32, priority: i32, id: u64| -> u32 {
                let (_, host) = parts(&mut c);
                let done = subscribe(host, ds, kind, priority, id);
                host.status("dataSourceSubscribe", done)
            },
        )?
        .func_wrap("ig", "dataSourceNewPacketSingle", |mut c: Caller<'_>, ds: u32| -> u32 {
            let (_, host) = parts(&mut c);
            let made = new_packet(host, ds, false);
            host.answer("dataSourceNewPacketSingle", made, 0)
        })?
        .func_wrap("ig", "dataSourceNewPacketArray", |mut c: Caller<'_>, ds: u32| -> u32 {
            let (_, host) = parts(&mut c);
            let made = new_packet(host, ds, true);
            host.answer("dataSourceNewPacketArray", made, 0)
        })?
        .func_wrap(
            "ig",
            "dataSourceEmitAndRelease",
            |mut c: Caller<'_>, ds: u32, packet: u32| -> u32 {
                let (_, host) = parts(&mut c);
                let done = take_packet(host, ds, packet).and_then(|p| host.emit(p));
                host.status("dataSourceEmitAndRelease", done)
            },
        )?
        .func_wrap("ig", "dataSourceRelease", |mut c: Caller<'_>, ds: u32, packet: u32| -> u32 {
            let (_, host) = parts(&mut c);
            let done = take_packet(host, ds, packet).map(|_| ());
            host.status("dataSourceRelease", done)
        })?
        .func_wrap("ig", "dataSourceUnreference", |mut c: Caller<'_>, ds: u32| -> u32 {
            let (_, host) = parts(&mut c);
            let done = source(host, ds).and_then(|s| host.model.unreference(s));
            host.status("dataSourceUnreference", done)
        })?
        .func_wrap("ig", "dataSourceIsReferenced", |mut c: Caller<'_>, ds: u32| -> u32 {
            let (_, host) = parts(&mut c);
            let found = source(host, ds).map(|s| u32::from(host.model.sources[s].referenced));
            host.answer("dataSourceIsReferenced", found, 2)
        })?
        .func_wrap("ig", "releaseHandle", |mut c: Caller<'_>, handle: u32| -> u32 {
            let (_, host) = parts(&mut c);
            let done = host.remove_handle(handle).map(|_| ());
            host.status("releaseHandle", done)
        })?;
    Ok(())
}

/// Index of the data source of a handle.
pub fn source(host: &Host, ds: u32) -> Said<usize> {
    let source = host.handles.source(ds)?;
    host.model.sources.get(source).ok_or("a data source that is not there")?;
    Ok(source)
}

fn new_source(memory: &[u8], host: &mut Host, name: u64, kind: u32) -> Said<u32> {
    let name = memory::text(memory, name)?;
    let source = host.model.new_source(name, kind)?;
    host.add_handle(Handle::Source(source))
}

fn get_source(memory: &[u8], host: &mut Host, name: u64) -> Said<u32> {
    let name = memory::text(memory, name)?;
    let found = host.model.find(name);
    let source = found.ok_or_else(|| format!("there is no data source {name:?}"))?;
    host.add_handle(Handle::Source(source))
}

fn subscribe(host: &mut Host, ds: u32, kind: u32, priority: i32, id: u64) -> Said<()> {
    if !host.has_callback {
        return Err("the module exports no dataSourceCallback".into());
    }
    let source = source(host, ds)?;
    host.model.subscribe(source, kind, priority, id)
}

fn new_packet(host: &mut Host, ds: u32, array: bool) -> Said<u32> {
    let source = source(host, ds)?;
    if host.model.sources[source].array != array {
        return Err("the data source is of another type".into());
    }
    let elements = if array { Vec::new() } else { vec![host.new_slots(source)?] };
    let depth = host.depth + 1;
    host.add_handle(Handle::Packet(Packet { source, array, elements, depth }))
}

fn take_packet(host: &mut Host, ds: u32, packet: u32) -> Said<Packet> {
    let source = source(host, ds)?;
    match host.handles.get(packet)? {
        Handle::Packet(p) if p.source == source => {}
        Handle::Packet(_) => return Err("the packet is of another data source".into()),
        _ => return Err(WRONG.into()),
    }
    match host.remove_handle(packet)? {
        Handle::Packet(p) => Ok(p),
        _ => Err(WRONG.into()),
    }
}
