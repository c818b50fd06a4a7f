#![doc = include_str!("README.md")]
//!
//! # The code
//!
//! A request enters through [`http`], a socket through [`session`], and both read with [`wire`].
//! [`access`] decides who a caller is, what it may do and which topic that is; [`publish`]
//! publishes there. [`invocations`] holds what platforms have registered, and [`modules`] serves
//! the client's files. [`nouns`] and [`limits`] are the room's words and bounds.

pub mod access;
pub mod http;
pub mod invocations;
pub mod limits;
pub mod modules;
pub mod nouns;
pub mod publish;
pub mod session;
pub mod wire;

pub use publish::Events;
pub use session::Session;
