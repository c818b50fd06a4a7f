//! Drives the parts of a node that concern its cluster against real NATS servers: the connection,
//! and the thread that owns it.

mod attaching;
mod audiences;
mod certificates;
mod control;
mod credentials;
mod cuts;
mod fake;
mod faults;
mod figures;
mod joining;
mod keys;
mod load;
mod missed;
mod node;
mod order;
mod outcomes;
mod owner;
mod pace;
mod register;
mod status;
mod stream;
#[path = "../support/mod.rs"]
mod support;
mod three;
mod tls;
mod traffic;
mod version;
