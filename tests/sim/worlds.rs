//! Parts that the worlds of all interfaces share: clock, places, reading clients and large
//! payloads.

use std::sync::OnceLock;

use fanfare::message::Now;
use proptest::prelude::*;

use crate::WORKERS;

/// Far more rounds than a world needs to come to rest.
const ROUNDS_MAX: usize = 10_000;
/// The length of a large payload. Eight of them fill an outbox.
const LARGE_BYTES: usize = 2 * 1024 * 1024;

/// The number of a worker, and the number of one of its connections.
pub(crate) type Place = (usize, usize);

/// How fast clients read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pace {
    Mixed,
    Slow,
}

/// Generates how many bytes a new client reads; `None` if it reads all.
pub(crate) fn reads(pace: Pace) -> impl Strategy<Value = Option<usize>> {
    prop_oneof![
        if pace == Pace::Slow { 0 } else { 2 } => Just(None),
        1 => Just(Some(0)),
    ]
}

/// Generates how many more bytes a client reads; `None` if it reads all.
pub(crate) fn reads_more() -> impl Strategy<Value = Option<usize>> {
    prop_oneof![
        3 => Just(Some(0)),
        1 => (1..3_000usize).prop_map(Some),
        1 => (3_000..6_000_000usize).prop_map(Some),
        1 => Just(None),
    ]
}

/// Returns a configuration for `cases` cases, which writes no file about failures.
pub(crate) fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) }
}

/// Returns all places of a world whose workers have `connections` connections each.
pub(crate) fn places(connections: usize) -> impl Iterator<Item = Place> {
    (0..WORKERS).flat_map(move |worker| (0..connections).map(move |slot| (worker, slot)))
}

/// Returns this time by both clocks.
pub(crate) fn at(millis: u64) -> Now {
    Now { nanos: millis * 1_000_000, wall: millis }
}

/// Returns the text that fills a payload; empty if the payload is not large.
pub(crate) fn fill(is_large: bool) -> &'static str {
    static FILL: OnceLock<String> = OnceLock::new();
    if is_large { FILL.get_or_init(|| "x".repeat(LARGE_BYTES)) } else { "" }
}

/// Repeats `round` until it has returned true twice in a row: then nothing is under way.
pub(crate) fn come_to_rest<E>(mut round: impl FnMut() -> Result<bool, E>) -> Result<(), E> {
    let mut idle = 0;
    for _ in 0..ROUNDS_MAX {
        idle = if round()? { idle + 1 } else { 0 };
        // The second round retries mail that found a mailbox full in the first.
        if idle == 2 {
            return Ok(());
        }
    }
    panic!("it does not come to rest");
}
