//! Looks at a node's health and metrics all the time.

use std::net::{Ipv4Addr, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::stage::Stage;
use crate::tcp::{Tcp, request};

/// Between two looks.
const PACE: Duration = Duration::from_millis(25);
/// How long a look may take: a stopped node does not answer.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct Watch {
    pub(super) node: u64,
    port: u16,
    looks: Mutex<Vec<Look>>,
}

/// What a node has said.
#[derive(Clone, Copy)]
struct Look {
    /// When its answers had come.
    at: Instant,
    /// Whether its health said that it is well.
    is_well: bool,
    /// Whether its health said that it does not serve the cluster's channels.
    health_says: bool,
    /// Whether its metrics did.
    metrics_say: bool,
}

impl Watch {
    pub(super) fn new(node: u64, port: u16) -> Self {
        Self { node, port, looks: Mutex::default() }
    }

    /// Looks until the round is over.
    pub(super) fn run(&self, stage: &Stage) {
        let mut tcp = None;
        while !stage.is_over() {
            let look = self.look(&mut tcp);
            self.looks().extend(look);
            thread::sleep(PACE);
        }
    }

    /// Looks once, and again until the node says that it does not serve the cluster's channels.
    /// Returns how long that took.
    pub(super) fn until_said(&self, patience: Duration) -> Option<Duration> {
        let begin = Instant::now();
        let mut tcp = None;
        while begin.elapsed() < patience {
            let look = self.look(&mut tcp);
            if look.is_some_and(|look| look.health_says && look.metrics_say) {
                return Some(begin.elapsed());
            }
            thread::sleep(PACE);
        }
        None
    }

    /// Returns how long after a moment health and metrics had both said that the node does not
    /// serve the cluster's channels.
    pub(super) fn said(&self, since: Instant) -> Option<Duration> {
        let looks = self.looks();
        let first = |says: fn(&Look) -> bool| {
            looks.iter().find(|look| look.at > since && says(look)).map(|look| look.at - since)
        };
        Some(first(|look| look.health_says)?.max(first(|look| look.metrics_say)?))
    }

    /// Returns whether the node has said since a moment that it is well.
    pub(super) fn is_well(&self, since: Instant) -> bool {
        self.looks().last().is_some_and(|look| look.at > since && look.is_well)
    }

    fn look(&self, tcp: &mut Option<Tcp>) -> Option<Look> {
        let mut open = match tcp.take() {
            Some(open) => open,
            None => Tcp::over(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()?),
        };
        let [health, metrics] = ["/api/health", "/metrics"].map(|path| {
            let is_sent = open.send(request(&[&format!("GET {path} HTTP/1.1")], ""));
            if is_sent { open.try_response("GET", PATIENCE) } else { None }
        });
        let (health, metrics) = (health?, metrics?);
        *tcp = Some(open);
        Some(Look {
            at: Instant::now(),
            is_well: health.status == 200 && health.json()["status"] == "ok",
            health_says: health.text().contains("the cluster: "),
            metrics_say: metrics.text().contains("\nfanfare_cluster_serving 0\n"),
        })
    }

    fn looks(&self) -> MutexGuard<'_, Vec<Look>> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
