//! Several nodes that share their channels through real NATS servers.

mod administration;
mod audience;
mod clients;
mod definitions;
mod documents;
mod fleet;
mod invocations;
mod measured;
mod order;
mod outage;
mod presence;
mod rates;
mod repeats;
mod resuming;
mod rounds;
