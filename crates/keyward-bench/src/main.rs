//! Keyward's measurements: what it costs, on this machine, next to what people would choose instead.
//!
//! `cargo xtask bench <name>` builds what is measured and runs this. Each measurement prints a table and leaves its
//! figures as JSON under `target/bench/`. `docs/performance.md` explains them.

mod admin;
mod cpu;
mod edge;
mod fanout;
mod keys;
mod load;
mod machine;
mod paced;
mod process;
mod report;
mod request;
mod revoke;
mod server;
mod service;
mod stats;
mod table;
mod wrk;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask bench", about = "Measures Keyward on this machine")]
struct Arguments {
    #[command(subcommand)]
    measurement: Measurement,
}

#[derive(Subcommand)]
enum Measurement {
    /// CPU and latency per request, of Keyward and of its alternatives
    Request(request::Arguments),
    /// Memory of a key in a VM and in Envoy
    Table(table::Arguments),
    /// Loading of all keys, at first and again under traffic
    Load(load::Arguments),
    /// Time from a deletion to the refusal by every worker
    Revoke(revoke::Arguments),
    /// Ten thousand VMs that wait for one service
    Fanout(fanout::Arguments),
    /// Creating, listing and finding keys in a store of a million
    Admin(admin::Arguments),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().measurement {
        Measurement::Request(arguments) => request::run(&arguments),
        Measurement::Table(arguments) => table::run(&arguments),
        Measurement::Load(arguments) => load::run(&arguments),
        Measurement::Revoke(arguments) => revoke::run(&arguments),
        Measurement::Fanout(arguments) => fanout::run(&arguments),
        Measurement::Admin(arguments) => admin::run(&arguments),
    }
}
