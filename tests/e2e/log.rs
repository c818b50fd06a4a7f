//! Logs that cannot be written: they cost lines, and nothing else.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, PipeReader, PipeWriter, Read as _, Write as _, pipe};
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::json;

use crate::m2::app::{place, service};
use crate::m2::listener::Listener;
use crate::socket::{Heard, Socket};
use crate::support::disk::{Disk, Needs, has_own_mounts};
use crate::support::target::unused_port;
use crate::support::{ANON_KEY, Node, remove_settings, wait_until};
use crate::tcp::{self, Tcp};

const CHANNEL: &str = "orders";
const TICK: &str = "tick";
const DROPPED: &str = "fanfare_log_lines_dropped_total";
/// How long a node without connections may take to end: it waits a second for its log.
const SOON: Duration = Duration::from_secs(10);
/// Lines of refused messages that fill a pipe of 64 KiB.
const PIPEFUL: usize = 1_000;
/// Lines of refused messages that fill a pipe and the queue of 8,192 lines.
const QUEUEFUL: usize = 10_000;

/// Starts a node that logs each refused message to this.
fn logging_to(stderr: impl Fn() -> Stdio + Send + Sync + 'static) -> Node {
    Node::with_stderr(stderr, |command: &mut Command| {
        command.env("FANFARE_LOG", "debug").env("FANFARE_DRAIN_MS", "200");
    })
}

/// Starts a node that logs each refused message into the pipe. The test holds no end of it but its
/// reader's.
fn logging_into(writer: PipeWriter) -> Node {
    let writer = Mutex::new(Some(writer));
    logging_to(move || {
        let writer = writer.lock().expect("nobody panics with it").take();
        writer.expect("the node is started once").into()
    })
}

fn full_device() -> File {
    OpenOptions::new().write(true).open("/dev/full").expect("every Linux has it")
}

/// Sends messages that are refused. At `debug` the node logs a line for each.
pub(crate) fn be_refused(node: &Node, times: usize) {
    let mut listener = Listener::connect(node, &service(place()));
    for _ in 0..times.div_ceil(100) {
        (0..100).for_each(|_| listener.say("not JSON"));
        for _ in 0..100 {
            assert!(listener.hear().contains("Invalid message format"));
        }
    }
}

/// Checks that health, metrics and sockets answer.
fn check_serves(node: &Node) {
    assert_eq!(node.request("GET", "/api/health", &[], b"").status, 200);
    assert!(node.metric("fanfare_workers") > 0);
    let mut socket = Socket::connect(node.port(), ANON_KEY);
    socket.subscribe(CHANNEL);
    node.publish(CHANNEL, TICK, &json!({}));
    loop {
        match socket.hear() {
            Heard::Event(event) if event.is_named(TICK) => return,
            Heard::Event(_) => {}
            heard => panic!("unexpected: {heard:?}"),
        }
    }
}

fn check_drains(node: &mut Node) {
    node.signal(Signal::TERM);
    assert_eq!(node.exit_status(SOON).code(), Some(0));
}

#[test]
fn a_full_device_costs_lines() {
    let mut node = logging_to(|| full_device().into());
    node.create_channel(CHANNEL);
    be_refused(&node, 100);
    check_serves(&node);
    wait_until("every line is counted", || node.metric(DROPPED) >= 100);
    check_drains(&mut node);
}

#[test]
fn a_reader_that_left_before_the_start_costs_lines() {
    let (reader, writer) = pipe().expect("there are descriptors");
    drop(reader);
    let mut node = logging_into(writer);
    node.create_channel(CHANNEL);
    be_refused(&node, 100);
    check_serves(&node);
    wait_until("every line is counted", || node.metric(DROPPED) >= 100);
    check_drains(&mut node);
}

#[test]
fn a_reader_that_leaves_while_the_node_serves_costs_lines() {
    let (reader, writer) = pipe().expect("there are descriptors");
    let mut node = logging_into(writer);
    node.create_channel(CHANNEL);
    be_refused(&node, 100);
    drop(reader);
    be_refused(&node, 100);
    check_serves(&node);
    wait_until("every line is counted", || node.metric(DROPPED) >= 100);
    check_drains(&mut node);
}

#[test]
fn a_reader_that_leaves_while_the_node_drains_costs_lines() {
    let (reader, writer) = pipe().expect("there are descriptors");
    let mut node = logging_into(writer);
    let sockets = [(); 8].map(|()| Socket::connect(node.port(), ANON_KEY));
    node.signal(Signal::TERM);
    let mut lines = BufReader::new(reader).lines().map(|line| line.expect("it is text"));
    assert!(lines.any(|line| line.contains("draining")));
    drop(lines);
    for mut socket in sockets {
        assert!(matches!(socket.hear(), Heard::End));
    }
    assert_eq!(node.exit_status(SOON).code(), Some(0));
}

#[test]
fn a_pipe_that_nobody_reads_delays_nobody() {
    let (reader, writer) = pipe().expect("there are descriptors");
    let mut node = logging_into(writer);
    node.create_channel(CHANNEL);
    be_refused(&node, PIPEFUL);
    check_serves(&node);
    assert_eq!(node.metric(DROPPED), 0, "they wait in the queue");
    check_drains(&mut node);
    drop(reader);
}

#[test]
fn lines_beyond_the_queue_are_counted_and_told_of_once_the_pipe_is_read() {
    let (reader, writer) = pipe().expect("there are descriptors");
    let mut node = logging_into(writer);
    node.create_channel(CHANNEL);
    be_refused(&node, QUEUEFUL);
    check_serves(&node);
    let dropped = node.metric(DROPPED);
    assert!(dropped > 0, "the queue has a bound");
    let notice = format!(
        "log lines were lost, because standard error was full, closed or not read lines={dropped}"
    );
    let mut lines = read_lines(reader);
    let refused = lines.by_ref().take_while(|line| !line.contains(&notice)).collect::<Vec<_>>();
    assert!(refused.len() > 8_192, "{} lines", refused.len());
    assert!(refused.iter().all(|line| !line.contains("lost")), "they are told of once");
    node.signal(Signal::TERM);
    let last: Vec<_> = lines.collect();
    assert!(last.iter().any(|line| line.contains("draining")), "{last:?}");
    assert!(last.last().is_some_and(|line| line.contains("stopped")), "{last:?}");
    assert_eq!(node.exit_status(SOON).code(), Some(0));
}

fn read_lines(reader: PipeReader) -> impl Iterator<Item = String> {
    BufReader::new(reader).lines().map(|line| line.expect("it is text"))
}

#[test]
fn a_log_on_a_full_disk_goes_on_once_there_is_room() {
    let test = "log::a_log_on_a_full_disk_goes_on_once_there_is_room";
    if !has_own_mounts(test, Needs::Memory) {
        return;
    }
    let disk = Disk::in_memory("64k");
    let path = disk.path().join("log");
    let log = path.clone();
    let mut node = logging_to(move || {
        let log = OpenOptions::new().create(true).append(true).open(&log);
        log.expect("the disk is not full yet").into()
    });
    node.create_channel(CHANNEL);
    be_refused(&node, PIPEFUL);
    wait_until("the disk is full", || node.metric(DROPPED) > 0);
    check_serves(&node);
    File::create(&path).expect("it is there").set_len(0).expect("it can be emptied");
    be_refused(&node, 100);
    let mut text = String::new();
    wait_until("the log says what was lost", || {
        text = std::fs::read_to_string(&path).expect("it is text");
        text.contains("log lines were lost")
    });
    check_drains(&mut node);
}

/// The kernel sends SIGXFSZ with each write that it refuses.
#[test]
fn a_log_that_may_not_grow_costs_lines() {
    let log = tempfile::NamedTempFile::new().expect("a file of the test");
    let path = log.path().to_owned();
    let mut node = logging_to(move || {
        let log = OpenOptions::new().append(true).open(&path);
        log.expect("it is there").into()
    });
    node.create_channel(CHANNEL);
    let pid = node.pid().try_into().ok().and_then(Pid::from_raw);
    let most = Rlimit { current: Some(0), maximum: None };
    let before = prlimit(pid, Resource::Fsize, most).expect("the node is ours");
    be_refused(&node, 100);
    wait_until("every line is counted", || node.metric(DROPPED) >= 100);
    // Another one names the signal. If each of its lines made a signal, there would be no end.
    assert!(node.metric(DROPPED) < 150, "the signal is named once");
    prlimit(pid, Resource::Fsize, before).expect("the node is ours");
    assert!(node.runs());
    check_drains(&mut node);
}

/// A supervisor that does not read starts the node again, with the same pipe.
#[test]
fn a_node_starts_on_a_pipe_that_is_full_already() {
    let (reader, mut writer) = pipe().expect("there are descriptors");
    rustix::io::ioctl_fionbio(&writer, true).expect("it is a pipe");
    while writer.write(&[b'x'; 4_096]).is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).expect("it is a pipe");
    let (port, dir) = (unused_port(), tempfile::tempdir().expect("a directory of the test"));
    let output = [writer.try_clone().expect("there are descriptors"), writer];
    let [stdout, stderr] = output.map(Stdio::from);
    let mut command = serve(port, dir.path());
    let mut child = Killed(command.stdout(stdout).stderr(stderr).spawn().expect("it starts"));
    drop(command);
    wait_until("the node serves", || {
        let addr = (Ipv4Addr::LOCALHOST, port).into();
        std::net::TcpStream::connect_timeout(&addr, SOON).is_ok_and(|stream| {
            let mut tcp = Tcp::over(stream);
            tcp.send(tcp::request(&["GET /api/health HTTP/1.1"], ""));
            tcp.try_response("GET", SOON).is_some_and(|answer| answer.status == 200)
        })
    });
    let pid = child.0.id().try_into().ok().and_then(Pid::from_raw).expect("it has one");
    // The announcement waits a second before the node listens to its operator.
    kill_process(pid, Signal::TERM).expect("it runs");
    let end = Instant::now() + SOON;
    while child.0.try_wait().expect("it is ours").is_none() {
        assert!(Instant::now() < end, "the node runs on");
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(child.0.wait().expect("it is ours").code(), Some(0));
    drop(reader);
}

/// Returns the command of a node on this port.
fn serve(port: u16, dir: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    remove_settings(&mut command);
    command.args(["serve", "--listen", &format!("127.0.0.1:{port}")]).arg("--data-dir").arg(dir);
    command
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_failure_that_cannot_be_told_keeps_its_exit_code() {
    let dir = tempfile::tempdir().expect("a directory of the test");
    for (args, code) in [
        (&["serve", "--listen", "nowhere"][..], 2),
        (&["check", "--workers", "none"], 2),
        (&["check"], 1),
        (&["keys", "--data-dir", "missing"], 2),
        (&["serve", "--what"], 2),
        (&["--help"], 0),
    ] {
        for closed in [false, true] {
            let (reader, writer) = pipe().expect("there are descriptors");
            drop(reader);
            let output: [Stdio; 2] = if closed {
                [writer.try_clone().expect("there are descriptors").into(), writer.into()]
            } else {
                [full_device().into(), full_device().into()]
            };
            let [stdout, stderr] = output;
            let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
            command.args(args).current_dir(dir.path()).env_clear().stdout(stdout).stderr(stderr);
            let status = command.status().expect("the program runs");
            assert_eq!(status.code(), Some(code), "{args:?}");
        }
    }
}

#[test]
fn lines_of_the_start_and_of_the_end_keep_their_order() {
    let (mut reader, writer) = pipe().expect("there are descriptors");
    let (port, dir) = (unused_port(), tempfile::tempdir().expect("a directory of the test"));
    let output = [writer.try_clone().expect("there are descriptors"), writer];
    let [stdout, stderr] = output.map(Stdio::from);
    let mut command = serve(port, dir.path());
    let mut child = Killed(command.stdout(stdout).stderr(stderr).spawn().expect("it starts"));
    drop(command);
    let mut text = String::new();
    let mut bytes = [0; 4_096];
    while !text.contains("REALTIME_SUBSCRIBE") {
        let read = reader.read(&mut bytes).expect("the node writes");
        assert!(read > 0, "the node ended: {text}");
        text.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    let pid = child.0.id().try_into().ok().and_then(Pid::from_raw).expect("it has one");
    kill_process(pid, Signal::TERM).expect("it runs");
    reader.read_to_string(&mut text).expect("it is text");
    assert_eq!(child.0.wait().expect("it is ours").code(), Some(0));
    let places = ["serving", "listening on", "draining", "stopped"].map(|word| text.find(word));
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{text}");
}
