//! Several nodes that share their channels through real NATS servers.

mod audience;
mod fleet;
mod order;
mod outage;
mod rounds;
