//! Nodes of one cluster.

use std::cell::Cell;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cases::LIMIT;
use crate::support::nats::{Nats, Three};
use crate::support::{Node, wait_until};

/// The time that a node listens for others before it names them, and a little more.
pub(super) const LISTENING: Duration = Duration::from_millis(1_200);

/// Variables in the environment of nodes.
pub(super) type Envs = &'static [(&'static str, &'static str)];

/// Lets nodes answer about an audience on a busy machine, too.
pub(super) const PATIENT: Envs = &[("FANFARE_CLUSTER_AUDIENCE_MS", "1000")];

/// The nodes `n1`, `n2`, … of one cluster, on one server or on `Three`.
pub(crate) struct Fleet<B = Nats> {
    pub(crate) nodes: Vec<Node>,
    /// Dropped after the nodes, so that they end in good order.
    pub(super) nats: B,
    /// How many programs have run.
    runs: Cell<usize>,
}

impl Fleet {
    /// Starts this many nodes on one server, and waits until they serve.
    pub(super) fn start(count: usize) -> Self {
        Self::with(count, &[])
    }

    /// Starts nodes with further variables in their environment.
    pub(super) fn with(count: usize, envs: Envs) -> Self {
        Self::each(count, move |_, command| {
            command.envs(envs.iter().copied());
        })
    }

    /// Starts nodes on one server. `configure` adds to the command of each node, by its number from
    /// 0.
    pub(crate) fn each(
        count: usize,
        configure: impl Fn(usize, &mut Command) + Send + Sync + 'static,
    ) -> Self {
        Self::over(Nats::one(), count, configure)
    }

    /// Starts nodes on this server, in the same way.
    pub(super) fn over(
        nats: Nats,
        count: usize,
        configure: impl Fn(usize, &mut Command) + Send + Sync + 'static,
    ) -> Self {
        let url = nats.url();
        Self::gather(count, nats, &url, Arc::new(configure))
    }
}

impl Fleet<Three> {
    /// Starts nodes on three servers, which all have copies of the streams. Each node knows all
    /// servers, and draws the order in which it tries them.
    pub(super) fn on_three(count: usize, envs: Envs) -> Self {
        let nats = Three::start();
        let urls = nats.servers.each_ref().map(Nats::url).join(",");
        let configure = move |_, command: &mut Command| {
            command.envs(envs.iter().copied());
        };
        Self::gather(count, nats, &urls, Arc::new(configure))
    }
}

/// Adds to the command of a node, by its number from 0.
type Configure = Arc<dyn Fn(usize, &mut Command) + Send + Sync>;

impl<B: Broker> Fleet<B> {
    /// Starts nodes on the servers at `urls`.
    fn gather(count: usize, nats: B, urls: &str, configure: Configure) -> Self {
        let nodes = (0..count).map(|at| {
            let (urls, name) = (urls.to_owned(), format!("n{}", at + 1));
            let configure = configure.clone();
            Node::with(move |command| {
                command.env("FANFARE_CLUSTER_NATS", &urls).env("FANFARE_CLUSTER_NODE", &name);
                command.env("FANFARE_CLUSTER_REPLICAS", B::REPLICAS);
                configure(at, command);
            })
        });
        let fleet = Self { nodes: nodes.collect(), nats, runs: Cell::default() };
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

    /// Defines a channel.
    pub(crate) fn define(&self, definition: &Value) {
        let (status, body) = self.nodes[0].admin("POST", "/api/realtime/channels", definition);
        assert_eq!(status, 201, "{body}");
    }

    /// Runs a program of `tests/clients` whose clients take the nodes in turn. Each run begins with
    /// another node.
    pub(super) fn run_script(&self, program: &str, args: &[&str], envs: &[(&str, &str)]) -> String {
        let first = self.runs.replace(self.runs.get() + 1) % self.nodes.len();
        let mut urls: Vec<_> = self.nodes.iter().map(Node::url).collect();
        urls.rotate_left(first);
        let urls = urls.join(",");
        let envs = [envs, &[("FANFARE_URLS", &*urls)]].concat();
        // Each case has the time that it would have alone.
        let cases = u32::try_from(args.len().max(1)).expect("there are few cases");
        self.nodes[first].run_script(program, args, &envs, LIMIT * cases)
    }
}

/// What keeps the streams of a fleet.
pub(crate) trait Broker {
    /// The number of copies of each stream.
    const REPLICAS: &str;

    /// Returns the processor time that the servers have used.
    fn cpu(&self) -> Duration;
}

impl Broker for Nats {
    const REPLICAS: &str = "1";

    fn cpu(&self) -> Duration {
        Self::cpu(self)
    }
}

impl Broker for Three {
    const REPLICAS: &str = "3";

    fn cpu(&self) -> Duration {
        self.servers.iter().map(Nats::cpu).sum()
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
