//! `cargo xtask bench`: measures the figures of `docs/performance.md` on this machine.

use crate::{build, envoy, prerequisites, sh};
use anyhow::{Result, bail};

#[derive(clap::Args)]
// `--help` is passed on to the measurement.
#[command(disable_help_flag = true)]
pub struct Arguments {
    /// Name of the measurement; without it, the names are printed
    name: Option<String>,
    /// Passed on to the measurement
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// A measurement, and what it needs beside the module.
struct Measurement {
    name: &'static str,
    what: &'static str,
    needs: Needs,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// Nothing, not even the module: a micro-benchmark of the policy core.
    Core,
    /// The empty filters, and the native edition.
    EmptyFilters,
    /// The module, and the native edition.
    Library,
    /// The admin service, and the native edition.
    Service,
    /// The same, and a module that measures its callbacks.
    ServiceAndTimes,
}

/// The measurements in the order of `docs/performance.md`.
const MEASUREMENTS: &[Measurement] = &[
    Measurement {
        name: "request",
        what: "CPU and latency per request, of Keyward and of what people would choose instead",
        needs: Needs::EmptyFilters,
    },
    Measurement {
        name: "table",
        what: "memory of a key, in a VM and in Envoy with each edition",
        needs: Needs::Library,
    },
    Measurement {
        name: "load",
        what: "loading all keys, first and again under traffic: time, callbacks, latency meanwhile",
        needs: Needs::ServiceAndTimes,
    },
    Measurement {
        name: "revoke",
        what: "from the deletion of a key to its refusal by every worker",
        needs: Needs::Service,
    },
    Measurement {
        name: "fanout",
        what: "10,000 VMs that wait on one service: time until all are told, memory, CPU",
        needs: Needs::Service,
    },
    Measurement {
        name: "admin",
        what: "making, listing and finding keys in a store of a million",
        needs: Needs::Service,
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
    let mut command = sh::cargo();
    command.args(["run", "--package", "keyward-bench", "--", name]).args(&arguments.rest);
    match measurement.needs {
        Needs::EmptyFilters => {
            build::empty_filters()?;
            command.env("KEYWARD_NATIVE", build::native()?);
        }
        Needs::Library => {
            command.env("KEYWARD_NATIVE", build::native()?);
        }
        Needs::Core => {}
        Needs::Service | Needs::ServiceAndTimes => {
            // The measured programs are optimized as they are shipped, since a debug build is several times slower.
            command.env("KEYWARD_BIN", build::command()?);
            command.env("KEYWARD_NATIVE", build::native()?);
        }
    }
    if measurement.needs == Needs::ServiceAndTimes {
        build::timed_module()?;
    }
    sh::run(command.env("ENVOY_BIN", envoy).env("KEYWARD_WASM", module))
}
