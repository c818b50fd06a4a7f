#![doc = include_str!("README.md")]
//!
//! # The code
//!
//! A socket opens with [`handshake`] and becomes a [`session`]; REST calls are in [`http`], and
//! both read with [`wire`]. [`access`] decides who reads and writes. [`documents`] fans out what
//! the store has committed. A subscriber whose document is not retained waits in [`waiters`] for a
//! read of the store ([`loads`]). [`nouns`] and [`limits`] are the room's words and bounds.

pub mod access;
pub mod documents;
pub mod handshake;
pub mod http;
pub mod limits;
pub mod loads;
pub mod nouns;
pub mod session;
pub mod waiters;
pub mod wire;

pub use session::Session;
