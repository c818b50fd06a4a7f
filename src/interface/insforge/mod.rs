#![doc = include_str!("README.md")]
//!
//! # The code
//!
//! Socket.IO over Engine.IO, on WebSockets and long-polling. The applications of conformance suites
//! run on the same layers.
//!
//! A [`Session`] is the Engine.IO part (`session.rs`), with the state of long-polling
//! (`polling.rs`) while that is the transport. In it is the Socket.IO part (`realtime.rs`), and in
//! that the client with its commands (`client.rs`).
//!
//! How a subscribe goes through the room: [`Session::on_text`] takes the Engine.IO packet apart,
//! `Realtime::on_packet` the Socket.IO packet, and [`protocol::insforge`] reads the command.
//! `Client::execute` asks for the verdict of the policies. A command whose verdict is not known
//! waits in the backlog (`backlog.rs`) until [`Session::on_verdict`]. `Client::subscribe` has the
//! broker count the connection ([`Context::join`]), which puts an activation into the worker's own
//! mailbox. When that comes up, [`Session::on_joined`] acknowledges the command and sends what the
//! channel had kept.
//!
//! [`http`] serves Engine.IO's requests and [`rest`] those of back ends and administrators.
//!
//! A session whose connection is cut goes to the worker's [`detached`] sessions. A client that
//! wants to go on with it is served by `resume.rs`. A [`Probe`] is a WebSocket that offers to carry
//! a session on long-polling.
//!
//! [`protocol::insforge`]: crate::interface::insforge::wire
//! [`Context::join`]: super::context::Context::join

mod access;
mod backlog;
mod client;
pub mod command;
mod conformance;
pub mod detached;
pub mod engineio;
pub mod http;
mod polling;
mod probe;
mod realtime;
pub mod recovery;
pub mod rest;
mod resume;
mod session;
pub mod socketio;
mod suite;
#[cfg(test)]
mod tests;
pub mod violation;
pub mod wire;

pub use probe::Probe;
pub use session::{App, Session};
