#![doc = include_str!("README.md")]
//!
//! # The code
//!
//! Socket.IO over Engine.IO, on WebSockets and long-polling, and the REST calls of back ends and
//! administrators. The applications of public conformance suites use the same layers.
//!
//! A [`Session`] handles Engine.IO (`session.rs`). While its transport is long-polling, it holds
//! that transport's state (`polling.rs`). Inside it, `realtime.rs` handles Socket.IO, and inside
//! that, `client.rs` holds the client and runs its commands.
//!
//! A subscribe command takes these steps: [`Session::on_text`] decodes the Engine.IO packet,
//! `Realtime::on_packet` decodes the Socket.IO packet, and [`wire::request`] reads the command.
//! `Client::execute` (`client/waiting.rs`) asks for the verdict of the policies. A command whose
//! verdict is not known waits in the backlog (`backlog.rs`) until [`Session::on_verdict`].
//! `Client::subscribe` has the broker count the connection ([`Context::join`]), which posts an
//! activation into the worker's own mailbox. When the worker takes that mail,
//! [`Session::on_joined`] acknowledges the command and sends the channel's retained publications.
//!
//! [`http`] serves Engine.IO's requests, and [`rest`] the calls of back ends and administrators.
//! [`unsupported`] names what clients ask for in vain. [`client_bundle`] serves the client's own
//! files.
//!
//! A session whose connection is cut becomes one of the worker's [`detached`] sessions. `resume.rs`
//! lets a client resume such a session. In a cluster [`sharing`] tells the other nodes what each
//! session is, and [`returning`] lets a client resume one that another node had. A [`Probe`] is a
//! WebSocket that offers to carry a session that is on long-polling.
//!
//! [`Context::join`]: super::context::Context::join

mod access;
mod backlog;
mod client;
pub mod client_bundle;
pub mod command;
mod conformance;
pub mod detached;
pub mod engineio;
pub mod http;
mod msgpack;
mod polling;
mod probe;
mod realtime;
mod recovered;
pub mod recovery;
pub mod rest;
mod resume;
pub mod returning;
mod session;
pub mod sharing;
pub mod socketio;
mod suite;
#[cfg(test)]
mod tests;
pub mod unsupported;
pub mod violation;
pub mod wire;

pub use probe::Probe;
pub use session::{App, Session};
