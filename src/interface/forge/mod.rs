//! Forge Realtime: clients that hear and publish events in the scope that they have proved.

pub mod session;
pub mod wire;

pub use session::Session;
