//! Counts what happens in the simulated worlds, to prove that they cover the rare cases.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Debug;

use fanfare::metrics::{Counter, Counters};
use fanfare::runtime::shared::Shared;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use crate::worlds::config;

/// The name of a count, and the counter that is summed for it.
pub(crate) type Count = (&'static str, fn(&Counters) -> &Counter);

/// The least sum of each count over all worlds.
const LEAST: u64 = 5;

/// Runs `cases` worlds, the same in each run. Panics if the sum of a count over all of them is less
/// than [`LEAST`].
pub(crate) fn check_meets<T: Debug, H: AsRef<Shared>>(
    cases: u32,
    worlds: impl Strategy<Value = T>,
    run: impl Fn(T) -> H,
    counts: &[Count],
) {
    let tally = RefCell::new(BTreeMap::new());
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let done = TestRunner::new_with_rng(config(cases), rng).run(&worlds, |world| {
        let hub = run(world);
        for (what, count) in counts {
            *tally.borrow_mut().entry(*what).or_insert(0) += hub.as_ref().metrics.sum(count);
        }
        Ok(())
    });
    assert!(done.is_ok(), "{done:?}");
    let tally = tally.into_inner();
    assert!(tally.values().all(|count| *count >= LEAST), "{tally:#?}");
}
