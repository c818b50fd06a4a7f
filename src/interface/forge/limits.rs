//! The bounds of Forge's room, each with what happens if it is exceeded.

use crate::limits::{REPLAY_BYTES_MAX, TOKEN_BYTES_MAX};

/// Longest name of a channel, in bytes. A longer one is refused with 400 or `INVALID_INPUT`.
pub const CHANNEL_BYTES_MAX: usize = 255;
/// Longest name of an installation, in bytes. A token, registration or header with a longer one is
/// refused.
pub const INSTALLATION_BYTES_MAX: usize = 512;
/// Longest claims of a realtime token, in bytes of JSON, as given and in canonical form. Longer
/// claims are refused with 400.
pub const CLAIMS_BYTES_MAX: usize = 4_096;
/// Longest time for which a context or invocation token may still be valid, in seconds. A token
/// with a longer life is refused, and `fanfare token` does not sign one.
pub const PROOF_S_MAX: u64 = 900;

/// Time in which a client must prove its context, in milliseconds. After it the connection is
/// closed with 4401.
pub const CONNECT_MS: u64 = 5_000;
/// Time for which a connection stays open after its context token has expired, in milliseconds. The
/// client can only send a newer token. After it the connection is closed with 4401.
pub const GRACE_MS: u64 = 5_000;
/// Time between two attempts to end a subscription whose token has expired, in milliseconds, if a
/// mailbox has no room.
pub const RETRY_MS: u64 = 10;
/// Bytes of replayed frames that may wait for one client. Replayed frames are not shared with other
/// clients, so a client that does not read could fill memory with repeated requests. Events that do
/// not fit are reported as a gap.
pub const REPLAYED_BYTES_MAX: usize = 4 * REPLAY_BYTES_MAX;

/// Registered invocations. At the bound the expired ones are removed; if none has expired, the new
/// one is refused with 503 and `Retry-After`.
pub const INVOCATIONS_MAX: usize = 65_536;
/// Longest description of an invocation, in bytes. A longer one is refused with 413.
pub const INVOCATION_BYTES_MAX: usize = TOKEN_BYTES_MAX;
/// Longest id of an invocation, in bytes. A longer one is refused with 400.
pub const INVOCATION_ID_BYTES_MAX: usize = 255;
/// Longest time for which an invocation may be registered, in seconds. A longer time is refused
/// with 400.
pub const INVOCATION_TTL_S_MAX: u32 = 900;

const _: () = assert!(
    (CLAIMS_BYTES_MAX + 2 * INSTALLATION_BYTES_MAX + 4 * CHANNEL_BYTES_MAX + 512) * 4 / 3
        <= TOKEN_BYTES_MAX,
    "every realtime token that is signed is short enough to be verified"
);
