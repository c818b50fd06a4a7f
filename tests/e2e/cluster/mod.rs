//! Several nodes that share their channels through real NATS servers.

mod administration;
mod audience;
mod clients;
mod costs;
mod definitions;
mod documents;
pub(crate) mod fleet;
mod handing_over;
mod history;
mod invocations;
mod measured;
mod order;
mod outage;
mod polling;
mod presence;
mod rates;
mod repeats;
mod resuming;
mod rolling;
mod rounds;
mod sessions;
