//! `cargo xtask sim`: simulates the synchronization of keys with any number of seeds or, with `--fleet`, a large fleet to
//! check the arithmetic of `docs/scale.md`.

mod fleet;

use crate::sh;
use anyhow::Result;

#[derive(clap::Args)]
pub struct Arguments {
    /// Number of seeds
    #[arg(long, default_value_t = 100_000, conflicts_with = "fleet")]
    seeds: u64,
    /// One seed again, as a failure printed it; of the fleet's simulation, its seed
    #[arg(long)]
    seed: Option<u64>,
    /// Receipts in place of the synchronisation of some
    #[arg(long, conflicts_with = "fleet")]
    receipts: bool,
    /// A fleet of proxies in place of the synchronisation of some
    #[arg(long)]
    fleet: bool,
    #[command(flatten)]
    of_fleet: fleet::Fleet,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.fleet {
        return fleet::run(&arguments.of_fleet, arguments.seed.unwrap_or(1));
    }
    let mut command = sh::cargo();
    let (package, test) =
        if arguments.receipts { ("keyward-admin", "receipts") } else { ("keyward-policy", "simulation") };
    command.args(["test", "--release", "--package", package, "--test", test, "--", "--nocapture"]);
    command.env("KEYWARD_SIM_SEEDS", arguments.seeds.to_string());
    if let Some(seed) = arguments.seed {
        command.env("KEYWARD_SIM_SEED", seed.to_string());
    }
    sh::run(&mut command)
}
