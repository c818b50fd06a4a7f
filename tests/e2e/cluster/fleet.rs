//! Nodes of one cluster.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::nats::Nats;
use crate::support::{Node, wait_until};

/// The time that a node listens for others before it names them, and a little more.
pub(super) const LISTENING: Duration = Duration::from_millis(1_200);

/// The nodes `n1`, `n2`, … of one cluster.
pub(super) struct Fleet {
    pub(super) nodes: Vec<Node>,
    /// Dropped after the nodes, so that they end in good order.
    pub(super) nats: Nats,
}

impl Fleet {
    /// Starts this many nodes on one server, and waits until they serve.
    pub(super) fn start(count: usize) -> Self {
        Self::with(count, &[])
    }

    /// Starts nodes with further variables in their environment.
    pub(super) fn with(count: usize, envs: &'static [(&str, &str)]) -> Self {
        let nats = Nats::one();
        let nodes = (1..=count).map(|number| {
            let (url, name) = (nats.url(), format!("n{number}"));
            Node::with(move |command| {
                command.env("FANFARE_CLUSTER_NATS", &url).env("FANFARE_CLUSTER_NODE", &name);
                command.envs(envs.iter().copied());
            })
        });
        let fleet = Self { nodes: nodes.collect(), nats };
        fleet.wait_until_healthy();
        // In the first second of its line, a node may not have heard all others, so that it cannot
        // say for certain which nodes have no subscribers.
        thread::sleep(LISTENING);
        fleet
    }

    /// Waits until every node serves the cluster's channels.
    pub(super) fn wait_until_healthy(&self) {
        for node in &self.nodes {
            wait_until("the node serves", || health(node) == (200, json!("ok")));
        }
    }

    /// Defines a channel on every node.
    pub(super) fn define(&self, definition: &Value) {
        for node in &self.nodes {
            let (status, body) = node.admin("POST", "/api/realtime/channels", definition);
            assert_eq!(status, 201, "{body}");
        }
    }
}

/// Returns the status of a node's health, and its word.
pub(super) fn health(node: &Node) -> (u16, Value) {
    let response = node.request("GET", "/api/health", &[], b"");
    (response.status, response.json()["status"].clone())
}

/// Publishes on a node. Returns the status and the answer.
pub(super) fn try_publish(node: &Node, channel: &str, payload: &Value) -> (u16, Value) {
    let publication = json!({ "channel": channel, "event": "tick", "payload": payload });
    node.admin("POST", "/api/realtime/messages", &publication)
}

/// Returns how long it took until `is_so` was true.
pub(super) fn time_until(what: &str, is_so: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    wait_until(what, is_so);
    start.elapsed()
}
