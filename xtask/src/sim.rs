//! `cargo xtask sim`: the simulation of the synchronisation, with as many seeds as one has patience for.

use crate::sh;
use anyhow::Result;

#[derive(clap::Args)]
pub struct Arguments {
    /// How many seeds
    #[arg(long, default_value_t = 100_000)]
    seeds: u64,
    /// One seed again, as a failure printed it
    #[arg(long)]
    seed: Option<u64>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let mut command = sh::cargo();
    command.args(["test", "--release", "--package", "keyward-policy", "--test", "simulation", "--", "--nocapture"]);
    command.env("KEYWARD_SIM_SEEDS", arguments.seeds.to_string());
    if let Some(seed) = arguments.seed {
        command.env("KEYWARD_SIM_SEED", seed.to_string());
    }
    sh::run(&mut command)
}
