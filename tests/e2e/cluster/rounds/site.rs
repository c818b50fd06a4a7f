//! Nodes and their brokers.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use super::super::fleet::{LISTENING, health};
use super::crew::ROOM;
use crate::support::Node;
use crate::support::clock::Clock;
use crate::support::nats::{Nats, Three};
use crate::support::proxy::{Proxy, Way};

/// How long anything may take. An election of servers takes some seconds, and longer on a machine
/// that is busy.
const PATIENCE: Duration = Duration::from_secs(90);
const LOOK: Duration = Duration::from_millis(20);

/// Three nodes of one cluster: `n1`, `n2`, `n3`.
pub(super) struct Site {
    pub(super) nodes: Vec<Node>,
    /// The proxies between the nodes and their broker, if there are any.
    pub(super) ways: Vec<Proxy>,
    /// The clocks of the nodes, if they are not the true one.
    pub(super) clocks: Vec<Arc<Clock>>,
    /// Dropped after the nodes, so that they end in good order.
    pub(super) brokers: Brokers,
}

pub(super) enum Brokers {
    One(Box<Nats>),
    Three(Box<Three>),
}

impl Site {
    /// Starts nodes on one broker, which keeps streams in memory.
    pub(super) fn plain() -> Self {
        Self::on_one(false, "memory")
    }

    /// Starts nodes on one broker, which keeps streams in files.
    pub(super) fn with_files() -> Self {
        Self::on_one(false, "file")
    }

    /// Starts nodes that reach their broker through proxies.
    pub(super) fn behind_ways() -> Self {
        Self::on_one(true, "memory")
    }

    fn on_one(is_behind: bool, storage: &'static str) -> Self {
        let nats = Nats::one();
        let ways: Vec<_> =
            (0..3 * usize::from(is_behind)).map(|_| Proxy::to(nats.port())).collect();
        let nodes = (1..=3).map(|number| {
            let way = ways.get(number - 1).map(|way| format!("nats://127.0.0.1:{}", way.port()));
            let url = way.unwrap_or_else(|| nats.url());
            node(number as u64, url, move |command| {
                command.env("FANFARE_CLUSTER_STORAGE", storage);
            })
        });
        let nodes = nodes.collect();
        Self { nodes, ways, clocks: Vec::new(), brokers: Brokers::One(Box::new(nats)) }.ready()
    }

    /// Starts nodes with clocks that can be stepped.
    pub(super) fn with_clocks() -> Self {
        let nats = Nats::one();
        let clocks: Vec<_> = (0..3).map(|_| Arc::new(Clock::new())).collect();
        let nodes = clocks.iter().zip(1..).map(|(clock, number)| {
            let clock = clock.clone();
            node(number, nats.url(), move |command| {
                command.envs(clock.variables());
            })
        });
        let nodes = nodes.collect();
        Self { nodes, ways: Vec::new(), clocks, brokers: Brokers::One(Box::new(nats)) }.ready()
    }

    /// Starts nodes on three brokers, each of which has a copy of everything. Every node may use
    /// every broker.
    pub(super) fn on_three() -> Self {
        Self::with_three(|three, _| three.servers.each_ref().map(Nats::url).join(","))
    }

    /// Starts nodes on three brokers. Every node has one of its own.
    pub(super) fn on_their_own() -> Self {
        Self::with_three(|three, at| three.servers[at].url())
    }

    fn with_three(urls: fn(&Three, usize) -> String) -> Self {
        let three = Three::start();
        let nodes = (1..=3).map(|number| {
            node(number as u64, urls(&three, number - 1), |command| {
                command.env("FANFARE_CLUSTER_REPLICAS", "3");
            })
        });
        let nodes = nodes.collect();
        let brokers = Brokers::Three(Box::new(three));
        Self { nodes, ways: Vec::new(), clocks: Vec::new(), brokers }.ready()
    }

    /// Waits until the nodes serve, and defines the channels.
    fn ready(self) -> Self {
        let is_well = |node| health(node) == (200, json!("ok"));
        wait_until("all nodes serve", || self.nodes.iter().all(is_well));
        for (name, presence) in [("orders", "off"), ("ticker", "off"), (ROOM, "full")] {
            let definition = json!({ "pattern": name, "presence": presence });
            let (status, body) = self.nodes[0].admin("POST", "/api/realtime/channels", &definition);
            assert_eq!(status, 201, "{body}");
        }
        // In the first second a node does not know all others by their names.
        thread::sleep(LISTENING);
        self
    }

    /// Waits until no node has a subscriber.
    pub(super) fn is_left(&self) {
        wait_until("all subscribers have left", || {
            self.nodes.iter().all(|node| node.metric("fanfare_subscriptions") == 0)
        });
    }

    /// Returns the one broker.
    pub(super) fn nats(&mut self) -> &mut Nats {
        match &mut self.brokers {
            Brokers::One(nats) => nats,
            Brokers::Three(_) => panic!("there are three"),
        }
    }

    /// Returns the three brokers.
    pub(super) fn three(&mut self) -> &mut Three {
        match &mut self.brokers {
            Brokers::One(_) => panic!("there is one"),
            Brokers::Three(three) => three,
        }
    }

    /// Delays everything between the nodes and their broker, in both directions.
    pub(super) fn delay(&self, by: Duration) {
        for way in &self.ways {
            way.delay(Way::ToServer, by);
            way.delay(Way::ToClient, by);
        }
    }
}

/// A node that wants to be part of the cluster and must not.
pub(super) struct Stranger {
    pub(super) node: Node,
    _folder: TempDir,
}

impl Stranger {
    /// Starts a node of this name. It may remember the id of another cluster.
    pub(super) fn start(
        site: &mut Site,
        name: &'static str,
        cluster: Option<&str>,
        envs: &'static [(&str, &str)],
    ) -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory for the node's data");
        if let Some(id) = cluster {
            fs::write(folder.path().join("cluster-id"), id).expect("the file can be written");
        }
        let url = site.nats().url();
        let node = Node::in_directory(folder.path(), move |command| {
            command.env("FANFARE_CLUSTER_NATS", &url).env("FANFARE_CLUSTER_NODE", name);
            command.envs(envs.iter().copied());
        });
        Self { node, _folder: folder }
    }
}

fn node(
    number: u64,
    urls: String,
    configure: impl Fn(&mut Command) + Send + Sync + 'static,
) -> Node {
    Node::with(move |command| {
        command.env("FANFARE_CLUSTER_NATS", &urls);
        command.env("FANFARE_CLUSTER_NODE", format!("n{number}"));
        configure(command);
    })
}

/// Waits until `is_so` returns true. Panics if it takes too long.
pub(super) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "after {PATIENCE:?} still not: {what}");
        thread::sleep(LOOK);
    }
}
