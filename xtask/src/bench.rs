//! `cargo xtask bench`: the figures of the README, measured again on this machine.

use crate::{build, envoy, prerequisites, sh};
use anyhow::{Result, bail};

#[derive(clap::Args)]
pub struct Arguments {
    /// Which measurement; without one, their names
    name: Option<String>,
    /// Passed on to the measurement
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// A measurement: an example of a package, run in release mode.
struct Measurement {
    name: &'static str,
    what: &'static str,
    package: &'static str,
    example: &'static str,
}

/// In the order of the README's table.
const MEASUREMENTS: &[Measurement] = &[];

pub fn run(arguments: &Arguments) -> Result<()> {
    let Some(name) = &arguments.name else {
        for measurement in MEASUREMENTS {
            println!("{:<12} {}", measurement.name, measurement.what);
        }
        return Ok(());
    };
    let Some(measurement) = MEASUREMENTS.iter().find(|measurement| measurement.name == name) else {
        bail!("no measurement `{name}`; `cargo xtask bench` names them");
    };
    prerequisites::install()?;
    let envoy = envoy::find_or_install()?;
    let module = build::shipped_module()?;
    let keyward = build::command()?;
    let flags = ["run", "--release", "--package", measurement.package, "--example", measurement.example, "--"];
    let mut command = sh::cargo();
    command.args(flags).args(&arguments.rest);
    sh::run(command.env("ENVOY_BIN", envoy).env("KEYWARD_WASM", module).env("KEYWARD_BIN", keyward))
}
