//! A node's part in a cluster, over the message broker of the cluster: NATS, 2.11 or newer.
//!
//! - [`protocol`] parses and writes the bytes of the NATS client protocol. It is pure.
//! - [`identity`] keeps the node's name and its cluster in the data directory.
//! - [`entries`] is the register of the nodes, [`beats`] listens to them, and [`register`] decides
//!   by both whether a node may join.
//! - [`status`] writes down the state of a cluster for the operator.
//! - [`control`] creates and checks the streams, over a connection of its own.
//! - [`credentials`] answers a server that asks who the node is, and sets up TLS.
//! - [`mod@line`] is the connection: it dials, reads, writes, notices silence and dials again.
//! - [`serve`] is the thread of a node in a cluster. Its owner of the line passes events to
//!   [`crate::cluster`] and carries out what that asks for; reads of the streams and the consumer
//!   of all nodes' claims are tasks beside it, with connections of their own.
//! - `administration` follows the bucket of what administrators set for all nodes, and puts changes
//!   there.
//! - `history` asks other nodes for their shares of history, and answers them.
//! - [`documents`] has the documents of the cluster: their stream, the node's copy of it, and the
//!   thread that reads the copy.
//! - [`polls`] is a thread that passes long-polling requests on to the nodes of their sessions.
//! - `sessions` shares sessions of Socket.IO with the other nodes.
//! - [`seat`] is the thread's way to the register of the nodes, and [`Member`] keeps the node in
//!   it.
//!
//! The line does not use a client library, because a subscription costs such a library 5.0 KB of
//! the node's memory (`tests/cluster/figures.rs`), and the line nothing: the caller keeps what it
//! knows of its subscriptions, and tells a new connection of them.

mod administration;
pub mod beats;
mod client;
mod consumer;
pub mod control;
pub mod credentials;
pub mod documents;
pub mod entries;
mod history;
pub mod identity;
mod joining;
pub mod line;
mod mirror;
mod owner;
pub mod polls;
pub mod protocol;
mod reads;
mod recent;
pub mod register;
pub mod seat;
mod sessions;
mod settings;
pub mod status;
mod thread;

pub use crate::config::address;
pub use administration::import::{ImportError, Imported, import};
pub use administration::invocations::Take;
pub use joining::Member;
pub use sessions::Asked;
pub use settings::Settings;
pub use thread::{run, serve};
