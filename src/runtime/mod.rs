//! Hot I/O: acceptors, which serve HTTP, and workers. Each worker has one thread, its connections,
//! and the turn that they all live by.
//!
//! mail → local index → outboxes → sockets: a turn takes what waits in the mailbox, reads
//! the sockets that are ready, looks at the clock, and then drains every connection that has
//! frames to send, once. Under load many frames are drained together; a lone publication goes out
//! at once.

pub mod acceptor;
mod apply;
mod arrivals;
mod connection;
mod drain;
pub mod driver;
mod fanout;
mod forwards;
mod health;
mod http_connection;
mod metrics;
mod migrate;
mod pending;
mod poller;
mod reader;
mod responses;
pub mod sender;
pub mod shared;
mod steps;
mod timer;
mod turn;
mod upgrade;
mod worker;

pub use arrivals::Arrivals;
pub use turn::Turns;
pub use worker::Worker;
