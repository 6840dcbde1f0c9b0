//! What the host knows, and what it has written down.

use std::collections::BTreeMap;

/// The id of the root context.
pub const ROOT: u32 = 1;

/// Header fields as bytes, pseudo-headers among them.
pub type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// The host's side of one VM.
#[derive(Debug, Default)]
pub struct State {
    /// Wall clock, nanoseconds since the epoch.
    pub now_ns: u64,
    /// Monotonic clock, nanoseconds.
    pub monotonic_ns: u64,
    /// What `vm_config.configuration` would hold.
    pub vm_configuration: Vec<u8>,
    /// The environment of the VM, entries like `NAME=value`.
    pub environment: Vec<String>,
    /// What `configuration` holds, as the filter gets it.
    pub plugin_configuration: Vec<u8>,
    /// Properties that the host offers, by their path, segments joined by NUL.
    pub properties: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Statuses in place of properties, by the same paths: Envoy says 3 where it cannot put a value into bytes.
    pub property_errors: BTreeMap<Vec<u8>, u32>,
    /// Clusters that calls can be made to.
    pub clusters: Vec<String>,
    /// All that was logged.
    pub logs: Vec<Log>,
    /// All metrics defined, by their id.
    pub metrics: Vec<Metric>,
    /// All HTTP calls made.
    pub calls: Vec<HttpCall>,
    /// How often each host call was made.
    pub counts: BTreeMap<&'static str, u64>,
    /// The last tick period asked for, milliseconds.
    pub tick_period_ms: Option<u32>,
    /// How often the route cache was cleared by name.
    pub route_cache_clears: u64,
    pub(super) shared: BTreeMap<Vec<u8>, (Vec<u8>, u32)>,
    pub(super) streams: BTreeMap<u32, Stream>,
    pub(super) effective: u32,
    pub(super) call_response: Option<(Fields, Vec<u8>)>,
    pub(super) random: Random,
}

/// The source of the module's random bytes. They differ from call to call and are the same in each run.
#[derive(Debug)]
pub(super) struct Random(fastrand::Rng);

impl Default for Random {
    fn default() -> Self {
        Self(fastrand::Rng::with_seed(0))
    }
}

impl Random {
    /// Fills the buffer with random bytes.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        self.0.fill(buffer);
    }
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// 0 trace … 5 critical.
    pub level: u32,
    /// The text.
    pub message: String,
}

/// A metric and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    /// What it does.
    pub kind: MetricKind,
    /// As the module spells it.
    pub name: String,
    /// Its value.
    pub value: u64,
}

/// The three kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only rises.
    Counter,
    /// Holds what was written last.
    Gauge,
    /// Holds what was recorded last, which is enough here.
    Histogram,
}

/// An answer that the filter gave in the upstream's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalReply {
    /// The status.
    pub status: u32,
    /// Response code details.
    pub details: String,
    /// Header fields besides those that Envoy adds.
    pub headers: Fields,
    /// The body.
    pub body: Vec<u8>,
    /// -1 where none was given.
    pub grpc_status: i32,
}

/// A call to a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpCall {
    /// What a call's answer reads.
    pub id: u32,
    /// Which cluster.
    pub cluster: String,
    /// Header fields.
    pub headers: Fields,
    /// The body.
    pub body: Vec<u8>,
    /// 0 means none.
    pub timeout_ms: u32,
}

/// One request.
#[derive(Debug, Clone, Default)]
pub(super) struct Stream {
    pub headers: Fields,
    pub filter_state: BTreeMap<String, Vec<u8>>,
    pub reply: Option<LocalReply>,
    pub resumed: bool,
}

impl State {
    /// A host whose wall clock stands at `now_ns`.
    pub fn at(now_ns: u64) -> Self {
        Self { now_ns, effective: ROOT, ..Self::default() }
    }

    /// The value of a metric; 0 where it is not defined.
    pub fn metric(&self, name: &str) -> u64 {
        self.metrics.iter().find(|metric| metric.name == name).map_or(0, |metric| metric.value)
    }

    /// All that was logged, one line each.
    pub fn log_text(&self) -> String {
        self.logs.iter().map(|log| format!("{}\n", log.message)).collect()
    }

    pub(super) fn begin_stream(&mut self, stream: u32, headers: Fields) {
        self.effective = stream;
        self.streams.insert(stream, Stream { headers, ..Stream::default() });
    }

    pub(super) fn end_stream(&mut self, stream: u32) {
        self.streams.remove(&stream);
    }

    pub(super) fn stream(&self, stream: u32) -> &Stream {
        self.streams.get(&stream).unwrap_or_else(|| panic!("no open stream {stream}"))
    }

    pub(super) fn current(&mut self) -> Option<&mut Stream> {
        self.streams.get_mut(&self.effective)
    }
}
