//! Every bound of M2's room by name. What happens at a bound stands beside it.

/// Longest id of a resource, in bytes. A longer one is refused.
pub const RESOURCE_BYTES_MAX: usize = 512;
/// Longest name of an organization, project, world, launch context or user, in bytes. A longer one
/// is refused with 400, or with 401 if a token holds it.
pub const NAME_BYTES_MAX: usize = 255;
/// Longest value of `Sec-WebSocket-Protocol` that is decoded, in bytes, because decoding takes
/// quadratic time. A longer one is ignored like any foreign subprotocol.
pub const SUBPROTOCOL_BYTES_MAX: usize = 8 * 1024;
/// How far ahead of the node's clock a writer's version may be, in milliseconds. A version beyond
/// it is refused with 400, because every later one would have to be later still.
pub const VERSION_AHEAD_MS_MAX: u64 = 24 * 60 * 60 * 1_000;

/// Reads whose subscriptions have ended and that a worker may still hold, besides as many as there
/// are reads with a waiting subscription. At the bound they are dropped.
pub const LOADS_OUTDATED_MAX: usize = 1_024;
/// Stale documents of one client that are read from the store at a time. The next are read when the
/// client has taken these.
pub const STALE_RELOADED_MAX: usize = 4;
