//! The bounds of the node. Each comment says what happens at the bound. Bounds that only the values
//! of a configuration key have stand with the key, in `config::keys`.

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
/// Channels that one connection may be subscribed to. At the bound a subscribe is refused.
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
/// Joins that a node of a cluster holds back together until it hears their channels. More are
/// refused.
pub const HELD_JOINS_MAX: usize = 65_536;
/// How long a node that cannot serve the cluster's channels is called degraded. Then its health is
/// 503, so that load balancers send clients to another one.
pub const CLUSTER_PATIENCE_MS: u64 = 5_000;
/// Publications that wait for the cluster's stream or its answer. More are refused as overloaded.
/// As many as may be under way to the stream, so that none waits behind a full window.
pub const STREAM_QUEUE_MAX: usize = 3_456;
/// Bytes of these publications. The same happens at the bound.
pub const STREAM_QUEUE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Places of a worker's mailbox that its publishers' answers from the stream may take. Beyond that
/// they are refused as overloaded, because a worker whose mailbox is half full reads no socket.
pub const STREAM_ANSWERS_MAX: usize = 1_024;
/// How long a publication that is published again under its id is recognized, in milliseconds. NATS
/// keeps a stream's messages no shorter than that.
pub const REPEATS_MS: u64 = 120_000;
/// Publications with an id of their publisher's that a node recognizes on channels that it orders
/// itself, about 64 bytes each. Beyond the bound the oldest is forgotten, and that is counted.
pub const REPEATS_MAX: usize = 65_536;
/// Publications that the stream did not answer in time and that history keeps if it answers later.
/// Beyond the bound the oldest is forgotten: then history lacks it, and that is counted.
pub const LATE_PUBLICATIONS_MAX: usize = 4_096;
/// Bytes of these publications. The same happens at the bound.
pub const LATE_PUBLICATIONS_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Time after a change of definitions until a node of a cluster looks once more for channels whose
/// order has changed, in milliseconds. No worker takes so long from reading a definition to its
/// join.
pub const DEFINITIONS_AGAIN_MS: u64 = 1_000;
/// How many joins and leaves that were held back are carried out under one lock of a channel.
pub const RELEASED_AT_ONCE_MAX: usize = 64;
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

/// Longest channel name, in bytes. A longer one is refused as `INVALID_INPUT`.
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

/// Longest name of a cluster's node, in bytes. A longer one is refused.
pub const NODE_NAME_BYTES_MAX: usize = 32;
/// Longest prefix of a cluster's subjects and streams, in bytes. A longer one is refused.
pub const PREFIX_BYTES_MAX: usize = 16;
/// NATS servers that a cluster's node may be configured with. More are refused.
pub const CLUSTER_SERVERS_MAX: usize = 16;

/// Longest control line that a NATS server may send, in bytes: a subject and a reply subject, each
/// of which the server itself bounds with 4,096. A longer one ends the connection.
pub const NATS_LINE_BYTES_MAX: usize = 8 * 1024 + 128;
/// Longest INFO of a NATS server, in bytes. It lists the addresses of all servers. A longer one
/// ends the connection.
pub const NATS_INFO_BYTES_MAX: usize = 64 * 1024;
/// Longest message that is taken from a NATS server, in bytes of headers and payload: the largest
/// that a server accepts by default, and what a stream adds to its headers. A longer one is
/// discarded as it arrives, and counted.
pub const NATS_MESSAGE_BYTES_MAX: usize = 1024 * 1024 + 64 * 1024;
/// Longest message that is discarded, in bytes: no server can be configured to accept more. An
/// announcement of a longer one ends the connection.
pub const NATS_DISCARDED_BYTES_MAX: usize = 64 * 1024 * 1024 + 64 * 1024;
/// Bytes of the buffer that is read from a NATS server into.
pub const NATS_READ_BYTES: usize = 64 * 1024;
/// Bytes that wait to be written to a NATS server. At the bound commands are refused, and their
/// sender learns when everything was written.
pub const NATS_WRITE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes beyond that bound for answers to a server's PING. At the bound they are left out, so that
/// the server cuts the connection.
pub const NATS_PONGS_BYTES_MAX: usize = 4 * 1024;
/// Waiting bytes that are written before more messages are taken. Fewer are written together at the
/// end of a turn.
pub const NATS_FLUSH_BYTES: usize = 64 * 1024;
/// Bytes read from a NATS server before the socket was empty again from which on a connection that
/// ends without a word within [`NATS_BEHIND_MS`] counts as cut for slowness.
pub const NATS_BEHIND_BYTES: u64 = 64 * 1024;
/// That time, in milliseconds.
pub const NATS_BEHIND_MS: u64 = 1_000;
/// Longest time for a connection to a NATS server with TLS and credentials, in milliseconds.
pub const NATS_CONNECT_MS: u64 = 5_000;
/// Time between a NATS server's answer to a PING and the next PING, in milliseconds.
pub const NATS_PING_MS: u64 = 1_000;
/// Time for the answer, in milliseconds. Without it the connection ends.
pub const NATS_PONG_MS: u64 = 3_000;
/// Wait before a NATS server is tried again, in milliseconds. It doubles whenever all servers were
/// tried, up to the longest, and is drawn anew each time, give or take half.
pub const NATS_RETRY_MS_MIN: u64 = 100;
/// Longest such wait, in milliseconds.
pub const NATS_RETRY_MS_MAX: u64 = 2_000;
/// How long a connection must last for the waits to begin anew, in milliseconds.
pub const NATS_SETTLED_MS: u64 = 5_000;
/// Time until a server that shuts down is left for another, in milliseconds: answers that are on
/// their way still arrive.
pub const NATS_LAME_DUCK_MS: u64 = 500;
/// Longest time for NATS to answer a call that creates or reads a stream or an entry of the
/// register, in milliseconds. Then the call has failed, and is made again later.
pub const NATS_CALL_MS: u64 = 5_000;
/// Commands that wait for the connection of such calls. A further call waits.
pub const NATS_CONTROL_COMMANDS_MAX: usize = 256;
/// Messages of one subscription on that connection that wait for their reader. Further ones are
/// dropped by the library: only reads that notice it use this connection.
pub const NATS_CONTROL_MESSAGES_MAX: usize = 4_096;
/// Time for which the stream of publications keeps more than clients may ask for, in milliseconds:
/// their requests take time as well.
pub const RETENTION_MARGIN_MS: u64 = 10_000;
/// Longest entry of a cluster's register, in bytes. NATS refuses a longer one.
pub const REGISTER_ENTRY_BYTES_MAX: i32 = 64 * 1024;
/// Bytes of the whole register. NATS refuses an entry beyond.
pub const REGISTER_BYTES_MAX: i64 = 16 * 1024 * 1024;
/// Bytes of headers and payload that every NATS server of a cluster must take. A node does not join
/// if one takes less.
pub const NATS_PAYLOAD_BYTES_MIN: u64 = 1024 * 1024;
/// Attempts of a node to be entered into the register, if others write there at the same time. Then
/// joining has failed, and is tried again later.
pub const REGISTER_ATTEMPTS_MAX: u32 = 5;
/// How long a node that joins listens for another one that its entry would exclude, in
/// milliseconds: three heartbeats.
pub const REGISTER_LISTEN_MS: u64 = 1_500;
/// Age of another node's entry, in milliseconds, below which the node counts as alive although it
/// is not heard: its line may not be up.
pub const REGISTER_FRESH_MS: u64 = 5_000;
/// How long `fanfare cluster status` listens to heartbeats, in milliseconds.
pub const STATUS_LISTEN_MS: u64 = 1_100;
/// Time between two attempts to join a cluster, in milliseconds, if the last one failed.
pub const REGISTER_RETRY_MS: u64 = 1_000;
/// The same, if the node may not join.
pub const REGISTER_REFUSED_MS: u64 = 5_000;
/// Time between two looks whether the servers still have the streams and the node's entry, in
/// milliseconds. They are looked at as well whenever the node has connected.
pub const REGISTER_LOOK_MS: u64 = 5_000;
/// How long requests for channels wait at the start of a node that has not joined, in milliseconds.
/// Then they are refused.
pub const JOIN_PATIENCE_MS: u64 = 5_000;
/// Requests of the cluster's thread to its register that wait. At the bound a request is dropped;
/// the thread repeats what it still needs.
pub const SEAT_ASKS_MAX: usize = 16;
/// What the register has told that thread and it has not taken. At the bound the register waits.
pub const SEAT_NEWS_MAX: usize = 4;
/// Time between two looks at what such a node is asked for, in milliseconds.
pub const JOIN_LOOK_MS: u64 = 50;
/// How long the register says that an entry was deleted, in milliseconds.
pub const REGISTER_MARKER_MS: u64 = 120_000;

/// Bytes of an entry of the bucket in which the nodes of a cluster share what administrators set. A
/// longer one is refused.
pub const ADMIN_ENTRY_BYTES_MAX: usize = 512 * 1024;
/// Bytes of that bucket. At the bound NATS refuses changes.
pub const ADMIN_BUCKET_BYTES_MAX: i64 = 256 * 1024 * 1024;
/// Changes of administrators that wait for the cluster. At the bound further ones are refused.
pub const ADMIN_WISHES_MAX: usize = 64;
/// Questions of the thread of the cluster to the writer. It puts one at a time.
pub const ADMIN_CALLS_MAX: usize = 4;
/// Changes that a node takes from the bucket at once.
pub const ADMIN_BATCH_MAX: usize = 1_024;
/// How often a change is planned again because another node was faster. Then it is refused.
pub const ADMIN_ATTEMPTS_MAX: u32 = 100;
/// Changes that wait for other nodes. At the bound further ones wait before they are made.
pub const ADMIN_WAITING_MAX: usize = 64;
/// How long a change waits until all nodes have confirmed it. Then the answer names those that have
/// not.
pub const ADMIN_CONFIRM_MS: u64 = 2_000;
/// How long nodes have to confirm a change before they are asked.
pub const ADMIN_ASK_MS: u64 = 300;

/// Registrations and revocations of invocations that wait for the cluster. At the bound further
/// ones are refused.
pub const INVOCATION_WISHES_MAX: usize = 1_024;
/// Registrations and revocations that wait for other nodes. At the bound further ones wait before
/// they are made.
pub const INVOCATIONS_WAITING_MAX: usize = 1_024;
/// Messages in the stream of invocations: as many as a node takes, and as many revocations. At the
/// bound NATS refuses further invocations.
pub const CLUSTER_INVOCATIONS_MAX: i64 = 2 * 65_536;

/// Longest credentials file or certificate file, in bytes. A longer one is refused.
pub const NATS_FILE_BYTES_MAX: u64 = 1024 * 1024;

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
    SHUTDOWN_GRACE_MS > SHUTDOWN_LINGER_MS && SHUTDOWN_GRACE_MS > SHUTDOWN_POLLS_MS,
    "the client that learns last that the node stops has as long to close as the others"
);

/// Publications of a node that are taken for the cluster's stream in one turn of its thread. The
/// rest waits for the next turn, so that what comes over the line does not wait.
pub const CLUSTER_DEPARTURES_MAX: usize = 512;
/// Channels that a node has begun or ceased to need and that are looked at in one turn, in the same
/// way.
pub const CLUSTER_INTERESTS_MAX: usize = 512;
/// Events of the line that are taken in one turn, in the same way.
pub const CLUSTER_EVENTS_MAX: usize = 512;
/// Bytes that wait to be written to NATS from which on publications are refused as overloaded. The
/// rest of [`NATS_WRITE_BYTES_MAX`] is for subscriptions, claims and heartbeats; if even that is
/// full, the line is made anew.
pub const CLUSTER_WAITING_BYTES_MAX: usize = NATS_WRITE_BYTES_MAX / 2;
/// Results of reads, and messages of the claims' stream, that wait for the thread of the cluster.
/// At the bound, those that bring them wait.
pub const CLUSTER_RESULTS_MAX: usize = 512;
/// Questions that wait for a connection to NATS. At the bound, those that ask wait.
pub const CLUSTER_QUESTIONS_MAX: usize = 256;
/// Messages that one question is answered with. Further ones are dropped, so that the question
/// fails.
pub const CLUSTER_ANSWERS_MAX: usize = 1_200;
/// Messages of a channel that are asked for at once.
pub const CLUSTER_BATCH_MAX: usize = 512;
/// Bytes of messages that are asked for at once.
pub const CLUSTER_BATCH_BYTES: usize = 1024 * 1024;
/// Bytes of one channel's missing messages. A longer read is given up, so that a gap is told.
pub const CLUSTER_READ_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Reads that are carried out at once. Others wait.
pub const CLUSTER_READS_MAX: usize = 16;
/// How long a read may take, in milliseconds. Then it is given up.
pub const CLUSTER_READ_MS_MAX: u64 = 4_500;
/// Messages of a channel that are read for subscribers that ask for earlier publications. A channel
/// with more in the stream gives them what the node keeps, and a gap is told.
pub const CLUSTER_EARLIER_MESSAGES_MAX: usize = 8_192;
/// How long a channel's log that begins for such a read is kept without a stream, in milliseconds.
pub const EARLIER_MS_MAX: u64 = 2 * CLUSTER_READ_MS_MAX;
/// Time until a read whose answer was not complete is tried again, in milliseconds.
pub const CLUSTER_READ_RETRY_MS: u64 = 20;
/// Time between two looks at workers that are behind, and at requests and notices that found no
/// room, in milliseconds.
pub const CLUSTER_LOOK_MS: u64 = 10;
/// Reads at once for workers that are behind. Others wait.
pub const CLUSTER_BEHIND_READS_MAX: usize = 64;
/// Counts of publications that a node remembers for nodes that ask for them again. Beyond the bound
/// the oldest is forgotten, and a question about it is not answered.
pub const CLUSTER_COUNTS_MAX: usize = 8_192;
/// Buckets of which a node has taken something that the other nodes do not know. From further ones
/// it takes as if it were alone.
pub const TAKINGS_MAX: usize = 65_536;
/// Buckets of one message about what was taken. Further ones wait for the next message.
pub const TAKINGS_TOLD_MAX: usize = 256;
/// How long such a message is on its way at most, in milliseconds. Then it counts as arrived or
/// lost, and the next one is sent.
pub const TAKINGS_TOLD_MS: u64 = 100;
/// Longest sleep of the cluster's thread, in milliseconds.
pub const CLUSTER_SLEEP_MS_MAX: u64 = 250;
/// Time between two questions for the leader of the cluster's stream, in milliseconds.
pub const CLUSTER_LEADER_MS: u64 = 5_000;
/// How long the ends of a node's claims may take, in milliseconds. Then the other nodes end them.
pub const CLUSTER_LEAVE_MS_MAX: u64 = 2_000;
/// Seconds after which the stream forgets the end of a claim: longer than any message that says
/// otherwise can be delayed.
pub const CLUSTER_CLAIM_END_SECONDS: u64 = 120;
/// Time between two signs of life of the consumer of the cluster's claims, in milliseconds.
pub const CLUSTER_MIRROR_BEAT_MS: u64 = 1_000;
/// Silence of that consumer after which another one begins, in milliseconds.
pub const CLUSTER_MIRROR_SILENCE_MS: u64 = 3_500;
/// Time until another one begins, in milliseconds.
pub const CLUSTER_MIRROR_RETRY_MS: u64 = 250;

/// Writes of documents on their way to the cluster's stream of documents. Further ones wait in
/// their queue, which has [`DOCUMENT_QUEUE_MAX`] places.
pub const CLUSTER_WRITES_MAX: usize = 256;
/// Bytes of these writes. The same happens at the bound.
pub const CLUSTER_WRITE_BYTES_MAX: usize = NATS_WRITE_BYTES_MAX / 4;
/// How often a write is decided again because another node has written the same document. Then it
/// is answered 503 with Retry-After and counted.
pub const CLUSTER_WRITE_TRIES_MAX: u32 = 64;
/// Documents of which a node remembers what the stream has answered, until its copy has it. Of
/// further ones it learns that from the copy, or from the stream's refusal of the next write.
pub const CLUSTER_WRITES_KNOWN_MAX: usize = 4_096;
/// How long a write, a read or a load of a document may wait for the cluster, in milliseconds. Then
/// it is refused.
pub const CLUSTER_DOCUMENT_MS_MAX: u64 = 5_000;
/// Reads, loads and refusals of documents that wait for a proof that the node's copy is new enough.
/// At the bound further ones wait in their queues.
pub const CLUSTER_PROOFS_MAX: usize = 4_096;
/// Requests of the thread of documents to the thread of the cluster, and answers to them. There are
/// never more: writes on their way, a proof, a floor, and messages to remove. What finds no room
/// counts as not answered.
pub const CLUSTER_DOCUMENT_ASKS_MAX: usize = CLUSTER_WRITES_MAX + 64;
/// Changes of documents that wait for the thread of documents, each up to 1 MB. At the bound the
/// consumer that brings them waits.
pub const CLUSTER_CHANGES_MAX: usize = 64;
/// Bytes of changes that are put into the copy in one commit. A single document may be longer.
pub const CLUSTER_CHANGES_BYTES: usize = 1024 * 1024;
/// Time until changes that found no room, in a worker's mailbox or on the disk, are tried again, in
/// milliseconds.
pub const CLUSTER_CHANGES_RETRY_MS: u64 = 2;
/// How old a deletion must be before it is forgotten, in milliseconds: older than any write on its
/// way, which was decided without it.
pub const CLUSTER_FORGET_MS: u64 = 60_000;
const _: () = assert!(CLUSTER_FORGET_MS > 4 * CLUSTER_DOCUMENT_MS_MAX);
/// Messages of forgotten documents that are removed from the stream in one step.
pub const CLUSTER_FORGET_BATCH: usize = 32;
/// Messages in the stream of documents: all documents, deleted ones, and as many again as are
/// forgotten late. At the bound NATS refuses further documents.
pub const CLUSTER_DOCUMENT_MESSAGES_MAX: u64 = DOCUMENTS_MAX + 2 * DELETED_DOCUMENTS_MAX;
