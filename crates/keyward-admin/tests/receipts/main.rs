//! A deterministic simulation of receipts: the service's real bookkeeping (`Proxies`) on several replicas, the filters' real
//! state machine (`ManifestSync`), and between them a store, a network and faults, all from one seed.
//!
//! What is checked is the promise itself, judged by what is true in the simulated world: once a receipt has named a time
//! and that time has come, no table accepts the deleted key.
//!
//! `KEYWARD_SIM_SEEDS` sets how many seeds are run (5,000), `KEYWARD_SIM_SEED` runs one alone. A failure prints its seed.
//! Faults that were found in the protocol are planted one by one, and each has to be found again.

#![allow(clippy::panic, clippy::indexing_slicing, reason = "a simulation that goes wrong is to stop")]

mod chaos;
// Both simulations draw from the same seeded numbers.
#[path = "../../../keyward-policy/tests/simulation/dice.rs"]
mod dice;
mod fault;
mod judge;
mod replica;
mod store;
mod table;
mod world;

use fault::{Fault, Totals};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use world::World;

/// Runs a seed and returns what happened, or which promise was broken.
fn run(seed: u64, fault: Option<Fault>) -> Result<Totals, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(World::new(seed, fault).run())
}

#[test]
fn a_receipt_never_says_more_than_is_true() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    let seeds = match number("KEYWARD_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("KEYWARD_SIM_SEEDS").unwrap_or(5_000),
    };
    let (next, end) = (AtomicU64::new(seeds.start), seeds.end);
    let failed = AtomicBool::new(false);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let totals = std::thread::scope(|scope| {
        let work = || {
            let mut totals = Totals::default();
            while !failed.load(Ordering::Relaxed) {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= end {
                    break;
                }
                if seed > 0 && seed.is_multiple_of(10_000) {
                    println!("{seed} seeds");
                }
                match run(seed, None) {
                    Ok(one) => totals.add(&one),
                    Err(why) => {
                        failed.store(true, Ordering::Relaxed);
                        panic!("{why}\nKEYWARD_SIM_SEED={seed} cargo test -p keyward-admin --test receipts");
                    }
                }
            }
            totals
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut all = Totals::default();
        workers.into_iter().for_each(|worker| all.add(&worker.join().expect("a seed failed")));
        all
    });
    println!("{totals:#?}");
    // A simulation in which nothing happens proves nothing.
    if seeds.end - seeds.start >= 1_000 {
        totals.assert_everything_happened();
    }
}

/// Seeds beyond the first ones that once found something.
#[test]
fn what_was_found_once_is_not_found_again() {
    for seed in [798, 80_067] {
        if let Err(why) = run(seed, None) {
            panic!("seed {seed}: {why}");
        }
    }
}

#[test]
fn every_planted_fault_is_found() {
    let most = 3_000;
    let mut missed = Vec::new();
    for fault in Fault::ALL {
        // It is the fault that is found, and not something else, where the same seed is clean without it.
        let found = (0..most).find_map(|seed| {
            let why = run(seed, Some(fault)).err()?;
            if let Err(why) = run(seed, None) {
                panic!("seed {seed} is not clean without {fault:?}: {why}");
            }
            Some((seed, why))
        });
        match found {
            Some((seed, why)) => println!("{fault:?}: seed {seed}: {why}"),
            None => missed.push(fault),
        }
    }
    assert!(missed.is_empty(), "not found in {most} seeds: {missed:?}");
}
