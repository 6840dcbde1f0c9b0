//! The decision corpus: requests and what is to become of them, as data in the `*.toml` files beside this one,
//! run by five runners that have to agree: the policy core natively, the compiled module in an embedded
//! runtime, `keyward explain`, and a real Envoy with two workers in each edition.
//!
//! `suite.rs` says what may stand in a file. A case is written once; a runner that cannot see what a case is
//! about (a moment in time in Envoy, say) is left out there by name and with a reason.

mod envoy;
mod explain;
mod native;
mod suite;
mod wasm;

/// All that a runner found wrong, at once.
#[track_caller]
fn report(runner: &str, asked: usize, failures: &[String]) {
    println!("{runner}: {asked} requests");
    assert!(failures.is_empty(), "{runner}: {} of {asked} differ\n{}", failures.len(), failures.join("\n"));
}
