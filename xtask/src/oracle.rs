//! `cargo xtask oracle`: generated requests through a real Envoy against the reference decision in `tests/oracle`.

use crate::test::Edition;
use crate::{build, envoy, sh};
use anyhow::Result;

#[derive(clap::Args)]
pub struct Arguments {
    /// Number of requests
    #[arg(long, default_value_t = 1_000_000)]
    requests: u64,
    /// Seed of an earlier run, as that run printed it, to repeat the run
    #[arg(long)]
    seed: Option<u64>,
    /// The edition of the filter
    #[arg(long, value_enum, default_value = "wasm")]
    edition: Edition,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let envoy = envoy::find_or_install()?;
    let (variable, module) = match arguments.edition {
        Edition::Wasm => ("KEYWARD_WASM", build::shipped_module()?),
        Edition::Native => ("KEYWARD_NATIVE", build::native()?),
    };
    let mut command = sh::cargo();
    // Of the whole workspace, so that dependencies have the features that they were built with for all tests.
    command.args(["test", "--workspace", "--test", "oracle", "--", "--nocapture", "the_filter_decides"]);
    command.env("ENVOY_BIN", envoy).env(variable, module).env("KEYWARD_EDITION", arguments.edition.name());
    command.env("KEYWARD_REQUESTS", arguments.requests.to_string());
    if let Some(seed) = arguments.seed {
        command.env("KEYWARD_SEED", seed.to_string());
    }
    sh::run(&mut command)
}
