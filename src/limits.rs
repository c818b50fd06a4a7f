//! Every bound of the node by name, except those that only the values of a configuration key have:
//! they stand with the key, in `config::keys`. What happens at a bound stands beside it.

/// Worker threads a node may have: a worker's number must fit a session id's first byte.
pub const WORKERS_MAX: usize = 250;

/// Places kept apart in each mailbox for control mail (joins, hand-overs, polls). At the bound the
/// wish is refused with `OVERLOADED` and counted.
pub const MAILBOX_CONTROL_MAX: usize = 4_096;
/// Mail taken in one turn before the connections that it touched are drained.
pub const TURN_MAIL_MAX: usize = 256;
/// Bytes of frames after which a turn takes no more mail, so that a turn cannot fill the outbox of
/// a connection that keeps up.
pub const TURN_BYTES_MAX: usize = 1024 * 1024;
/// Sockets read in one turn; the rest is read in the next.
pub const TURN_READS_MAX: usize = 256;
/// Connections drained before the worker looks at its sockets again.
pub const TURN_DRAINS_MAX: usize = 1_024;
/// Frames in one vectored send; the kernel takes at most 1,024.
pub const VECTORED_FRAMES_MAX: usize = 64;

/// Bytes read from a socket in one call: the worker's own scratch buffer.
pub const READ_BUFFER_BYTES: usize = 64 * 1024;
/// Longest message a client may send, in bytes (Engine.IO `maxPayload`). Beyond it a WebSocket is
/// closed with 1009 and a POST is answered 413.
pub const MESSAGE_BYTES_MAX: usize = 1_000_000;
/// Longest message on the conformance echo, in bytes.
pub const ECHO_MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Binary attachments of one Socket.IO packet; more closes the connection.
pub const ATTACHMENTS_MAX: usize = 10;

/// Long-polling sessions of one worker, which cost a client one request each. At the bound a new
/// one is answered 503 with Retry-After and counted.
pub const POLLING_SESSIONS_MAX: u64 = 65_536;

/// Bytes that may wait for one connection. Beyond it publications are dropped whose channels want
/// that, and where these are too few the connection is closed as a slow consumer. Frames are
/// shared, so what waits for many connections is in memory once.
pub const OUTBOX_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Frames that may wait for one connection. Beyond it the same.
pub const OUTBOX_FRAMES_MAX: usize = 8_192;
/// The part of an outbox, one of so many, that must be free after publications were dropped from
/// it; where it is not, the connection is closed as a slow consumer.
pub const OUTBOX_ROOM_MIN: usize = 16;
/// Frames that may wait for a connection that takes nothing before outdated ones are looked for;
/// after that, whenever what waits has doubled.
pub const LATEST_FRAMES_MAX: usize = 64;
/// Channels that one connection may be subscribed to. Beyond it a subscribe is refused.
pub const SUBSCRIPTIONS_PER_CONNECTION_MAX: usize = 4_096;

/// How long a closing WebSocket waits for its peer's side of the close, in milliseconds; then the
/// socket is closed whatever the peer does.
pub const CLOSE_LINGER_MS: u64 = 2_000;
/// Reads of one socket in one turn; a client that sends faster waits for the next.
pub const READS_PER_TURN_MAX: usize = 4;
/// Publications that a client which comes back may have missed. Who has missed more is told that it
/// was not recovered: its outbox must hold them all, with room for what comes behind.
pub const RECOVERY_PUBLICATIONS_MAX: usize = OUTBOX_FRAMES_MAX / 4 * 3;
/// The same, in bytes.
pub const RECOVERY_BYTES_MAX: usize = OUTBOX_BYTES_MAX / 4 * 3;
/// Sessions of one worker whose connection was cut and who may come back. Beyond it the one that
/// has been away for longest is given up: it is told that it was not recovered.
pub const RECOVERABLE_MAX: usize = 65_536;
/// Channels of all of these together; the same happens at the bound. Each costs some 60 bytes, and
/// what it costs to know the channel.
pub const RECOVERABLE_CHANNELS_MAX: usize = 262_144;
/// Long-polling sessions that went on at another worker and whose requests are passed on there.
/// Beyond it a client that would have to be passed on is told that it was not recovered.
pub const FORWARDS_MAX: usize = 16_384;
/// Leaves of closed connections that wait for room in a mailbox are tried again after so many
/// milliseconds. There are never more than the worker has subscriptions.
pub const LEAVE_RETRY_MS: u64 = 10;

/// Between two steps of closing connections, in milliseconds, when the node stops.
pub const SHUTDOWN_STEP_MS: u64 = 10;
/// How long a connection that a stopping node closes has to take what waits for it and to close its
/// own side, in milliseconds.
pub const SHUTDOWN_LINGER_MS: u64 = 4_000;
/// How long the clients of a stopping node that are on long-polling may still connect, to fetch
/// what waits for them and to be told, in milliseconds; then it is dropped and counted.
pub const SHUTDOWN_POLLS_MS: u64 = 2_000;
/// How long a stopping node waits, once every connection was told, for requests that are under way
/// and for clients to close their side, in milliseconds; then it stops without them and says so.
pub const SHUTDOWN_GRACE_MS: u64 = 5_000;
/// How long a stopping node lets webhook calls go on, in milliseconds; what is left then is dropped
/// and counted.
pub const SHUTDOWN_WEBHOOKS_MS: u64 = 5_000;
/// How long a stopping node waits for the store to be flushed, in milliseconds; then it fails.
pub const SHUTDOWN_FLUSH_MS: u64 = 30_000;
/// How long a thread may take to answer before `GET /api/health` calls it stuck, in milliseconds.
pub const HEALTH_PATIENCE_MS: u64 = 1_000;

/// Longest channel name, in bytes. A longer one is refused as `INVALID_INPUT`.
pub const CHANNEL_BYTES_MAX: usize = 512;
/// Longest event name, in bytes. A longer one is refused as `INVALID_INPUT`.
pub const EVENT_BYTES_MAX: usize = 512;
/// Longest payload that is a string or an array itself, in bytes. Spread over keys, as the SDK
/// reads it, each character or item becomes an entry. A longer one is refused as `INVALID_INPUT`.
pub const SPREAD_BYTES_MAX: usize = 64 * 1024;
/// Channel definitions a node keeps. At the bound a new one is refused with 409 and counted.
pub const DEFINITIONS_MAX: usize = 10_000;
/// Webhook URLs of one definition.
pub const WEBHOOKS_PER_DEFINITION_MAX: usize = 32;

/// Longest time for which a channel keeps publications for who subscribes later, in seconds. More
/// is refused as `INVALID_INPUT`.
pub const REPLAY_SECONDS_MAX: u32 = 3_600;
/// Publications that one channel keeps for who subscribes later. At the bound the oldest goes,
/// counted.
pub const REPLAY_PUBLICATIONS_MAX: usize = 256;
/// Bytes that one channel keeps for that, by payload and [`REPLAY_OVERHEAD_BYTES`]. At the bound
/// the oldest go, counted.
pub const REPLAY_BYTES_MAX: usize = 1024 * 1024;
/// Bytes that all channels of the node keep for that. At the bound the oldest of the channel go on
/// which something is published, counted. Payloads count; with their frames they take twice that.
pub const REPLAY_TOTAL_BYTES_MAX: usize = 256 * 1024 * 1024;
/// What a kept publication counts for besides its payload, so that many small ones, and channels
/// with one each, are bounded too.
pub const REPLAY_OVERHEAD_BYTES: usize = 512;
/// How often channels are looked at that nobody hears and that keep something, in milliseconds.
pub const SWEEP_MS: u64 = 1_000;
/// In how many steps the whole directory is looked through for them.
pub const SWEEP_STEPS: usize = 4;
/// Highest rate that a channel's clients can be limited to, in publications a second. More is
/// refused as `INVALID_INPUT`.
pub const RATE_LIMIT_MAX: u32 = 1_000_000;

/// Bytes of retained values, over all channels with a subscriber that keep their last publication.
/// Frames and [`RETAINED_OVERHEAD_BYTES`] are counted. A value that does not fit is read from the
/// store for each new subscriber, which is counted.
pub const RETAINED_BYTES_MAX: usize = 256 * 1024 * 1024;
/// What a retained value counts for besides its frame.
pub const RETAINED_OVERHEAD_BYTES: usize = 256;
/// Subscribes of one client to the same resource that one answer of the store answers. Further ones
/// receive no answer of their own.
pub const REPEATED_SUBSCRIBES_MAX: u16 = 16;
/// Bytes that may wait for a client that takes nothing at the moment before documents become stale:
/// a further document is not queued, but read from the store when the client has taken what waits.
/// So a slow client is not closed, what waits for it is bounded, and its pings get through.
pub const STATE_OUTBOX_BYTES_MAX: usize = 1024 * 1024;
/// Writes of documents waiting for the store. At the bound a write is answered 503 with
/// Retry-After and counted.
pub const DOCUMENT_QUEUE_MAX: usize = 4_096;
/// Bytes of them; the same happens at the bound.
pub const DOCUMENT_QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Documents written in one commit; the rest is written in the next.
pub const DOCUMENT_BATCH_MAX: usize = 512;
/// Documents that are kept. At the bound a new one is refused with 507 and counted.
pub const DOCUMENTS_MAX: u64 = 10_000_000;
/// Deleted documents whose last version is remembered, so that one that is made again has a later
/// one. Beyond it the oldest are forgotten, and all that is new is later than they were.
pub const DELETED_DOCUMENTS_MAX: u64 = 1_000_000;
/// So many at a time.
pub const DELETED_DOCUMENTS_FORGOTTEN: u64 = 1_000;
/// Bytes of documents that are read for subscribers in one go, so that those to be written never
/// wait long; one document may be longer.
pub const LOAD_BYTES_MAX: usize = 1024 * 1024;
/// Reads of the store for new subscribers that each worker may have under way. Beyond it they wait
/// in the worker, no more than it has subscriptions.
pub const LOADS_PER_WORKER_MAX: usize = 512;

/// Policies of one side. More are refused as `INVALID_INPUT`.
pub const POLICIES_MAX: usize = 64;
/// Roles that one policy names. More are refused as `INVALID_INPUT`.
pub const POLICY_ROLES_MAX: usize = 32;
/// Longest name of a policy or of a role in it, in bytes. A longer one is refused as
/// `INVALID_INPUT`.
pub const POLICY_NAME_BYTES_MAX: usize = 128;
/// Longest expression of a policy, in bytes. A longer one is refused as `INVALID_INPUT`.
pub const POLICY_EXPRESSION_BYTES_MAX: usize = 4_096;
/// How deep the parts of an expression may lie in each other; a chain of `OR` is as deep as it is
/// long. A deeper one is refused as `INVALID_INPUT`.
pub const POLICY_DEPTH_MAX: i32 = 500;
/// Steps of the database's machine that one expression may take. Beyond it the expression has
/// failed and allows nothing, which is logged and counted.
pub const POLICY_STEPS_MAX: u32 = 4_000;
/// Characters that the `LIKE`s of one expression may compare. Beyond it the expression has failed.
/// The longest pattern that an expression can hold takes half of it on the longest channel name.
pub const POLICY_COMPARISONS_MAX: usize = 4_000_000;
/// Longest value that an expression may see or make, in bytes: more than any field of a channel.
/// Beyond it the expression has failed.
pub const POLICY_VALUE_BYTES_MAX: i32 = 256 * 1024;
/// Questions waiting for the thread that evaluates policies. At the bound a command that needs an
/// answer is refused with `OVERLOADED` and counted.
pub const POLICY_QUEUE_MAX: usize = 768;
/// Verdicts that each worker remembers. At the bound it forgets them all and asks again.
pub const VERDICTS_MAX: usize = 16_384;
/// Commands of one connection that wait behind a verdict. At the bound further ones are refused
/// with `OVERLOADED` and counted.
pub const COMMANDS_WAITING_MAX: usize = 64;
/// Bytes of those commands: room for the longest message. The same at the bound.
pub const COMMANDS_WAITING_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of the commands of all of one worker's connections that wait behind verdicts. The same at
/// the bound.
pub const WORKER_COMMANDS_WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Members a presence snapshot names, and up to which joins and leaves are announced. Beyond it
/// the snapshot is cut and says so, and announcements stop, counted.
pub const PRESENCE_MEMBERS_MAX: usize = 256;

/// Verified tokens each thread remembers. At the bound the oldest is forgotten.
pub const TOKEN_CACHE_MAX: usize = 65_536;
/// Longest token looked at, in bytes; a longer one is refused unread.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Shortest secret for HS256, in bytes (RFC 7518 section 3.2).
pub const JWT_SECRET_BYTES_MIN: usize = 32;

/// HTTP connections of one acceptor, long-polling ones included. At the bound it accepts no more
/// until one ends; the kernel's backlog holds the newcomers.
pub const HTTP_CONNECTIONS_MAX: usize = 16_384;
/// Longest HTTP request head, in bytes: request line and headers. Beyond it 431.
pub const HTTP_HEAD_BYTES_MAX: usize = 16 * 1024;
/// Headers of one request. Beyond it 431.
pub const HTTP_HEADERS_MAX: usize = 64;
/// Longest HTTP request body, in bytes. Beyond it 413.
pub const HTTP_BODY_BYTES_MAX: usize = MESSAGE_BYTES_MAX;

/// How deep the values of a JSON envelope (`wire::json`) may lie in each other. A deeper one is
/// refused as malformed.
pub const JSON_DEPTH_MAX: usize = 128;
/// Longest JSON envelope, in bytes, for the next of which a thread keeps its memory.
pub const JSON_KEPT_BYTES_MAX: usize = 128 * 1024;
/// Values and signs of one that it keeps memory for, some 24 bytes each.
pub const JSON_KEPT_NODES_MAX: usize = 4_096;

/// Times that a webhook is called for one publication; then the call is given up and counted.
pub const WEBHOOK_ATTEMPTS_MAX: u32 = 5;
/// Between the first attempt of a webhook call and the second, in milliseconds, give or take half
/// of it. Each further wait is twice as long.
pub const WEBHOOK_RETRY_MS: u64 = 1_000;
/// Longest `Retry-After` that is obeyed, in seconds; a longer one counts as this.
pub const WEBHOOK_RETRY_AFTER_S_MAX: u64 = 60;
/// Calls taken for one target (scheme, host and port) and not settled yet: waiting, under way, and
/// between two attempts. At the bound a new one is dropped and counted.
pub const WEBHOOK_TARGET_QUEUE_MAX: usize = 1_024;
/// Calls under way to one target; the others wait for their turn.
pub const WEBHOOK_TARGET_CONCURRENT_MAX: usize = 8;
/// Calls under way to all targets, each with a descriptor; the others wait for their turn. Only
/// more targets than this divided by the bound before, all without an answer, slow down others.
pub const WEBHOOK_CONCURRENT_MAX: usize = 1_024;
/// Webhook calls taken and not settled yet, over all targets. At the bound a new one is dropped
/// and counted.
pub const WEBHOOK_WAITING_MAX: usize = 65_536;
/// Bytes of payload that webhook calls keep, over all targets; what goes to several URLs counts
/// once. At the bound a new call is dropped and counted.
pub const WEBHOOK_WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Publications on their way to the thread of webhooks. At the bound a new one is dropped and
/// counted.
pub const WEBHOOK_HANDOVER_MAX: usize = 4_096;
/// Names of webhook targets that are looked up at once, each on a thread; the others wait.
pub const WEBHOOK_LOOKUPS_MAX: usize = 32;
/// Bytes of a webhook's answer that are read, so that its connection can be used again. A longer
/// answer costs its connection.
pub const WEBHOOK_ANSWER_BYTES_MAX: usize = 16 * 1024;
/// How long an idle connection to a webhook is kept, in milliseconds.
pub const WEBHOOK_IDLE_MS: u64 = 15_000;
/// Between two lines in the log about the same webhook target, in milliseconds.
pub const WEBHOOK_WARNING_MS: u64 = 60_000;
/// Webhook targets that the log may name within that time; the others are only counted.
pub const WEBHOOK_WARNED_MAX: usize = 1_024;

/// Requests waiting for the store. At the bound the request is answered 503 with Retry-After.
pub const STORE_QUEUE_MAX: usize = 1_024;
/// Questions waiting for the reader of history. At the bound the request is answered 503 with
/// Retry-After and counted.
pub const READER_QUEUE_MAX: usize = 256;

/// Messages in one page of history. A request for more is refused as `INVALID_INPUT`.
pub const HISTORY_PAGE_MESSAGES_MAX: u32 = 1_000;
/// Bytes of payloads in one page of history. A page with more is refused as `INVALID_INPUT`, with
/// the advice to ask for fewer.
pub const HISTORY_PAGE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How long one question to history may take, in milliseconds. Beyond it it is given up, and the
/// caller is advised to ask for less.
pub const QUERY_MS_MAX: u64 = 2_000;
/// Event names that the statistics name.
pub const TOP_EVENTS_MAX: usize = 10;
/// Event names that are counted apart for one answer. Beyond it the question is given up as one
/// that takes too long.
pub const EVENTS_COUNTED_MAX: usize = 200_000;
/// Longest time for which history can be told to be kept, in days. More is refused as
/// `INVALID_INPUT`.
pub const RETENTION_DAYS_MAX: u32 = 36_500;
/// Time between two looks for messages that are older than they are kept, in milliseconds.
pub const RETENTION_EVERY_MS: u64 = 60_000;
/// Messages removed from history in one go, so that those to be stored never wait long.
pub const REMOVED_ROWS_MAX: u32 = 1_000;
/// Tallies that are added up to make those of a larger segment of history. Where there would be
/// more, because hardly two messages share an event name, the larger segment goes without.
pub const TALLIES_MERGED_MAX: u32 = 65_536;

/// Publications waiting to be kept in history. At the bound a publish is refused whole
/// (`OVERLOADED`, 503 with Retry-After) and counted.
pub const HISTORY_QUEUE_MAX: usize = 65_536;
/// Bytes of their event names and payloads; the same happens at the bound.
pub const HISTORY_QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Publications kept in one commit; the rest is kept in the next.
pub const HISTORY_BATCH_MAX: usize = 1_024;
/// Shortest time between two commits, in milliseconds. A lone publication is committed at once;
/// under load this is how long others are waited for, since a commit costs as much as ten rows.
pub const COMMIT_EVERY_MS: u64 = 2;

const _: () = assert!(
    OUTBOX_BYTES_MAX >= 4 * (TURN_BYTES_MAX + 2 * MESSAGE_BYTES_MAX),
    "what one turn adds leaves a connection that keeps up far from the bound"
);
const _: () = assert!(
    2 * POLICY_QUEUE_MAX + LOADS_PER_WORKER_MAX <= MAILBOX_CONTROL_MAX / 2,
    "answers to come leave a mailbox the places without which a worker stops reading"
);
const _: () = assert!(COMMANDS_WAITING_BYTES_MAX > MESSAGE_BYTES_MAX, "any command may wait");
const _: () = assert!(
    POLICY_COMPARISONS_MAX >= POLICY_EXPRESSION_BYTES_MAX * CHANNEL_BYTES_MAX,
    "no pattern is too long for a channel's name"
);
const _: () = assert!(
    OUTBOX_BYTES_MAX / OUTBOX_ROOM_MIN >= MESSAGE_BYTES_MAX,
    "the room that is made takes nearly any frame"
);
const _: () = assert!(
    REPLAY_BYTES_MAX >= MESSAGE_BYTES_MAX + REPLAY_OVERHEAD_BYTES
        && REPLAY_BYTES_MAX <= REPLAY_TOTAL_BYTES_MAX,
    "any publication can be kept"
);
const _: () = assert!(VECTORED_FRAMES_MAX <= 1_024, "IOV_MAX");
const _: () = assert!(
    WEBHOOK_WAITING_MAX >= WEBHOOKS_PER_DEFINITION_MAX
        && WEBHOOK_WAITING_BYTES_MAX >= MESSAGE_BYTES_MAX,
    "a publication for all webhooks of a definition finds room when nothing waits"
);
const _: () = assert!(
    WEBHOOK_CONCURRENT_MAX >= 16 * WEBHOOK_TARGET_CONCURRENT_MAX,
    "a few targets that do not answer leave most places to the others"
);
const _: () = assert!(SHUTDOWN_FLUSH_MS > 2 * SHUTDOWN_WEBHOOKS_MS, "the store comes after them");
const _: () = assert!(
    SHUTDOWN_GRACE_MS > SHUTDOWN_LINGER_MS && SHUTDOWN_GRACE_MS > SHUTDOWN_POLLS_MS,
    "who is told last that a node stops has as long to close as anybody else"
);
