//! Forge Realtime on the real node.

mod app;
mod callers;
mod calls;
mod clients;
mod doors;
mod invocations;
mod lifetime;
mod listener;
mod modules;
mod payloads;
mod realtime_tokens;
mod replay;
mod scope;
mod tokens;
