//! The files of `deploy/`, given to the real control planes.
//!
//! `cargo xtask control-planes` builds the programs and runs the tests that are ignored otherwise: a real API server
//! validates the resources, a real istiod or Envoy Gateway makes a configuration of them, and a stock Envoy runs it.

mod cluster;
mod deploy;
mod istio;
mod istio_checks;
mod process;
mod programs;
mod registry;
mod report;
mod stage;
