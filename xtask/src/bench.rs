//! `cargo xtask bench`: the figures of `docs/performance.md`, measured again on this machine.

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

/// A measurement, and what has to be built for it besides the module.
struct Measurement {
    name: &'static str,
    what: &'static str,
    needs: Needs,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// Nothing: it is a micro-benchmark of the policy core.
    Core,
    /// The filters that do nothing.
    EmptyFilters,
}

/// In the order of `docs/performance.md`.
const MEASUREMENTS: &[Measurement] = &[
    Measurement {
        name: "request",
        what: "CPU and latency per request, of Keyward and of what people would choose instead",
        needs: Needs::EmptyFilters,
    },
    Measurement {
        name: "core",
        what: "the policy core by itself: canonicalise, match, hash, look up, decode, decide",
        needs: Needs::Core,
    },
];

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
    if measurement.needs == Needs::Core {
        let mut command = sh::cargo();
        command.args(["bench", "--package", "keyward-policy", "--bench", "core", "--"]).args(&arguments.rest);
        return sh::run(&mut command);
    }
    prerequisites::install()?;
    let envoy = envoy::find_or_install()?;
    let module = build::shipped_module()?;
    if measurement.needs == Needs::EmptyFilters {
        build::empty_filters()?;
    }
    let mut command = sh::cargo();
    command.args(["run", "--package", "keyward-bench", "--", name]).args(&arguments.rest);
    sh::run(command.env("ENVOY_BIN", envoy).env("KEYWARD_WASM", module))
}
