//! One module that runs: from its instance to its last call. Its calls are made one at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use wasmi::TypedFunc;

use super::calls::failed;
pub use super::calls::Stage;
use super::engine::{Failure, Instance, Module, UNLIMITED};
use super::handles::Handle;
use super::host::Host;
use super::live::{ArrayCall, EventCall, Live};
use super::log::{Line, WARNING};
use super::outbox::Packet;
use super::{functions, limits, wasi};
use crate::bpf::map::Map;
use crate::errors::{Error, Kind, Result};

/// The version of the interface.
const VERSION: u64 = 1;

/// Callbacks so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    pub calls: u64,
    /// Events and arrays that passed unchanged: their callback failed, or the module has ended.
    pub failed: u64,
}

pub struct Guest {
    inner: Mutex<Inner>,
    callback_limit: Duration,
}

struct Inner {
    instance: Instance,
    /// Instructions that it may execute until it has started.
    to_start: u64,
    callback: Option<TypedFunc<(u64, u32, u32), ()>>,
    /// Handles of data sources that callbacks are called with.
    sources: HashMap<usize, u32>,
    statistics: Statistics,
    /// Callbacks one after the other that missed their deadline.
    missed: u32,
    /// It is not called any more.
    ended: bool,
}

impl Guest {
    /// An instance of `module`, whose version has been checked.
    ///
    /// `params`: values of its parameters. `log_level`: up to which it is heard, 0 (errors) to 4.
    pub fn new(
        module: &Module,
        params: HashMap<String, String>,
        log_level: u32,
        callback_limit: Duration,
    ) -> Result<Guest> {
        let mut host = Host::new(log_level, params);
        host.deadline = Instant::now() + limits::START;
        let instance = Instance::new(module, host, |linker| {
            functions::register(linker)?;
            wasi::register(linker)
        })?;
        let mut inner = Inner {
            instance,
            to_start: limits::START_INSTRUCTIONS,
            callback: None,
            sources: HashMap::new(),
            statistics: Statistics::default(),
            missed: 0,
            ended: false,
        };
        if let Some(initialize) = inner.instance.function::<(), ()>("_initialize")? {
            inner.run("_initialize", &initialize, limits::START, true)?;
        }
        let version = inner
            .instance
            .function::<(), u64>("gadgetAPIVersion")?
            .ok_or_else(|| Error::new(Kind::Wasm, "it exports no gadgetAPIVersion"))?;
        let version = inner.run("gadgetAPIVersion", &version, limits::START, true)?;
        if version != VERSION {
            let what = format!("its version of the interface is {version}, expected: {VERSION}");
            return Err(Error::new(Kind::Wasm, what));
        }
        inner.callback = inner.instance.function("dataSourceCallback")?;
        inner.host().has_callback = inner.callback.is_some();
        Ok(Guest { inner: Mutex::new(inner), callback_limit })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The data sources as they are declared now, as a plan without readers.
    pub fn declare(&self, plan: &str) -> Result<()> {
        self.lock().host().model.declare(plan)
    }

    /// Calls the export of `stage`, if there is one. Returns what the module asks for since the
    /// last call, as JSON.
    pub fn call(&self, stage: Stage) -> Result<String> {
        let mut inner = self.lock();
        let done = inner.stage(stage);
        if matches!(stage, Stage::Stop) {
            inner.host().handles.clear();
            inner.sources.clear();
        }
        done?;
        let changes = inner.host().model.changes();
        serde_json::to_string(&changes)
            .map_err(|e| Error::new(Kind::Wasm, format!("its changes: {e}")))
    }

    /// The stream is open: maps of the object by name, and mount namespaces that are wanted.
    pub fn bind(&self, maps: HashMap<String, Arc<Map>>, filter: Option<Map>) {
        let mut inner = self.lock();
        let host = inner.host();
        (host.maps, host.filter) = (maps, filter);
        host.model.seal();
        host.symbols.forget();
    }

    /// Opens the directory of tracepoints where tracefs is mounted now.
    pub fn open_declarations(&self) -> bool {
        self.lock().host().declarations.open()
    }

    /// Index of a data source in the module's model.
    pub fn source(&self, name: &str) -> Option<usize> {
        self.lock().host().model.find(name)
    }

    pub fn source_name(&self, source: usize) -> Option<String> {
        self.lock().host().model.sources.get(source).map(|s| s.name.clone())
    }

    /// Full names of the fields of a data source that the module may set.
    pub fn settable(&self, source: usize) -> Vec<String> {
        self.lock().host().model.settable(source).map(String::from).collect()
    }

    /// Calls callback `id` with an event. `depth`: how many callbacks one after the other emitted
    /// it.
    pub fn event(&self, id: u64, source: usize, depth: u32, call: &mut EventCall<'_>) {
        let mut inner = self.lock();
        // SAFETY: `call_back` drops it before it returns; call is not used meanwhile.
        let live = unsafe { Live::event(source, call) };
        inner.call_back(id, live, depth, self.callback_limit);
    }

    /// Calls callback `id` with a whole array.
    pub fn array(&self, id: u64, source: usize, depth: u32, call: &mut ArrayCall<'_>) {
        let mut inner = self.lock();
        // SAFETY: `call_back` drops it before it returns; call is not used meanwhile.
        let live = unsafe { Live::array(source, call) };
        inner.call_back(id, live, depth, self.callback_limit);
    }

    /// The next packet that it emitted.
    pub fn take_emitted(&self) -> Option<Packet> {
        self.lock().host().take_emitted()
    }

    /// What it said since the last call, and how many lines were left out.
    pub fn take_log(&self) -> (Vec<Line>, u64) {
        self.lock().host().log.take()
    }

    pub fn statistics(&self) -> Statistics {
        self.lock().statistics
    }
}

impl Inner {
    fn host(&mut self) -> &mut Host {
        self.instance.store.data_mut()
    }

    fn run<R: wasmi::WasmResults>(
        &mut self,
        export: &str,
        function: &TypedFunc<(), R>,
        limit: Duration,
        starts: bool,
    ) -> Result<R> {
        self.host().deadline = Instant::now() + limit;
        self.host().depth = 0;
        self.host().work.limited = starts;
        let mut any = UNLIMITED;
        let instructions = if starts { &mut self.to_start } else { &mut any };
        self.instance.call(function, (), instructions).map_err(|failure| {
            let stderr = std::mem::take(&mut self.host().stderr);
            failed(export, &failure, limit, &stderr)
        })
    }

    fn stage(&mut self, stage: Stage) -> Result<()> {
        let export = stage.export();
        let Some(function) = self.instance.function::<(), u32>(export)? else { return Ok(()) };
        if self.ended {
            return Ok(());
        }
        match self.run(export, &function, stage.limit(), stage.starts()) {
            Ok(0) => Ok(()),
            Ok(code) => Err(Error::new(Kind::Wasm, format!("{export} failed (status {code})"))),
            Err(error) => {
                self.ended = true;
                Err(error)
            }
        }
    }

    fn call_back(&mut self, id: u64, live: Live, depth: u32, limit: Duration) {
        self.statistics.calls += 1;
        let source = live.source;
        let handles = self.callback_handles(source);
        let (Some(callback), Some((ds, data)), false) = (self.callback, handles, self.ended) else {
            self.statistics.failed += 1;
            return;
        };
        let host = self.host();
        host.live = Some(live);
        host.work.limited = false;
        host.deadline = Instant::now() + limit;
        host.depth = depth;
        let done = self.instance.call(&callback, (id, ds, data), &mut UNLIMITED.clone());
        let host = self.host();
        let live = host.live.take();
        // It may have been released by the module.
        let _ = host.handles.remove(data);
        let Err(failure) = done else {
            self.missed = 0;
            return;
        };
        if let Some(mut live) = live {
            live.undo();
        }
        self.fail(&failure, limit);
    }

    /// The handles of the data source, and of the event or array, of a callback.
    fn callback_handles(&mut self, source: usize) -> Option<(u32, u32)> {
        let known = self.sources.get(&source).copied();
        let host = self.instance.store.data_mut();
        let known = known.filter(|ds| host.handles.source(*ds) == Ok(source));
        let ds = match known {
            Some(ds) => ds,
            None => {
                let ds = host.handles.add(Handle::Source(source)).ok()?;
                self.sources.insert(source, ds);
                ds
            }
        };
        let data = host.handles.add(Handle::Live).ok()?;
        Some((ds, data))
    }

    fn fail(&mut self, failure: &Failure, limit: Duration) {
        self.statistics.failed += 1;
        let first = self.statistics.failed == 1;
        self.missed = if matches!(failure, Failure::Late) { self.missed + 1 } else { 0 };
        let ends = matches!(failure, Failure::Exit(_)) || self.missed >= limits::MISSED;
        let stderr = std::mem::take(&mut self.host().stderr);
        let error = failed("dataSourceCallback", failure, limit, &stderr);
        self.ended |= ends;
        if ends {
            let what = format!("{}; the module is not called any more", error.message);
            self.host().log.say(WARNING, &what);
        } else if first {
            let what = format!("{}; the event is shown without it", error.message);
            self.host().log.say(WARNING, &what);
        }
    }
}
