//! Real NATS servers: one, or three as a cluster with streams.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::param::clock_ticks_per_second;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::proxy::{Proxy, Way};
use super::{Output, http, repository, wait_until};

const BINARY: &str = "tests/.venv/bin/nats-server";
/// The version that `tests/clients/requirements.txt` names.
pub(crate) const VERSION: &str = "2.15.1";
/// The version that is too old, which `tests/run long` installs.
pub(crate) const OLD_VERSION: &str = "2.10.25";
/// How long a server may take to listen; long, because tests run side by side.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// Attempts with other ports. Another process may take a port between choice and use.
const ATTEMPTS: usize = 10;
const LOOK: Duration = Duration::from_millis(5);

/// A running server, which is killed on drop. If the test failed, its output is shown.
pub(crate) struct Nats {
    binary: PathBuf,
    setup: Setup,
    ports: Ports,
    folder: TempDir,
    output: Output,
    process: Option<Child>,
}

/// The configuration of a server.
#[derive(Clone, Default)]
pub(crate) struct Setup {
    /// The server's name; empty for one of its own.
    pub(crate) name: String,
    /// Whether it has no streams.
    pub(crate) without_streams: bool,
    /// The port for other servers, and the addresses of theirs.
    pub(crate) routes: Option<Routes>,
    /// Further lines.
    pub(crate) more: String,
}

/// A server's place in a group.
#[derive(Clone)]
pub(crate) struct Routes {
    /// The name of the group.
    group: String,
    port: u16,
    /// The port that other servers are told.
    shown: u16,
    others: Vec<u16>,
}

#[derive(Clone, Copy)]
struct Ports {
    clients: u16,
    monitor: u16,
}

impl Nats {
    /// Starts a server with streams that needs no credentials.
    pub(crate) fn one() -> Self {
        Self::with("")
    }

    /// Starts a server with further lines of configuration.
    pub(crate) fn with(more: &str) -> Self {
        Self::set_up(Setup { more: more.into(), ..Setup::default() })
    }

    /// Starts a server with this configuration.
    pub(crate) fn set_up(setup: Setup) -> Self {
        Self::launch(repository(BINARY), setup).unwrap_or_else(|output| panic!("{output}"))
    }

    /// Starts a server of [`OLD_VERSION`].
    pub(crate) fn old() -> Self {
        let binary = repository("tests/.venv-nats-old/bin/nats-server");
        Self::launch(binary, Setup::default()).unwrap_or_else(|output| panic!("{output}"))
    }

    /// Starts a server, or returns its output if it does not start on any ports.
    fn launch(binary: PathBuf, mut setup: Setup) -> Result<Self, String> {
        assert!(binary.exists(), "{} is missing: tests/run installs it", binary.display());
        let folder = tempfile::tempdir().expect("a temporary directory for the server's data");
        if setup.name.is_empty() {
            setup.name = format!("test-{}", rand::random::<u64>());
        }
        let (output, ports) = (Output::default(), Ports::free());
        let mut nats = Self { binary, setup, ports, folder, output, process: None };
        for _ in 0..ATTEMPTS {
            if nats.try_start() {
                return Ok(nats);
            }
            nats.ports = Ports::free();
        }
        Err(format!("the server does not start:\n{}", nats.output.text()))
    }

    /// Returns the URL for clients.
    pub(crate) fn url(&self) -> String {
        format!("nats://{}:{}", Ipv4Addr::LOCALHOST, self.port())
    }

    /// Returns the server's name.
    pub(crate) fn name(&self) -> &str {
        &self.setup.name
    }

    /// Returns the port for clients.
    pub(crate) fn port(&self) -> u16 {
        self.ports.clients
    }

    /// Returns all lines that the server has written so far.
    pub(crate) fn output(&self) -> String {
        self.output.text()
    }

    /// Kills the server with SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Both fail only if the process has ended and was waited for.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Starts a server that was killed on the same ports, with its streams or without.
    pub(crate) fn start_again(&mut self, keep_data: bool) {
        assert!(self.process.is_none(), "it was killed");
        if !keep_data && self.store().exists() {
            fs::remove_dir_all(self.store()).expect("the data can be removed");
        }
        let end = Instant::now() + START_PATIENCE;
        while !self.try_start() {
            assert!(Instant::now() < end, "it does not start again:\n{}", self.output.text());
        }
    }

    /// Kills the server and starts it on the same ports.
    pub(crate) fn restart(&mut self, keep_data: bool) {
        self.kill();
        self.start_again(keep_data);
    }

    /// Stops all of the server's threads (SIGSTOP), and waits until they stand still: a thread that
    /// runs on another core goes on for a moment.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
        let threads = format!("/proc/{}/task", self.pid());
        let stands_still = |thread: io::Result<fs::DirEntry>| {
            let stat = thread.and_then(|thread| fs::read_to_string(thread.path().join("stat")));
            // A thread that cannot be read has ended. The state follows the name in brackets.
            stat.ok().is_none_or(|stat| {
                stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T'))
            })
        };
        wait_until("the server stands still", || {
            fs::read_dir(&threads).expect("the server runs").all(stands_still)
        });
    }

    /// Lets the threads go on (SIGCONT).
    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Tells the server to shut down slowly ("lame duck mode").
    pub(crate) fn retire(&self) {
        self.signal(Signal::USR2);
    }

    /// Returns the memory that the server holds, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        resident_bytes(self.pid())
    }

    /// Returns the processor time that the server has used.
    pub(crate) fn cpu(&self) -> Duration {
        cpu(self.pid())
    }

    /// Returns the body of a page of the server's monitor, with its status.
    pub(crate) fn monitor(&self, path: &str) -> (u16, String) {
        let response = http::request(self.ports.monitor, "GET", path, &[], b"");
        (response.status, String::from_utf8_lossy(&response.body).into_owned())
    }

    /// Returns whether the server says that it leads this stream.
    fn leads(&self, stream: &str) -> bool {
        let (_, text) = self.monitor("/jsz?accounts=true&streams=true");
        let page: Value = serde_json::from_str(&text).expect("the page is JSON");
        let accounts = page["account_details"].as_array().into_iter().flatten();
        let streams = accounts.filter_map(|account| account["stream_detail"].as_array()).flatten();
        let mut own = streams.filter(|one| one["name"] == stream);
        own.any(|one| one["cluster"]["leader"] == self.setup.name)
    }

    fn pid(&self) -> u32 {
        self.process.as_ref().expect("the server runs").id()
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process has an id"), signal).expect("it is our child");
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("streams")
    }

    /// Starts the process. Returns false if it has ended before it listened, because a port was
    /// taken.
    fn try_start(&mut self) -> bool {
        let file = self.folder.path().join("nats.conf");
        fs::write(&file, self.configuration()).expect("the configuration can be written");
        let mut command = Command::new(&self.binary);
        command.arg("-c").arg(&file).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("the server's binary starts");
        self.output.drain(process.stderr.take().expect("stderr is piped"), None);
        let end = Instant::now() + START_PATIENCE;
        while process.try_wait().expect("it is our child").is_none() {
            if Instant::now() > end {
                let _ = process.kill();
                break;
            }
            if self.greets() {
                self.process = Some(process);
                return true;
            }
            thread::sleep(LOOK);
        }
        let _ = process.wait();
        false
    }

    /// Returns whether this server greets clients, and not another one that took the port.
    fn greets(&self) -> bool {
        let Ok(stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port())) else {
            return false;
        };
        stream.set_read_timeout(Some(START_PATIENCE)).expect("the time is not zero");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).is_ok()
            && line.starts_with("INFO ")
            && line.contains(&format!("\"server_name\":{:?}", self.setup.name))
    }

    fn configuration(&self) -> String {
        let Self { setup, ports, .. } = self;
        let mut text = String::new();
        let mut line = |line: String| writeln!(text, "{line}").expect("a text takes any line");
        line(format!("listen: 127.0.0.1:{}", ports.clients));
        line(format!("http: 127.0.0.1:{}", ports.monitor));
        line(format!("server_name: {}", setup.name));
        if !setup.without_streams {
            line(format!("jetstream {{ store_dir: {:?} }}", self.store()));
        }
        if let Some(Routes { group, port, shown, others }) = &setup.routes {
            let others: Vec<_> =
                others.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
            line("cluster {".to_owned());
            line(format!("name: {group}\nlisten: 127.0.0.1:{port}"));
            line(format!("advertise: 127.0.0.1:{shown}\nroutes: {others:?}"));
            line("}".to_owned());
        }
        line(setup.more.clone());
        text
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("--- the NATS server said:\n{}---", self.output());
        }
    }
}

/// Three servers with streams. Each is reached by each of the others through a proxy.
pub(crate) struct Three {
    pub(crate) servers: [Nats; 3],
    /// The ways to the servers, in the same order.
    pub(crate) routes: [Route; 3],
    /// What servers tell each other of themselves, so that they have no other way.
    _nowhere: Proxy,
}

/// The ways to a server from the other two.
pub(crate) struct Route {
    ways: [(usize, Proxy); 2],
}

impl Route {
    /// Delays everything that is read in this direction from now on.
    pub(crate) fn delay(&self, way: Way, by: Duration) {
        self.ways.iter().for_each(|(_, proxy)| proxy.delay(way, by));
    }

    /// Cuts all connections.
    pub(crate) fn cut(&self) {
        self.ways.iter().for_each(|(_, proxy)| proxy.cut());
    }
}

impl Three {
    /// Starts the servers, and waits until they have a leader for streams.
    pub(crate) fn start() -> Self {
        Self::with("")
    }

    /// Starts the servers with further lines of configuration.
    pub(crate) fn with(more: &str) -> Self {
        let mut output = String::new();
        for _ in 0..ATTEMPTS {
            match Self::launch(more) {
                Ok(three) => {
                    wait_until("the servers have a leader for streams", || three.are_healthy());
                    return three;
                }
                Err(text) => output = text,
            }
        }
        panic!("{output}");
    }

    /// Starts the servers, or returns the output of one that does not start.
    fn launch(more: &str) -> Result<Self, String> {
        let group = format!("test-{}", rand::random::<u64>());
        let ports = [0; 3].map(|_| free_port());
        let places = [0, 1, 2];
        let routes = places.map(|to| {
            let others = [(to + 1) % 3, (to + 2) % 3];
            Route { ways: others.map(|from| (from, Proxy::to(ports[to]))) }
        });
        // No program listens on port 0.
        let nowhere = Proxy::to(0);
        let mut servers = Vec::new();
        for at in places {
            let ways = routes.iter().flat_map(|route| &route.ways);
            let own = ways.filter(|(from, _)| *from == at);
            let others = own.map(|(_, proxy)| proxy.port()).collect();
            let (port, shown) = (ports[at], nowhere.port());
            let place = Routes { group: group.clone(), port, shown, others };
            let setup = Setup {
                name: format!("{group}-{}", at + 1),
                routes: Some(place),
                more: more.into(),
                without_streams: false,
            };
            servers.push(Nats::launch(repository(BINARY), setup)?);
        }
        let servers = servers.try_into().ok().expect("there are three");
        Ok(Self { servers, routes, _nowhere: nowhere })
    }

    /// Lets nothing through between a server and the other two, or everything again. What is under
    /// way meanwhile arrives later, as on a network that is broken for a while.
    pub(crate) fn isolate(&self, at: usize, is_isolated: bool) {
        for (to, route) in self.routes.iter().enumerate() {
            let ways = route.ways.iter().filter(|(from, _)| *from == at || to == at);
            for way in [Way::ToServer, Way::ToClient] {
                ways.clone().for_each(|(_, proxy)| proxy.withhold(way, is_isolated));
            }
        }
    }

    /// Returns which server says that it leads this stream; `None` if there is none.
    pub(crate) fn leader(&self, stream: &str) -> Option<usize> {
        self.servers.iter().position(|server| {
            let runs = server.process.is_some();
            runs && server.leads(stream)
        })
    }

    /// Returns whether all servers run, and have caught up with their streams.
    pub(crate) fn are_healthy(&self) -> bool {
        self.servers.iter().all(|server| server.monitor("/healthz").0 == 200)
    }
}

impl Ports {
    fn free() -> Self {
        Self { clients: free_port(), monitor: free_port() }
    }
}

/// Returns a port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    listener.local_addr().expect("it is bound").port()
}

/// Returns the memory that a process holds, in bytes.
pub(crate) fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.expect("the kernel gives it in kB") * 1024
}

/// Returns the processor time that a process has used.
pub(crate) fn cpu(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    // The name in brackets may hold spaces.
    let (_, fields) = stat.rsplit_once(") ").expect("there is a name");
    let ticks = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().ok());
    let ticks: u64 = ticks.map(|ticks| ticks.expect("it is a number")).sum();
    Duration::from_secs(ticks) / u32::try_from(clock_ticks_per_second()).expect("it is 100")
}
