//! Fanfare: one call, heard by everyone. A Linux edge node that fans events out to WebSocket
//! clients.
//!
//! This page is the architecture: the words, the rooms, the threads, the way of a publication and
//! of a subscribe, the place for another interface, and the decisions behind them.
//!
//! # Words
//!
//! One word, one meaning, in code, documentation, metrics, errors and configuration.
//!
//! - An **interface** is one product's protocol: InsForge Realtime, Forge Realtime, M2 Realtime.
//!   Its **room** is the folder that holds all of it.
//! - A **channel** is a name that can be subscribed to (`order:123`). A **definition** is a pattern
//!   (`order:*`) that administrators allow channels with. Forge's topics and M2's resources are
//!   channels, too.
//! - A **publication** is what one publisher says on a channel. Its **offset** is its place there.
//!   Its **audience** is how many subscribers it was posted to.
//! - A **connection** is one client, on WebSocket or long-polling. As a **subscriber** it hears a
//!   channel. Its **outbox** holds frames that it has not taken.
//! - A **session** is the pure value behind a connection, and its **link** is the broker's part of
//!   the connection: socket, outbox, head of its subscriptions. **Next** is what an event asks of
//!   the runtime for its connection.
//! - A **group** is all subscribers whose frames are byte for byte the same.
//! - The **broker** decides who hears what in which order. Its **directory** knows the order and
//!   the audience of every channel; a worker's **index** knows the subscribers among its
//!   connections.
//! - A **mailbox** is the only way into a thread. A **reservation** is a place in a queue that is
//!   released on drop; a **ticket** is the right to answer a question of another thread.
//! - The **resume log** is what a worker heard lately. A **detached session** has lost its
//!   connection and can be resumed.
//! - A **stale** document is to be read again, because its client did not keep up; a **pending
//!   load** is a read of the store under way.
//! - A **verdict** is what policies say of a command; commands that wait for one form the
//!   **backlog**.
//! - The **store** is what survives the node. **Shedding** is what a full outbox leaves out, and a
//!   **gap notice** tells the client so.
//!
//! # Rooms
//!
//! | room | is | may import |
//! |---|---|---|
//! | [`message`], [`limits`] | the nouns; every bound by name | each other |
//! | [`codec`] | bytes of WebSocket, HTTP, JSON, base58 | `limits` |
//! | [`config`], [`metrics`] | settings; counters | `message`, `limits` |
//! | [`auth`] | keys, tokens, caches of verified tokens | also `codec` |
//! | [`mailbox`] | what threads may post to each other | `message`, `limits`, `metrics` |
//! | [`broker`] | state and decisions: directory, index, outboxes, subscriptions | also `mailbox` |
//! | [`interface`] | the seam, and one room for each interface | all above; no room another |
//! | [`runtime`] | hot I/O: acceptors and workers | all above |
//! | [`background`] | cold I/O: store, webhooks, policies' expressions | all but the last three |
//! | [`node`] | start and stop order | everything |
//!
//! `tests/tidy.rs` fails if this is not so, if files of one room import each other in a circle, or
//! if code outside the seam matches on which interface it is.
//!
//! - `codec`, `broker`, `auth` and `interface` hold no socket, no clock and no thread, and sessions
//!   draw no randomness of their own: all of that is passed in, so that a simulation (`tests/sim`)
//!   runs sessions and workers as they are.
//! - There is no lock on the hot path but the directory's shard, and under it no I/O, no encoding
//!   and nothing that grows with the audience.
//! - There is no task, waker, ring operation or allocation per delivery, and no buffer or task on
//!   an idle socket.
//! - No hot thread waits for a disk, a name server or a full queue. A full queue refuses and counts
//!   it.
//!
//! # Threads
//!
//! ```text
//!  listen ──► acceptor role: accept · HTTP/1.1 · calls · credentials
//!                │ session with its socket, poll  │ publish
//!                ▼                                ▼
//!         worker mailboxes ◄──────── directory: sharded, short critical sections
//!                │
//!  ┌─────────────▼──────────┐
//!  │ worker: connections    │  one thread per core; a turn takes mail, reads sockets, looks at
//!  │ index, outboxes        │  the clock, and drains every connection with frames to send
//!  └─────────────┬──────────┘
//!                │ bounded queue, never waited on
//!  ┌─────────────▼──────────┐
//!  │ background: SQLite,    │  one thread writes; another, the reader, only looks; webhooks and
//!  │ webhooks, policies     │  policies have threads of their own
//!  └────────────────────────┘
//! ```
//!
//! The acceptor role runs inside the workers' threads unless `acceptor_threads` gives it its own.
//! monoio drives both on io_uring, or on epoll if that is denied ([`runtime::driver`]).
//!
//! # The way of a publication
//!
//! 1. Over HTTP: `runtime/acceptor.rs` reads the request, [`interface::entrance`] finds its
//!    interface, and a call of that room checks and runs it
//!    (`interface/insforge/rest/messages.rs`). Over a socket: `runtime/reader.rs` reads bytes, and
//!    the session takes them apart and checks the command (`interface/insforge/client.rs`).
//! 2. Both call [`broker::publish::Broker::publish`], which makes the frames of the groups in use
//!    before any lock is taken.
//! 3. [`broker::directory::Directory::publish`] reserves a place at every worker that has
//!    subscribers, or refuses; stamps the offset; posts one [`mailbox::Mail::Deliver`] to each. All
//!    under the lock of the channel's shard, so that the order is the same for all subscribers.
//! 4. `runtime/fanout.rs` looks the worker's own subscribers up ([`broker::index`]) and puts a
//!    pointer to the frame into each outbox ([`broker::outboxes`]). It touches no session.
//! 5. At the end of the turn `runtime/sender.rs` drains each connection with one vectored send, or
//!    its session answers the poll that waits.
//!
//! History gets its place in the same order: a place in a bounded queue ([`mailbox::WriteQueue`])
//! is reserved before the stamp and used under the channel's lock. The one thread that writes
//! (`background/writer.rs`) commits what waits together and then answers the publishers that wait
//! for a level of [`message::Durability`]; fan-out waits for none of it.
//!
//! # The way of a subscribe
//!
//! 1. The session reads the command (InsForge: `session.rs`, `realtime.rs`, `client.rs` of its
//!    room) and asks for the verdict of the policies ([`interface::authorize`]). If that is not
//!    known, the command waits in the session's backlog.
//! 2. [`interface::context::Context::join`] counts the subscriber in directory and index
//!    ([`broker::subscriptions`]) and posts an [`Activate`](mailbox::Mail::Activate) into the
//!    worker's own mailbox, under the same lock.
//! 3. When that mail comes up, `runtime/fanout.rs` activates the index entry and hands the session
//!    `on_joined`: it acknowledges, and sends what the channel kept. Everything published before
//!    stands in front of the activation and everything later behind it, so that the subscriber
//!    hears each publication once.
//!
//! Leaving is the same again, with [`Deactivate`](mailbox::Mail::Deactivate) and `on_left`.
//!
//! # Where another interface goes
//!
//! Make a folder under `interface/` with its `wire.rs` (bytes), `session.rs` (a value with
//! `on_open`, `on_text`, `on_joined` and the other events of [`interface::Session`]) and `http`
//! (what the head of a request leads to, and its calls). Add a variant to [`interface::Session`]
//! and to [`interface::entrance::Call`], its frames to [`interface::encode`], its encodings to
//! [`message::Group`], and its counters to [`metrics`]. Nothing else names it: `runtime`, `broker`
//! and `mailbox` stay as they are.
//!
//! # Sessions and the runtime
//!
//! The runtime borrows one connection and, beside it, everything else of its worker, and hands the
//! session an event with a [`Context`](interface::context::Context). The session calls the broker,
//! which answers at once, and returns [`Next`](interface::next::Next): close, renew, migrate,
//! offer, displace or stay. `runtime/apply.rs` carries that out. A session that came from HTTP, or
//! from another worker, reaches its worker as an arrival (`runtime/arrivals.rs`) behind
//! [`Mail::Arrive`](mailbox::Mail).
//!
//! # Clients that come back
//!
//! If recovery is on, each worker enters what it takes from its mailbox into its resume log
//! ([`broker::resume_log`]). When a connection is cut, the worker keeps the session's channels
//! ([`interface::insforge::detached`]), and the directory goes on giving it what is published
//! there. A client that comes back is counted in its channels again; behind the mail of that stands
//! [`Mail::Recover`](mailbox::Mail::Recover), and when it comes up everything that the client
//! missed is read from the log at once. If it is not certain what was missed, the client is told
//! that it did not recover.
//!
//! # Clients that do not keep up
//!
//! A full outbox closes its connection, unless the channels of the waiting publications can do
//! without some of them ([`broker::shedding`]). The client is told once how many it lost. A client
//! of M2 is not sent documents then: they are stale ([`broker::stale`]), and read again once it has
//! taken its frames, so that it ends with the newest of each.
//!
//! # Documents
//!
//! A resource of M2 is a channel, and its document a publication that the store has first. One
//! thread writes them all (`background/documents.rs`): it reserves a place at every worker, commits
//! what waits together, and only then has each fanned out ([`interface::m2::documents`]) and its
//! writer answered. While a resource has subscribers the directory knows its current document, and
//! the activation carries it. Other documents are read by the writer between two commits, so that
//! the answer stands in the mailbox behind all that it knows of ([`interface::m2::loads`]).
//!
//! # How a node ends
//!
//! SIGTERM or SIGINT: `node/stop.rs` sets [`runtime::shared::Shared::shutdown`], which every hot
//! thread sees in its next turn. Workers close their connections (`runtime/drain.rs`): those on
//! long-polling at once, the others evenly over `drain_ms`. Each leaves its channels first and is
//! closed when the mail that ends its subscriptions has come up. Last, the background carries out
//! what was asked before and flushes the store.
//!
//! # What is counted
//!
//! [`metrics`] has one set of counters per thread, added up when `/metrics` is read. Two sums hold
//! whenever nothing is under way: connections opened = open + closed by reason, and deliveries
//! matched = delivered + dropped by reason + conflated + queued, where delivered means that the
//! kernel took every byte. `GET /api/health` puts a question to every worker and to the background
//! and names each that does not answer in time.
//!
//! # Decisions
//!
//! - **One poller per worker is one epoll descriptor** (`runtime/poller.rs`), edge-triggered, with
//!   the doorbell and the timer in it; monoio awaits that descriptor on either driver. Reads and
//!   sends are plain system calls from the turn: batching them in a ring measured the same, since
//!   over nine tenths of a delivery are spent in the kernel's TCP path.
//! - **A session calls and returns one value**, instead of returning a list of effects: joining and
//!   publishing answer at once, so that a waiting line of *subscribe, then publish* needs no events
//!   in between, and no event asks for more than one thing that ends, moves or renames its
//!   connection.
//! - **An arrival is not mail**: mail holds nouns that all threads know, and a session is not one.
//!   The list of arrivals is bounded by the mailbox, because each has a reserved place there.
//! - **A folder's `mod.rs` stands for the folder** when circles of files are looked for, so that
//!   its files may use its types.
//! - **Definitions and policies are shared through atomic pointers** ([`broker::publish::Broker`]):
//!   when a change is answered it holds on every thread, and reading takes no lock.
//! - **An expression is one expression because it fits into two places**, between parentheses and
//!   between `WHEN` and `THEN` ([`background::policy`]): the database's own parser decides. Its
//!   authorizer decides what the expression may name. Queries are denied: without them nothing
//!   loops, and neither time nor memory can grow. `LIKE` is our own, since the database's can be
//!   made to last for hours.
//! - **A policy for every command that has no `withCheck` checks publishes with its `using`**, as
//!   PostgreSQL does; and `auth_uid()` is the subject of the role `authenticated` alone.
//! - **Presence announcements take publication places.** A join that cannot announce itself is
//!   refused whole. A closed connection's leave cannot be refused, so it is tried again until it
//!   finds room ([`broker::subscriptions`]).
//! - **Mail is not taken while a drain is unfinished**, so that a worker that is slower than its
//!   publishers shows it in its mailbox, where publishers are refused, and not in the outboxes of
//!   consumers that are not slow at all.
//! - **History has no index but that of ids** (`background/store/segments.rs`): rows are cut into
//!   segments, and complete ones are tallied. An index for each filter would be written to at
//!   another page for nearly every row; tallies are written once for thousands of rows, and answer
//!   searches and statistics both.
//! - **Removing a definition touches none of its messages**: whatever shows them looks whether it
//!   is still there (`interface/insforge/rest/history.rs`).
//! - **Worker 0 sweeps** (`runtime/turn.rs`): once a second it drops what a quarter of the channels
//!   keep no longer. Channels with something to drop stand in a list, so that this costs nothing
//!   for others.
//! - **A rate limit outlives the last subscriber** by a second: else a client that is alone on a
//!   channel would be faster by coming anew.
//! - **Stopping is a flag and a bell**, not mail: it must reach a worker whose mailbox is full. The
//!   listener is shut down rather than closed, because accepts that wait in a ring hold it open.
//! - **A session goes to its log, not the log to the session** (`runtime/migrate.rs`): positions
//!   are one worker's own, so a CONNECT that names another worker's session takes its socket there.
//!   On long-polling the requests go on arriving where the session id says, and are passed on.
//! - **A replay has no place in the log**: it is from before, and one client's replays would push
//!   out what all others have missed. A client that is cut in the middle of one is not recovered.
//! - **A lone publication is committed at once, and under load commits are paced** by
//!   [`limits::COMMIT_EVERY_MS`], sleeping rather than waiting for the queue, so that publishers
//!   have no thread to wake.
//! - **A Forge event needs a listener** ([`broker::directory`]): whether it has one is decided
//!   under the lock that gives it its place, so that the answer is exact. A client that was cut off
//!   counts as one until `forge.linger_ms` is over, because what it misses is in the topic's ring.
//! - **What a client of Forge has missed is found by the last event that it knows**, not by time.
//! - **An installation's rate is a bucket in the directory**, under a name that no topic has.
//! - **Registered invocations are behind locks of their own** ([`interface::forge::invocations`]),
//!   held for a look into a map, and only for a call that names one.
//! - **Topics and realtime tokens are keyed from the JWT secret**, under labels of their own: nodes
//!   that share it agree, and nothing signed for one purpose passes for another.
//! - **A user's own documents go through the channel of the resource**, and each worker finds the
//!   connections of that user by name ([`broker::index`]). A channel for each user and resource
//!   would cost some 600 bytes a subscription whether there is such a document or not.
//! - **Deleted documents are remembered by their version** (`background/store/documents.rs`), so
//!   that a document that is made again is later; the oldest are forgotten at a bound.
//! - **A webhook's address is checked where it is connected to** ([`background::webhook`]): names
//!   are resolved by a resolver of our own that leaves out what is not public, so that a name
//!   cannot show one address to a check and another to the connection.
//! - **A socket that leaves HTTP is duplicated out of monoio** (`runtime/http_connection.rs`): an
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
