//! The bounds of a node's part in a cluster. Each comment says what happens at the bound. Times are
//! in milliseconds.

use crate::limits::{MESSAGE_BYTES_MAX, REPEATS_MS};

/// Nodes that a node keeps apart, by their heartbeats and claims. Further ones are not noted, and
/// the mirror of claims counts as incomplete, so that no audience is reported as known.
pub const NODES_MAX: usize = 256;

/// Longest first line of a publication's message, in bytes: the longest channel name, the longest
/// event name and the id of a sender fit, even if JSON has to escape them. A longer one is not
/// sent.
pub const LINE_BYTES_MAX: usize = 24 * 1024;
/// Longest body of a message, in bytes. A longer one is not sent, and is skipped and counted if it
/// is received.
pub const BODY_BYTES_MAX: usize = LINE_BYTES_MAX + 1 + MESSAGE_BYTES_MAX;
/// Longest header that is read or written, in bytes. A message with a longer one is skipped.
pub const HEADER_BYTES_MAX: usize = 512;
/// Headers of one message that are looked at. A message with more is skipped.
pub const HEADERS_MAX: usize = 32;
const _: () = assert!(
    BODY_BYTES_MAX + HEADERS_MAX * HEADER_BYTES_MAX < 1_048_576,
    "NATS takes 1 MiB with its default configuration"
);

/// Live messages of one channel that wait while something before them is read. Further ones are
/// dropped and read from the stream afterwards.
pub const WAITING_MESSAGES_MAX: usize = 256;
/// Bytes of these messages. The same happens at the bound.
pub const WAITING_BYTES_MAX: usize = 1024 * 1024;
/// Channels whose missing messages are read at once. Others wait, each once.
pub const READS_MAX: usize = 64;
/// How long a channel's missing messages are read for. Then a gap is told instead.
pub const READ_MS_MAX: u64 = 5_000;

/// Messages that are sent and not answered. At the bound nothing more is sent: a publication is
/// refused as overloaded, anything else waits.
pub const FLIGHTS_MAX: usize = 4_096;
/// Bytes of these messages. The same happens at the bound.
pub const FLIGHT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Places among [`FLIGHTS_MAX`] that publications leave free, so that heartbeats, claims, barriers
/// and anchors are sent under any load.
pub const FLIGHTS_KEPT_BACK: usize = 640;
/// Publications without an answer in time whose late answer is still recognized. Beyond the bound
/// the oldest is forgotten.
pub const LIMBO_MAX: usize = 4_096;
/// How long such a late answer is recognized: as long as the stream recognizes a repeated message.
pub const LIMBO_MS: u64 = REPEATS_MS;
/// How long heartbeats, claims, barriers and anchors wait for their answer. Then they count as
/// unknown and are sent again if they are still needed.
pub const CONTROL_ANSWER_MS: u64 = 1_000;

/// Time between two heartbeats of a node.
pub const BEAT_MS: u64 = 500;
/// Silence of its own heartbeat, on the way to the stream or back, after which a node is deaf.
/// Health must say so within two seconds, with some time to spare for a busy machine.
pub const DEAF_MS: u64 = 1_500;
/// Silence after which another node is suspect: what it says about its subscribers is unknown.
pub const SUSPECT_MS: u64 = 3_000;
/// Silence after which the claims of another node may be purged. It is longer than
/// [`SUSPECT_MS`], after which that node itself claims again before it answers anything.
pub const DEAD_MS: u64 = 10_000;
/// Heartbeats under way whose times are remembered. The oldest is forgotten.
pub const BEATS_REMEMBERED: usize = 16;
/// Measurements of the clock's offset, of which the median counts.
pub const OFFSETS: usize = 16;
/// Time between two refreshes of the stream's anchor. A stream drops its oldest messages at its
/// bound of bytes. If the anchor is dropped, nodes take that for lost data: the least stream would
/// have to take 256 MB/s for that.
pub const ANCHOR_MS: u64 = 250;
/// Time between two attempts to read or write the anchor.
pub const ANCHOR_RETRY_MS: u64 = 1_000;

/// How long wishes are gathered into one round of attaching.
pub const ROUND_MS: u64 = 1;
/// Channels of one round. Further wishes begin the next one.
pub const ROUND_CHANNELS_MAX: usize = 512;
/// Claims under way. Further ones wait, each once. They leave some of the places that are kept back
/// to heartbeats, barriers and anchors.
pub const CLAIMS_UNDER_WAY_MAX: usize = FLIGHTS_KEPT_BACK - 128;
/// How long an attach may take. Then its channel is released, and those that wait are refused.
pub const ATTACH_MS_MAX: u64 = 5_000;
/// How long a channel without subscribers stays attached.
pub const DETACH_LINGER_MS: u64 = 2_000;
/// Time until a claim that failed is sent again.
pub const CLAIM_RETRY_MS: u64 = 250;

/// How long it may take until a node hears that a stream has another leader: what it asks for every
/// 5 s may be answered late, and by the old one. A hole reaches back so far.
pub const LEADER_NOTICE_MS: u64 = 10_000;
/// Of the messages that a node has heard in so many milliseconds it remembers the last one, to
/// notice that the stream has lost it.
pub const WITNESS_MS: u64 = 100;

/// Messages of a hole that are read one by one. In a longer hole only the channels that have moved
/// are read.
pub const HOLE_MESSAGES_MAX: u64 = 65_536;
/// Messages of one read of a hole.
pub const HOLE_BATCH_MAX: usize = 512;
/// Channels of one question for their latest messages. NATS takes at most 1,024.
pub const SURVEY_CHANNELS_MAX: usize = 1_000;
/// How long one step of reading a hole may take. Then it is asked for again.
pub const HOLE_STEP_MS: u64 = 2_000;
/// How long a hole may be read for without progress. Then gaps are told instead.
pub const HOLE_MS_MAX: u64 = 10_000;

/// Claims in the mirror of all nodes' claims. Further ones are not noted, and the mirror counts as
/// incomplete, so that no audience is reported as known.
pub const CLAIMS_MAX: usize = 4_000_000;
/// Decisions that wait for a barrier. At the bound a further one is refused as unknown.
pub const BARRIER_WAITING_MAX: usize = FLIGHTS_MAX;
/// Publications whose audience is being counted. At the bound the audience of a further one is
/// unknown at once.
pub const COUNTS_MAX: usize = FLIGHTS_MAX;
