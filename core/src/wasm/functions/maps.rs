//! Maps: those of the gadget's object, and those that the module makes.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use libbpf_sys as sys;

use super::super::engine::{parts, Caller, Linker};
use super::super::handles::{Handle, HeldMap};
use super::super::host::{Host, Said};
use super::super::map_room::Own;
use super::super::{limits, memory};
use super::Registered;
use crate::bpf::map::Map;

/// The last type of map that the interface knows (BPF_MAP_TYPE_ARENA).
const LAST_TYPE: u32 = 33;
/// BPF_ANY, BPF_NOEXIST, BPF_EXIST and BPF_F_LOCK.
const LAST_FLAGS: u64 = 4;

pub fn register(linker: &mut Linker) -> Registered {
    linker
        .func_wrap(
            "ig",
            "newMap",
            |mut c: Caller<'_>, name: u64, kind: u32, key: u32, value: u32, entries: u32| -> u32 {
                let (memory, host) = parts(&mut c);
                let made = new_map(memory, host, name, [kind, key, value, entries]);
                host.answer("newMap", made, 0)
            },
        )?
        .func_wrap("ig", "getMap", |mut c: Caller<'_>, name: u64| -> u32 {
            let (memory, host) = parts(&mut c);
            let found = get_map(memory, host, name);
            host.answer("getMap", found, 0)
        })?
        .func_wrap("ig", "mapLookup", |mut c: Caller<'_>, map: u32, key: u64, dst: u64| -> u32 {
            let (memory, host) = parts(&mut c);
            let done = lookup(memory, host, map, key, dst);
            host.status("mapLookup", done)
        })?
        .func_wrap(
            "ig",
            "mapUpdate",
            |mut c: Caller<'_>, map: u32, key: u64, value: u64, flags: u64| -> u32 {
                let (memory, host) = parts(&mut c);
                let done = update(memory, host, map, key, value, flags);
                host.status("mapUpdate", done)
            },
        )?
        .func_wrap("ig", "mapDelete", |mut c: Caller<'_>, map: u32, key: u64| -> u32 {
            let (memory, host) = parts(&mut c);
            let done = delete(memory, host, map, key);
            host.status("mapDelete", done)
        })?
        .func_wrap("ig", "mapRelease", |mut c: Caller<'_>, map: u32| -> u32 {
            let (_, host) = parts(&mut c);
            let done = release(host, map);
            host.status("mapRelease", done)
        })?;
    Ok(())
}

fn is_of_maps(map: &Map) -> bool {
    matches!(map.map_type(), sys::BPF_MAP_TYPE_ARRAY_OF_MAPS | sys::BPF_MAP_TYPE_HASH_OF_MAPS)
}

fn new_map(memory: &[u8], host: &mut Host, name: u64, shape: [u32; 4]) -> Said<u32> {
    let [kind, mut key, mut value, mut entries] = shape;
    let name = memory::text(memory, name)?;
    if kind == 0 || kind > LAST_TYPE {
        return Err(format!("unknown type {kind} of a map"));
    }
    if key as usize > limits::MAP_BYTES || value as usize > limits::MAP_BYTES {
        return Err(format!("a key of {key} bytes, a value of {value}"));
    }
    if kind == sys::BPF_MAP_TYPE_PERF_EVENT_ARRAY {
        // As the loaders of eBPF objects do: one buffer for each processor.
        (key, value) = (4, 4);
        if entries == 0 {
            // SAFETY: a plain call; negative means failure.
            entries = unsafe { sys::libbpf_num_possible_cpus() }.max(1) as u32;
        }
    }
    let rounded = |bytes: u32| u64::from(bytes).next_multiple_of(8);
    let bytes = u64::from(entries) * (rounded(key) + rounded(value) + limits::MAP_ENTRY);
    host.inner_maps.check(host.handles.own_maps(), bytes)?;
    let map = Map::create(name, kind, key, value, entries).map_err(|e| e.message)?;
    let own = Some(Own { id: map.id(), bytes });
    host.add_handle(Handle::Map(HeldMap { map: Arc::new(map), made: true, own }))
}

fn get_map(memory: &[u8], host: &mut Host, name: u64) -> Said<u32> {
    let name = memory::text(memory, name)?;
    let found = host.maps.get(name).cloned();
    let map = found.ok_or_else(|| format!("there is no loaded map {name:?}"))?;
    host.add_handle(Handle::Map(HeldMap { map, made: false, own: None }))
}

/// An error for maps whose values mean nothing to a module.
fn check_readable(map: &Map) -> Said<()> {
    match map.map_type() {
        sys::BPF_MAP_TYPE_PROG_ARRAY
        | sys::BPF_MAP_TYPE_PERF_EVENT_ARRAY
        | sys::BPF_MAP_TYPE_CGROUP_ARRAY => Err("a type of map whose values are not read".into()),
        _ => Ok(()),
    }
}

fn lookup(memory: &mut [u8], host: &mut Host, map: u32, key: u64, dst: u64) -> Said<()> {
    let map = Arc::clone(&host.handles.map(map)?.map);
    check_readable(&map)?;
    let found = map.lookup(memory::bytes(memory, key)?).map_err(|e| e.message)?;
    let value = found.ok_or("the map has no such key")?;
    if !is_of_maps(&map) {
        return Ok(memory::write(memory, dst, &value)?);
    }
    let id: [u8; 4] = value[..].try_into().map_err(|_| "a map of maps with other values")?;
    let inner = map.inner(u32::from_ne_bytes(id)).map_err(|e| e.message)?;
    // Written first: no handle is left over when the buffer is bad.
    memory::write(memory, dst, &[0; 4])?;
    let own = host.inner_maps.find(inner.id());
    let handle =
        host.add_handle(Handle::Map(HeldMap { map: Arc::new(inner), made: false, own }))?;
    Ok(memory::write(memory, dst, &handle.to_le_bytes())?)
}

fn update(memory: &[u8], host: &mut Host, map: u32, key: u64, value: u64, flags: u64) -> Said<()> {
    if flags > LAST_FLAGS {
        return Err(format!("unknown flags {flags}"));
    }
    let map = &host.handles.map(map)?.map;
    let (key, value) = (memory::bytes(memory, key)?, memory::bytes(memory, value)?);
    if !is_of_maps(map) {
        return map.update_with(key, value, flags).map_err(|e| e.message);
    }
    let handle: [u8; 4] = value.try_into().map_err(|_| "a value that is no handle of a map")?;
    let inner = host.handles.map(u32::from_le_bytes(handle))?;
    let fd = inner.map.as_fd().as_raw_fd() as u32;
    map.update_with(key, &fd.to_ne_bytes(), flags).map_err(|e| e.message)?;
    host.inner_maps.put(map.id(), key, inner.own);
    Ok(())
}

fn delete(memory: &[u8], host: &mut Host, map: u32, key: u64) -> Said<()> {
    let map = &host.handles.map(map)?.map;
    let key = memory::bytes(memory, key)?;
    match map.delete(key).map_err(|e| e.message)? {
        true => {
            host.inner_maps.remove(map.id(), key);
            Ok(())
        }
        false => Err("the map has no such key".into()),
    }
}

fn release(host: &mut Host, map: u32) -> Said<()> {
    if !host.handles.map(map)?.made {
        return Err("the module did not make the map".into());
    }
    host.remove_handle(map).map(|_| ())
}
