//! A real node for the tests: the product's own binary on a port of its own, with a data directory
//! that goes when the node does.
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

pub(crate) mod disk;
mod ending;
pub(crate) mod exposition;
pub(crate) mod http;
pub(crate) mod kept;
pub(crate) mod script;
pub(crate) mod target;
pub(crate) mod trace;

pub(crate) use http::Response;

/// The administrator's key: `ik_` and 64 hexadecimal digits.
pub(crate) const API_KEY: &str =
    "ik_00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
/// What clients without a user present: `anon_` and 64 hexadecimal digits.
pub(crate) const ANON_KEY: &str =
    "anon_ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";
/// What HS256 tokens are signed with: these 64 characters as they stand.
pub(crate) const JWT_SECRET: &str =
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Generous, because many nodes may start side by side on a loaded machine.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How long something may take that must happen; generous for the same reason.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks whether it has.
const LOOK: Duration = Duration::from_millis(5);
/// An hour, in seconds: clients take tokens near their end for expired ones.
const TOKEN_LIFE: u64 = 3_600;

/// A running node. Dropped, it is killed; when the test failed, its output is shown.
pub(crate) struct Node {
    launch: Launch,
    process: Process,
}

impl Node {
    /// A node with its defaults.
    pub(crate) fn start() -> Self {
        Self::with(|_| {})
    }

    /// A node whose command `configure` adds arguments and environment to, at every start.
    pub(crate) fn with(configure: impl Fn(&mut Command) + Send + Sync + 'static) -> Self {
        let wished = std::env::var_os("FANFARE_TEST_DENY_URING").is_some_and(|wish| wish == "1");
        Self::launch(Launch::new(configure, wished))
    }

    /// A node with more in its environment.
    pub(crate) fn with_env(envs: &'static [(&str, &str)]) -> Self {
        Self::with(|command| {
            command.envs(envs.iter().copied());
        })
    }

    /// A node that the kernel denies io_uring to. Every node is one while the environment has
    /// `FANFARE_TEST_DENY_URING=1`.
    pub(crate) fn without_uring() -> Self {
        Self::launch(Launch::new(|_| {}, true))
    }

    /// A node that listens on all of the machine's addresses, loopback among them.
    pub(crate) fn on_all_addresses(
        configure: impl Fn(&mut Command) + Send + Sync + 'static,
    ) -> Self {
        Self::launch(Launch { listen: Ipv4Addr::UNSPECIFIED, ..Launch::new(configure, false) })
    }

    fn launch(launch: Launch) -> Self {
        let process = launch.start(0);
        Self { launch, process }
    }

    /// The same, in a data directory that the test made and takes away.
    pub(crate) fn in_directory(
        data_dir: &Path,
        configure: impl Fn(&mut Command) + Send + Sync + 'static,
    ) -> Self {
        Self::launch(Launch {
            data_dir: data_dir.into(),
            own: None,
            ..Launch::new(configure, false)
        })
    }

    /// Kills the node, with no chance to tidy up.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Kills the node and starts it on the same port and data.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.start_again(self.port());
    }

    /// Where clients point to.
    pub(crate) fn url(&self) -> String {
        format!("http://{}:{}", Ipv4Addr::LOCALHOST, self.port())
    }

    /// The port it listens on, on loopback.
    pub(crate) fn port(&self) -> u16 {
        self.process.port
    }

    /// The id of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// Where it keeps its data.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.launch.data_dir
    }

    /// All that it has said so far, on both streams, a line each.
    pub(crate) fn output(&self) -> String {
        self.launch.output.text()
    }

    /// One HTTP request on a connection of its own.
    pub(crate) fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        http::request(self.port(), method, path, headers, body)
    }

    /// A request as administrator; [`Value::Null`] sends no body. Answers status and JSON.
    pub(crate) fn admin(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let bearer = format!("Bearer {API_KEY}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let response = self.request(method, path, &headers, &bytes);
        (response.status, response.json())
    }

    /// Defines a channel and answers its definition.
    pub(crate) fn create_channel(&self, pattern: &str) -> Value {
        let (status, body) =
            self.admin("POST", "/api/realtime/channels", &json!({ "pattern": pattern }));
        assert_eq!(status, 201, "create {pattern}: {body}");
        body
    }

    /// Publishes over HTTP and answers the receipt.
    pub(crate) fn publish(&self, channel: &str, event: &str, payload: &Value) -> Value {
        let publication = json!({ "channel": channel, "event": event, "payload": payload });
        let (status, body) = self.admin("POST", "/api/realtime/messages", &publication);
        assert_eq!(status, 201, "publish {event} on {channel}: {body}");
        body
    }

    /// A metric's value now, summed over its label sets.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let response = self.request("GET", "/metrics", &[], b"");
        assert_eq!(response.status, 200, "GET /metrics");
        let text = String::from_utf8(response.body).expect("metrics are text");
        sum_samples(&text, name).unwrap_or_else(|| panic!("no metric {name} in:\n{text}"))
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

/// A token for a signed-in user, good for an hour.
pub(crate) fn user_token(sub: &str) -> String {
    sign(&json!({ "sub": sub, "role": "authenticated", "exp": an_hour_from_now() }))
}

/// A token with any claims.
pub(crate) fn sign(claims: &impl Serialize) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(JWT_SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key).expect("claims are JSON")
}

/// For `exp`: seconds since the epoch.
pub(crate) fn an_hour_from_now() -> u64 {
    jsonwebtoken::get_current_timestamp() + TOKEN_LIFE
}

/// A file of this repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Waits until something is so; panics when it takes too long.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "after {PATIENCE:?} still not: {what}");
        thread::sleep(LOOK);
    }
}

/// How to start the node, again and again.
struct Launch {
    configure: Box<dyn Fn(&mut Command) + Send + Sync>,
    deny_uring: bool,
    listen: Ipv4Addr,
    data_dir: PathBuf,
    /// Goes with the node, where the directory is its own.
    own: Option<TempDir>,
    output: Output,
}

impl Launch {
    fn new(configure: impl Fn(&mut Command) + Send + Sync + 'static, deny_uring: bool) -> Self {
        let own = tempfile::tempdir().expect("a temporary directory for the node's data");
        Self {
            configure: Box::new(configure),
            deny_uring,
            listen: Ipv4Addr::LOCALHOST,
            data_dir: own.path().to_owned(),
            own: Some(own),
            output: Output::default(),
        }
    }

    /// Starts a process and waits until it listens; port 0 lets the kernel choose one.
    fn start(&self, port: u16) -> Process {
        let mut child = self.command(port).spawn().expect("the node's binary starts");
        let (line_sender, lines) = mpsc::channel();
        self.output.drain(child.stdout.take().expect("stdout is piped"), Some(line_sender));
        self.output.drain(child.stderr.take().expect("stderr is piped"), None);
        let mut process = Process { child, port };
        let Some(port) = listening_port(&lines) else {
            process.kill();
            panic!("the node does not listen; it said:\n{}", self.output.text());
        };
        process.port = port;
        process
    }

    fn command(&self, port: u16) -> Command {
        let mut command = self.binary();
        command.args(["serve", "--listen", &format!("{}:{port}", self.listen)]);
        command.arg("--data-dir").arg(&self.data_dir);
        // The node refuses variables that it does not know, and those that steer the tests are such.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("FANFARE_") {
                command.env_remove(name);
            }
        }
        command.env("FANFARE_API_KEY", API_KEY);
        command.env("FANFARE_ANON_KEY", ANON_KEY);
        command.env("FANFARE_JWT_SECRET", JWT_SECRET);
        (self.configure)(&mut command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The product's binary, behind the filter where io_uring is to be denied.
    fn binary(&self) -> Command {
        let binary = env!("CARGO_BIN_EXE_fanfare");
        if !self.deny_uring {
            return Command::new(binary);
        }
        let mut command = Command::new("python3");
        command.arg(repository("tests/support/deny_uring.py")).arg(binary);
        command
    }
}

/// One life of the node.
struct Process {
    child: Child,
    port: u16,
}

impl Process {
    fn kill(&mut self) {
        // Both fail only where the process has ended and been waited for: nothing is left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads lines until one says where the node listens; `None` when it ends or takes too long.
fn listening_port(lines: &Receiver<String>) -> Option<u16> {
    loop {
        let line = lines.recv_timeout(START_PATIENCE).ok()?;
        let Some((_, address)) = line.split_once("listening on http://") else {
            continue;
        };
        let (_, port) = address.split_once(':')?;
        let digits = port.split(|c: char| !c.is_ascii_digit()).next()?;
        return digits.parse().ok();
    }
}

/// What a process says, kept for the message of a failed test.
#[derive(Clone, Default)]
pub(crate) struct Output(Arc<Mutex<Vec<String>>>);

impl Output {
    /// Reads a stream to its end on a thread, so that the process never waits for a reader.
    pub(crate) fn drain(&self, stream: impl Read + Send + 'static, lines: Option<Sender<String>>) {
        let output = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                output.push(line.clone());
                // Nobody waits for lines any more once the process is known to run.
                let _ = lines.as_ref().map(|lines| lines.send(line));
            }
        });
    }

    /// Everything so far, a line each.
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

/// Adds up a metric's samples in the Prometheus text format; `None` when it has none.
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
