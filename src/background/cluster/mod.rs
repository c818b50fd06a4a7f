//! The connection to the message broker of a cluster: NATS, 2.11 or newer.
//!
//! Only tests use this module yet, and no setting can start a cluster: it is the lowest part of
//! what several nodes will share their channels with.
//!
//! - [`protocol`] parses and writes the bytes of the NATS client protocol. It is pure.
//! - [`credentials`] answers a server that asks who the node is, and sets up TLS.
//! - [`mod@line`] is the connection: it dials, reads, writes, notices silence and dials again.
//!
//! The nodes do not use a client library here, because a subscription costs such a library
//! kilobytes, and this module nothing: the caller keeps what it knows of its subscriptions, and
//! tells a new connection of them.

pub mod credentials;
pub mod line;
pub mod protocol;

pub use crate::config::address;
