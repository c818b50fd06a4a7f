//! Nodes in threes. If the environment names NATS servers, every node that a test starts is three
//! nodes of one cluster: clients take the nodes in turn, and requests do, so that subscribers and
//! publishers are apart.

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::{Configure, Launch, Process, http, wait_until};

/// The variable with the URLs of one or of three servers, separated by commas. They may be shared:
/// each test has streams of its own there.
pub(crate) const SERVERS: &str = "FANFARE_TEST_NATS";

/// The variable with a file that has a line for each start: the name of the thread, which is that
/// of the test.
pub(crate) const STARTS: &str = "FANFARE_TEST_STARTS";

/// Enough for a subscriber, its publisher and a node that has neither.
const NODES: usize = 3;
/// In the first second of a node, it cannot say for certain which nodes have no subscribers.
const LISTENING: Duration = Duration::from_millis(1_200);
/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The streams of a cluster, behind its prefix.
const STREAMS: [&str; 3] = ["ORD", "INT", "SES"];
/// The buckets, in the same way; the servers keep their streams under another prefix.
const BUCKETS: [&str; 4] = ["node", "admin", "inv", "doc"];

/// The second and the third node of a cluster.
pub(super) struct Others {
    launches: [Launch; NODES - 1],
    processes: [Process; NODES - 1],
    cluster: Cluster,
    /// How many ports were given to clients, and how many requests were sent.
    clients: AtomicUsize,
    requests: AtomicUsize,
    may_end: AtomicBool,
}

/// Where nodes meet.
#[derive(Clone)]
struct Cluster {
    /// The URLs of the servers.
    servers: String,
    prefix: String,
}

/// Returns whether nodes start in threes.
pub(crate) fn is_wished() -> bool {
    std::env::var_os(SERVERS).is_some()
}

/// Starts three nodes, and waits until each serves and has heard the others.
pub(super) fn start(
    configure: &Configure,
    of: impl Fn(Configure) -> Launch,
) -> (Launch, Process, Others) {
    note_start();
    let servers = std::env::var(SERVERS).expect("it is set to text");
    let cluster = Cluster { servers, prefix: format!("t{:08x}", rand::random::<u32>()) };
    let launches: [_; NODES] = std::array::from_fn(|place| {
        let (cluster, configure) = (cluster.clone(), configure.clone());
        let joining = move |command: &mut Command| {
            cluster.settle(command, place + 1);
            configure(command);
        };
        of(Arc::new(joining))
    });
    let processes = thread::scope(|scope| {
        let started = launches.each_ref().map(|launch| scope.spawn(|| launch.start(0)));
        started.map(|process| process.join().expect("the node starts"))
    });
    for process in &processes {
        wait_until("the node serves", || {
            let response = http::request(process.port, "GET", "/api/health", &[], b"");
            response.status == 200 && response.json()["status"] == json!("ok")
        });
    }
    thread::sleep(LISTENING);
    let ([launch, second, third], [process, own, last]) = (launches, processes);
    let (launches, processes) = ([second, third], [own, last]);
    let (clients, requests, may_end) = Default::default();
    (launch, process, Others { launches, processes, cluster, clients, requests, may_end })
}

fn note_start() {
    let Some(path) = std::env::var_os(STARTS) else { return };
    let file = OpenOptions::new().append(true).create(true).open(path);
    let current = thread::current();
    let line = format!("{}\n", current.name().unwrap_or_default());
    file.and_then(|mut file| file.write_all(line.as_bytes())).expect("the file can be written");
}

impl Others {
    /// Returns the port for the next client, which takes the node behind that of the client before.
    pub(super) fn next_client(&self, first: u16) -> u16 {
        self.ports(first)[self.clients.fetch_add(1, Ordering::SeqCst) % NODES]
    }

    /// Returns the port for the next request. The first one goes to the second node.
    pub(super) fn next_request(&self, first: u16) -> u16 {
        self.ports(first)[(1 + self.requests.fetch_add(1, Ordering::SeqCst)) % NODES]
    }

    /// Lets the test end the first node.
    pub(super) fn let_the_first_end(&self) {
        self.may_end.store(true, Ordering::SeqCst);
    }

    /// Returns whether the test may end the first node.
    pub(super) fn may_end(&self) -> bool {
        self.may_end.load(Ordering::SeqCst)
    }

    /// Returns the ports of all nodes.
    pub(super) fn ports(&self, first: u16) -> [u16; NODES] {
        [first, self.processes[0].port, self.processes[1].port]
    }

    /// Returns what the nodes have written.
    pub(super) fn output(&self) -> String {
        self.launches.each_ref().map(|launch| launch.output.text()).concat()
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        self.processes.iter_mut().for_each(Process::kill);
        self.cluster.remove();
    }
}

impl Cluster {
    /// Adds the settings of a node to its command.
    fn settle(&self, command: &mut Command, number: usize) {
        let replicas = if self.servers.contains(',') { "3" } else { "1" };
        command.env("FANFARE_CLUSTER_NATS", &self.servers);
        command.env("FANFARE_CLUSTER_PREFIX", &self.prefix);
        command.env("FANFARE_CLUSTER_NODE", format!("n{number}"));
        command.env("FANFARE_CLUSTER_REPLICAS", replicas);
        // The least, because the servers reserve it.
        command.env("FANFARE_CLUSTER_STREAM_BYTES", (64 << 20).to_string());
        // Long, because the machine is busy.
        command.env("FANFARE_CLUSTER_AUDIENCE_MS", "1000");
        command.env("FANFARE_CLUSTER_PUBLISH_TIMEOUT_MS", "10000");
    }

    /// Removes the streams and the buckets from the servers.
    fn remove(&self) {
        let url = self.servers.split(',').next().expect("there is one");
        let address = url.strip_prefix("nats://").expect("it has no TLS");
        let streams = STREAMS.map(|name| format!("{}_{name}", self.prefix.to_uppercase()));
        let buckets = BUCKETS.map(|name| format!("KV_{}_{name}", self.prefix));
        let mut text = "CONNECT {\"verbose\":false}\r\n".to_owned();
        for name in streams.iter().chain(&buckets) {
            text += &format!("PUB $JS.API.STREAM.DELETE.{name} 0\r\n\r\n");
        }
        text += "PING\r\n";
        let told = || {
            let mut stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(text.as_bytes())?;
            // It has read all when it answers.
            let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
            std::io::Result::Ok(lines.any(|line| line == "PONG"))
        };
        // A test that has not failed so far does not fail for this.
        if !told().is_ok_and(|is_told| is_told) {
            eprintln!("the streams of {} stay on {}", self.prefix, self.servers);
        }
    }
}
