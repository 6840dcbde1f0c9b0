//! `cargo xtask soak`: requests while keys change, configurations are pushed, the service is killed and workers trap.

use crate::{build, envoy, sh, workspace};
use anyhow::Result;

#[derive(clap::Args)]
pub struct Arguments {
    /// Duration in minutes
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// Seed of an earlier run, as that run printed it, to repeat the run
    #[arg(long)]
    seed: Option<u64>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let envoy = envoy::find_or_install()?;
    let failpoint = build::failpoint_module()?;
    build::command_and_tests()?;
    let mut command = sh::cargo();
    command.args(["test", "--workspace", "--test", "oracle", "--", "--nocapture", "--ignored", "soak"]);
    command.env("ENVOY_BIN", envoy).env("KEYWARD_FAILPOINT_WASM", failpoint);
    command.env("KEYWARD_BIN", workspace::target().join("debug/keyward"));
    command.env("KEYWARD_SOAK_SECONDS", (arguments.minutes * 60).to_string());
    if let Some(seed) = arguments.seed {
        command.env("KEYWARD_SEED", seed.to_string());
    }
    sh::run(&mut command)
}
