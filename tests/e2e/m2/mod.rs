//! M2 Realtime on the real node.

mod app;
mod listener;
mod messages;
