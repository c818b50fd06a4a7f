//! Every bound of this room by name. What happens at a bound stands beside it.

/// Channels of one stream. A request for more is refused with 400.
pub const CHANNELS_MAX: usize = 64;
/// Longest `Last-Event-ID` that is read, in bytes: the longest cursor of [`CHANNELS_MAX`] channels
/// in base64. A longer one is no cursor of this node, so that the client is told of a gap.
pub const CURSOR_BYTES_MAX: usize = 2_048;
/// Pause of clients before they connect again, in milliseconds, unless they choose for themselves.
pub const RETRY_MS: u64 = 2_000;
/// Time between two looks whether a stream whose client has closed its sending side has begun, in
/// milliseconds.
pub const HALF_CLOSED_LOOK_MS: u64 = 50;
