//! A host for the compiled module without Envoy: an embedded interpreter that answers the proxy-wasm calls the
//! way Envoy 1.40 does, and writes down what the module asked.
//!
//! It is small on purpose: it offers what the filter has a use for. The SDK imports more than that; such a call
//! traps, by name, so that a new habit of the module is noticed here first.

mod imports;
mod memory;
mod state;

pub use state::{Fields, HttpCall, LocalReply, Log, Metric, MetricKind, State};

use state::ROOT;
use std::path::Path;
use wasmi::{Engine, Error, Instance, Linker, Module, Store, WasmParams, WasmResults};

/// A compiled module, to start VMs from.
#[derive(Debug)]
pub struct WasmModule {
    engine: Engine,
    module: Module,
}

/// A VM with one root context.
pub struct WasmVm {
    store: Store<State>,
    instance: Instance,
    next_stream: u32,
}

/// What became of a request at its headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The filter paused the stream: it answered, or it holds the request.
    pub paused: bool,
    /// The answer, where the filter gave one.
    pub reply: Option<LocalReply>,
    /// The request's header fields as they go on.
    pub headers: Fields,
    /// Filter state as the filter set it, by its dotted name, without Envoy's `wasm.`.
    pub filter_state: std::collections::BTreeMap<String, Vec<u8>>,
    /// For [`WasmVm::resumed`] and [`WasmVm::end_stream`].
    pub stream: u32,
}

impl WasmModule {
    /// Compiles a file.
    ///
    /// # Panics
    /// Panics when it cannot be read or is no module.
    pub fn load(file: &Path) -> Self {
        let bytes = std::fs::read(file).unwrap_or_else(|error| panic!("cannot read {}: {error}", file.display()));
        let engine = Engine::default();
        let module = Module::new(&engine, &bytes).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        Self { engine, module }
    }

    /// Starts a VM and configures its root context, as Envoy does.
    ///
    /// # Errors
    /// Returns the state, with what was logged, where the module refused its configuration.
    ///
    /// # Panics
    /// Panics when the module traps or asks for a host call that there is none of.
    pub fn start(&self, plugin_configuration: &[u8], state: State) -> Result<WasmVm, Box<State>> {
        let mut linker = Linker::new(&self.engine);
        imports::trap_all(&mut linker, &self.module).unwrap_or_else(|error| panic!("{error}"));
        imports::define(linker.allow_shadowing(true)).unwrap_or_else(|error| panic!("{error}"));
        let state = State { plugin_configuration: plugin_configuration.to_vec(), ..state };
        let mut store = Store::new(&self.engine, state);
        let instance = linker
            .instantiate_and_start(&mut store, &self.module)
            .unwrap_or_else(|error| panic!("the module does not load: {error}"));
        let mut vm = WasmVm { store, instance, next_stream: ROOT + 1 };
        for start in ["_initialize", "_start"] {
            vm.call_optional::<(), ()>(start, ());
        }
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        vm.call_optional::<_, ()>("proxy_on_context_create", (ROOT, 0_u32));
        let (of_vm, of_plugin) =
            (length(&vm.store.data().vm_configuration), length(&vm.store.data().plugin_configuration));
        let started = vm.call_optional::<_, u32>("proxy_on_vm_start", (ROOT, of_vm)).unwrap_or(1);
        let configured = vm.call_optional::<_, u32>("proxy_on_configure", (ROOT, of_plugin)).unwrap_or(1);
        if started == 0 || configured == 0 {
            return Err(Box::new(vm.store.into_data()));
        }
        Ok(vm)
    }
}

impl WasmVm {
    /// Puts a request's headers through the filter. The stream stays open: see [`Self::end_stream`].
    ///
    /// # Panics
    /// Panics when the module traps.
    pub fn request(&mut self, headers: Fields, end_of_stream: bool) -> Outcome {
        self.try_request(headers, end_of_stream).unwrap_or_else(|error| panic!("the module trapped: {error}"))
    }

    /// The same for a test that expects a trap.
    ///
    /// # Errors
    /// Returns the trap. The VM is of no use afterwards.
    pub fn try_request(&mut self, headers: Fields, end_of_stream: bool) -> Result<Outcome, Error> {
        let stream = self.next_stream;
        self.next_stream += 1;
        let count = u32::try_from(headers.len()).unwrap_or(u32::MAX);
        self.store.data_mut().begin_stream(stream, headers);
        self.try_call::<_, ()>("proxy_on_context_create", (stream, ROOT))?;
        let action = self
            .try_call::<_, u32>("proxy_on_request_headers", (stream, count, u32::from(end_of_stream)))?
            .unwrap_or(0);
        Ok(Outcome { paused: action != 0, ..self.outcome(stream) })
    }

    /// What has become of an open stream by now; it is paused where nothing let it go on since its headers.
    pub fn outcome(&self, stream: u32) -> Outcome {
        let state = self.store.data().stream(stream);
        Outcome {
            paused: !state.resumed,
            reply: state.reply.clone(),
            headers: state.headers.clone(),
            filter_state: state.filter_state.clone(),
            stream,
        }
    }

    /// A part of a stream's body comes, which Envoy hands over before the headers went on only where the plugin is set
    /// to it. True where the module lets it, and the headers with it, go on.
    ///
    /// # Panics
    /// Panics when the module traps.
    pub fn body_goes_on(&mut self, stream: u32) -> bool {
        self.store.data_mut().effective = stream;
        self.call_optional::<_, u32>("proxy_on_request_body", (stream, 1_u32, 1_u32)) == Some(0)
    }

    /// Ends a stream: done, log, delete, where the module wants them.
    ///
    /// # Panics
    /// Panics when the module traps.
    pub fn end_stream(&mut self, stream: u32) {
        self.store.data_mut().effective = stream;
        self.call_optional::<_, u32>("proxy_on_done", (stream,));
        self.call_optional::<_, ()>("proxy_on_log", (stream,));
        self.call_optional::<_, ()>("proxy_on_delete", (stream,));
        self.store.data_mut().end_stream(stream);
    }

    /// Whether a held stream was let go on.
    pub fn resumed(&self, stream: u32) -> bool {
        self.store.data().stream(stream).resumed
    }

    /// The answer that a stream has got by now.
    pub fn reply(&self, stream: u32) -> Option<&LocalReply> {
        self.store.data().stream(stream).reply.as_ref()
    }

    /// Lets the clock go on and calls the root context's tick.
    ///
    /// # Panics
    /// Panics when the module traps.
    pub fn tick(&mut self, later_ns: u64) {
        let state = self.store.data_mut();
        state.now_ns += later_ns;
        state.monotonic_ns += later_ns;
        state.effective = ROOT;
        self.call_optional::<_, ()>("proxy_on_tick", (ROOT,));
    }

    /// Answers an HTTP call of the module. No headers: the call failed.
    ///
    /// # Panics
    /// Panics when the module traps.
    pub fn answer_call(&mut self, call: u32, headers: Fields, body: &[u8]) {
        let count = u32::try_from(headers.len()).unwrap_or(u32::MAX);
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let state = self.store.data_mut();
        state.effective = ROOT;
        state.call_response = Some((headers, body.to_vec()));
        self.call_optional::<_, ()>("proxy_on_http_call_response", (ROOT, call, count, length, 0_u32));
        self.store.data_mut().call_response = None;
    }

    /// What the host knows and has written down.
    pub fn state(&self) -> &State {
        self.store.data()
    }

    /// The same, to change: clock, properties.
    pub fn state_mut(&mut self) -> &mut State {
        self.store.data_mut()
    }

    /// The size of the linear memory in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.instance.get_memory(&self.store, "memory").map_or(0, |memory| memory.data_size(&self.store))
    }

    fn call_optional<P: WasmParams, R: WasmResults>(&mut self, name: &str, parameters: P) -> Option<R> {
        self.try_call(name, parameters).unwrap_or_else(|error| panic!("{name} trapped: {error}"))
    }

    /// None where the module does not export the callback.
    fn try_call<P: WasmParams, R: WasmResults>(&mut self, name: &str, parameters: P) -> Result<Option<R>, Error> {
        match self.instance.get_func(&self.store, name) {
            Some(function) => Ok(Some(function.typed::<P, R>(&self.store)?.call(&mut self.store, parameters)?)),
            None => Ok(None),
        }
    }
}

impl std::fmt::Debug for WasmVm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WasmVm").field("state", self.state()).finish_non_exhaustive()
    }
}
