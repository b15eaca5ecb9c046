//! Arrays: those that a callback is called with, and packets of the module's own.

use super::super::engine::{parts, Caller, Linker};
use super::super::handles::{self, Handle, WRONG};
use super::super::host::{Host, Said};
use super::Registered;

pub fn register(linker: &mut Linker) -> Registered {
    linker
        .func_wrap("ig", "dataArrayNew", |mut c: Caller<'_>, array: u32| -> u32 {
            let (_, host) = parts(&mut c);
            let made = new_element(host, array);
            host.answer("dataArrayNew", made, 0)
        })?
        .func_wrap("ig", "dataArrayAppend", |mut c: Caller<'_>, array: u32, data: u32| -> u32 {
            let (_, host) = parts(&mut c);
            let done = append(host, array, data);
            host.status("dataArrayAppend", done)
        })?
        .func_wrap("ig", "dataArrayRelease", |mut c: Caller<'_>, array: u32, data: u32| -> u32 {
            let (_, host) = parts(&mut c);
            let done = take_element(host, array, data).map(|_| ());
            host.status("dataArrayRelease", done)
        })?
        .func_wrap("ig", "dataArrayLen", |mut c: Caller<'_>, array: u32| -> u32 {
            let (_, host) = parts(&mut c);
            let found = length(host, array).map(|n| u32::try_from(n).unwrap_or(u32::MAX));
            host.answer("dataArrayLen", found, 0)
        })?
        .func_wrap("ig", "dataArrayGet", |mut c: Caller<'_>, array: u32, index: u32| -> u32 {
            let (_, host) = parts(&mut c);
            let found = length(host, array).and_then(|length| {
                let encoded = handles::element(array, index).filter(|_| (index as usize) < length);
                encoded.ok_or_else(|| format!("no element {index} of {length}"))
            });
            host.answer("dataArrayGet", found, 0)
        })?;
    Ok(())
}

/// The data source of an array.
fn source(host: &Host, array: u32) -> Said<usize> {
    match host.handles.get(array)? {
        Handle::Packet(packet) if packet.array => Ok(packet.source),
        Handle::Live => {
            let live = host.live.as_ref().filter(|live| live.is_array()).ok_or(WRONG)?;
            Ok(live.source)
        }
        _ => Err(WRONG.into()),
    }
}

fn length(host: &Host, array: u32) -> Said<usize> {
    source(host, array)?;
    match host.handles.get(array)? {
        Handle::Packet(packet) => Ok(packet.elements.len()),
        _ => Ok(host.live.as_ref().map_or(0, |live| live.len())),
    }
}

fn new_element(host: &mut Host, array: u32) -> Said<u32> {
    let source = source(host, array)?;
    let slots = host.new_slots(source)?;
    host.add_handle(Handle::Element(source, Box::new(slots)))
}

fn take_element(host: &mut Host, array: u32, data: u32) -> Said<Box<crate::schema::event::Slots>> {
    let source = source(host, array)?;
    match host.handles.get(data)? {
        Handle::Element(of, _) if *of == source => {}
        Handle::Element(..) => return Err("the element is of another data source".into()),
        _ => return Err(WRONG.into()),
    }
    match host.remove_handle(data)? {
        Handle::Element(_, slots) => Ok(slots),
        _ => Err(WRONG.into()),
    }
}

fn append(host: &mut Host, array: u32, data: u32) -> Said<()> {
    let slots = take_element(host, array, data)?;
    let bytes = slots.bytes();
    match host.handles.get_mut(array)? {
        Handle::Packet(packet) => {
            packet.elements.push(*slots);
            host.held += bytes;
            Ok(())
        }
        _ => {
            let live = host.live.as_mut().ok_or(WRONG)?;
            if !live.append(*slots) {
                return Err(super::super::host::FULL.into());
            }
            Ok(())
        }
    }
}
