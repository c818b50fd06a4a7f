//! Times as SQLite keeps them.

use crate::message::Millis;

/// SQLite's integers are signed; its largest is some 292 million years away.
pub(super) fn integer(at: Millis) -> i64 {
    i64::try_from(at).unwrap_or(i64::MAX)
}
