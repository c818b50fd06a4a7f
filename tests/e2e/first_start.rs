//! The output of a node at its start: every line that it offers to paste must work.

use std::io::Write as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::socket::Socket;
use crate::support::{ANON_KEY, API_KEY, JWT_SECRET, Node, Output, repository, user_token};

const PATIENCE: Duration = Duration::from_secs(60);
const SECRET_VARIABLES: [&str; 3] = ["FANFARE_API_KEY", "FANFARE_ANON_KEY", "FANFARE_JWT_SECRET"];

/// Starts a node that creates its own secrets.
fn newcomers_node() -> Node {
    Node::with(|command| {
        for name in SECRET_VARIABLES {
            command.env_remove(name);
        }
    })
}

/// Waits for the expected text. The fixture only waits for the first line; the rest follows a
/// moment later.
fn output_with(node: &Node, expected: &str) -> String {
    let start = Instant::now();
    while !node.output().contains(expected) && start.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = node.output();
    assert!(output.contains(expected), "{output}");
    output
}

/// A shell that lines are pasted into. On drop, it first ends the background jobs.
struct Shell {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
    output: Output,
}

impl Shell {
    fn open() -> Self {
        // The stock client is installed in this directory.
        let mut command = Command::new("bash");
        command.current_dir(repository("tests/clients"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("FANFARE_") {
                command.env_remove(name);
            }
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("bash starts");
        let (sender, lines) = mpsc::channel();
        let output = Output::default();
        output.drain(child.stdout.take().expect("it is piped"), Some(sender));
        output.drain(child.stderr.take().expect("it is piped"), None);
        let stdin = child.stdin.take().expect("it is piped");
        Self { child, stdin, lines, output }
    }

    fn paste(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").expect("the shell reads");
    }

    fn wait_for(&self, expected: &str) {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(expected) => return,
                Ok(_) => {}
                Err(_) => break,
            }
        }
        panic!("no {expected:?} in:\n{}", self.output.text());
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // Both fail only if nothing is left to end.
        let _ = writeln!(self.stdin, "kill %1 %2; exit");
        let _ = self.child.wait();
    }
}

#[test]
fn each_printed_line_works_as_it_stands() {
    let mut node = newcomers_node();
    let output = output_with(&node, "s.on('INSERT'");
    let pasted = |part: &str| {
        let output = node.output();
        let lines = output.lines().filter_map(|line| line.strip_prefix("  "));
        let mut lines = lines.filter(|line| line.contains(part)).map(str::to_owned);
        lines.next().expect("it is printed")
    };
    let mut shell = Shell::open();
    shell.paste(&pasted("eval "));
    shell.paste(&pasted("/api/realtime/channels"));
    shell.wait_for("\"pattern\":\"orders\"");
    shell.paste(&pasted("/api/realtime/events"));
    shell.paste(&pasted("STREAM="));
    shell.wait_for("event: realtime:subscribed");
    shell.paste(&pasted("/api/realtime/messages"));
    shell.wait_for("event: INSERT");
    shell.wait_for("\"payload\":{\"orderId\":\"123\"}");
    shell.paste(&pasted("node -e "));
    shell.wait_for("ok: true");
    shell.paste(&pasted("/api/realtime/messages"));
    shell.wait_for("payload: { orderId: '123' }");
    assert!(output.contains("`kill $STREAM` ends the listener"), "{output}");
    shell.paste("kill $STREAM; wait $STREAM; echo \"the listener ended with $?\"");
    shell.wait_for("the listener ended with 143");
    drop(shell);

    let keys = node.data_dir().join("keys.toml").display().to_string();
    assert!(output.contains(&format!("\n  keys     {keys}, made just now\n")), "{output}");
    node.restart();
    let output = output_with(&node, &format!("\n  keys     {keys}\n"));
    assert_eq!(output.matches("Try it").count(), 1, "{output}");
}

#[test]
fn each_leniency_is_named_at_start() {
    const FORGE: &str = "registered Forge invocations need no credential (forge.trust_network)";
    const M2: &str = "M2 readers need no credential (m2.require_auth = false)";
    const SUITES: &str = "no authentication at all, for test suites only (--conformance)";
    let named = |node: &Node| {
        let output = output_with(node, "\n  keys     ");
        let is_named = |text: &&&str| output.contains(&format!("\n  lenient  {text}\n"));
        [FORGE, M2, SUITES].iter().filter(is_named).copied().collect::<Vec<_>>()
    };
    assert_eq!(named(&Node::start()), [FORGE]);
    assert_eq!(named(&Node::on_all_addresses(|_| {})), [""; 0]);
    assert_eq!(named(&Node::with_env(&[("FANFARE_FORGE_TRUST_NETWORK", "false")])), [""; 0]);
    assert_eq!(named(&Node::with_env(&[("FANFARE_M2_REQUIRE_AUTH", "false")])), [FORGE, M2]);
    let suites = Node::with(|command| {
        command.arg("--conformance");
    });
    assert_eq!(named(&suites), [FORGE, SUITES]);
}

#[test]
fn secrets_and_payloads_are_in_no_log_line() {
    let node = Node::with(|command| {
        command.env("FANFARE_LOG", "trace").env("FANFARE_LOG_FORMAT", "json");
    });
    let output = output_with(&node, "\n  keys     as configured\n");
    assert!(!output.contains("Try it"), "{output}");
    node.create_channel("orders");
    node.publish("orders", "note", &json!({"secret": "hunter2"}));
    let bearers =
        [format!("Bearer {}", user_token("hunter2")), "Bearer hunter2.hunter2.hunter2".to_owned()];
    for bearer in &bearers {
        let headers = [("authorization", bearer.as_str())];
        let answer = node.request("GET", "/api/realtime/channels?token=hunter2", &headers, b"");
        assert!(matches!(answer.status, 401 | 403), "{}", answer.status);
    }
    Socket::connect(node.port(), ANON_KEY).subscribe("orders");
    Socket::connect_polling(node.port(), &user_token("hunter2")).subscribe("orders");
    let output = output_with(&node, "\"message\":\"starting\"");
    // Output for people is written to stdout.
    let is_said = |line: &&str| line.starts_with("  ") || line.starts_with("fanfare ");
    let mut log = output.lines().filter(|line| !line.is_empty() && !is_said(line));
    assert!(log.all(|line| serde_json::from_str::<Value>(line).is_ok()), "{output}");
    for secret in [API_KEY, ANON_KEY, JWT_SECRET, "hunter2"] {
        assert!(!output.contains(secret), "{output}");
    }
}
