//! Tests of the real binary from outside, with stock clients and over HTTP.

#[path = "../support/mod.rs"]
mod support;

#[path = "../conformance/tcp.rs"]
#[allow(dead_code, reason = "the conformance suites use all of it")]
mod tcp;

mod admin;
mod admin_listen;
mod alone;
mod cases;
mod channels;
mod client_bundle;
mod clients;
mod cluster;
mod command_line;
mod containers;
mod credential;
mod crowd;
mod deflate;
mod descriptors;
mod dial;
mod disk;
mod document;
mod drain;
mod drain_delay;
mod driver;
mod durability;
mod ear;
mod encrypted;
mod events;
mod first_start;
mod forge;
mod front;
mod health;
#[path = "../support/histories.rs"]
#[allow(dead_code, reason = "the simulator uses all of it")]
mod histories;
mod history;
mod issuer;
mod killed;
mod limits;
mod log;
mod m2;
mod m2_model;
mod member;
mod memory;
mod metrics;
mod named;
mod on_three_nodes;
mod options;
mod order;
mod origins;
mod overload;
mod payloads;
mod policies;
mod postgres;
mod proxies;
mod publish;
mod publisher;
mod recovery;
mod refusals;
mod reload;
mod restart;
mod scrape;
mod signals;
mod socket;
mod supervisor;
mod unsupported;
mod upgrade;
mod webhooks;
mod witness;
