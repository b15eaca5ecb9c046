//! Readers of perf event arrays.

use super::super::engine::{parts, Caller, Linker};
use super::super::handles::Handle;
use super::super::host::{Host, Said};
use super::super::perf_ring::PerfReader;
use super::super::{limits, memory};
use super::Registered;

/// No record is left.
const DRAINED: u32 = 2;

pub fn register(linker: &mut Linker) -> Registered {
    linker
        .func_wrap(
            "ig",
            "newPerfReader",
            |mut c: Caller<'_>, map: u32, size: u32, overwritable: u32| -> u32 {
                let (_, host) = parts(&mut c);
                let made = new_reader(host, map, size, overwritable != 0);
                host.answer("newPerfReader", made, 0)
            },
        )?
        .func_wrap("ig", "perfReaderPause", |mut c: Caller<'_>, reader: u32| -> u32 {
            let (_, host) = parts(&mut c);
            let done = pause(host, reader, true);
            host.status("perfReaderPause", done)
        })?
        .func_wrap("ig", "perfReaderResume", |mut c: Caller<'_>, reader: u32| -> u32 {
            let (_, host) = parts(&mut c);
            let done = pause(host, reader, false);
            host.status("perfReaderResume", done)
        })?
        .func_wrap("ig", "perfReaderClose", |mut c: Caller<'_>, reader: u32| -> u32 {
            let (_, host) = parts(&mut c);
            let found = host.handles.perf(reader).map(|_| ()).map_err(String::from);
            let done = found.and_then(|()| host.remove_handle(reader)).map(|_| ());
            host.status("perfReaderClose", done)
        })?
        .func_wrap("ig", "perfReaderRead", |mut c: Caller<'_>, reader: u32, dst: u64| -> u32 {
            let (memory, host) = parts(&mut c);
            let found = read(memory, host, reader, dst);
            host.answer("perfReaderRead", found, 1)
        })?;
    Ok(())
}

fn new_reader(host: &mut Host, map: u32, size: u32, overwritable: bool) -> Said<u32> {
    if host.handles.perf_readers().count() >= limits::PERF_READERS {
        return Err(format!("more than {} perf readers", limits::PERF_READERS));
    }
    let room = limits::PERF_BYTES - host.handles.perf_readers().sum::<usize>();
    let map = &host.handles.map(map)?.map;
    let reader = PerfReader::open(map, size as usize, overwritable, room)?;
    host.add_handle(Handle::Perf(Box::new(reader)))
}

fn pause(host: &mut Host, reader: u32, pause: bool) -> Said<()> {
    let reader = host.handles.perf(reader)?;
    reader.pause(pause).map_err(|e| format!("pausing or resuming: {e}"))
}

fn read(memory: &mut [u8], host: &mut Host, reader: u32, dst: u64) -> Said<u32> {
    match host.handles.perf(reader)?.read()? {
        Some(record) => Ok(memory::write(memory, dst, record).map(|()| 0)?),
        None => Ok(DRAINED),
    }
}
