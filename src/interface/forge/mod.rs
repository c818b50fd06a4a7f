//! Forge Realtime: clients that hear and publish events in the scope that they have proved, and
//! back ends that publish and have realtime tokens signed.

pub mod access;
pub mod http;
pub mod invocations;
pub mod modules;
pub mod publish;
pub mod session;
pub mod wire;

use std::sync::atomic::AtomicU64;

use invocations::Invocations;
pub use session::Session;

/// What all threads share of Forge's events.
#[derive(Debug, Default)]
pub struct Events {
    /// The invocations that apps may publish for, as a platform has registered them.
    pub invocations: Invocations,
    /// The latest timestamp of an event.
    stamped: AtomicU64,
}
