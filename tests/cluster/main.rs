//! Drives the connection to the message broker of a cluster against real NATS servers.

mod certificates;
mod credentials;
mod fake;
mod faults;
mod keys;
mod load;
mod owner;
mod pace;
mod stream;
#[path = "../support/mod.rs"]
mod support;
mod three;
mod tls;
mod traffic;
mod version;
