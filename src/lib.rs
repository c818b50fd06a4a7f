//! Fanfare: one call, heard by everyone.
#![doc = ""]
pub mod acceptor;
pub mod api;
pub mod auth;
pub mod config;
pub mod engine;
pub mod hub;
pub mod limits;
pub mod message;
pub mod metrics;
pub mod node;
pub mod protocol;
pub mod router;
pub mod side;
pub mod wire;
pub mod worker;
