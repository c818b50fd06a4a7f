//! M2 Realtime: clients that subscribe to resources and receive their documents.

pub mod loads;
pub mod session;

pub use session::Session;
