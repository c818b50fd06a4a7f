//! M2 Realtime: clients that subscribe to resources and receive their documents.

pub mod handshake;
pub mod loads;
pub mod session;
pub mod waiters;
pub mod wire;

pub use session::Session;
