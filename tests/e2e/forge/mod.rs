//! Forge Realtime on the real node.

mod app;
mod lifetime;
mod listener;
mod replay;
mod scope;
