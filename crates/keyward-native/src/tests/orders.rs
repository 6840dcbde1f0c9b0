//! The hooks in many orders through a stand-in of Envoy: what the fuzz target `hooks` checks, with its corpus and with rows of
//! steps from a fixed seed.

#[allow(unsafe_code, reason = "it calls the library as Envoy does")]
#[path = "../../../../fuzz/hooks.rs"]
mod hooks;

#[path = "../../../../fuzz/corpus.rs"]
mod corpus;

pub use hooks::{load as turn, note_panics};
use proptest::collection::vec;
use proptest::prelude::*;

#[test]
fn no_order_of_hooks_opens_a_door_or_shows_a_key() {
    corpus::inputs("hooks").iter().for_each(|input| hooks::hooks(input));
    // What is left of an input that fails is in the way of the next one, so a smaller one says nothing.
    let settings = ProptestConfig {
        rng_seed: proptest::test_runner::RngSeed::Fixed(1),
        max_shrink_iters: 0,
        failure_persistence: None,
        ..ProptestConfig::with_cases(500)
    };
    // Begins with a configuration that fetches keys.
    let steps = vec((0..16_u8, any::<u8>()), 1..120);
    let outcome = proptest::test_runner::TestRunner::new(settings).run(&steps, |steps| {
        let bytes: Vec<u8> = [(0, 0)].into_iter().chain(steps).flat_map(|(what, which)| [what, which]).collect();
        hooks::hooks(&bytes);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}
