//! The bounds of M2's room, each with what happens if it is exceeded.

/// Longest id of a resource, in bytes. A longer one is refused, over HTTP with 400.
pub const RESOURCE_BYTES_MAX: usize = 512;
/// Longest name of an organization, project, world, launch context or user, in bytes. A longer one
/// is refused with 400, or with 401 if a token holds it.
pub const NAME_BYTES_MAX: usize = 255;
/// Longest value of `Sec-WebSocket-Protocol` that is decoded, in bytes, because decoding takes
/// quadratic time. A longer one is ignored like any foreign subprotocol.
pub const SUBPROTOCOL_BYTES_MAX: usize = 8 * 1024;
/// How far a writer's version may be ahead of the node's clock, in milliseconds. A later version is
/// refused with 400, because each following version would have to be later still.
pub const VERSION_AHEAD_MS_MAX: u64 = 24 * 60 * 60 * 1_000;

/// Reads that a worker's queue may hold, besides two for each waiting subscription. Beyond that the
/// outdated ones are dropped, whose subscriptions have ended or have asked again.
pub const LOADS_OUTDATED_MAX: usize = 1_024;
/// Stale documents of one client that are read from the store at a time. The next ones are read
/// when the client has taken these.
pub const STALE_RELOADED_MAX: usize = 4;
