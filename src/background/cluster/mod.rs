//! A node's part in a cluster, over the message broker of the cluster: NATS, 2.11 or newer.
//!
//! Only tests use this module yet, and no setting can start a cluster: it is the lowest part of
//! what several nodes will share their channels with.
//!
//! - [`protocol`] parses and writes the bytes of the NATS client protocol. It is pure.
//! - [`credentials`] answers a server that asks who the node is, and sets up TLS.
//! - [`mod@line`] is the connection: it dials, reads, writes, notices silence and dials again.
//! - [`run`] is the thread of a node in a cluster. Its owner of the line passes events to
//!   [`crate::cluster`] and carries out what that asks for; reads of the streams and the consumer
//!   of all nodes' claims are tasks beside it, with connections of their own.
//! - [`seat`] is the thread's way to the register of the nodes.
//!
//! The nodes do not use a client library here, because a subscription costs such a library
//! kilobytes, and this module nothing: the caller keeps what it knows of its subscriptions, and
//! tells a new connection of them.

mod client;
pub mod credentials;
pub mod line;
mod mirror;
mod owner;
pub mod protocol;
mod reads;
mod recent;
pub mod seat;
mod settings;
mod thread;

pub use crate::config::address;
pub use settings::Settings;
pub use thread::run;
