//! A supervisor such as systemd: what the node tells it, and the sockets that it passes.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::socket::Socket;
use crate::support::{ANON_KEY, API_KEY, Node, http, remove_settings, wait_until};

const PATIENCE: Duration = Duration::from_secs(30);
const METRICS: &str = "/metrics";

/// A supervisor that hears what a node tells it.
struct Supervisor(UnixDatagram);

impl Supervisor {
    fn at(socket: UnixDatagram) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).expect("the timeout is not zero");
        Self(socket)
    }

    /// Returns the next message that is no sign of life.
    fn hear(&self) -> String {
        loop {
            let message = self.next();
            if message != "WATCHDOG=1" {
                return message;
            }
        }
    }

    fn next(&self) -> String {
        let mut buffer = [0; 4_096];
        let length = self.0.recv(&mut buffer).expect("the node tells something");
        String::from_utf8(buffer[..length].to_vec()).expect("it is text")
    }

    /// Waits for a sign of life that comes after this moment.
    fn await_life(&self) {
        self.0.set_nonblocking(true).expect("it can be set");
        while self.0.recv(&mut [0; 4_096]).is_ok() {}
        self.0.set_nonblocking(false).expect("it can be set");
        while self.next() != "WATCHDOG=1" {}
    }
}

#[test]
fn a_supervisor_is_told_of_start_reload_and_end() {
    let directory = tempfile::tempdir().expect("a directory of the test");
    let path = directory.path().join("notify");
    let supervisor = Supervisor::at(UnixDatagram::bind(&path).expect("it is bound"));
    let mut node = Node::with(move |command| {
        command.env("NOTIFY_SOCKET", &path);
        command.env("FANFARE_DRAIN_DELAY_MS", "600000").env("FANFARE_DRAIN_MS", "0");
    });
    let ready = supervisor.hear();
    assert!(ready.starts_with("READY=1\nSTATUS=serving on 127.0.0.1:"), "{ready}");
    node.signal(Signal::HUP);
    let reloading = supervisor.hear();
    let (_, usec) = reloading.split_once("RELOADING=1\nMONOTONIC_USEC=").expect("a reload begins");
    let usec: u64 = usec.lines().next().and_then(|usec| usec.parse().ok()).expect("a number");
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic).tv_sec as u64;
    assert!(usec / 1_000_000 <= now && usec / 1_000_000 + 60 > now, "{usec} is not {now}");
    assert_eq!(supervisor.hear(), "READY=1\nSTATUS=serving; reloaded");
    let _kept = Socket::connect(node.port(), ANON_KEY);
    node.signal(Signal::TERM);
    assert_eq!(supervisor.hear(), "STOPPING=1\nSTATUS=stopping");
    let status = supervisor.hear();
    assert_eq!(status, "STATUS=serving for another 600000 ms, then draining");
    // The supervisor hears of no reload of a node that stops.
    let reloads = || node.output().matches("changed=\"nothing\"").count();
    let before = reloads();
    node.signal(Signal::HUP);
    wait_until("it is reloaded", || reloads() > before);
    node.signal(Signal::TERM);
    assert_eq!(supervisor.hear(), "STATUS=draining 1 connections over 0 ms");
    assert_eq!(node.exit_status(PATIENCE).code(), Some(0));
}

#[test]
fn a_supervisor_with_a_full_queue_is_told_later() {
    let directory = tempfile::tempdir().expect("a directory of the test");
    let path = directory.path().join("notify");
    let supervisor = Supervisor::at(UnixDatagram::bind(&path).expect("it is bound"));
    let others = UnixDatagram::unbound().expect("a socket");
    others.set_nonblocking(true).expect("it can be set");
    let filled = (0..10_000).take_while(|_| others.send_to(b"other", &path).is_ok()).count();
    let node = Node::with(move |command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
    });
    let complaints = || node.output().matches("takes no messages").count();
    wait_until("the log says so", || complaints() > 0);
    (0..filled).for_each(|_| assert_eq!(supervisor.hear(), "other"));
    let ready = supervisor.hear();
    assert!(ready.starts_with("READY=1\nSTATUS=serving on 127.0.0.1:"), "{ready}");
    supervisor.await_life();
    assert_eq!(complaints(), 1, "it says so once");
}

#[test]
fn signs_of_life_stop_while_a_worker_stands_still() {
    let name = format!("fanfare-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("it is a name");
    let supervisor = Supervisor::at(UnixDatagram::bind_addr(&address).expect("it is bound"));
    let node = Node::with(move |command| {
        command.env("NOTIFY_SOCKET", format!("@{name}")).env("WATCHDOG_USEC", "400000");
        command.args(["--workers", "2"]).env("FANFARE_ACCEPTOR_THREADS", "1");
    });
    assert!(supervisor.hear().starts_with("READY=1\n"));
    (0..3).for_each(|_| supervisor.await_life());
    let freezer = node.spawn_script("freeze.py", &[&node.pid().to_string(), "worker-1"], &[]);
    if freezer.next_line(PATIENCE) == "denied" {
        return eprintln!("not tested: this system does not let a thread be held still");
    }
    let misses = || node.output().matches("the watchdog gets no sign").count();
    // A round that had begun before may still end well.
    let before = misses();
    wait_until("the log says so", || misses() >= before + 2);
    let before = misses();
    supervisor.0.set_nonblocking(true).expect("it can be set");
    while supervisor.0.recv(&mut [0; 64]).is_ok() {}
    wait_until("more signs are due", || misses() >= before + 3);
    assert!(supervisor.0.recv(&mut [0; 64]).is_err(), "there is no sign meanwhile");
    supervisor.0.set_nonblocking(false).expect("it can be set");
    freezer.succeed(PATIENCE);
    supervisor.await_life();
}

/// A node that a shell starts, with its own standard input and error as the descriptors 3 and 4.
struct Passed {
    child: Child,
    _data: TempDir,
}

impl Passed {
    /// Starts a node with these sockets. `variables` are assignments in the shell's language.
    fn spawn(sockets: [OwnedFd; 2], variables: &str, more: &[(&str, &str)]) -> Self {
        let data = tempfile::tempdir().expect("a directory for the node's data");
        let mut command = Command::new("sh");
        let script = format!("{variables} exec \"$0\" serve --data-dir \"$1\" 3<&0 4<&2 2>&1");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_fanfare")]).arg(data.path());
        remove_settings(&mut command);
        command.env("FANFARE_API_KEY", API_KEY).envs(more.iter().copied());
        let [first, second] = sockets;
        command.stdin(first).stderr(second).stdout(Stdio::piped());
        Self { child: command.spawn().expect("a shell starts"), _data: data }
    }

    /// Reads the node's output until it says where it listens, or to its end.
    fn announced(&mut self) -> String {
        let mut output = BufReader::new(self.child.stdout.take().expect("it is piped"));
        let mut said = String::new();
        while !said.contains("\n  admin")
            && !said.contains("\n  lenient")
            && output.read_line(&mut said).expect("it is text") > 0
        {}
        // The node must not meet a closed pipe.
        std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        said
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.id().try_into().ok().and_then(Pid::from_raw).expect("it runs");
        kill_process(pid, signal).expect("it can be signalled");
    }

    fn code(&mut self) -> Option<i32> {
        let mut code = None;
        wait_until("the node ends", || {
            code = self.child.try_wait().expect("it is a child");
            code.is_some()
        });
        code.and_then(|status| status.code())
    }
}

impl Drop for Passed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn null() -> OwnedFd {
    std::fs::File::open("/dev/null").expect("it is there").into()
}

fn admin_socket(directory: &Path) -> UnixListener {
    UnixListener::bind(directory.join("admin.sock")).expect("it is bound")
}

#[test]
fn passed_sockets_are_served_and_outlive_the_node() {
    let directory = tempfile::tempdir().expect("a directory of the test");
    let public = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let admin = admin_socket(directory.path());
    let port = public.local_addr().expect("it listens").port();
    let copies = || {
        [
            OwnedFd::from(public.try_clone().expect("a copy")),
            admin.try_clone().expect("a copy").into(),
        ]
    };
    let variables = "LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=web:admin";
    // That this is a bad place to listen does not matter.
    let configured = [("FANFARE_LISTEN", "192.0.2.1:1"), ("FANFARE_DRAIN_MS", "0")];
    for _ in 0..2 {
        let mut node = Passed::spawn(copies(), variables, &configured);
        let said = node.announced();
        assert!(said.contains(&format!("listening on http://127.0.0.1:{port}\n")), "{said}");
        assert!(said.contains("  admin    unix:/"), "{said}");
        assert_eq!(http::request(port, "GET", "/api/health", &[], b"").status, 200);
        assert_eq!(http::request(port, "GET", METRICS, &[], b"").status, 404);
        let socket = directory.path().join("admin.sock");
        assert_eq!(http::request_unix(&socket, "GET", METRICS, &[], b"").status, 200);
        node.signal(Signal::TERM);
        assert_eq!(node.code(), Some(0));
        assert!(socket.exists());
    }
    // A client that comes between two nodes is served by the next one.
    let early = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the socket listens");
    let mut node = Passed::spawn(copies(), variables, &configured);
    node.announced();
    let mut early = crate::tcp::Tcp::over(early);
    early.send(crate::tcp::request(&["GET /api/health HTTP/1.1"], ""));
    assert_eq!(early.response().status, 200);
}

#[test]
fn a_passed_socket_of_administration_needs_no_proxy_header() {
    let directory = tempfile::tempdir().expect("a directory of the test");
    let public = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let admin = admin_socket(directory.path());
    let port = public.local_addr().expect("it listens").port();
    let variables = "LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=web:admin";
    let configured =
        [("FANFARE_PROXY_TRUSTED", "127.0.0.1, unix"), ("FANFARE_PROXY_PROTOCOL", "true")];
    let mut node = Passed::spawn([public.into(), admin.into()], variables, &configured);
    node.announced();
    let socket = directory.path().join("admin.sock");
    assert_eq!(http::request_unix(&socket, "GET", METRICS, &[], b"").status, 200);
    assert_eq!(http::request(port, "GET", "/api/health", &[], b"").status, 400);
}

#[test]
fn what_is_not_passed_stays_as_it_is_set() {
    let public = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = public.local_addr().expect("it listens").port();
    let alone = [OwnedFd::from(public), null()];
    let configured = [("FANFARE_ADMIN_LISTEN", "127.0.0.1:0")];
    let mut node = Passed::spawn(alone, "LISTEN_PID=$$ LISTEN_FDS=1", &configured);
    let said = node.announced();
    assert!(said.contains("  admin    http://127.0.0.1:"), "{said}");
    assert_eq!(http::request(port, "GET", METRICS, &[], b"").status, 404);
    // Those of another process are not taken.
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let configured = [("FANFARE_LISTEN", "127.0.0.1:0")];
    let mut node = Passed::spawn([other.into(), null()], "LISTEN_PID=1 LISTEN_FDS=1", &configured);
    let said = node.announced();
    assert!(!said.contains(&format!(":{port}\n")) && said.contains("listening on"), "{said}");
}

#[test]
fn a_mistake_with_passed_sockets_is_named() {
    let listener = || OwnedFd::from(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"));
    let datagram = OwnedFd::from(UnixDatagram::unbound().expect("a socket"));
    let public = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a free port");
    let silent = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let silent = OwnedFd::from(silent.expect("a socket"));
    let name = format!("fanfare-test-abstract-{}", std::process::id());
    let name = SocketAddr::from_abstract_name(name).expect("it is a name");
    let hidden = UnixListener::bind_addr(&name).expect("it is bound");
    let twice = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let twice = [OwnedFd::from(twice.try_clone().expect("a copy")), twice.into()];
    let cases = [
        ([hidden.into(), null()], "LISTEN_FDS=1", "descriptor 3 (\"\") is an abstract unix socket"),
        (
            twice,
            "LISTEN_FDS=2 LISTEN_FDNAMES=web:admin",
            "is for everybody, and for administration",
        ),
        ([listener(), null()], "LISTEN_FDS=2", "descriptor 4 (\"\") is not a TCP or unix socket"),
        ([datagram, null()], "LISTEN_FDS=1", "descriptor 3 (\"\") is not a TCP or unix socket"),
        ([silent, null()], "LISTEN_FDS=1 LISTEN_FDNAMES=web", "descriptor 3 (\"web\") is not"),
        ([listener(), null()], "LISTEN_FDS=1 LISTEN_FDNAMES=a:b", "LISTEN_FDNAMES has 2 names"),
        ([listener(), null()], "LISTEN_FDS=many", "must be a whole number from 1 to 16"),
        ([public.into(), null()], "LISTEN_FDS=1", "refused on 0.0.0.0:"),
    ];
    let began = Instant::now();
    for (sockets, variables, expected) in cases {
        let variables = format!("LISTEN_PID=$$ {variables}");
        let lenient = [("FANFARE_M2_REQUIRE_AUTH", "false")];
        let mut node = Passed::spawn(sockets, &variables, &lenient);
        let said = node.announced();
        assert!(said.contains(expected), "{variables}: {said}");
        assert_eq!(node.code(), Some(2), "{said}");
    }
    assert!(began.elapsed() < PATIENCE);
}
