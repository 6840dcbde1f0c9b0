//! The filter in a real Envoy, in front of an upstream that records what reaches it.

mod control_planes;
mod dashboard;
mod deploy;
mod failures;
mod grpc;
mod headers;
mod identity;
mod methods;
mod native;
mod observability;
mod panics;
mod paths;
mod readme;
mod recipes;
mod route_metadata;
mod service;
mod setup;
mod shadow;
mod shipped;
mod sync;
mod takeover;
mod token;
mod traffic;
mod trailers;
mod updates;
mod verify;
