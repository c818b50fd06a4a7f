//! Proxies in front of a node, and how it learns who their clients are.

mod announced;
mod documented;
mod forwarded;
mod in_front;
