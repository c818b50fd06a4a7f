//! Signals: those that stop a node do so in good order, and no other ends it.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::socket::{Heard, Socket};
use crate::support::disk::WITHOUT;
use crate::support::kept::publish_at;
use crate::support::{ANON_KEY, API_KEY, Node, wait_until};
use crate::tcp::{self, Tcp};

const CHANNEL: &str = "orders";
const TICK: &str = "tick";
const SOON: Duration = Duration::from_secs(10);

/// All signals that end a process by default and can be handled, but those that stop a node or
/// report a fault of the program.
const MEANINGLESS: [&str; 14] = [
    "QUIT", "USR1", "USR2", "ALRM", "VTALRM", "PROF", "IO", "XCPU", "XFSZ", "PWR", "STKFLT", "34",
    "40", "64",
];

/// Sends a signal by its name or number.
fn send(pid: u32, signal: &str) {
    let mut kill = Command::new("kill");
    assert!(kill.args(["-s", signal, &pid.to_string()]).status().expect("it runs").success());
}

/// Publishes on a subscribed socket and hears it.
fn check_delivers(node: &Node, socket: &mut Socket) {
    node.publish(CHANNEL, TICK, &json!({}));
    loop {
        match socket.hear() {
            Heard::Event(event) if event.is_named(TICK) => return,
            Heard::Event(_) => {}
            heard => panic!("unexpected: {heard:?}"),
        }
    }
}

#[test]
fn signals_without_a_meaning_do_nothing() {
    let mut node = Node::start();
    node.create_channel(CHANNEL);
    let mut socket = Socket::connect(node.port(), ANON_KEY);
    socket.subscribe(CHANNEL);
    for signal in MEANINGLESS {
        send(node.pid(), signal);
        check_delivers(&node, &mut socket);
    }
    send(node.pid(), "PIPE");
    for _ in 0..500 {
        node.signal(Signal::USR1);
        node.signal(Signal::HUP);
    }
    check_delivers(&node, &mut socket);
    let says = |output: &str, name: &str| {
        output.lines().filter(|line| line.contains("does nothing") && line.contains(name)).count()
    };
    wait_until("the log names each", || {
        let output = node.output();
        ["SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "number=64"]
            .iter()
            .all(|name| says(&output, name) == 1)
    });
    drop(socket);
    node.signal(Signal::TERM);
    assert_eq!(node.exit_status(SOON).code(), Some(0));
}

#[test]
fn a_hangup_loses_nothing_that_was_answered() {
    const PUBLICATIONS: usize = 1_500;
    let mut node = Node::start();
    node.create_channel(CHANNEL);
    let mut socket = Socket::connect(node.port(), ANON_KEY);
    socket.subscribe(CHANNEL);
    let body = json!({ "channel": CHANNEL, "event": TICK, "payload": {} }).to_string();
    let head = "POST /api/realtime/messages?durability=memory HTTP/1.1";
    let request = tcp::request(&[head, &format!("X-API-Key: {API_KEY}")], &body);
    let mut tcp = Tcp::connect((Ipv4Addr::LOCALHOST, node.port()).into());
    for number in 0..PUBLICATIONS / 100 {
        tcp.send(request.repeat(100));
        if number % 3 == 0 {
            node.signal(Signal::HUP);
        }
        for _ in 0..100 {
            assert_eq!(tcp.response().status, 201);
        }
    }
    node.signal(Signal::HUP);
    let mut heard = 0;
    while heard < PUBLICATIONS {
        match socket.hear() {
            Heard::Event(event) => heard += usize::from(event.is_named(TICK)),
            heard => panic!("unexpected: {heard:?}"),
        }
    }
    wait_until("all is in history", || node.history().len() == PUBLICATIONS);
    assert!(node.runs());
    drop((socket, tcp));
    node.signal(Signal::TERM);
    assert_eq!(node.exit_status(SOON).code(), Some(0));
    assert_eq!(node.history().len(), PUBLICATIONS);
}

#[test]
fn a_hangup_does_not_disturb_a_drain() {
    let mut node = Node::with_env(&[("FANFARE_DRAIN_MS", "1000")]);
    let sockets = [(); 8].map(|()| Socket::connect(node.port(), ANON_KEY));
    node.signal(Signal::TERM);
    for _ in 0..5 {
        node.signal(Signal::HUP);
        node.signal(Signal::USR1);
    }
    for mut socket in sockets {
        assert!(matches!(socket.hear(), Heard::End));
    }
    assert_eq!(node.exit_status(SOON).code(), Some(0));
}

#[test]
fn a_node_that_is_the_first_process_handles_signals_too() {
    if std::env::var_os(WITHOUT).is_some() {
        return;
    }
    let mut node = Node::as_first_process();
    node.create_channel(CHANNEL);
    let children = format!("/proc/{0}/task/{0}/children", node.pid());
    let children = std::fs::read_to_string(children).expect("it runs");
    let pid: u32 = children.trim().parse().expect("it has one child");
    let mut socket = Socket::connect(node.port(), ANON_KEY);
    socket.subscribe(CHANNEL);
    for signal in MEANINGLESS {
        send(pid, signal);
    }
    send(pid, "HUP");
    wait_until("it reloads", || node.output().contains(" reloaded"));
    check_delivers(&node, &mut socket);
    assert_eq!(publish_at(node.port(), "memory", (CHANNEL, TICK), &json!({})).status, 201);
    drop(socket);
    let pid = pid.try_into().ok().and_then(Pid::from_raw).expect("it has one");
    kill_process(pid, Signal::TERM).expect("it runs");
    assert_eq!(node.exit_status(SOON).code(), Some(0));
    assert!(node.output().contains("stopped"));
    assert_eq!(node.history().len(), 2);
}
