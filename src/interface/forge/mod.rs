//! Forge Realtime: clients that hear and publish events in the scope that they have proved, and
//! back ends that publish and have realtime tokens signed.

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
