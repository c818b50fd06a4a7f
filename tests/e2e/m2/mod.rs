//! M2 Realtime on the real node.

mod app;
mod clients;
mod listener;
mod messages;
