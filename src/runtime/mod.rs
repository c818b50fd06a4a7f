//! Hot I/O: acceptors, which serve HTTP, and workers, which serve WebSockets and long-polling
//! sessions. Each worker has one thread and connections of its own.
//!
//! A worker works in turns. A turn takes mail from the mailbox, reads the sockets that are ready,
//! looks at the clock, and then sends to each connection that has frames, once. Under load many
//! frames are sent together; a lone publication is sent at once.
//!
//! Acceptors:
//!
//! - `acceptor.rs`: the state that the connections of an acceptor share.
//! - `accepting.rs`: accepts connections, and serves what has come with them.
//! - `serving.rs`: serves the requests of a connection.
//! - `servers.rs`: the tasks that serve the connections.
//! - `http_poller.rs`: reports which connections are ready, and keeps those that wait.
//! - `http_connection.rs`: reads the requests and writes the responses of one connection.
//! - `answers.rs`: sends the responses of connections that were ready together.
//! - `responses.rs`: refusals of requests that could not be read, and CORS.
//! - `health.rs`: asks all threads whether they do their work.
//! - `metrics.rs`: answers `GET /metrics`.
//!
//! From acceptors to workers, and between workers:
//!
//! - `arrivals.rs`: sockets, long-polling requests and sessions on their way to a worker.
//! - `upgrade.rs`: hands over sockets that leave HTTP, and moves sessions from polling to
//!   WebSocket.
//! - `pending.rs`: forwards and answers long-polling requests.
//! - `passing.rs`: passes those for sessions of other nodes on, and asks workers for other nodes.
//! - `migrate.rs`: moves sessions to the worker that keeps what their clients want to resume.
//! - `forwards.rs`: the sessions whose long-polling requests a worker passes on.
//!
//! Workers:
//!
//! - `turn.rs`: the loop of turns.
//! - `steps.rs`: the steps of a turn, which a simulation can call as well.
//! - `worker.rs`: the worker, and how a connection begins, handles an event and ends.
//! - `connection.rs`: a connection, and a worker's table of them.
//! - `poller.rs`: reports which sockets are ready.
//! - `reader.rs`: reads bytes from sockets.
//! - `apply.rs`: hands bytes to sessions and carries out what they ask for.
//! - `fanout.rs`: puts publications into outboxes, begins and ends subscriptions, and hands
//!   documents to the sessions that wait for them.
//! - `sender.rs`: sends outboxes to sockets.
//! - `sealing.rs`: makes records of what a batch has for encrypted connections.
//! - `wire.rs`: a socket and its encryption, as they move between threads.
//! - `transmit/`: the way to the sockets, in batches through a ring or by plain sends.
//! - `pressure.rs`: closes the connections that hold the most when memory runs short.
//! - `timer.rs`: the deadlines of connections.
//! - `drain.rs`: closes the connections of a stopping node.
//!
//! For both:
//!
//! - `shared.rs`: the state that the hot threads share, with the clocks.
//! - `descriptors.rs`: what is kept back of the descriptors.
//! - `driver.rs`: chooses io_uring or epoll.
//!
//! A subscribe passes through `poller.rs`, `turn.rs`, `reader.rs`, `apply.rs` and `worker.rs` to
//! its session, which posts an activation. In the next turn `steps.rs` takes the activation from
//! the mailbox, `fanout.rs` begins the subscription and tells the session, and `sender.rs` sends
//! the acknowledgement.

pub mod accepting;
pub mod acceptor;
mod answers;
mod apply;
mod arrivals;
mod connection;
pub mod descriptors;
mod drain;
pub mod driver;
mod fanout;
mod forwards;
mod health;
mod http_connection;
mod http_poller;
pub mod listener;
mod metrics;
mod migrate;
pub mod passing;
mod pending;
mod poller;
mod pressure;
mod reader;
mod responses;
mod sealing;
pub mod sender;
mod servers;
mod serving;
mod sessions;
pub mod shared;
mod steps;
mod timer;
pub mod transmit;
mod turn;
mod upgrade;
mod wire;
mod worker;

pub use arrivals::Arrivals;
pub use turn::Turns;
pub use worker::Worker;
