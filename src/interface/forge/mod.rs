#![doc = include_str!("README.md")]

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
