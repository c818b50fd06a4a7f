//! The bounds of the node. Each comment says what happens at the bound. Bounds that only the values
//! of a configuration key have stand with the key, in `config::keys`.

mod cluster;
mod postgres;

pub use self::cluster::*;
pub use self::postgres::*;

/// Worker threads of a node: a worker's number must fit into the first byte of a session id.
pub const WORKERS_MAX: usize = 250;

/// Places of a worker's mailbox that are reserved for control mail (joins, arrivals, polls). At the
/// bound a request is refused with `OVERLOADED` and counted.
pub const MAILBOX_CONTROL_MAX: usize = 4_096;
/// Pieces of mail that a worker takes in one turn before it drains the connections concerned.
pub const TURN_MAIL_MAX: usize = 256;
/// Bytes of frames after which a turn takes no more mail, so that one turn cannot fill the outbox
/// of a connection that keeps up.
pub const TURN_BYTES_MAX: usize = 1024 * 1024;
/// Work of inflating after which a turn reads no more sockets, in bytes: those that were read,
/// those that were made, and some for each block. What is short on the wire may be a thousand times
/// as long.
pub const TURN_INFLATING_MAX: usize = 2 * 1024 * 1024;
/// Bytes that one call reads from a socket whose client compresses messages, for the same reason.
pub const DEFLATED_READ_BYTES: usize = 4 * 1024;
/// Sockets that a worker reads in one turn. The others are read in the next turn.
pub const TURN_READS_MAX: usize = 256;
/// Sockets that it reads before it asks the kernel for more that are ready. More at once would push
/// each other out of the cache: passes of 1,024 cost 6 to 7 % more at 2,000 connections.
pub const READ_PASS_MAX: usize = 64;
/// Sends after which a worker looks at its sockets again.
pub const TURN_DRAINS_MAX: usize = 1_024;
/// Connections with frames to send from which on a turn looks for more publications before it
/// drains them.
pub const GATHER_SENDS_MIN: usize = 256;
/// How often in a row it may find none, before it drains them.
pub const GATHER_FRUITLESS_MAX: usize = 4;
/// Frames in one vectored send. The kernel takes at most 1,024.
pub const VECTORED_FRAMES_MAX: usize = 64;

/// Connections whose sends are one batch. With 1,024 the kernel was slightly slower than with 64 to
/// 256.
pub const SEND_BATCH_MAX: usize = 128;
/// Frames that a worker has lent to the kernel at most. With so many, further ones are copied.
pub const LENT_FRAMES_MAX: usize = 4_096;
/// Frames after which a batch takes no more connections.
pub const SEND_BATCH_SLICES_MAX: usize = 2_048;

/// Places where a node listens.
pub const LISTENERS_MAX: usize = 16;
/// Certificates that a node shows. A handshake looks through all of them.
pub const CERTIFICATES_MAX: usize = 64;

/// Bytes that one call reads from a socket: the size of a worker's read buffer.
pub const READ_BUFFER_BYTES: usize = 64 * 1024;
/// Longest message of a client, in bytes (Engine.IO `maxPayload`). A longer one closes a WebSocket
/// with 1009; a longer POST is answered 413.
pub const MESSAGE_BYTES_MAX: usize = 1_000_000;
/// Bytes of the beginning of a message that is too long, which an interface may look at to answer
/// it. The rest is discarded.
pub const TOO_LONG_START_BYTES: usize = 64;
/// Longest message on the conformance echo, in bytes.
pub const ECHO_MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Binary attachments of one Socket.IO packet. A packet with more closes the connection.
pub const ATTACHMENTS_MAX: usize = 10;

/// Longest file of the Socket.IO client that is served, in bytes. A longer one keeps the node from
/// starting.
pub const CLIENT_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Long-polling sessions of one worker, each of which costs a client one request. At the bound a
/// new session is answered 503 with Retry-After and counted.
pub const POLLING_SESSIONS_MAX: u64 = 65_536;

/// Packets in the answer to one poll. The rest of the outbox goes with the next poll.
/// python-engineio refuses an answer with more than 16 and drops the connection.
pub const POLL_PACKETS_MAX: u64 = 16;
/// Bytes of the answer to one poll, if it has more than one packet. The rest goes with the next
/// poll.
pub const POLL_BYTES_MAX: usize = 1_000_000;

/// Bytes of one connection's outbox. At the bound, publications of channels that allow it are
/// dropped; if that does not free enough, the connection is closed as a slow consumer. Frames are
/// shared: one that is in many outboxes is in memory once.
pub const OUTBOX_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Frames of one connection's outbox. The same happens at the bound.
pub const OUTBOX_FRAMES_MAX: usize = 8_192;
/// One in this many parts of an outbox must be free after publications were dropped from it;
/// otherwise the connection is closed as a slow consumer.
pub const OUTBOX_FREE_DIVISOR: usize = 16;
/// Frames in the outbox of a connection that takes nothing at which outdated ones are looked for;
/// after that, each time the number of frames has doubled.
pub const LATEST_FRAMES_MAX: usize = 64;
/// What a connection may hold however little of `memory.client_bytes` is free, in bytes, as long as
/// its client takes something from time to time.
pub const HELD_BYTES_MIN: usize = 16 * 1024;
/// Bytes that a socket may hold which its peer's window has no room for (`TCP_NOTSENT_LOWAT`). With
/// more, the socket counts as full, and further frames wait in the outbox, where they are shared
/// and bounded. Without this bound the kernel holds up to 4 MiB for each client that does not read.
pub const UNSENT_BYTES_MAX: u32 = 32 * 1024;
/// What a socket that takes nothing counts for in `memory.client_bytes`: [`UNSENT_BYTES_MAX`], and
/// what the kernel spends on its buffers.
pub const SOCKET_BYTES: usize = 48 * 1024;
/// What a new connection or subscription must find free in `memory.client_bytes`, in bytes.
/// Otherwise it is refused with `OVERLOADED` (503 with Retry-After) and counted.
pub const NEWCOMER_BYTES: usize = 64 * 1024;
/// The node is short of memory when less than one in this many parts of `memory.client_bytes` is
/// free. Then connections that take nothing are closed, those first that hold the most.
pub const MEMORY_SHORT_DIVISOR: usize = 16;
/// Windows, retained documents, the resume logs of all workers, and the queues to history, to
/// documents and to webhooks have at most one in this many parts of `memory.client_bytes` each,
/// even if their own bounds are higher.
pub const MEMORY_PART_DIVISOR: usize = 16;
/// Requests that HTTP connections hold have at most one in this many parts of
/// `memory.client_bytes` together. A quarter of that is for requests of at most
/// [`SHORT_REQUEST_BYTES`]; a longer one may have twice as much as is free of the rest. What does
/// not fit is answered 503 with Retry-After and counted. A request that one read brings whole is
/// served in any case.
pub const REQUESTS_DIVISOR: usize = 8;
/// Bytes of a short request, with the buffer that it is read into.
pub const SHORT_REQUEST_BYTES: usize = 32 * 1024;
/// Bytes that an acceptor takes of that at a time.
pub const REQUESTS_GRANT_BYTES: usize = 64 * 1024;
/// Time between two looks through all connections while the node is short of memory, in
/// milliseconds. A client that takes nothing in between is closed at the second.
pub const LOOK_MS: u64 = 1_000;
/// Connections that a worker closes at one look. With more, it looks again in its next turn.
pub const LOOK_CLOSES_MAX: usize = 256;
/// Frames of an outbox that are looked at to estimate which part of them is its own.
pub const SAMPLED_FRAMES: usize = 64;
/// Channels that one connection may be subscribed to, the most that
/// `limits.subscriptions_per_connection` may be. At the bound a subscribe is refused.
pub const SUBSCRIPTIONS_PER_CONNECTION_MAX: usize = 4_096;

/// How long a closing WebSocket waits for the peer to close its side, in milliseconds. Then the
/// socket is closed.
pub const CLOSE_LINGER_MS: u64 = 2_000;
/// Reads of one socket in one turn. If a client sends more, the rest is read in the next turn.
pub const READS_PER_TURN_MAX: usize = 4;
/// Publications that a resuming client may have missed. A client that missed more is not recovered,
/// because its outbox must hold all of them and still have space for later ones.
pub const RECOVERY_PUBLICATIONS_MAX: usize = OUTBOX_FRAMES_MAX / 4 * 3;
/// Bytes of these publications. The same happens at the bound.
pub const RECOVERY_BYTES_MAX: usize = OUTBOX_BYTES_MAX / 4 * 3;
/// Detached sessions of one worker. Beyond the bound the one that was detached first is discarded,
/// and its client is not recovered.
pub const RECOVERABLE_MAX: usize = 65_536;
/// Channels of all detached sessions of one worker together. The same happens beyond the bound.
/// Each costs some 60 bytes, and the directory's entry of the channel.
pub const RECOVERABLE_CHANNELS_MAX: usize = 262_144;
/// Long-polling sessions that migrated to another worker, so that their requests are passed on to
/// it. At the bound a client whose session would have to migrate is not recovered.
pub const FORWARDS_MAX: usize = 16_384;
/// Time until the leaves of closed connections that found a full mailbox are tried again, in
/// milliseconds. There are never more of them than the worker had subscriptions.
pub const LEAVE_RETRY_MS: u64 = 10;

/// Time between two steps in which a stopping node closes connections, in milliseconds.
pub const SHUTDOWN_STEP_MS: u64 = 10;
/// How long a connection that a stopping node closes has to take its queued frames and to close its
/// own side, in milliseconds.
pub const SHUTDOWN_LINGER_MS: u64 = 4_000;
/// How long clients on long-polling may still send requests to a stopping node, to fetch their
/// queued frames and the notice of the end, in milliseconds. Then the frames are dropped and
/// counted.
pub const SHUTDOWN_POLLS_MS: u64 = 2_000;
/// How long a connection that a stopping node closes waits until the other nodes of a cluster know
/// what its session is, in milliseconds. Then its client is not recovered. The same for sessions
/// that have no connection.
pub const SHUTDOWN_SESSIONS_MS: u64 = 2_000;
/// How long a stopping node that has closed all connections waits for requests that are under way
/// and for clients to close their side, in milliseconds. Then it stops without them and logs that.
pub const SHUTDOWN_GRACE_MS: u64 = 5_000;
/// How long a stopping node may take to leave its cluster, in milliseconds. Then the other nodes
/// notice its silence.
pub const SHUTDOWN_CLUSTER_MS: u64 = 3_000;
/// How long a stopping node that has closed all connections answers further requests of clients
/// that are still connected over HTTP, in milliseconds. These answers tell the clients to close.
pub const SHUTDOWN_IDLE_MS: u64 = 100;
/// How long a stopping node waits for places that are reserved in the queues to the store, in
/// milliseconds. A place is used or released in the call that reserves it.
pub const SHUTDOWN_PLACES_MS: u64 = 1_000;
/// How long a stopping node lets webhook calls go on, in milliseconds. Then the rest is dropped and
/// counted.
pub const SHUTDOWN_WEBHOOKS_MS: u64 = 5_000;
/// How long a stopping node waits for the store to be flushed, in milliseconds. Then it exits with
/// an error.
pub const SHUTDOWN_FLUSH_MS: u64 = 30_000;

/// Lines in the queue to the log. At the bound a line is dropped and counted.
pub const LOG_QUEUE_LINES_MAX: usize = 8_192;
/// Bytes of these lines. The same happens at the bound.
pub const LOG_QUEUE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// How long the end of the process waits until queued lines are written, in milliseconds. Then they
/// are lost.
pub const LOG_FLUSH_MS: u64 = 1_000;
/// How long a thread may take to answer before `GET /api/health` calls it stuck, in milliseconds.
pub const HEALTH_PATIENCE_MS: u64 = 1_000;

/// Longest channel name, in bytes, the most that `limits.channel_bytes` may be. A longer one is
/// refused as `INVALID_INPUT`.
pub const CHANNEL_BYTES_MAX: usize = 512;
/// Longest event name, in bytes. A longer one is refused as `INVALID_INPUT`.
pub const EVENT_BYTES_MAX: usize = 512;
/// Longest payload that is itself a string or an array, in bytes. For the SDK its characters or
/// items are spread over keys, so that each becomes an entry. A longer one is refused as
/// `INVALID_INPUT`.
pub const SPREAD_BYTES_MAX: usize = 64 * 1024;
/// Shortest payload that stays a slice of the buffer that it was received in, in bytes. A shorter
/// one is copied, because it costs less to copy it than to note that the buffer is shared.
pub const SHARED_PAYLOAD_BYTES_MIN: usize = 4 * 1024;
/// A payload that is less than one in this many parts of its buffer is copied as well, so that a
/// small payload does not keep a large buffer alive.
pub const SHARED_PAYLOAD_DIVISOR: usize = 2;
/// Channel definitions of a node. At the bound a new one is refused with 409 and counted.
pub const DEFINITIONS_MAX: usize = 10_000;
/// Webhook URLs of one definition.
pub const WEBHOOKS_PER_DEFINITION_MAX: usize = 32;

/// Longest window of a channel's publications for later subscribers, in seconds. A longer one is
/// refused as `INVALID_INPUT`.
pub const REPLAY_SECONDS_MAX: u32 = 3_600;
/// Publications in one channel's window. At the bound the oldest one is dropped and counted.
pub const REPLAY_PUBLICATIONS_MAX: usize = 256;
/// Bytes of one channel's window: payloads, and [`REPLAY_OVERHEAD_BYTES`] for each publication. At
/// the bound the oldest publications are dropped and counted.
pub const REPLAY_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of the windows of all channels. At the bound a publication displaces the oldest ones of
/// its own channel, which is counted. Only payloads are counted; with their frames they take twice
/// that.
pub const REPLAY_TOTAL_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Bytes that a publication in a window counts for besides its payload, so that many small ones,
/// and channels with one each, are bounded too.
pub const REPLAY_OVERHEAD_BYTES: usize = 512;
/// Publications in the log of one channel with streams: as many as a replay puts into an outbox. At
/// the bound the oldest one is dropped and counted.
pub const CHANNEL_LOG_PUBLICATIONS_MAX: usize = OUTBOX_FRAMES_MAX / 2;
/// Bytes of one such log, each publication with two frames. At the bound the oldest publications
/// are dropped and counted. All logs together have at most `recovery.log_bytes`; then a publication
/// displaces the oldest ones of its own channel, and no more logs begin.
pub const CHANNEL_LOG_BYTES_MAX: usize = OUTBOX_BYTES_MAX / 2 * 3;
/// What a log without publications counts for, so that channels whose streams have ended are
/// bounded too.
pub const CHANNEL_LOG_OVERHEAD_BYTES: usize = 1_024;
/// Time between two sweeps of channels that keep something although they have no subscriber, in
/// milliseconds.
pub const SWEEP_MS: u64 = 1_000;
/// Sweeps that it takes to look through the whole directory.
pub const SWEEP_STEPS: usize = 4;
/// Publications in one call. An array of more is refused as `INVALID_INPUT`, and none is published.
pub const BATCH_PUBLICATIONS_MAX: usize = 100;
/// Keys of one kind that a configuration may list as previous ones. More are refused.
pub const PREVIOUS_KEYS_MAX: usize = 8;
/// Issuers, or audiences, of tokens that a configuration may list. More are refused.
pub const ACCEPTED_MAX: usize = 32;
/// Bytes of a JWK set that is fetched. A longer one counts as a failure.
pub const JWKS_BYTES_MAX: usize = 256 * 1024;
/// Time for the answer with a JWK set, in milliseconds. Then it counts as a failure.
pub const JWKS_TIMEOUT_MS: u64 = 5_000;
/// Time between two fetches of a JWK set, in milliseconds.
pub const JWKS_REFRESH_MS: u64 = 300_000;
/// Least time between two fetches, in milliseconds: after a failure, and for tokens of unknown
/// keys, of which strangers can send any number.
pub const JWKS_AGAIN_MS: u64 = 10_000;
/// Origins of pages that a configuration may list. More are refused.
pub const ORIGINS_MAX: usize = 256;
/// Addresses and networks of proxies that a configuration may list. More are refused.
pub const PROXIES_MAX: usize = 256;
/// Buckets for the rates of addresses. Addresses that meet in both of theirs share a rate.
pub const ADDRESS_BUCKETS: usize = 65_536;
/// Highest rate limit of a channel's clients, in publications a second. A higher one is refused as
/// `INVALID_INPUT`.
pub const RATE_LIMIT_MAX: u32 = 1_000_000;

/// Bytes of retained values, over all channels with a subscriber that keep their last publication.
/// Frames and [`RETAINED_OVERHEAD_BYTES`] are counted. A value that does not fit is read from the
/// store for each new subscriber, which is counted.
pub const RETAINED_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Bytes that a retained value counts for besides its frame.
pub const RETAINED_OVERHEAD_BYTES: usize = 256;
/// Subscribes of one client to the same resource that one answer of the store answers. Further ones
/// receive no answer of their own.
pub const REPEATED_SUBSCRIBES_MAX: u16 = 16;
/// Bytes in the outbox of a client that takes nothing at the moment beyond which documents become
/// stale: a further document is not queued, but read from the store once the client has taken its
/// queued frames. So a slow client is not closed, its outbox is bounded, and its pings get through.
pub const STATE_OUTBOX_BYTES_MAX: usize = 1024 * 1024;
/// Writes of documents in the queue to the store. At the bound a write is answered 503 with
/// Retry-After and counted.
pub const DOCUMENT_QUEUE_MAX: usize = 4_096;
/// Bytes of these writes. The same happens at the bound.
pub const DOCUMENT_QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Documents written in one commit. The rest is written in the next.
pub const DOCUMENT_BATCH_MAX: usize = 512;
/// Documents in the store. At the bound a new one is refused with 507 and counted.
pub const DOCUMENTS_MAX: u64 = 10_000_000;
/// Deleted documents whose last version is remembered, so that a document that is created again
/// gets a later version. Beyond the bound the oldest are forgotten; every new document gets a later
/// version than the forgotten ones.
pub const DELETED_DOCUMENTS_MAX: u64 = 1_000_000;
/// Deleted documents that are forgotten at a time.
pub const DELETED_DOCUMENTS_FORGOTTEN: u64 = 1_000;
/// Bytes of documents that are read for subscribers in one go, so that writes never wait long. A
/// single document may be longer.
pub const LOAD_BYTES_MAX: usize = 1024 * 1024;
/// Pending loads of one worker. Further ones wait in the worker, which has no more of them than
/// subscriptions.
pub const LOADS_PER_WORKER_MAX: usize = 512;

/// Policies of one action. More are refused as `INVALID_INPUT`.
pub const POLICIES_MAX: usize = 64;
/// Roles that one policy names. More are refused as `INVALID_INPUT`.
pub const POLICY_ROLES_MAX: usize = 32;
/// Longest name of a policy or of a role in it, in bytes. A longer one is refused as
/// `INVALID_INPUT`.
pub const POLICY_NAME_BYTES_MAX: usize = 128;
/// Longest expression of a policy, in bytes. A longer one is refused as `INVALID_INPUT`.
pub const POLICY_EXPRESSION_BYTES_MAX: usize = 4_096;
/// How deep the parts of an expression may be nested; a chain of `OR` is as deep as it is long. A
/// deeper expression is refused as `INVALID_INPUT`.
pub const POLICY_DEPTH_MAX: i32 = 500;
/// Steps of SQLite's virtual machine that one expression may take. Beyond the bound the expression
/// fails and allows nothing, which is logged and counted.
pub const POLICY_STEPS_MAX: u32 = 4_000;
/// Characters that the `LIKE`s of one expression may compare. Beyond the bound the expression
/// fails. The longest pattern that an expression can hold takes half of it on the longest channel
/// name.
pub const POLICY_COMPARISONS_MAX: usize = 4_000_000;
/// Longest value that an expression may see or make, in bytes: more than any field of a channel
/// has. Beyond the bound the expression fails.
pub const POLICY_VALUE_BYTES_MAX: i32 = 256 * 1024;
/// Questions in the queue to the thread that evaluates policies. At the bound a command that needs
/// an answer is refused with `OVERLOADED` and counted.
pub const POLICY_QUEUE_MAX: usize = 768;
/// Verdicts that each worker remembers. At the bound it forgets all of them and asks again.
pub const VERDICTS_MAX: usize = 16_384;
/// Commands in the backlog of one connection. At the bound further ones are refused with
/// `OVERLOADED` and counted.
pub const COMMANDS_WAITING_MAX: usize = 64;
/// Bytes of one connection's backlog, which can hold the longest message. The same happens at the
/// bound.
pub const COMMANDS_WAITING_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of the backlogs of all connections of one worker. The same happens at the bound.
pub const WORKER_COMMANDS_WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Members that a presence snapshot names, and up to which joins and leaves are announced. Beyond
/// the bound the snapshot is cut and says so; announcements stop, which is counted.
pub const PRESENCE_MEMBERS_MAX: usize = 256;
/// Bytes of members in one message between nodes of a cluster. Further members go into further
/// messages.
pub const PRESENCE_TOLD_BYTES: usize = 256 * 1024;
/// Joins and leaves of one channel that wait to be told to the other nodes. At the bound the node
/// tells the list of its members instead.
pub const PRESENCE_CHANGES_MAX: usize = 1_024;
/// Messages of one list of members: four million anonymous members fit. A longer list is not read,
/// and the node that sent it counts as silent.
pub const PRESENCE_PARTS_MAX: u32 = 1_024;
/// How long a subscriber waits for the members on other nodes, in milliseconds. Then its snapshot
/// says that it is not complete, and the others are announced when their nodes tell them.
pub const PRESENCE_ANSWER_MS: u64 = 100;
/// Time until a list that was not told, or not answered, is told or asked for again, in
/// milliseconds.
pub const PRESENCE_AGAIN_MS: u64 = 1_000;
/// How long a late answer with a list of members is taken, in milliseconds.
pub const PRESENCE_LATE_MS: u64 = 5_000;
/// How long a node leaves it to the first node by name to tell that another one has ended, in
/// milliseconds.
pub const PRESENCE_YIELD_MS: u64 = 500;

/// Verified tokens in each cache of a thread. At the bound the oldest is forgotten.
pub const TOKEN_CACHE_MAX: usize = 65_536;
/// Longest token that is read, in bytes. A longer one is refused unread.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Shortest secret for HS256, in bytes (RFC 7518 section 3.2).
pub const JWT_SECRET_BYTES_MIN: usize = 32;

/// HTTP connections of one acceptor, long-polling ones included. At the bound it accepts no more
/// until one ends; the kernel's backlog holds new ones.
pub const HTTP_CONNECTIONS_MAX: usize = 16_384;
/// Descriptors that are kept back for the database, and for answers to clients that the node has no
/// other descriptor for. An upgrade that would need one of them to last is answered 503 with
/// Retry-After and counted.
pub const DESCRIPTORS_KEPT_BACK_MAX: usize = 64;
/// At most one in this many descriptors is kept back.
pub const DESCRIPTORS_KEPT_BACK_DIVISOR: usize = 8;
/// Time for a request to begin, on a connection whose descriptor is kept back, in milliseconds. It
/// is short because few such connections may be open, and health probes need one. After one request
/// the connection is closed.
pub const SPARE_IDLE_MS: u64 = 250;
/// Time for the head of such a request, for its body, and for the client to take the response, in
/// milliseconds.
pub const SPARE_REQUEST_MS: u64 = 2_000;
/// Longest head of an HTTP request (request line and headers), in bytes. A longer one is answered
/// 431.
pub const HTTP_HEAD_BYTES_MAX: usize = 16 * 1024;
/// Longest PROXY header of a connection, in bytes. Proxies that send what they know of a client's
/// certificate need some hundreds.
pub const PROXY_HEADER_BYTES_MAX: usize = 4 * 1024;
/// Headers of one request. A request with more is answered 431. A browser, a content delivery
/// network and a mesh together add some 70.
pub const HTTP_HEADERS_MAX: usize = 100;
/// Characters of an unknown method that an answer repeats.
pub const HTTP_METHOD_SHOWN_MAX: usize = 32;
/// Bytes of responses to pipelined requests that wait to be sent together. With more they are sent
/// before the next request is handled.
pub const HTTP_RESPONSES_BYTES_MAX: usize = 64 * 1024;
/// Tasks that serve HTTP and have nothing to serve, which an acceptor keeps for requests that wait
/// for another thread. Further ones end.
pub const HTTP_SERVERS_SPARE_MAX: usize = 16;
/// Longest body of an HTTP request, in bytes. A longer one is answered 413.
pub const HTTP_BODY_BYTES_MAX: usize = MESSAGE_BYTES_MAX;

/// How deep the values of a JSON envelope (`codec::json`) may be nested. A deeper one is refused as
/// malformed.
pub const JSON_DEPTH_MAX: usize = 128;
/// Longest JSON envelope, in bytes, whose memory a thread keeps for the next one.
pub const JSON_KEPT_BYTES_MAX: usize = 128 * 1024;
/// Values and signs of one envelope whose memory a thread keeps for the next one; each takes some
/// 24 bytes.
pub const JSON_KEPT_NODES_MAX: usize = 4_096;

/// Attempts of one webhook call. Then the call is given up and counted.
pub const WEBHOOK_ATTEMPTS_MAX: u32 = 5;
/// Time between the first attempt of a webhook call and the second, in milliseconds, give or take
/// half of it. Each further wait is twice as long.
pub const WEBHOOK_RETRY_MS: u64 = 1_000;
/// Longest `Retry-After` that is obeyed, in seconds. A longer one counts as this.
pub const WEBHOOK_RETRY_AFTER_S_MAX: u64 = 60;
/// Unsettled calls for one target (scheme, host and port): queued, under way, or between two
/// attempts. At the bound a new one is dropped and counted.
pub const WEBHOOK_TARGET_QUEUE_MAX: usize = 1_024;
/// Calls under way to one target. The others wait for their turn.
pub const WEBHOOK_TARGET_CONCURRENT_MAX: usize = 8;
/// Calls under way to all targets, each with a descriptor. The others wait for their turn. A target
/// slows others down only if more targets than this divided by [`WEBHOOK_TARGET_CONCURRENT_MAX`] do
/// not answer.
pub const WEBHOOK_CONCURRENT_MAX: usize = 1_024;
/// Unsettled webhook calls for all targets. At the bound a new one is dropped and counted.
pub const WEBHOOK_WAITING_MAX: usize = 65_536;
/// Settled webhook calls that the store's writer has not counted yet. At the bound the thread of
/// webhooks waits for the writer.
pub const WEBHOOK_SETTLED_MAX: usize = 4_096;
/// Bytes of payload that unsettled webhook calls hold. A payload for several URLs counts once. At
/// the bound a new call is dropped and counted.
pub const WEBHOOK_WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Publications in the queue to the thread of webhooks. At the bound a new one is dropped and
/// counted.
pub const WEBHOOK_HANDOVER_MAX: usize = 4_096;
/// Names of webhook targets that are looked up at once, each on a thread. The others wait.
pub const WEBHOOK_LOOKUPS_MAX: usize = 32;
/// Bytes of a webhook's answer that are read so that its connection can be used again. After a
/// longer answer the connection is closed.
pub const WEBHOOK_ANSWER_BYTES_MAX: usize = 16 * 1024;
/// How long an idle connection to a webhook is kept, in milliseconds.
pub const WEBHOOK_IDLE_MS: u64 = 15_000;
/// Time between two log lines about the same webhook target, in milliseconds.
pub const WEBHOOK_WARNING_MS: u64 = 60_000;
/// Webhook targets that the log may name within [`WEBHOOK_WARNING_MS`]. The others are only
/// counted.
pub const WEBHOOK_WARNED_MAX: usize = 1_024;
/// Webhooks that are never called and that the log names at the start of the node. The others are
/// only counted.
pub const WEBHOOK_WARNED_AT_START_MAX: usize = 32;

/// Requests in the queue to the store. At the bound a request is answered 503 with Retry-After.
pub const STORE_QUEUE_MAX: usize = 1_024;
/// Queries in the queue to the reader of history. At the bound a request is answered 503 with
/// Retry-After and counted.
pub const READER_QUEUE_MAX: usize = 256;

/// Messages in one page of history. A request for more is refused as `INVALID_INPUT`.
pub const HISTORY_PAGE_MESSAGES_MAX: u32 = 1_000;
/// Bytes of payloads in one page of history. A page with more is refused as `INVALID_INPUT`, with
/// the advice to ask for fewer messages.
pub const HISTORY_PAGE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How long one query of history may take, in milliseconds. Then it is given up, and the caller is
/// advised to ask for less.
pub const QUERY_MS_MAX: u64 = 2_000;
/// Event names that the statistics name.
pub const TOP_EVENTS_MAX: usize = 10;
/// Different event names that are counted for one answer. Beyond the bound the query is given up as
/// one that takes too long.
pub const EVENTS_COUNTED_MAX: usize = 200_000;
/// Longest retention of messages, in days. A longer one is refused as `INVALID_INPUT`.
pub const RETENTION_DAYS_MAX: u32 = 36_500;
/// Time between two searches for messages beyond their retention, in milliseconds.
pub const RETENTION_EVERY_MS: u64 = 60_000;
/// Messages removed from history in one go, so that new ones never wait long to be stored.
pub const REMOVED_ROWS_MAX: u32 = 1_000;
/// Tallies that are added up to make those of a larger segment of history. If there are more,
/// because hardly two messages share an event name, the larger segment is not tallied.
pub const TALLIES_MERGED_MAX: u32 = 65_536;

/// Publications in the queue to history. At the bound a publish is refused whole (`OVERLOADED`, 503
/// with Retry-After) and counted.
pub const HISTORY_QUEUE_MAX: usize = 65_536;
/// Bytes of their event names and payloads. The same happens at the bound.
pub const HISTORY_QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Publications stored in one commit. The rest is stored in the next.
pub const HISTORY_BATCH_MAX: usize = 1_024;
/// Shortest time between two commits, in milliseconds. A lone publication is committed at once.
/// Under load the writer waits this long for others, because a commit costs as much as ten rows.
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
    OUTBOX_BYTES_MAX / OUTBOX_FREE_DIVISOR >= MESSAGE_BYTES_MAX,
    "what shedding frees is enough for nearly any frame"
);
const _: () = assert!(
    REPLAY_BYTES_MAX >= MESSAGE_BYTES_MAX + REPLAY_OVERHEAD_BYTES
        && REPLAY_BYTES_MAX <= REPLAY_TOTAL_BYTES_MAX,
    "any publication can be kept"
);
const _: () = assert!(
    CHANNEL_LOG_BYTES_MAX >= 4 * MESSAGE_BYTES_MAX + CHANNEL_LOG_OVERHEAD_BYTES,
    "any publication can be kept, with two frames"
);
const _: () = assert!(VECTORED_FRAMES_MAX <= 1_024, "IOV_MAX");
const _: () = assert!(
    WEBHOOK_WAITING_MAX >= WEBHOOKS_PER_DEFINITION_MAX
        && WEBHOOK_WAITING_BYTES_MAX >= MESSAGE_BYTES_MAX,
    "a publication for all webhooks of a definition fits if no call is unsettled"
);
const _: () = assert!(
    WEBHOOK_CONCURRENT_MAX >= 16 * WEBHOOK_TARGET_CONCURRENT_MAX,
    "a few targets that do not answer leave most places to the others"
);
const _: () = assert!(SHUTDOWN_FLUSH_MS > 2 * SHUTDOWN_WEBHOOKS_MS, "the store comes after them");
const _: () = assert!(
    SHUTDOWN_GRACE_MS > SHUTDOWN_LINGER_MS
        && SHUTDOWN_GRACE_MS > SHUTDOWN_POLLS_MS
        && SHUTDOWN_GRACE_MS > 2 * SHUTDOWN_SESSIONS_MS,
    "the client that learns last that the node stops has as long to close as the others"
);
