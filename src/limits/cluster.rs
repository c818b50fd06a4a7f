//! The bounds of a node that shares its channels with others. Each comment says what happens at the
//! bound.

use super::{
    DELETED_DOCUMENTS_MAX, DOCUMENTS_MAX, HISTORY_PAGE_BYTES_MAX, HISTORY_PAGE_MESSAGES_MAX,
    HTTP_BODY_BYTES_MAX, OUTBOX_BYTES_MAX, READER_QUEUE_MAX,
};

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
/// How long requests for channels and sessions wait at the start of a node that has not joined, in
/// milliseconds. Then they are refused.
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
/// their queue, which has [`DOCUMENT_QUEUE_MAX`](super::DOCUMENT_QUEUE_MAX) places.
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

/// Wishes of workers for sessions that all nodes share. Beyond the bound a client that comes back
/// is not recovered, and what has changed is shared a little later.
pub const SESSION_ASKS_MAX: usize = 16_384;
/// Calls of NATS for sessions that are under way. Others wait.
pub const SESSION_CALLS_MAX: usize = 512;
/// How long such a call may take, in milliseconds. Then it is not known what has become of it.
pub const SESSION_MS_MAX: u64 = 3_000;
/// Sessions that NATS has. Beyond the bound a session is resumed by its own node alone, and that is
/// counted.
pub const CLUSTER_SESSIONS_MAX: i64 = 1_048_576;
/// Bytes that are shared of a session. One with more is resumed by its own node alone, and that is
/// counted.
pub const SESSION_BYTES_MAX: usize = 256 * 1024;
/// How long after a change of a session the nodes learn what it is, in milliseconds. If its node is
/// killed before, its client is not recovered.
pub const SESSION_SETTLED_MS: u64 = 200;
/// How long a client that comes back to another node waits for a session that is changing, in
/// milliseconds. Then it is not recovered.
pub const SESSION_CHANGING_MS: u64 = 2_000;
/// How long such a client waits for the first word on a session, in milliseconds: what a new
/// session takes to settle, and its word to arrive.
pub const SESSION_NEW_MS: u64 = 2 * SESSION_SETTLED_MS;
/// Time between two looks at a session that is changing, in milliseconds.
pub const SESSION_LOOK_MS: u64 = 25;
/// Time until what could not be shared is tried again, in milliseconds.
pub const SESSION_RETRY_MS: u64 = 2_000;
/// For how long NATS keeps the last word on a session, in seconds. Its node says it again in half
/// of that time.
pub const SESSION_SECONDS: u64 = 3_600;
/// For how long NATS keeps the word that a session has ended, in seconds.
pub const SESSION_END_SECONDS: u64 = 1;
/// How long a node that ends shares what has changed, in milliseconds.
pub const SESSION_END_MS: u64 = 1_000;
/// Time after which a node asks again how far it has certainly received the stream, in
/// milliseconds.
pub const SESSION_PROOF_MS: u64 = 20;

/// Messages of which nodes tell each other the places for one page of history. If a page is further
/// from the newest message, the nodes are asked in several rounds.
pub const CLUSTER_HISTORY_FOUND_MAX: u32 = 4_096;
const _: () = assert!(CLUSTER_HISTORY_FOUND_MAX > 2 * HISTORY_PAGE_MESSAGES_MAX);
/// Rounds of questions for one page of history. Then it is given up as a query that takes too long.
pub const CLUSTER_HISTORY_ROUNDS_MAX: usize = 1_000;
/// Bytes of an answer about history in one message. Longer answers are cut, but no message of
/// history is longer than NATS takes with its default configuration.
pub const CLUSTER_HISTORY_PART_BYTES: usize = 512 * 1024;
/// Bytes of an answer about history. A node whose answer is longer counts as one that does not
/// answer.
pub const CLUSTER_HISTORY_ANSWER_BYTES_MAX: usize = 2 * HISTORY_PAGE_BYTES_MAX;
/// Bytes of an answer about history that are read or written on a thread of their own, because the
/// thread of the cluster must not be held up.
pub const CLUSTER_HISTORY_APART_BYTES: usize = 256 * 1024;
/// Silence of a node that was asked about history, in milliseconds. Then the answer is made without
/// it and names it.
pub const CLUSTER_HISTORY_SILENCE_MS: u64 = 2_000;
/// The same for a node that has a share of history, as far as is known, and is not heard.
pub const CLUSTER_HISTORY_UNHEARD_MS: u64 = 600;
/// Time between two words of a node that looks for an answer, in milliseconds.
pub const CLUSTER_HISTORY_WORKING_MS: u64 = 500;
const _: () = assert!(CLUSTER_HISTORY_SILENCE_MS > 3 * CLUSTER_HISTORY_WORKING_MS);
const _: () = assert!(CLUSTER_HISTORY_UNHEARD_MS > CLUSTER_HISTORY_WORKING_MS);
/// How long a query of history may take with the answers of all nodes, in milliseconds. Then it is
/// given up.
pub const CLUSTER_HISTORY_MS_MAX: u64 = 10_000;
/// Queries of history that a node has asked the others about. Further ones wait.
pub const CLUSTER_HISTORY_ASKING_MAX: usize = 64;
/// Pages of history whose messages a node reads from others at once. Further ones wait.
pub const CLUSTER_HISTORY_PAGES_MAX: usize = 8;
/// Queries of history that wait for that. At the bound further ones are refused as overloaded.
pub const CLUSTER_HISTORY_WAITING_MAX: usize = READER_QUEUE_MAX;
/// Questions of other nodes about history that a node answers at once. Further ones are refused as
/// overloaded.
pub const CLUSTER_HISTORY_ANSWERING_MAX: usize = 64;
/// Questions of the thread of the cluster to the threads of the store, about history: its own, and
/// those of other nodes. At the bound further ones are refused as overloaded.
pub const CLUSTER_HISTORY_CALLS_MAX: usize = 128;
/// Messages that were published again and that other nodes are asked for at once. Further ones
/// wait in their queue.
pub const CLUSTER_REPEATS_ASKING_MAX: usize = 256;
/// Messages that wait for that. At the bound a node keeps further ones without asking.
pub const CLUSTER_REPEATS_WAITING_MAX: usize = 4_096;
/// When other nodes are asked for a message that was published again, in milliseconds: one that has
/// published it first may not have counted its audience yet.
pub const CLUSTER_REPEAT_ASK_MS: [u64; 3] = [0, 50, 250];

/// Long-polling requests that a node passes on to the nodes of their sessions at once. At the bound
/// further ones are refused as overloaded.
pub const CLUSTER_POLLS_PASSED_MAX: usize = 16_384;
/// Long-polling requests of other nodes that a node answers at once. At the bound further ones are
/// refused as overloaded.
pub const CLUSTER_POLLS_ANSWERED_MAX: usize = 16_384;
/// Bytes before the body of a request that is passed on, at most.
pub const CLUSTER_POLL_HEAD_BYTES: usize = 64;
// A body is never cut: it fits into one message of every server that nodes join with.
const _: () =
    assert!((HTTP_BODY_BYTES_MAX + CLUSTER_POLL_HEAD_BYTES) as u64 <= NATS_PAYLOAD_BYTES_MIN);
/// Bytes of an answer in one message. Longer answers are sent in parts.
pub const CLUSTER_POLL_PART_BYTES: usize = 512 * 1024;
/// Bytes of a whole answer. No answer is longer: it has one packet, or what one poll may have, and
/// no packet is longer than an outbox, also in base64. The session of a longer one ends.
pub const CLUSTER_POLL_ANSWER_BYTES_MAX: usize = 2 * OUTBOX_BYTES_MAX;
/// How long a node waits for another one's answer to a POST, for the next part of an answer, or for
/// the request of that part, in milliseconds. Then the session ends.
pub const CLUSTER_POLL_ANSWER_MS: u64 = 5_000;
/// Time beyond that between two heartbeats of a session for which a node waits for another one's
/// answer to a poll, in milliseconds; and time beyond that for the client to take the answer. Then
/// the session ends.
pub const CLUSTER_POLL_MARGIN_MS: u64 = 5_000;
/// Time between two looks whether the connection to NATS was made anew, in milliseconds. Then
/// answers may be lost, so that sessions whose polls wait at other nodes end.
pub const CLUSTER_POLL_LOOK_MS: u64 = 1_000;
/// How long a stopping node keeps a poll that it has passed on, in milliseconds. Then the node of
/// the session answers it without packets, and its client sends the next one to another node.
pub const CLUSTER_POLL_RELEASE_MS: u64 = 500;
/// Mail for the thread that passes polls on that it takes before others have their turn.
pub const CLUSTER_POLL_MAIL_MAX: usize = 256;
/// Time until mail for a worker whose mailbox is full is posted again, in milliseconds.
pub const CLUSTER_POLL_MAIL_RETRY_MS: u64 = 20;
