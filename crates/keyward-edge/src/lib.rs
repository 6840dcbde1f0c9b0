//! What every edition of the filter does, whatever its host is.
//!
//! An edition is a crate that Envoy loads: the WebAssembly module (`src/` at the root) and the shared library
//! (`crates/keyward-native`). It calls its host and is called by it; everything between is here.
//!
//! The seam is the module [`host`]: small traits that an edition implements for types of its own. They are passed by
//! value, and the one of the WebAssembly module is empty, so that it costs nothing there: there is one host, and the
//! functions of this crate are compiled in the crate of the edition. The one of the shared library is the pointer of a
//! request, which no thread-local variable then has to hold.

pub mod fetch;
pub mod forward;
pub mod head;
pub mod hold;
pub mod host;
pub mod http;
pub mod metrics;
pub mod node;
pub mod plugin;
pub mod reply;
pub mod telemetry;
pub mod token;
