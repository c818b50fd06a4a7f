//! A real node for the tests: the product's own binary on a free port, with a data directory that
//! is removed with the node.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) mod cgroup;
pub(crate) mod clock;
pub(crate) mod disk;
pub(crate) mod encrypted;
mod ending;
pub(crate) mod exposition;
pub(crate) mod http;
pub(crate) mod kept;
mod lifespan;
pub(crate) mod nats;
pub(crate) mod postgres;
pub(crate) mod proxy;
pub(crate) mod script;
pub(crate) mod target;
pub(crate) mod trace;
pub(crate) mod trio;

pub(crate) use http::Response;
use lifespan::Lifespan;
use trio::Others;

/// The administrator's key: `ik_` and 64 hexadecimal digits.
pub(crate) const API_KEY: &str =
    "ik_00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
/// The key of clients without a user: `anon_` and 64 hexadecimal digits.
pub(crate) const ANON_KEY: &str =
    "anon_ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";
/// The secret of HS256 tokens: these 64 characters, not decoded.
pub(crate) const JWT_SECRET: &str =
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// The variable with the path of another binary of the node, as of a release build or of an earlier
/// version.
const BINARY: &str = "FANFARE_TEST_BINARY";
/// Long, because many nodes may start side by side on a loaded machine.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How long an expected event may take; long for the same reason.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time between two checks for it.
const LOOK: Duration = Duration::from_millis(5);
/// An hour, in seconds. Clients treat tokens near their end as expired.
const TOKEN_LIFE: u64 = 3_600;

/// Adds arguments and environment to a node's command.
type Configure = Arc<dyn Fn(&mut Command) + Send + Sync>;

/// A running node, which is killed on drop. If the test failed, its output is shown. If
/// [`trio::SERVERS`] is set, it is three nodes of one cluster.
pub(crate) struct Node {
    launch: Launch,
    process: Process,
    /// The other nodes of a cluster.
    others: Option<Others>,
}

impl Node {
    /// Starts a node with default settings.
    pub(crate) fn start() -> Self {
        Self::with(|_| {})
    }

    /// Starts a node. `configure` adds arguments and environment to its command, at every start.
    pub(crate) fn with(configure: impl Fn(&mut Command) + Send + Sync + 'static) -> Self {
        let wished = std::env::var_os("FANFARE_TEST_DENY_URING").is_some_and(|wish| wish == "1");
        let of = |configure| Launch::of(configure, wished.then_some(Deny::All));
        Self::one_or_three(Arc::new(configure), of)
    }

    /// Starts a node with these variables in its environment.
    pub(crate) fn with_env(envs: &'static [(&str, &str)]) -> Self {
        Self::with(|command| {
            command.envs(envs.iter().copied());
        })
    }

    /// Starts a node whose standard error is this instead of a pipe that the test reads.
    pub(crate) fn with_stderr(
        stderr: impl Fn() -> Stdio + Send + Sync + 'static,
        configure: impl Fn(&mut Command) + Send + Sync + 'static,
    ) -> Self {
        Self::launch(Launch { stderr: Box::new(stderr), ..Launch::new(configure, None) })
    }

    /// Starts a node as the first process of a PID namespace.
    pub(crate) fn as_first_process() -> Self {
        Self::launch(Launch { is_first_process: true, ..Launch::new(|_| {}, None) })
    }

    /// Starts a node that the kernel denies io_uring. With `FANFARE_TEST_DENY_URING=1` in the
    /// environment, [`Self::with`] does so for every node.
    pub(crate) fn without_uring() -> Self {
        Self::launch(Launch::new(|_| {}, Some(Deny::All)))
    }

    /// Starts a node that the kernel denies one system call of io_uring: `setup`, `enter` or
    /// `register`.
    pub(crate) fn without_uring_call(call: &'static str) -> Self {
        let unforced = |command: &mut Command| {
            command.env_remove("MONOIO_FORCE_LEGACY_DRIVER");
        };
        Self::launch(Launch::new(unforced, Some(Deny::Only(call))))
    }

    /// Starts a node that may have this many descriptors.
    pub(crate) fn with_descriptors(
        limit: u64,
        configure: impl Fn(&mut Command) + Send + Sync + 'static,
    ) -> Self {
        let limit = Some(Limit::Descriptors(limit));
        Self::launch(Launch { limit, ..Launch::new(configure, None) })
    }

    /// Starts a node on io_uring, if it can be had, that may lock this many bytes of memory.
    pub(crate) fn with_locked_memory(bytes: u64, workers: &'static str) -> Self {
        let configure = move |command: &mut Command| {
            command.env_remove("MONOIO_FORCE_LEGACY_DRIVER").env("FANFARE_WORKERS", workers);
        };
        let limit = Some(Limit::LockedMemory(bytes));
        Self::launch(Launch { limit, ..Launch::new(configure, None) })
    }

    /// Starts a node that listens on all addresses of the machine, loopback included.
    pub(crate) fn on_all_addresses(
        configure: impl Fn(&mut Command) + Send + Sync + 'static,
    ) -> Self {
        let of = |configure| Launch { host: "0.0.0.0", ..Launch::of(configure, None) };
        Self::one_or_three(Arc::new(configure), of)
    }

    /// Starts a node that listens on this address, and on other places: each with a comma in front.
    pub(crate) fn listening(
        host: &'static str,
        also: String,
        configure: impl Fn(&mut Command) + Send + Sync + 'static,
    ) -> Self {
        Self::launch(Launch { host, also, ..Launch::new(configure, None) })
    }

    /// Starts a node, or three of them.
    fn one_or_three(configure: Configure, of: impl Fn(Configure) -> Launch) -> Self {
        if !trio::is_wished() {
            return Self::launch(of(configure));
        }
        let (launch, process, others) = trio::start(&configure, of);
        Self { launch, process, others: Some(others) }
    }

    /// Starts a node that has no others.
    fn launch(launch: Launch) -> Self {
        assert!(!trio::is_wished(), "a node of this kind is alone: name the test in alone.rs");
        let process = launch.start(0);
        Self { launch, process, others: None }
    }

    /// Checks that the node has no others, because the test looks into it or ends it.
    fn require_alone(&self) {
        let is_alone = self.others.as_ref().is_none_or(Others::may_end);
        assert!(is_alone, "this concerns one node alone: name the test in alone.rs");
    }

    /// Starts a node in a data directory that belongs to the test.
    pub(crate) fn in_directory(
        data_dir: &Path,
        configure: impl Fn(&mut Command) + Send + Sync + 'static,
    ) -> Self {
        Self::launch(Launch {
            data_dir: data_dir.into(),
            own: None,
            ..Launch::new(configure, None)
        })
    }

    /// Kills the node with SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.require_alone();
        self.process.kill();
    }

    /// Lets the test end the first of three nodes, and start it again, while the others go on.
    pub(crate) fn let_the_first_end(&self) {
        self.others.iter().for_each(Others::let_the_first_end);
    }

    /// Kills the node and starts it on the same port and data.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.start_again(self.port());
    }

    /// Returns the base URL for a client.
    pub(crate) fn url(&self) -> String {
        format!("http://{}:{}", Ipv4Addr::LOCALHOST, self.port())
    }

    /// Returns the port that the node listens on. Of three nodes, it is the next one's.
    pub(crate) fn port(&self) -> u16 {
        let own = self.process.port;
        self.others.as_ref().map_or(own, |others| others.next_client(own))
    }

    /// Returns the ports of all nodes.
    pub(crate) fn ports(&self) -> Vec<u16> {
        let own = self.process.port;
        self.others.as_ref().map_or(vec![own], |others| others.ports(own).to_vec())
    }

    /// Returns the URLs of all nodes; the first is that for the next client.
    fn urls(&self) -> Vec<String> {
        if encrypted::is_wished() {
            return vec![format!("https://{}:{}", encrypted::NAME, self.process.own_port)];
        }
        let (ports, first) = (self.ports(), self.port());
        let place = ports.iter().position(|port| *port == first).expect("it is one of them");
        let ports = ports[place..].iter().chain(&ports[..place]);
        ports.map(|port| format!("http://{}:{port}", Ipv4Addr::LOCALHOST)).collect()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.require_alone();
        self.process.child.id()
    }

    /// Returns the node's data directory.
    pub(crate) fn data_dir(&self) -> &Path {
        self.require_alone();
        &self.launch.data_dir
    }

    /// Returns all lines that the nodes have written so far, to stdout and stderr.
    pub(crate) fn output(&self) -> String {
        let others = self.others.as_ref().map(Others::output).unwrap_or_default();
        self.launch.output.text() + &others
    }

    /// Sends one HTTP request on a connection of its own.
    pub(crate) fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        if path == "/metrics" {
            self.require_alone();
        }
        let own = self.process.port;
        let port = self.others.as_ref().map_or(own, |others| others.next_request(own));
        http::request(port, method, path, headers, body)
    }

    /// Sends a request as administrator and returns status and JSON. [`Value::Null`] sends no body.
    pub(crate) fn admin(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let bearer = format!("Bearer {API_KEY}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let response = self.request(method, path, &headers, &bytes);
        (response.status, response.json())
    }

    /// Defines a channel and returns its definition.
    pub(crate) fn create_channel(&self, pattern: &str) -> Value {
        let (status, body) =
            self.admin("POST", "/api/realtime/channels", &json!({ "pattern": pattern }));
        assert_eq!(status, 201, "create {pattern}: {body}");
        body
    }

    /// Publishes over HTTP and returns the answer.
    pub(crate) fn publish(&self, channel: &str, event: &str, payload: &Value) -> Value {
        let publication = json!({ "channel": channel, "event": event, "payload": payload });
        let (status, body) = self.admin("POST", "/api/realtime/messages", &publication);
        assert_eq!(status, 201, "publish {event} on {channel}: {body}");
        body
    }

    /// Returns the audience in the answer to a publish. On three nodes it also says how many have
    /// answered, which is left out here.
    pub(crate) fn audience(&self, answer: &Value) -> Value {
        let mut audience = answer["audience"].clone();
        let answered = audience.as_object_mut().and_then(|counts| counts.remove("nodes"));
        assert_eq!(answered.is_some(), self.is_three(), "{answer}");
        audience
    }

    /// Returns whether it is three nodes of one cluster.
    pub(crate) fn is_three(&self) -> bool {
        self.others.is_some()
    }

    /// Returns a metric's present value, summed over its label sets and over the nodes.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let value = |port: u16| {
            let response = http::request(port, "GET", "/metrics", &[], b"");
            assert_eq!(response.status, 200, "GET /metrics");
            let text = String::from_utf8(response.body).expect("metrics are text");
            sum_samples(&text, name).unwrap_or_else(|| panic!("no metric {name} in:\n{text}"))
        };
        self.ports().into_iter().map(value).sum()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.process.kill();
        if thread::panicking() {
            eprintln!("--- the node said:\n{}---", self.output());
        }
    }
}

/// Keeps the variables that control the tests from a command: the node refuses unknown variables of
/// its prefix.
pub(crate) fn remove_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FANFARE_") {
            command.env_remove(name);
        }
    }
}

/// Returns a token of a signed-in user that is valid for an hour.
pub(crate) fn user_token(sub: &str) -> String {
    sign(&json!({ "sub": sub, "role": "authenticated", "exp": an_hour_from_now() }))
}

/// Returns a token with these claims.
pub(crate) fn sign(claims: &impl Serialize) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(JWT_SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key).expect("claims are JSON")
}

/// Returns the `exp` of a token that is valid for an hour, in seconds since the epoch.
pub(crate) fn an_hour_from_now() -> u64 {
    jsonwebtoken::get_current_timestamp() + TOKEN_LIFE
}

/// Returns the path of a file in this repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

impl Node {
    /// Checks that `is_so` returns true: at once on one node. Of three, those that were not told
    /// learn a moment later, so that it waits.
    pub(crate) fn soon(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        match &self.others {
            None => assert!(is_so(), "{what}"),
            Some(_) => wait_until(what, is_so),
        }
    }
}

/// Waits until `is_so` returns true. Panics if it takes too long.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "after {PATIENCE:?} still not: {what}");
        thread::sleep(LOOK);
    }
}

/// What the kernel denies a node of io_uring.
#[derive(Clone, Copy)]
enum Deny {
    /// All of its system calls.
    All,
    /// This one: `setup`, `enter` or `register`.
    Only(&'static str),
}

/// A limit of the kernel on a node.
#[derive(Clone, Copy)]
enum Limit {
    Descriptors(u64),
    LockedMemory(u64),
}

/// The parameters of a node, from which it can be started again.
struct Launch {
    configure: Configure,
    stderr: Box<dyn Fn() -> Stdio + Send + Sync>,
    deny_uring: Option<Deny>,
    is_first_process: bool,
    /// A limit of the node's own.
    limit: Option<Limit>,
    host: &'static str,
    /// Further places to listen, each with a comma in front.
    also: String,
    data_dir: PathBuf,
    /// The directory, if it belongs to the node and is removed with it.
    own: Option<TempDir>,
    output: Output,
    way: encrypted::Way,
}

impl Launch {
    fn new(
        configure: impl Fn(&mut Command) + Send + Sync + 'static,
        deny_uring: Option<Deny>,
    ) -> Self {
        Self::of(Arc::new(configure), deny_uring)
    }

    fn of(configure: Configure, deny_uring: Option<Deny>) -> Self {
        let own = tempfile::tempdir().expect("a temporary directory for the node's data");
        Self {
            configure,
            stderr: Box::new(Stdio::piped),
            deny_uring,
            is_first_process: false,
            limit: None,
            host: "127.0.0.1",
            also: String::new(),
            data_dir: own.path().to_owned(),
            own: Some(own),
            output: Output::default(),
            way: encrypted::Way::default(),
        }
    }

    /// Starts a process and waits until it listens. With port 0, the kernel chooses the port.
    fn start(&self, port: u16) -> Process {
        let is_behind = encrypted::is_wished();
        let listen = if is_behind { self.way.before() } else { port };
        let mut child = self.command(listen).spawn().expect("the node's binary starts");
        let (line_sender, lines) = mpsc::channel();
        self.output.drain(child.stdout.take().expect("stdout is piped"), Some(line_sender));
        if let Some(stderr) = child.stderr.take() {
            self.output.drain(stderr, None);
        }
        let lifespan = Lifespan::of(&child);
        let mut process = Process { child, _lifespan: lifespan, port, own_port: port };
        let Some(port) = listening_port(&lines) else {
            process.kill();
            panic!("the node does not listen; it said:\n{}", self.output.text());
        };
        process.own_port = port;
        process.port = if is_behind { self.way.to(port) } else { port };
        process
    }

    fn command(&self, port: u16) -> Command {
        let mut command = self.binary();
        command.args(["serve", "--listen", &format!("{}:{port}{}", self.host, self.also)]);
        command.arg("--data-dir").arg(&self.data_dir);
        remove_settings(&mut command);
        command.env("FANFARE_API_KEY", API_KEY);
        command.env("FANFARE_ANON_KEY", ANON_KEY);
        command.env("FANFARE_JWT_SECRET", JWT_SECRET);
        if let Some(backend) = std::env::var_os("FANFARE_TEST_IO_BACKEND") {
            command.env("FANFARE_IO_BACKEND", backend);
        }
        if encrypted::is_wished() {
            encrypted::configure(&mut command);
        }
        (self.configure)(&mut command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr((self.stderr)());
        command
    }

    /// Returns the product's binary, under the seccomp filter if io_uring is denied, or with its
    /// limit of its own.
    fn binary(&self) -> Command {
        let binary = binary();
        let binary = binary.as_os_str();
        if self.is_first_process {
            let is_root = rustix::process::geteuid().is_root();
            let user: &[&str] = if is_root { &[] } else { &["--user", "--map-root-user"] };
            let mut command = Command::new("unshare");
            command.args(user).args(["--pid", "--fork", "--kill-child"]).arg(binary);
            return command;
        }
        match self.limit {
            Some(Limit::Descriptors(most)) => {
                let mut command = Command::new("prlimit");
                command.arg(format!("--nofile={most}")).arg(binary);
                return command;
            }
            Some(Limit::LockedMemory(bytes)) => {
                let mut command = Command::new("setpriv");
                // Root has no limit as long as it has this capability.
                if rustix::process::geteuid().is_root() {
                    command.arg("--bounding-set=-ipc_lock");
                }
                command.args(["prlimit", &format!("--memlock={bytes}")]).arg(binary);
                return command;
            }
            None => {}
        }
        let Some(deny) = self.deny_uring else { return Command::new(binary) };
        let mut command = Command::new("python3");
        command.arg(repository("tests/support/deny_uring.py"));
        if let Deny::Only(call) = deny {
            command.arg(format!("--only={call}"));
        }
        command.arg(binary);
        command
    }
}

/// Returns the product's binary: that of this build, or the one that [`BINARY`] names.
fn binary() -> PathBuf {
    std::env::var_os(BINARY)
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_fanfare")), PathBuf::from)
}

/// One process of the node.
struct Process {
    child: Child,
    _lifespan: Lifespan,
    /// The port for tests.
    port: u16,
    /// The port on which the node listens.
    own_port: u16,
}

impl Process {
    fn kill(&mut self) {
        // Both fail only if the process has ended and was waited for: then nothing is left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns the port in the line that says where the node listens; `None` if the node ends or takes
/// too long.
fn listening_port(lines: &Receiver<String>) -> Option<u16> {
    loop {
        let line = lines.recv_timeout(START_PATIENCE).ok()?;
        let Some((_, address)) = line.split_once("listening on http") else {
            continue;
        };
        let (_, address) = address.split_once("://")?;
        let (_, port) = address.split(',').next()?.trim_end().rsplit_once(':')?;
        return port.parse().ok();
    }
}

/// The output of a process, kept for the message of a failed test.
#[derive(Clone, Default)]
pub(crate) struct Output(Arc<Mutex<Vec<String>>>);

impl Output {
    /// Reads a stream to its end on a thread, so that the process never blocks on a full pipe.
    pub(crate) fn drain(&self, stream: impl Read + Send + 'static, lines: Option<Sender<String>>) {
        let output = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                output.push(line.clone());
                // The receiver is gone once the process is known to run.
                let _ = lines.as_ref().map(|lines| lines.send(line));
            }
        });
    }

    /// Returns all lines so far.
    pub(crate) fn text(&self) -> String {
        let lines = self.0.lock().expect("no reader panics while it holds the lock");
        lines.iter().fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "{line}");
            text
        })
    }

    fn push(&self, line: String) {
        self.0.lock().expect("no reader panics while it holds the lock").push(line);
    }
}

/// Returns the sum of a metric's samples in the Prometheus text format; `None` if it has none.
fn sum_samples(text: &str, name: &str) -> Option<u64> {
    let samples = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = match rest.strip_prefix('{') {
            Some(labelled) => labelled.rsplit_once('}')?.1,
            None => rest.strip_prefix(' ')?,
        };
        value.split_whitespace().next()?.parse::<f64>().ok()
    });
    samples.reduce(|sum, value| sum + value).map(|sum| sum as u64)
}
