//! Keyward's build, test and bench commands: `cargo xtask <command>`.

mod bench;
mod build;
mod children;
mod control_planes;
mod demo;
mod deny;
mod dist;
mod envoy;
mod fuzz;
mod helm;
mod library;
mod module;
mod nextest;
mod oci;
mod oracle;
mod order;
mod prerequisites;
mod python;
mod sbom;
mod sh;
mod sim;
mod soak;
mod test;
mod unused;
mod up;
mod workspace;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, runs and tests Keyward", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the wasm module and the `keyward` command into target/dist
    Build(build::Arguments),
    /// Test the deploy files with the real control planes, which are built first: that takes half an hour once
    ControlPlanes(control_planes::Arguments),
    /// Write the files of a release to target/dist: module, OCI image, libraries of the native edition, bills of materials, completions and manual pages, checksums
    Dist(dist::Arguments),
    /// Build and run the admin service, a sample upstream, and Envoy with the filter in front
    Up(up::Arguments),
    /// Install what the tests need, and run every check and every test
    Test(test::Arguments),
    /// Measure the figures of the README
    Bench(bench::Arguments),
    /// Check the Helm chart and the alerts, or write the chart's README
    Helm(helm::Arguments),
    /// Simulate the synchronisation with many seeds
    Sim(sim::Arguments),
    /// Send requests while keys, configuration and service change and fail, and compare each decision
    Soak(soak::Arguments),
    /// Fuzz the policy core and the native edition's hooks with libFuzzer and the address sanitizer
    Fuzz(fuzz::Arguments),
    /// Compare decisions with a reference that was written from the documentation alone
    Oracle(oracle::Arguments),
}

fn main() -> std::process::ExitCode {
    let result = match Arguments::parse().command {
        Command::Build(arguments) => build::run(&arguments),
        Command::ControlPlanes(arguments) => control_planes::run(&arguments),
        Command::Dist(arguments) => dist::run(&arguments),
        Command::Up(arguments) => up::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Helm(arguments) => helm::run(&arguments),
        Command::Sim(arguments) => sim::run(&arguments),
        Command::Soak(arguments) => soak::run(&arguments),
        Command::Fuzz(arguments) => fuzz::run(&arguments),
        Command::Oracle(arguments) => oracle::run(&arguments),
    };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
