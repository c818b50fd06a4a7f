//! Programs in JavaScript and Python that drive a node with independent clients.

use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::{ANON_KEY, API_KEY, JWT_SECRET, Node, Output, encrypted, repository};

const POLL: Duration = Duration::from_millis(10);
/// How long a program may go on to speak until its output is shown.
const MOST_SAID: Duration = Duration::from_secs(10);

impl Node {
    /// Runs a program of `tests/clients` to its end and returns its output. Panics if it fails or
    /// takes longer than `limit`.
    pub(crate) fn run_script(
        &self,
        program: &str,
        args: &[&str],
        envs: &[(&str, &str)],
        limit: Duration,
    ) -> String {
        self.spawn_script(program, args, envs).succeed(limit)
    }

    /// Starts a program of `tests/clients` that the test controls through its stdin and stdout.
    pub(crate) fn spawn_script(
        &self,
        program: &str,
        args: &[&str],
        envs: &[(&str, &str)],
    ) -> Script {
        let urls = self.urls();
        // What the test sets comes last.
        let all = urls.join(",");
        let envs = [&[("FANFARE_URLS", &*all)], envs].concat();
        Script::spawn(&urls[0], program, args, &envs)
    }
}

/// A running program, which is killed on drop.
pub(crate) struct Script {
    name: String,
    child: Child,
    lines: Receiver<String>,
    output: Output,
}

impl Script {
    /// Starts a program of `tests/clients` against the node at `url`.
    pub(crate) fn spawn(url: &str, program: &str, args: &[&str], envs: &[(&str, &str)]) -> Self {
        let mut command = Command::new(interpreter(program));
        command.arg(repository("tests/clients").join(program)).args(args);
        command.env("FANFARE_URL", url);
        command.env("FANFARE_API_KEY", API_KEY);
        command.env("FANFARE_ANON_KEY", ANON_KEY);
        command.env("FANFARE_JWT_SECRET", JWT_SECRET);
        if encrypted::is_wished() {
            command.envs(encrypted::trust());
        }
        command.envs(envs.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let output = Output::default();
        let (line_sender, lines) = mpsc::channel();
        output.drain(child.stdout.take().expect("stdout is piped"), Some(line_sender));
        output.drain(child.stderr.take().expect("stderr is piped"), None);
        Self { name: [&[program], args].concat().join(" "), child, lines, output }
    }

    /// Returns the next line of its standard output. Panics after `limit`.
    pub(crate) fn next_line(&self, limit: Duration) -> String {
        match self.lines.recv_timeout(limit) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => self.fail("says nothing"),
            Err(RecvTimeoutError::Disconnected) => self.fail("has ended"),
        }
    }

    /// Reads lines of its standard output up to and including this one.
    pub(crate) fn wait_for(&self, line: &str, limit: Duration) {
        let end = Instant::now() + limit;
        while self.next_line(end.saturating_duration_since(Instant::now())) != line {}
    }

    /// Closes its stdin, waits until it has ended with success, and returns its output.
    pub(crate) fn succeed(mut self, limit: Duration) -> String {
        drop(self.child.stdin.take());
        match self.wait(limit) {
            Some(status) if status.success() => self.text(),
            Some(status) => self.fail(&format!("failed, {status}")),
            None => self.fail(&format!("is not done after {limit:?}")),
        }
    }

    fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            let status = self.child.try_wait().expect("the program is a child of this process");
            if status.is_some() || Instant::now() > end {
                return status;
            }
            thread::sleep(POLL);
        }
    }

    /// Returns its output. The readers may be a moment behind a process that has just ended; one
    /// that has not may say more and more.
    fn text(&self) -> String {
        let end = Instant::now() + MOST_SAID;
        while self.lines.recv_timeout(Duration::from_secs(1)).is_ok() && Instant::now() < end {}
        self.output.text()
    }

    fn fail(&self, what: &str) -> ! {
        panic!("{} {what}; it said:\n{}", self.name, self.text());
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        // Both fail only if the process has ended and was waited for: then nothing is left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn interpreter(program: &str) -> PathBuf {
    let (interpreter, installed) = if program.ends_with(".py") {
        let python = repository("tests/.venv/bin/python");
        (python.clone(), python)
    } else {
        (PathBuf::from("node"), repository("tests/clients/node_modules"))
    };
    let missing = installed.display();
    assert!(installed.exists(), "{missing} is missing: tests/run installs it");
    interpreter
}
