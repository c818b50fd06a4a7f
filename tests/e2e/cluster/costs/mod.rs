//! What a cluster costs: the figures of `tuning.md`. They are measured by hand, with `--ignored
//! --nocapture` and the binary of a release build in `FANFARE_TEST_BINARY`.

mod documents;
mod presence;

use std::time::Duration;

use super::fleet::Broker;
use crate::support::Node;
use crate::support::nats::cpu;

/// The processor time that nodes and servers have used.
pub(super) struct Usage {
    nodes: Duration,
    servers: Duration,
}

impl Usage {
    pub(super) fn of(nodes: &[Node], broker: &impl Broker) -> Self {
        Self { nodes: nodes.iter().map(|node| cpu(node.pid())).sum(), servers: broker.cpu() }
    }

    pub(super) fn since(&self, before: &Self) -> Self {
        Self { nodes: self.nodes - before.nodes, servers: self.servers - before.servers }
    }

    /// Says how much it is for each of `count` things of this name.
    pub(super) fn for_each(&self, count: usize, name: &str) -> String {
        let each = |time: Duration| time.as_secs_f64() * 1e6 / count as f64;
        let (nodes, servers) = (each(self.nodes), each(self.servers));
        format!("{nodes:.0} µs of all nodes and {servers:.0} µs of the servers for each {name}")
    }
}
