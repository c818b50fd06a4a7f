#![doc = include_str!("README.md")]
//!
//! # The code
//!
//! | file | is |
//! |---|---|
//! | `http.rs` | the request that opens a stream |
//! | `session.rs` | the stream: it asks the policies, joins its channels, and ends |
//! | `cursor.rs` | the text of `id:` and `Last-Event-ID` |
//! | `wire.rs` | blocks of a stream as bytes |
//! | `limits.rs` | bounds |
//!
//! Streams of one channel share the frames that fan-out makes, because the position of such a
//! stream is the message itself. A stream of several channels has a [`Cursor`] in its link. Fan-out
//! moves that, and makes a frame of its own for each delivery: a client that is cut off then
//! resumes in all channels behind the last block that it has received.
//!
//! [`Cursor`]: crate::broker::cursor::Cursor

pub mod cursor;
pub mod http;
pub mod limits;
pub mod session;
pub mod wire;

pub use session::Session;
