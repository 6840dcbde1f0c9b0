//! Real parts for Keyward's tests and benchmarks.
//!
//! Envoy is the real binary ([`envoy`]), its configuration the shipped `envoy.yaml` or a small one made for a
//! case ([`envoy_config`]); behind it stands an upstream that writes down every byte it was asked ([`upstream`]);
//! in front of it clients that send what no well-behaved library would ([`http1`], [`http2`]). [`wasm_host`]
//! runs the compiled module without Envoy and records each call that it makes to its host. The admin service is the real
//! one ([`service`]), or one that fails as it is told ([`admin_stand_in`]). [`fixture`] keeps what control planes made of the files
//! in `deploy/`. [`documents`] finds what the documentation prints. [`faketime`] moves a program's clock, and [`link`] delays, cuts and moves connections.
//!
//! Everything binds to loopback on a free port, keeps its files under `target/testbed/`, and ends with the
//! value that started it.

pub mod admin_stand_in;
pub mod artifacts;
pub mod documents;
pub mod envoy;
pub mod envoy_config;
pub mod faketime;
pub mod fixture;
pub mod http1;
pub mod http2;
pub mod link;
pub mod postgres;
pub mod process;
pub mod protobuf;
pub mod service;
pub mod upstream;
pub mod wait;
pub mod wasm_host;
pub mod workspace;
