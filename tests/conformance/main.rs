//! Checks from outside, byte by byte, that the node follows the specifications of its protocols.
//!
//! `websocket` covers what the Autobahn test suite covers in its cases 1 to 7, 9, 10, 12 and 13,
//! with the same case numbers. `engineio` and `socketio` cover what the public suites of those protocols
//! cover, and violations that those leave out. `http` sends bad input over bare TCP.

mod engineio;
mod frames;
mod http;
mod node;
mod session;
mod socketio;
#[path = "../support/mod.rs"]
mod support;
mod tcp;
mod websocket;
