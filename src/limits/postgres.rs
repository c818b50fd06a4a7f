//! The bounds of a node that publishes rows of a PostgreSQL database. Each comment says what
//! happens at the bound.

use super::{CHANNEL_BYTES_MAX, EVENT_BYTES_MAX, MESSAGE_BYTES_MAX};

/// Time for the database to take a connection, in milliseconds. Then the attempt has failed.
pub const POSTGRES_CONNECT_MS: u64 = 5_000;
/// Time for the database to answer a query, in milliseconds. Then the connections are given up.
pub const POSTGRES_QUERY_MS: u64 = 30_000;
/// Time between two attempts to connect after the first failure, in milliseconds. It doubles with
/// each failure.
pub const POSTGRES_RETRY_MS: u64 = 250;
/// Longest time between two attempts to connect, in milliseconds, before it is drawn.
pub const POSTGRES_RETRY_MS_MAX: u64 = 5_000;
/// Time between two looks for rows whose notification was lost, in milliseconds.
pub const POSTGRES_SWEEP_MS: u64 = 1_000;
/// How long the node's own notification may take to come back, in milliseconds. Then the
/// connections are given up.
pub const POSTGRES_DEAF_MS: u64 = 10_000;
/// Time between two signs of life on the connection that holds the lock, in milliseconds.
pub const POSTGRES_BEAT_MS: u64 = 500;
/// Time between two attempts to take the lock of another node, in milliseconds.
pub const POSTGRES_LOCK_MS: u64 = 500;
/// How long the connection that holds the lock may be silent, in milliseconds. Then another node
/// ends it.
pub const POSTGRES_SILENCE_MS: u64 = 2_000;
/// Rows that are read, published and marked together. More follow in the next batch.
pub const POSTGRES_BATCH_MAX: usize = 512;
/// Notifications that wait for their turn, 16 bytes each. Beyond the bound they are dropped, and
/// their rows are found by a sweep.
pub const POSTGRES_BELLS_MAX: usize = 65_536;
/// Pause before a publication that the node had no room for is tried again, in milliseconds.
pub const POSTGRES_REFUSED_MS: u64 = 10;
/// How long the cluster may refuse publications, in milliseconds. Then the node gives up the lock,
/// so that another one takes over.
pub const POSTGRES_PATIENCE_MS: u64 = 1_000;
/// Answers to publications that may be under way. Two for each row of a batch.
pub const POSTGRES_ANSWERS_MAX: usize = 2 * POSTGRES_BATCH_MAX;
/// Rows that a node of a cluster has under way together. More follow when these are answered; if
/// one of them must be tried again, the others may get ahead of it.
pub const POSTGRES_WINDOW: usize = 64;
/// Bytes of JSON that `realtime.publish` takes, which then refuses, and `realtime.watch` publishes,
/// which then publishes the key alone.
pub const POSTGRES_PAYLOAD_BYTES_MAX: usize = 900_000;
/// How much longer the connection that holds the lock may be silent if a query of it runs: so many
/// times [`POSTGRES_SILENCE_MS`].
pub const POSTGRES_BUSY_TIMES: u64 = 10;

const _: () = assert!(
    POSTGRES_PAYLOAD_BYTES_MAX + CHANNEL_BYTES_MAX + EVENT_BYTES_MAX <= MESSAGE_BYTES_MAX,
    "what realtime.publish takes is a message"
);
