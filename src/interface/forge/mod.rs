//! Forge Realtime: clients that hear and publish events in the scope that they have proved.

pub mod session;

pub use session::Session;
