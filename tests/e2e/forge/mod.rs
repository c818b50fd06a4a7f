//! Forge Realtime on the real node.

pub(crate) mod app;
mod bounds;
mod callers;
mod calls;
mod clients;
pub(crate) mod doors;
mod handshakes;
pub(crate) mod invocations;
mod lifetime;
pub(crate) mod listener;
mod liveness;
mod messages;
mod modules;
mod payloads;
mod realtime_tokens;
mod replay;
mod scope;
mod tokens;
