//! The engine behind the host: a thin layer over wasmi, an interpreter.

use std::sync::Arc;
use std::time::Instant;

use wasmi::{
    CallHook, CompilationMode, Config, CustomFuelCosts, Engine, Error as Trap, TypedFunc,
    TypedResumableCall, WasmParams, WasmResults,
};

use super::host::Host;
use super::{limits, shape};
use crate::errors::{Error, Kind, Result};

pub type Caller<'a> = wasmi::Caller<'a, Host>;
pub type Linker = wasmi::Linker<Host>;
pub type Store = wasmi::Store<Host>;

/// Instructions after which a call looks at the clock.
const SLICE: u64 = 5_000_000;
/// Bytes that count as one instruction when they are copied.
const BYTES_PER_FUEL: u32 = 64;

/// Of a call that only its deadline ends.
pub const UNLIMITED: u64 = u64::MAX;

/// Why a call of the module did not return.
#[derive(Debug)]
pub enum Failure {
    /// It missed its deadline.
    Late,
    /// It executed more instructions than it may.
    Busy,
    /// It ended itself.
    Exit(i32),
    Trap(String),
}

/// A validated module; cheap to clone.
#[derive(Clone)]
pub struct Module {
    module: Arc<wasmi::Module>,
    /// Names that it imports from the module `ig`, in order.
    pub upcalls: Vec<String>,
}

fn engine() -> Engine {
    let mut config = Config::default();
    config
        .consume_fuel(true)
        // A call that has no fuel left for a translation could not be resumed.
        .fuel_cost(CustomFuelCosts {
            bytes_copied_per_fuel: BYTES_PER_FUEL,
            fuel_per_bytes_translated: 0,
            fuel_per_bytes_validated: 0,
        })
        .compilation_mode(CompilationMode::LazyTranslation)
        .ignore_custom_sections(true)
        .set_max_recursion_depth(limits::RECURSION)
        .set_max_stack_height(limits::STACK)
        .wasm_multi_memory(false)
        .wasm_custom_page_sizes(false)
        .wasm_wide_arithmetic(false);
    Engine::new(&config)
}

impl Module {
    /// Validates a module.
    pub fn compile(bytes: &[u8]) -> Result<Module> {
        let bad = |why: String| Error::new(Kind::Wasm, why);
        if bytes.len() > limits::MODULE {
            return Err(bad(format!("it has {} bytes, at most {}", bytes.len(), limits::MODULE)));
        }
        shape::check(bytes).map_err(bad)?;
        let module = wasmi::Module::new(&engine(), bytes).map_err(|e| bad(one_line(&e)))?;
        let ours = module.imports().filter(|i| i.module() == "ig");
        let upcalls = ours.map(|i| i.name().to_string()).collect();
        Ok(Module { module: Arc::new(module), upcalls })
    }

    pub fn imports(&self, name: &str) -> bool {
        self.upcalls.iter().any(|n| n == name)
    }
}

/// An instance with its store.
pub struct Instance {
    pub store: Store,
    instance: wasmi::Instance,
}

impl Instance {
    /// Links and instantiates `module`, and runs its start section.
    pub fn new(
        module: &Module,
        host: Host,
        register: impl FnOnce(&mut Linker) -> std::result::Result<(), String>,
    ) -> Result<Instance> {
        let bad = |why: String| Error::new(Kind::Wasm, why);
        let engine = module.module.engine();
        let mut store = Store::new(engine, host);
        store.limiter(|host| &mut host.limits);
        store.call_hook(watch);
        store.set_fuel(limits::START_SECTION).map_err(|e| bad(one_line(&e)))?;
        let mut linker = Linker::new(engine);
        register(&mut linker).map_err(bad)?;
        let instance = linker
            .instantiate_and_start(&mut store, &module.module)
            .map_err(|e| bad(one_line(&e)))?;
        let memory = instance.get_memory(&store, "memory");
        store.data_mut().memory = memory;
        if memory.is_none() {
            return Err(bad("it exports no memory".into()));
        }
        Ok(Instance { store, instance })
    }

    /// The exported function `name`; None when there is none. An error tells a wrong signature.
    pub fn function<P: WasmParams, R: WasmResults>(
        &self,
        name: &str,
    ) -> Result<Option<TypedFunc<P, R>>> {
        let Some(function) = self.instance.get_func(&self.store, name) else { return Ok(None) };
        let typed = function.typed::<P, R>(&self.store);
        typed.map(Some).map_err(|_| {
            Error::new(Kind::Wasm, format!("its export {name} has another signature than expected"))
        })
    }

    /// Calls `function`; the host's deadline ends it. What it executes is taken from
    /// `instructions`, which end it too.
    pub fn call<P: WasmParams, R: WasmResults>(
        &mut self,
        function: &TypedFunc<P, R>,
        params: P,
        instructions: &mut u64,
    ) -> std::result::Result<R, Failure> {
        self.refuel(instructions)?;
        let mut state =
            function.call_resumable(&mut self.store, params).map_err(|e| failure(&e))?;
        loop {
            state = match state {
                TypedResumableCall::Finished(results) => {
                    *instructions += self.store.get_fuel().map_err(|e| failure(&e))?;
                    return Ok(results);
                }
                TypedResumableCall::HostTrap(trap) => {
                    return Err(failure(trap.host_error()));
                }
                TypedResumableCall::OutOfFuel(call) => {
                    if Instant::now() >= self.store.data().deadline {
                        return Err(Failure::Late);
                    }
                    self.refuel(instructions)?;
                    call.resume(&mut self.store).map_err(|e| failure(&e))?
                }
            }
        }
    }

    fn refuel(&mut self, instructions: &mut u64) -> std::result::Result<(), Failure> {
        let slice = SLICE.min(*instructions);
        if slice == 0 {
            return Err(Failure::Busy);
        }
        *instructions -= slice;
        self.store.set_fuel(slice).map_err(|e| failure(&e))
    }
}

/// What host functions do takes no fuel: their time is measured.
fn watch(host: &mut Host, hook: CallHook) -> std::result::Result<(), Trap> {
    match hook {
        CallHook::CallingHost => host.work.begin(),
        CallHook::ReturningFromHost => {
            let now = Instant::now();
            if now >= host.deadline {
                return Err(late());
            }
            if !host.work.end(now) {
                return Err(Trap::host(TooMuch));
            }
        }
        CallHook::CallingWasm | CallHook::ReturningFromWasm => {}
    }
    Ok(())
}

/// Host functions took too much time.
#[derive(Debug)]
pub struct TooMuch;

impl std::fmt::Display for TooMuch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("what it asks the host for takes too much time")
    }
}

impl std::error::Error for TooMuch {}
impl wasmi::errors::HostError for TooMuch {}

/// A host function ends the call: its deadline has passed.
#[derive(Debug)]
pub struct Deadline;

impl std::fmt::Display for Deadline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the deadline has passed")
    }
}

impl std::error::Error for Deadline {}
impl wasmi::errors::HostError for Deadline {}

pub fn late() -> Trap {
    Trap::host(Deadline)
}

pub fn exit(code: i32) -> Trap {
    Trap::i32_exit(code)
}

fn failure(trap: &Trap) -> Failure {
    if trap.downcast_ref::<Deadline>().is_some() {
        return Failure::Late;
    }
    match trap.i32_exit_status() {
        Some(code) => Failure::Exit(code),
        None => Failure::Trap(one_line(trap)),
    }
}

/// Parts of a module's texts may be in the message.
fn one_line(error: &Trap) -> String {
    let text = error.to_string();
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect()
}

/// The memory of the calling module, and the host.
pub fn parts<'a>(caller: &'a mut Caller<'_>) -> (&'a mut [u8], &'a mut Host) {
    match caller.data().memory {
        Some(memory) => memory.data_and_store_mut(caller),
        // The start section runs before the memory is known.
        None => (&mut [], caller.data_mut()),
    }
}
