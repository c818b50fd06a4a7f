//! What the worlds of all interfaces share: their clock and places, what clients read, and large
//! payloads.

use std::sync::OnceLock;

use fanfare::message::Now;
use proptest::prelude::*;

use crate::WORKERS;

/// Rounds after which nothing is under way any more, by far.
const ROUNDS_MAX: usize = 10_000;
/// Eight of these fill an outbox.
const LARGE_BYTES: usize = 2 * 1024 * 1024;

/// A worker, and one of its connections.
pub(crate) type Place = (usize, usize);

/// How clients read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pace {
    Mixed,
    Slow,
}

/// Bytes that a client reads that has just come; all there are, if nothing is said.
pub(crate) fn reads(pace: Pace) -> impl Strategy<Value = Option<usize>> {
    prop_oneof![
        if pace == Pace::Slow { 0 } else { 2 } => Just(None),
        1 => Just(Some(0)),
    ]
}

/// Bytes that a client reads of what waits for it, and no others; all there are, if nothing is said.
pub(crate) fn reads_more() -> impl Strategy<Value = Option<usize>> {
    prop_oneof![
        3 => Just(Some(0)),
        1 => (1..3_000usize).prop_map(Some),
        1 => (3_000..6_000_000usize).prop_map(Some),
        1 => Just(None),
    ]
}

/// Runs so many cases, and writes no file about those that fail.
pub(crate) fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) }
}

/// Returns all places of a world whose workers have so many connections each.
pub(crate) fn places(connections: usize) -> impl Iterator<Item = Place> {
    (0..WORKERS).flat_map(move |worker| (0..connections).map(move |slot| (worker, slot)))
}

/// Returns a time, by both clocks.
pub(crate) fn at(millis: u64) -> Now {
    Now { nanos: millis * 1_000_000, wall: millis }
}

/// Returns what a payload is filled with.
pub(crate) fn fill(is_large: bool) -> &'static str {
    static FILL: OnceLock<String> = OnceLock::new();
    if is_large { FILL.get_or_init(|| "x".repeat(LARGE_BYTES)) } else { "" }
}

/// Takes rounds until nothing is under way any more, which `round` returns.
pub(crate) fn come_to_rest<E>(mut round: impl FnMut() -> Result<bool, E>) -> Result<(), E> {
    let mut idle = 0;
    for _ in 0..ROUNDS_MAX {
        idle = if round()? { idle + 1 } else { 0 };
        // What found a mailbox full before others took their mail is tried once more.
        if idle == 2 {
            return Ok(());
        }
    }
    panic!("it does not come to rest");
}
