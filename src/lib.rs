//! Fanfare: one call, heard by everyone. A Linux edge node that fans events out to WebSocket
//! clients.
//!
//! This page is the architecture: the words, the threads, the way of a publication, what is where,
//! and what will not be found there. The contract of each API is what its clients expect; it is
//! cited where it is implemented.
//!
//! # Words
//!
//! - A **channel** is a name that can be subscribed to (`order:123`); a **definition** is a pattern
//!   (`order:*`) that administrators allow channels with.
//! - A **publication** is one thing said on a channel. Its **offset** is its place there.
//! - A **connection** is one client, on WebSocket or long-polling; as a **subscriber** it hears a
//!   channel. Its **outbox** holds what it has not taken yet.
//! - A **group** is all subscribers whose frames are byte for byte the same.
//! - The **directory** knows every channel's order and audience; a **mailbox** is the only way into
//!   a thread; the **store** is what survives the node.
//!
//! # Threads
//!
//! ```text
//!  listen ──► acceptor role: accept · HTTP/1.1 · REST · long-polling · credentials
//!                │ socket, poll                 │ publish
//!                ▼                              ▼
//!         worker mailboxes ◄──────── channel directory: sharded, short critical sections
//!                │
//!  ┌─────────────▼──────────┐
//!  │ worker: connections    │  one thread per core; a turn takes mail, reads sockets, looks at
//!  │ local index, outboxes  │  the clock, and drains every connection with something to send
//!  └─────────────┬──────────┘
//!                │ bounded queue, never waited on
//!  ┌─────────────▼──────────┐
//!  │ side: SQLite, webhooks │  one thread writes; another, the reader, only looks at history
//!  │ policies: expressions  │  a thread of its own, answers into the worker's mailbox
//!  └────────────────────────┘
//! ```
//!
//! The acceptor role runs inside the workers' threads unless `acceptor_threads` gives it its own.
//! monoio drives both on io_uring, or on epoll where that is denied ([`runtime::driver`]).
//!
//! # The way of a publication
//!
//! 1. Over HTTP: `runtime/http_connection.rs` reads the request, [`interface::entrance`] finds the
//!    interface that it is for, and that checks the credential and parses the body
//!    ([`interface::insforge::rest`]). Over a socket: `worker/read.rs` takes frames apart
//!    ([`wire::frame`]), `worker/session.rs` packets ([`protocol::engineio`],
//!    [`protocol::socketio`]), and [`protocol::insforge`] makes a
//!    [`Command`](message::Command) of it, which `worker/command.rs` checks.
//! 2. Both call [`hub::Hub::publish`]: it makes the id and, before any lock, the frames of the
//!    groups in use.
//! 3. [`engine::directory::Directory::publish`] reserves a place at every worker that has
//!    subscribers, or refuses; stamps the offset; posts one [`mailbox::Mail::Deliver`] to each. All
//!    under the lock of the channel's shard, so the order is the same for everybody.
//! 4. The worker looks its own subscribers up ([`engine::index`]) and puts a pointer to the frame
//!    into each [`outbox`](engine::outbox).
//! 5. At the end of the turn `worker/flush.rs` drains each of them with one vectored send, or
//!    `worker/polling.rs` answers the poll that waits.
//!
//! Joining takes the same way: the subscriber is counted and its
//! [`Activate`](mailbox::Mail::Activate) posted into its own worker's mailbox under the same lock.
//! What was published before is in front of it in the mailbox and what comes after is behind it,
//! so a subscriber hears everything from its acknowledgement on, once, and nothing from before.
//! Leaving is the same again. Where a channel keeps publications for who comes later
//! ([`engine::replay`]), the activation carries them: under that lock they are exactly what is in
//! front of it.
//!
//! # How it gets into history
//!
//! [`hub::Hub::publish`] reserves a place in a bounded queue ([`mailbox::WriteQueue`]) before
//! the directory stamps the publication, and uses it under the channel's lock, so that history has
//! the channels' own order. The one thread that writes (`side/writer.rs`) commits what waits
//! together, at most once in two milliseconds, and then answers those publishers who wait for a
//! level ([`message::Durability`]): fan-out waits for none of it. Webhooks are offered what was
//! taken from the queue. Another thread reads, with a connection of its own.
//!
//! # Who comes back
//!
//! Where recovery is on, each worker enters what it takes from its mailbox into a log
//! ([`engine::log`]), in its order, with the places where its sessions begin and cease to hear a
//! channel. Of a session whose connection is cut the worker keeps its channels
//! (`worker/recovery.rs`), and the directory goes on giving it what is published there, whether
//! anybody else listens or not. A client that comes back is counted in its channels again; behind
//! the mail of that stands [`Mail::Recover`](mailbox::Mail::Recover). When that comes up what it
//! missed is read from the log, all at once, and it hears its channels from there on. What is not
//! known for certain is not recovered, and said so.
//!
//! # Who does not keep up
//!
//! An outbox that is full closes its connection, except for what the channels of the waiting
//! publications can do without ([`engine::compaction`]): a frame knows the publication that it
//! shares, so the verdict is the channel's, however many channels share an outbox. What went is
//! told in the place of the first that is missing. Deciding looks at the whole outbox, so it must
//! free a part of it that pays for that, and nothing of it is on the way of a frame that has room.
//!
//! # Who may
//!
//! [`engine::policies`] says what the policies mean for a role: yes, no, or that expressions
//! decide. Those are evaluated by [`side::policy`] on a thread of its own; `worker/verdict.rs`
//! remembers each verdict for as long as neither policies nor definitions change. A command whose
//! verdict is not known yet waits in a line of its connection, with all that comes behind it, and
//! nobody else waits for it. The place for the answer is reserved in the worker's mailbox before
//! the question is put. Without policies all this costs one look at an atomic pointer.
//!
//! # Documents
//!
//! A resource of M2 is a channel, and its document a publication that the store has first. All of
//! them pass through the one thread that writes (`side/documents.rs`): it reserves a place for a
//! publication at every worker ([`mailbox::Reservation`]), commits what waits together, and only
//! then has each fanned out ([`interface::m2::documents`]) and its writer answered. So versions
//! are given in one place, and fan-out can neither fail nor come before its commit.
//!
//! As long as anybody is subscribed the directory knows the current document, under the lock of
//! the shard, and the activation carries it: what is known then is what was published in front of
//! it. A document that nobody was subscribed to, and a user's own, is asked for
//! ([`mailbox::Mail::Loaded`]): the writer reads it between two commits, so that the answer stands
//! in the mailbox behind all that it knows of and before all that it does not. What is published
//! while a subscriber waits goes out at once, and of the answer only what is newer is told
//! ([`engine::awaiting`]).
//!
//! A client that does not keep up is not sent documents but owed them ([`engine::debts`]): once it
//! has taken what waits for it, they are asked for in the same way, as they are then. What waits
//! for it stays bounded, and it ends with the newest of each.
//!
//! # Three interfaces, one engine
//!
//! A Forge topic is a channel like any other, named by a keyed hash of its scope
//! ([`interface::forge::access`]), and so is an M2 resource, named by where it is: one look-up finds
//! who hears a publication. The interfaces differ in `protocol` and in their folder of
//! [`interface`], which decides who may do what. From the directory on everything is the
//! same: mail, index, outbox, drain. An event's payload is a span of what its publisher sent
//! ([`wire::json`]): a JSON string stays the text that it came as.
//!
//! # How a node ends
//!
//! SIGTERM or SIGINT: `node/stop.rs` sets [`hub::Hub::shutdown`], which every hot thread sees in
//! its next turn. Workers let their connections go (`worker/shutdown.rs`): those on long-polling
//! at once, the others one by one, evenly over `drain_ms`. Each leaves its channels first, as an
//! unsubscribe does, and is closed when the mail that ends its subscriptions has come up: then it
//! has heard all that it was counted for. As soon as nobody polls, the listener is shut down, so
//! that a successor may have the address. Requests under way are finished and told that their
//! connection closes. Last, the side is told to stop: it carries out what was wished before and
//! flushes the store.
//!
//! # What is counted
//!
//! [`metrics`] has one set of counters per thread, added up when `/metrics` is scraped. Two sums
//! hold whenever nothing is under way: connections opened = open + closed by reason, and
//! deliveries matched = delivered + dropped by reason + conflated + queued, where delivered means
//! that the kernel took every byte. `GET /api/health` puts a question to every worker and to the
//! side and names whoever does not answer in time.
//!
//! # What is where
//!
//! | module | is | may import |
//! |---|---|---|
//! | [`message`], [`limits`] | the vocabulary; every bound by name | each other |
//! | [`wire`] | bytes to frames, requests and JSON envelopes, and back | `limits` |
//! | [`protocol`] | dialects: text to commands, replies to text | also `wire`, `config` |
//! | [`mailbox`] | mailboxes, doorbells, and all that may be posted | `message`, `limits` |
//! | [`engine`] | state and decisions: directory, index, outbox, presence | also `mailbox` |
//! | [`auth`], [`config`], [`metrics`] | credentials; settings; counters | `message`, `limits` |
//! | [`hub`] | what the hot threads share, and `publish` | all above but `auth` |
//! | [`interface`] | one folder for each interface: sessions, calls, access | all above |
//! | [`runtime`] | hot I/O: acceptors and workers | all above |
//! | [`side`] | cold I/O | not `engine`, `protocol`, `interface`, `runtime` |
//! | [`node`] | start order | everything |
//!
//! `tests/tidy.rs` fails the build where this is not so.
//!
//! # What will not be found
//!
//! - `wire`, `protocol`, `engine`, `auth` and `interface` hold no socket, no clock and no thread:
//!   bytes, commands and `now` come in; what must happen elsewhere is posted into a mailbox.
//! - `protocol` and `engine` do not know each other: they meet in `message`.
//! - There is no lock on the hot path but the directory's shard, and under it no I/O, no encoding
//!   and nothing that grows with the audience.
//! - There is no task, waker, ring operation or allocation per delivery, and no buffer or task on
//!   an idle socket.
//! - No hot thread waits for a disk, a name server or a full queue. A queue that is full refuses,
//!   says so, and counts it.
//!
//! # Decisions
//!
//! - **One poller per worker is one epoll descriptor** (`worker/poller.rs`), edge-triggered, with
//!   the doorbell and the timer in it; monoio awaits that descriptor, on either driver. Reads and
//!   sends are plain system calls from the turn: batching them in a ring measured the same, since
//!   over nine tenths of a delivery are spent in the kernel's TCP path.
//! - **Definitions are shared through one atomic pointer** ([`hub::Hub::definitions`]) instead of
//!   being mailed to each thread: when a change is answered it holds everywhere, with no copy to
//!   wait for. Reading it takes no lock.
//! - **An expression is one expression because it fits into two places**, between parentheses and
//!   between `WHEN` and `THEN` ([`side::policy`]): the database's own parser decides, so that there
//!   is no second reading of SQL to disagree with it. What it may name is decided by the
//!   database's authorizer. Queries are denied with the rest: without them nothing loops, and
//!   neither time nor memory can be made to grow. `LIKE` is our own, since the database's can be
//!   made to last for hours.
//! - **A policy for every command that has no `withCheck` checks publishes with its `using`**, as
//!   PostgreSQL does; and `auth_uid()` is the subject of the role `authenticated` alone, as the
//!   original tells its policies.
//! - **Presence announcements take publication slots.** A join that cannot announce itself is
//!   refused whole. A closed connection's leave cannot be refused, so it is tried again until it
//!   finds room (`worker/command.rs`).
//! - **Mail is not taken while a drain is unfinished**, so that a worker that is slower than its
//!   publishers shows it in its mailbox, where publishers are refused, and not in the outboxes of
//!   consumers who are not slow at all.
//! - **History has no index but that of ids** (`side/store/segments.rs`): rows are cut into
//!   segments, and complete ones are tallied. An index for each filter is written to at another
//!   page for nearly every row where there are many definitions; tallies are written once for
//!   thousands of rows, answer searches and statistics both, and are passed over or added up whole.
//! - **A definition is not told to its messages when it goes**: whoever shows them looks whether
//!   it is still there (`interface/insforge/rest/history.rs`), so removing one costs the same
//!   however many it has.
//! - **Worker 0 sweeps** (`worker/replay.rs`): once a second it lets go of what a quarter of the
//!   channels keep no longer. Channels with something to let go of stand in a list, so that this
//!   costs nothing for all others.
//! - **A rate limit outlives the last subscriber** by a second, like what a channel keeps: else
//!   whoever is alone on a channel would be faster by coming anew.
//! - **Stopping is a flag and a bell**, not mail: it must reach a worker whose mailbox is full. The
//!   listener is shut down rather than closed, because accepts that wait in a ring hold it open.
//! - **A session goes to its log, not the log to the session** (`worker/moving.rs`): positions are
//!   one worker's own, so a CONNECT that names another worker's session takes its socket there.
//!   On long-polling the requests go on arriving where the session id says, and are passed on.
//! - **A replay has no place in the log**: it is from before, and one client's replays would push
//!   out what all others have missed. Who was cut in the middle of one is not recovered.
//! - **A lone publication is committed at once, and under load commits are paced** by
//!   [`limits::COMMIT_EVERY_MS`], sleeping rather than waiting for the queue, so that publishers
//!   have nobody to wake.
//! - **A Forge event needs a listener** ([`engine::directory`]): whether it has one is decided
//!   under the same lock that gives it its place, so that the answer is exact. Who was cut off
//!   counts as one until `forge.linger_ms` is over, by a time in the directory's entry, since what
//!   it misses is in the topic's ring.
//! - **What a client has missed is found by the last event that it knows**, not by time: it asks
//!   for what came after that, and is told where the ring no longer reaches back so far.
//! - **An installation's rate is a bucket in the directory**, under a name that no topic has: the
//!   same lock, and swept out like everything there.
//! - **Registered invocations are behind locks of their own** ([`interface::forge::invocations`]),
//!   held for a look into a map, and only on the way of a call that names one.
//! - **Topics and realtime tokens are keyed from the JWT secret**, under labels of their own: nodes
//!   that share it agree, and nothing signed for one purpose passes for another.
//! - **A user's own documents go through the channel of the resource**, and each worker finds the
//!   connections of that user by their name (`worker/m2.rs`). A channel for each user and resource
//!   would cost some 600 bytes a subscription whether there is such a document or not.
//! - **Deleted documents are remembered by their version** (`side/store/documents.rs`), so that one
//!   that is made again is later; the oldest are forgotten at a bound, and whatever is new is later
//!   than all of those.
//! - **A webhook's address is checked where it is connected to** ([`side::webhook`]): names are
//!   resolved by a resolver of our own that leaves out what is not public, so that a name cannot
//!   show one address to a check and another to the connection. What those who offer a call had to
//!   drop is counted by the thread of webhooks, since every counter has one writer.
//! - **A socket that is handed over is duplicated out of monoio** (`runtime/http_connection.rs`): an
//!   operation that was given up may hold monoio's descriptor until its cancellation completes.

pub mod auth;
pub mod background;
pub mod broker;
pub mod codec;
pub mod config;
pub mod interface;
pub mod limits;
pub mod mailbox;
pub mod message;
pub mod metrics;
pub mod node;
pub mod runtime;
