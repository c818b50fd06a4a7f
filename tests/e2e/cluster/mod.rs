//! Several nodes that share their channels through real NATS servers.

mod audience;
mod definitions;
mod clients;
mod fleet;
mod order;
mod outage;
mod repeats;
