//! Fanfare: one call, heard by everyone. A Linux edge node that fans events out to clients on
//! WebSocket, long-polling and Server-Sent Events.
//!
//! This page is the architecture: the words, the rooms, the threads, the way of a publication and
//! of a subscribe, the place for another interface, and the decisions behind them. How to use the
//! node is in the README, and in the page of each room that has one: [`interface::insforge`],
//! [`interface::forge`], [`interface::m2`], [`interface::events`], [`config`], [`node`] and
//! [`background::store`].
//!
//! # Words
//!
//! One word, one meaning, in code, documentation, metrics, errors and configuration.
//!
//! - An **interface** is one protocol for clients: InsForge Realtime, Forge Realtime, M2 Realtime,
//!   Server-Sent Events. Its **room** is the folder that holds all of it.
//! - A **channel** is a name that clients subscribe to (`order:123`). A **definition** is a pattern
//!   (`order:*`) by which an administrator allows channels. Forge's topics and M2's resources are
//!   channels, too; a **space** is a namespace of channels.
//! - A **publication** is one message, event or document on a channel. Its **offset** is its place
//!   there. Its **audience** is the number of subscribers that it was posted to.
//! - A **connection** is one client, on WebSocket, long-polling or a stream. As a **subscriber** it
//!   receives the publications of a channel. Its **outbox** holds the frames that it has not taken.
//! - A **session** is the pure value behind a connection. Its **link** is the broker's part of the
//!   connection: socket, outbox, head of its subscriptions. **Next** is what an event asks of the
//!   runtime for its connection.
//! - An **encoding** is a form of frames. Subscribers with the same encoding receive the same
//!   bytes.
//! - The **broker** decides which subscriber receives which publication, and in which order. Its
//!   **directory** has the order and the audience of every channel. A worker's **index** has the
//!   subscribers among the worker's connections.
//! - A **mailbox** is the only way into a thread. A **reservation** is a place in a queue that is
//!   released on drop. A **ticket** is the right to answer a question of another thread.
//! - A **retained value** is a channel's last publication, and a **window** its publications of
//!   some seconds. Both are kept for later subscribers.
//! - The **resume log** has what a worker delivered lately. A **detached session** has lost its
//!   connection and can be resumed. The **channel log** has what a channel with streams published
//!   lately.
//! - A **stale** document must be read again, because its client did not keep up. A **pending
//!   load** is a read of the store that a subscriber waits for.
//! - A **verdict** is the policies' decision about a command. Commands that wait for a verdict are
//!   the session's **backlog**.
//! - A **cluster** is several nodes with one order of publications, which a **stream** of NATS
//!   gives them. A channel of the stream is **attached** while the node hears it; before that,
//!   joins are **held**. The words that only decisions use are explained in [`cluster`].
//! - The **store** is what survives the node. **Shedding** removes publications from a full outbox,
//!   and a **gap notice** tells the client how many.
//!
//! # Rooms
//!
//! | room | is | may import |
//! |---|---|---|
//! | [`message`], [`limits`] | the nouns; the bounds of the node by name | each other |
//! | [`codec`] | bytes of WebSocket, HTTP, JSON, base58 | `limits` |
//! | [`config`], [`metrics`] | settings; counters | `message`, `limits` |
//! | [`auth`] | keys, tokens, caches of verified tokens | also `codec` |
//! | [`mailbox`] | what threads may post to each other | `message`, `limits`, `metrics` |
//! | [`broker`] | state and decisions: directory, index, outboxes, subscriptions | also `mailbox` |
//! | [`cluster`] | one node's decisions in a cluster | `message`, `limits` |
//! | [`interface`] | the seam, and one room for each interface | all above; no room another |
//! | [`runtime`] | hot I/O: acceptors and workers | all above |
//! | [`background`] | cold I/O: store, webhooks, policies, PostgreSQL | all but the last three |
//! | [`node`] | the order of start and stop | everything |
//!
//! `tests/tidy.rs` fails if an import breaks this table, if files of one room import each other in
//! a circle, if code outside the seam matches on the interface, or if code outside `interface`
//! names one, except in `config`, `metrics`, `node`, `main` and this page.
//!
//! - `codec`, `broker`, `auth`, `cluster` and `interface` hold no socket, no clock and no thread,
//!   and sessions draw no randomness of their own. All of that is passed in, so that the simulation
//!   (`tests/sim`) runs sessions and workers as they are.
//! - There is no lock on the hot path but the directory's shard, and under it no I/O, no encoding
//!   and no work that grows with the audience.
//! - There is no task, waker, ring operation or allocation per delivery, but for streams of several
//!   channels, whose frames are their own. There is no buffer or task on an idle socket.
//! - No hot thread waits for a disk, the log, a name server or a full queue. A full queue refuses
//!   and counts the refusal.
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
//!  │ worker: connections    │  one thread per core; a turn takes mail, reads sockets, runs timers,
//!  │ index, outboxes        │  and drains every connection with frames to send
//!  └─────────────┬──────────┘
//!                │ bounded queue, never waited on
//!  ┌─────────────▼──────────┐
//!  │ background: SQLite,    │  one thread writes and another only reads; webhooks and policies
//!  │ webhooks, policies     │  have threads of their own
//!  └────────────────────────┘
//! ```
//!
//! The acceptor role runs inside the workers' threads unless `acceptor_threads` gives it threads of
//! its own. monoio drives both on io_uring, or on epoll if io_uring is denied
//! ([`runtime::driver`]).
//!
//! # The way of a publication
//!
//! 1. Over HTTP: `runtime/serving.rs` reads the request, [`interface::entrance`] finds its
//!    interface, and a call of that room checks and runs it
//!    (`interface/insforge/rest/messages.rs`). Over a socket: `runtime/reader.rs` reads bytes, and
//!    the session decodes and checks the command (`interface/insforge/client.rs`).
//! 2. Both call [`interface::Shared::publish`], which passes the frames' encoder to
//!    [`broker::publish::Broker::publish`]. That makes the frames of the encodings in use before
//!    any lock is taken.
//! 3. [`broker::directory::Directory::publish`] reserves a place at every worker that has
//!    subscribers, or refuses; stamps the offset; and posts one [`mailbox::Mail::Deliver`] to each.
//!    All of this happens under the lock of the channel's shard, so that the order is the same for
//!    all subscribers.
//! 4. The worker takes the mail in its next turn (`runtime/turn.rs`, `runtime/steps.rs`).
//!    `runtime/fanout.rs` finds the worker's own subscribers ([`broker::index`]) and puts a pointer
//!    to the frame into each outbox ([`broker::outboxes`]). It touches no session.
//!    Before a long drain, the turn takes what acceptors of the same thread publish meanwhile
//!    (`runtime/turn.rs`), so that the drain serves that, too.
//! 5. At the end of the turn `runtime/sender.rs` drains each connection with one vectored send.
//!    These sends enter the kernel in batches ([`runtime::transmit`]). On long-polling, the session
//!    answers the waiting poll instead.
//!
//! History has the same order: a place in a bounded queue ([`mailbox::WriteQueue`]) is reserved
//! before the stamp and used under the channel's lock. The thread that writes
//! (`background/writer.rs`) commits everything in the queue together. Then it answers the
//! publishers that wait for a level of [`message::Durability`]. Fan-out does not wait for it.
//!
//! # The way of a subscribe
//!
//! [`runtime`] and [`interface::insforge`] name every file on the way; this is the outline.
//!
//! 1. The session (`interface/insforge/session.rs`, `interface/insforge/realtime.rs` and
//!    `interface/insforge/client.rs`) reads the command and asks for the verdict of the policies
//!    ([`interface::authorize`]). If the verdict is not known, the command waits in the session's
//!    backlog.
//! 2. [`interface::context::Context::join`] calls [`broker::subscriptions`]. The directory counts
//!    the subscriber and, under the lock of the channel's shard, posts an
//!    [`Activate`](mailbox::Mail::Activate) into the worker's own mailbox
//!    (`broker/directory/membership.rs`). Then the worker's index notes the subscription.
//! 3. When the worker takes that mail, `runtime/fanout.rs` activates the index entry and hands the
//!    session `on_joined`. The session acknowledges the command and sends what the channel keeps.
//!    In the mailbox, earlier publications come before the activation and later ones after it, so
//!    that the subscriber receives each publication once.
//!
//! An unsubscribe takes the same way, with [`Deactivate`](mailbox::Mail::Deactivate) and `on_left`.
//!
//! # Where another interface goes
//!
//! Make a folder under `interface/` with modules `wire` (bytes), `session` (a value with `on_open`,
//! `on_text`, `on_joined` and the other events of [`interface::Session`]) and `http` (its entrance,
//! which looks at the head of a request, and its calls). Add a variant to [`interface::Session`]
//! and to [`interface::entrance::Call`], its frames to [`interface::encode`], its encodings to
//! [`message::Encoding`], its counters to [`metrics`], and its paths to `interface/front.rs`. If
//! its tokens have an `aud`, [`interface::authenticators::AUDIENCES`] must list it, because
//! otherwise such a token passes as a user's. Settings go into [`config`], and the room's name into
//! `tests/tidy/rooms.rs`.
//!
//! A space, a kind of content or a transport of its own goes into [`message`], and the broker
//! counts it; `runtime` and `mailbox` never name an interface. [`interface::events`] has a
//! transport and an encoding of its own on the channels of InsForge, and a cursor that fan-out
//! moves ([`broker::cursor`]).
//!
//! # Sessions and the runtime
//!
//! The runtime borrows one connection and, beside it, everything else of its worker, and hands the
//! session an event with a [`Context`](interface::context::Context). The session calls the broker,
//! which answers at once, and returns [`Next`](interface::next::Next): close, renew, migrate,
//! offer, displace or stay. `runtime/apply.rs` carries that out. A session that was opened over
//! HTTP, or that comes from another worker, reaches its worker as an arrival
//! (`runtime/arrivals.rs`), which [`Mail::Arrive`](mailbox::Mail) announces.
//!
//! # Clients that resume
//!
//! If recovery is on, each worker keeps a resume log of the publications that it takes from its
//! mailbox ([`broker::resume_log`]). When a connection is cut, the worker detaches the session and
//! keeps its channels ([`interface::insforge::detached`]), and the directory goes on posting their
//! publications to the worker. A client that resumes is counted in its channels again, and after
//! the activations of these channels [`Mail::Recover`](mailbox::Mail::Recover) is posted. When the
//! worker takes that mail, the client receives everything from the log that it has missed. If the
//! log does not hold all of it for certain, the client is told that it did not recover.
//!
//! A stream's client holds its position itself ([`interface::events`]) and may come back to any
//! worker, so a resume log is of no use to it. If recovery is on, the directory keeps a log of each
//! channel with streams, and for as long as recovery lasts after the last of them
//! ([`broker::channel_log`]). The join of a stream reads it under the channel's lock, so that
//! earlier publications come from the log and later ones through the mailbox.
//!
//! # Clients that do not keep up
//!
//! A full outbox closes its connection, unless channels of the waiting publications allow shedding
//! ([`broker::shedding`]). Then the client receives one notice of how many it lost. Documents of M2
//! are not sent to such a client: they become stale ([`broker::stale`]) and are read again when the
//! client has taken its frames, so that it ends with the newest version of each.
//!
//! # Clients whose requests reach another node
//!
//! In a cluster, a long-polling request may reach another node than that of its session, which is
//! in the session's id. If `cluster.polling` says so, the acceptor passes the request on
//! (`runtime/passing.rs`) to a thread ([`background::cluster::polls`]) that asks the other node
//! over NATS, and answers the acceptor's ticket. At the other node the same thread acts as an
//! acceptor: it asks the session's worker under a ticket of its own. A
//! [`Receipt`](mailbox::Receipt) tells whether the client has received its packets. If it has not,
//! the session ends.
//!
//! # Documents
//!
//! A resource of M2 is a channel, and its document a publication that is in the store first. One
//! thread writes all documents (`background/documents.rs`): it reserves a place at every worker,
//! commits the waiting writes together, then fans each out ([`interface::m2::documents`]) and
//! answers its writer. While a resource has subscribers, the directory retains its document, and
//! the activation carries it to new subscribers. Other documents are read by the same thread
//! between two commits, so that an answer is never older than the publications before it in the
//! mailbox ([`interface::m2::loads`]).
//!
//! In a cluster, a stream of NATS has the documents and decides which write is the next one. A
//! thread of its own follows the stream with a copy, fans out what is new, and reads for
//! subscribers once the copy is proven to be new enough ([`background::cluster::documents`]). The
//! directory retains no document then.
//!
//! # How a node ends
//!
//! SIGTERM or SIGINT: `node/stop.rs` lets the node serve for `drain_delay_ms` while its health
//! says that it drains. Then it sets [`runtime::shared::Shared::shutdown`], which every hot
//! thread sees in its next turn. Workers close their connections (`runtime/drain.rs`): those on
//! long-polling at once, the others evenly over `drain_ms`. Each leaves its channels first and is
//! closed when its last deactivation was taken from the mailbox. Last, the background finishes its
//! queues and flushes the store.
//!
//! # What is counted
//!
//! [`metrics`] has one set of counters per thread, which are added up when `/metrics` is read. Two
//! sums hold whenever no event is being handled: connections opened = open + closed by reason, and
//! deliveries matched = delivered + dropped by reason + conflated + queued. Delivered means that
//! the kernel took every byte. `GET /api/health` puts a question to every worker and to the
//! background and names each that does not answer in time.
//!
//! # Decisions
//!
//! - **One poller per worker is one epoll descriptor** (`runtime/poller.rs`), edge-triggered, with
//!   the doorbell and the timer in it; monoio awaits that descriptor on either driver. Reads are
//!   plain system calls from the turn, because reading through a ring gains nothing and takes four
//!   times the kernel's memory for an idle connection.
//! - **Sends are batches of a ring that serves nothing else** (`runtime/transmit/ring.rs`): with
//!   `MSG_DONTWAIT` all of them are over when the batch is submitted, so that frames are borrowed
//!   and no connection has anything under way between two turns.
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
//! - **Nodes of a cluster plan a change of administrators and make it when they hear of it**
//!   (`background/admin.rs`, `background/cluster/administration.rs`): the writer plans it against
//!   what its store has followed, and the cluster's bucket takes it only at that revision. So all
//!   stores make the same changes in one order, and no node needs a lock of another one.
//! - **An expression is one expression because it fits into two places**, between parentheses and
//!   between `WHEN` and `THEN` ([`background::policy`]): the database's own parser decides. Its
//!   authorizer decides what the expression may name. Queries are denied: without them nothing
//!   loops, and neither time nor memory can grow. `LIKE` is our own, since the database's can be
//!   made to last for hours.
//! - **A policy for every command that has no `withCheck` checks publishes with its `using`**, as
//!   PostgreSQL does. `auth_uid()` is the subject of the role `authenticated` only.
//! - **Presence announcements take publication places.** A join that cannot announce itself is
//!   refused whole. A closed connection's leave cannot be refused, so it is tried again until it
//!   finds room ([`broker::subscriptions`]).
//! - **Nodes of a cluster tell joins and leaves in the channel's stream**, and ask each other for
//!   lists when they attach. Keeping each node's list in the stream instead would need no
//!   questions, but every join would carry all members of its node ([`broker::roster`]).
//! - **Mail is not taken while a drain is unfinished.** If a worker is slower than its publishers,
//!   its mailbox fills and refuses publishers, instead of the outboxes of consumers that are not
//!   slow.
//! - **History has no index but that of ids** (`background/store/segments.rs`): rows are cut into
//!   segments, and complete ones are tallied. An index for each filter would be written to at
//!   another page for nearly every row; tallies are written once for thousands of rows, and answer
//!   searches and statistics both.
//! - **Nodes of a cluster keep their own shares of history and ask each other for the rest**
//!   (`background/cluster/history.rs`). If all kept everything, each publication would be committed
//!   on each node. A node's places in the stream rise with its positions
//!   (`background/store/places.rs`), so that lists are merged by them ([`cluster::history`]) and
//!   neither paging nor the search in segments has another order than on one node.
//! - **Removing a definition does not touch its messages**: history checks for each message whether
//!   its definition still exists (`interface/insforge/rest/history.rs`).
//! - **Worker 0 sweeps** (`runtime/turn.rs`): once a second it drops expired publications of a
//!   quarter of the channels. Only channels in a list of those that keep something are visited.
//! - **A rate limit outlives the last subscriber** by a second: otherwise a client that is alone on
//!   a channel could publish faster by subscribing again.
//! - **Stopping is a flag and a bell**, not mail: it must reach a worker whose mailbox is full. The
//!   listener is shut down rather than closed, because accepts that wait in a ring hold it open.
//! - **A session goes to its log, not the log to the session** (`runtime/migrate.rs`): positions
//!   are one worker's own, so a CONNECT that names another worker's session takes its socket there.
//!   On long-polling the requests go on arriving where the session id says, and are passed on.
//! - **Streams resume from a log of their channel, and not from the resume log**: that is in the
//!   order of one worker's mailbox, and has a channel's publications only while the worker has a
//!   subscriber or a detached session there. A detached session for each ended stream would cost
//!   memory for clients that never return; the channel log knows nothing of them.
//! - **A replay does not enter the resume log**, because one client's replays would push out what
//!   other clients have missed. A client that is cut in the middle of a replay does not recover.
//! - **A lone publication is committed at once, and under load commits are paced** by
//!   [`limits::COMMIT_EVERY_MS`], sleeping rather than waiting for the queue, so that publishers
//!   have no thread to wake.
//! - **A Forge event needs a listener** ([`broker::directory`]): whether there is one is decided
//!   under the lock that stamps the event, so that the answer is exact. A client that was cut off
//!   counts as a listener until `forge.linger_ms` is over, because the topic's window keeps what it
//!   misses.
//! - **A client of Forge resumes behind the last event that it has received**, not by time.
//! - **An installation's rate limit is a bucket in the directory**, under a name that no topic has.
//! - **Nodes of a cluster grant tokens at once and tell one another afterwards**
//!   ([`broker::takings`]). To ask an owner first would cost every limited publication a way over
//!   NATS, and calls over HTTP would have to wait. Until the others know what a node has granted,
//!   it leaves them their shares; what was granted twice all the same is owed.
//! - **Registered invocations are behind locks of their own** ([`interface::forge::invocations`]),
//!   held for one look-up, and only by calls that name an invocation.
//! - **Topics and realtime tokens are keyed from the JWT secret**, under labels of their own: nodes
//!   that share it agree, and nothing signed for one purpose passes for another.
//! - **A user's own documents go through the channel of the resource**, and each worker finds the
//!   connections of that user by name ([`broker::index`]). A channel for each user and resource
//!   would cost some 600 bytes per subscription, whether or not such a document exists.
//! - **The store keeps the versions of deleted documents** (`background/store/documents.rs`), so
//!   that a document that is created again has a later version. At a bound the oldest are dropped.
//! - **A webhook's address is checked where it is connected to** ([`background::webhook`]): names
//!   are resolved by the node's own resolver, which returns public addresses only, so that a name
//!   cannot show one address to a check and another to the connection.
//! - **HTTP connections have no task** (`runtime/servers.rs`): they wait in an epoll descriptor
//!   that one task awaits, which reads, answers and sends with plain system calls. So requests that
//!   arrive together are answered together, and a connection that waits costs some 150 bytes. A
//!   request that has to wait keeps its task, and another one goes on.
//! - **A payload is a slice of what was received, a frame is not** ([`broker::received`],
//!   [`message::FrameBytes`]): a frame is shared whole, and the memory that a connection holds is
//!   estimated by the number of the frame's holders, which `Bytes` does not tell.

pub mod auth;
pub mod background;
pub mod broker;
pub mod cluster;
pub mod codec;
pub mod config;
pub mod interface;
pub mod limits;
pub mod mailbox;
pub mod message;
pub mod metrics;
pub mod node;
pub mod runtime;
