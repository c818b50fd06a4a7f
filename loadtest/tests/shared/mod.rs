//! A node for the tests of scenarios. It is built if that has not been done.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use serde_json::Value;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_loadtest");

/// A node with a data directory of its own, which ends with its test.
pub(crate) struct Node {
    pub(crate) process: Child,
    pub(crate) folder: PathBuf,
    pub(crate) url: String,
    pub(crate) api_key: String,
    pub(crate) anon_key: String,
}

/// Returns the node's binary, beside that of the load tester.
fn node_binary() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut build = Command::new(env!("CARGO"));
        // As `cargo test --workspace` has built it already, for any test of the node: a build of one
        // package has other features of dependencies, so that it would build these once more.
        build.args(["test", "--quiet", "--offline", "--workspace", "--no-run", "--test", "tidy"]);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        assert!(
            build.current_dir(root).status().expect("cargo runs").success(),
            "the node is built"
        );
        Path::new(BINARY).with_file_name("fanfare")
    })
}

impl Node {
    pub(crate) fn start() -> Self {
        Self::start_with(|_| ())
    }

    /// Starts a node that takes the credentials of another one, of which it knows nothing else.
    pub(crate) fn with_keys_of(other: &Self) -> Self {
        Self::start_with(|folder| {
            let [from, to] = [&other.folder, folder].map(|folder| folder.join("keys.toml"));
            fs::copy(from, to).expect("the other node has keys");
        })
    }

    fn start_with(prepare: impl FnOnce(&PathBuf)) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = format!("loadtest-node-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        fs::create_dir_all(&folder).expect("the temporary folder is writable");
        prepare(&folder);
        let mut process = Command::new(node_binary())
            .args(["serve", "--workers", "1", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(&folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the node was built");
        let mut said = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let url = said.find_map(|line| {
            let line = line.expect("the node says where it listens");
            Some(format!("http://{}", line.split_once("listening on http://")?.1.trim()))
        });
        // The rest is read, so that the node never waits for a reader.
        thread::spawn(move || said.for_each(drop));
        let keys = Command::new(node_binary()).arg("keys").arg("--data-dir").arg(&folder).output();
        let keys = String::from_utf8(keys.expect("it runs").stdout).expect("keys are ASCII");
        let key = |name: &str| {
            let line = keys.lines().find_map(|line| line.split_once(name));
            let value = line.expect("the keys are printed").1;
            value.trim_matches(|it: char| !it.is_ascii_alphanumeric() && it != '_').to_owned()
        };
        let (api_key, anon_key) = (key("API_KEY="), key("ANON_KEY="));
        Self { process, folder, url: url.expect("it listens"), api_key, anon_key }
    }

    /// Returns a token of M2 for the organization that load is made in.
    pub(crate) fn token(&self, kind: &str) -> String {
        let mut command = Command::new(node_binary());
        command.args(["token", kind, "--organization", "load", "--data-dir"]).arg(&self.folder);
        command.args(["--user", "load"].iter().filter(|_| kind == "m2"));
        let output = command.output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("tokens are ASCII").trim().to_owned()
    }

    /// Runs a scenario and returns its output.
    pub(crate) fn run(&self, scenario: &str, extra: &[&str]) -> Output {
        self.command(scenario, extra).output().expect("the binary was built")
    }

    pub(crate) fn command(&self, scenario: &str, extra: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args([scenario, "--url", &self.url, "--api-key", &self.api_key]).args(extra);
        command
    }

    /// Sends a request about the definitions and returns the body of the answer.
    pub(crate) fn definitions(&self, method: &str, body: &str) -> Value {
        let mut stream = TcpStream::connect(&self.url["http://".len()..]).expect("it listens");
        let request = format!(
            "{method} /api/realtime/channels HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\
             X-API-Key: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.api_key,
            body.len()
        );
        stream.write_all(request.as_bytes()).expect("the node reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the node answers");
        let (_, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
        serde_json::from_str(body).expect("it is JSON")
    }

    pub(crate) fn assert_nothing_is_left(&self) {
        assert_eq!(self.definitions("GET", ""), Value::Array(Vec::new()));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A run that is killed if its test fails.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        // This fails if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the line of JSON, which is the last line of the output. A verdict that a side fell behind
/// is no failure here: a busy machine is enough for that.
pub(crate) fn result(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 3 | 4)), "{text}\n{errors}");
    serde_json::from_str(text.lines().last().expect("a good run says something"))
        .expect("it is JSON")
}
