//! The files of `deploy/`, given to the real control planes.
//!
//! `cargo xtask control-planes` builds the programs and runs the tests that are ignored otherwise: a real API server
//! validates the resources, a real istiod or Envoy Gateway makes a configuration of them, and a stock Envoy runs it.

mod chart_checks;
mod cluster;
mod deploy;
mod dump;
mod envoy_gateway;
mod envoy_gateway_checks;
mod istio;
mod istio_checks;
mod istio_gateway_api;
mod pod;
mod process;
mod programs;
mod proxy;
mod record;
mod registry;
mod report;
mod schema_checks;
mod stage;
