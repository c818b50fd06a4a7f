#![doc = include_str!("README.md")]

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
