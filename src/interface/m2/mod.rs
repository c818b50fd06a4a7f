//! M2 Realtime: clients that subscribe to resources and receive their documents, and back ends that
//! write them.

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
