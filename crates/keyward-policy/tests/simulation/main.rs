//! A deterministic simulation: an admin service, several VMs and a network between them, all from one seed.
//!
//! `KEYWARD_SIM_SEEDS` sets how many seeds are run (10,000), `KEYWARD_SIM_SEED` runs one alone and tells each step (`-- --nocapture`). A failure prints its
//! seed; the same seed gives the same run, on any machine.

#![allow(clippy::panic, clippy::indexing_slicing, reason = "a simulation that goes wrong is to stop")]

mod dice;
mod network;
mod service;
mod store;
mod vm;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

#[test]
fn a_vm_holds_what_the_store_held_whatever_happens() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    let seeds = match number("KEYWARD_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("KEYWARD_SIM_SEEDS").unwrap_or(10_000),
    };
    let (next, end) = (AtomicU64::new(seeds.start), seeds.end);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let totals = std::thread::scope(|scope| {
        let run = || {
            let mut totals = world::Totals::default();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= end {
                    return totals;
                }
                let run = catch_unwind(AssertUnwindSafe(|| world::World::new(seed).run()));
                totals.add(&run.unwrap_or_else(|_| {
                    panic!("failed: KEYWARD_SIM_SEED={seed} cargo test -p keyward-policy --test simulation")
                }));
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        workers.into_iter().map(|worker| worker.join().expect("a seed failed")).fold(
            world::Totals::default(),
            |mut all, one| {
                all.add(&one);
                all
            },
        )
    });
    println!("{totals:#?}");
    // A simulation in which nothing happens proves nothing.
    if seeds.end - seeds.start >= 1_000 {
        totals.assert_everything_happened();
    }
}
