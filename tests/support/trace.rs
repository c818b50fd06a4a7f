//! A node's writes and syncs of files, recorded by strace.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;

use super::Node;

/// How long strace may take to detach.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(5);

/// Microseconds since the epoch.
pub(crate) type Micros = u64;

/// An strace of a running node, which detaches on drop.
pub(crate) struct Trace {
    strace: Child,
    lines: NamedTempFile,
}

/// A system call on a file.
#[derive(Clone, Debug)]
pub(crate) struct DiskCall {
    /// The name of the system call.
    pub(crate) name: String,
    /// The file's name without its folder.
    pub(crate) file: String,
    pub(crate) began: Micros,
    pub(crate) ended: Micros,
}

impl DiskCall {
    /// Whether the call syncs the file to the disk.
    pub(crate) fn is_sync(&self) -> bool {
        matches!(self.name.as_str(), "fsync" | "fdatasync")
    }
}

/// Returns the time by the clock that strace uses.
pub(crate) fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    u64::try_from(since.as_micros()).expect("it is before the year 500000")
}

impl Trace {
    /// Starts to trace all threads of the node. Panics if the system does not allow it.
    pub(crate) fn attach(node: &Node) -> Self {
        let lines = NamedTempFile::new().expect("a file of the test");
        let mut command = Command::new("strace");
        command.args(["-f", "-y", "-ttt", "-T", "-e", "trace=pwrite64,fsync,fdatasync", "-o"]);
        command.arg(lines.path()).args(["-p", &node.pid().to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let strace = command.spawn().unwrap_or_else(|error| {
            panic!("strace, which tests/run installs, cannot be started: {error}")
        });
        let mut trace = Self { strace, lines };
        let said = trace.strace.stderr.take().expect("it is piped");
        let mut said = BufReader::new(said).lines().map_while(Result::ok);
        let first = said.find(|line| !line.is_empty()).unwrap_or_default();
        assert!(first.contains(" attached"), "strace cannot watch the node: {first:?}");
        trace
    }

    /// Detaches and returns the calls that were traced.
    pub(crate) fn end(mut self) -> Vec<DiskCall> {
        self.let_go();
        let text = fs::read_to_string(self.lines.path()).expect("strace writes text");
        calls(&text)
    }

    fn let_go(&mut self) {
        let pid = self.strace.id().try_into().ok().and_then(Pid::from_raw);
        let pid = pid.expect("the id of a process is a positive number");
        let end = Instant::now() + PATIENCE;
        kill_process(pid, Signal::INT).expect("a child that was not waited for can be signalled");
        while self.strace.try_wait().expect("it is a child of this process").is_none() {
            assert!(Instant::now() < end, "strace does not let go");
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // Both fail only if strace has ended; the kernel has then detached it.
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}

/// Parses the output of strace. Each thread's calls are in order. A long call may be split into two
/// lines, with lines of other threads between them.
fn calls(text: &str) -> Vec<DiskCall> {
    let mut unfinished = HashMap::new();
    let mut calls = Vec::new();
    for line in text.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((began, call)) = rest.trim_start().split_once(' ') else { continue };
        if call.starts_with("<... ") {
            let (began, file, name) =
                unfinished.remove(thread).unwrap_or_else(|| panic!("no beginning: {line}"));
            calls.push(DiskCall { name, file, began, ended: began + duration(line) });
            continue;
        }
        let Some((name, arguments)) = call.split_once('(') else { continue };
        let (began, file) = (micros(began), file(arguments, line));
        if call.ends_with("<unfinished ...>") {
            unfinished.insert(thread, (began, file, name.to_owned()));
        } else {
            calls.push(DiskCall { name: name.into(), file, began, ended: began + duration(line) });
        }
    }
    calls
}

/// Returns the file name from arguments that begin like `12</data/fanfare.db-wal>`.
fn file(arguments: &str, line: &str) -> String {
    let path = arguments.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    let (path, _) = path.unwrap_or_else(|| panic!("no file in {line}"));
    path.rsplit('/').next().unwrap_or(path).to_owned()
}

/// Returns the duration from a line that ends like `<0.000123>`.
fn duration(line: &str) -> Micros {
    let seconds = line.strip_suffix('>').and_then(|line| line.rsplit_once('<'));
    micros(seconds.unwrap_or_else(|| panic!("no duration in {line}")).1)
}

/// Parses seconds with six decimal places.
fn micros(seconds: &str) -> Micros {
    seconds.replace('.', "").parse().unwrap_or_else(|_| panic!("no time: {seconds}"))
}
