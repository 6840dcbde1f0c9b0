//! Keyward's measurements: what it costs, on this machine, next to what people would choose instead.
//!
//! `cargo xtask bench <name>` builds what is measured and runs this. Each measurement prints a table and leaves its
//! figures as JSON under `target/bench/`. What they mean stands in `docs/performance.md`.

mod cpu;
mod keys;
mod machine;
mod report;
mod request;
mod server;
mod stats;
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
    /// CPU and latency per request, of Keyward and of what people would choose instead
    Request(request::Arguments),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().measurement {
        Measurement::Request(arguments) => request::run(&arguments),
    }
}
