//! Stopping a node: connections are closed evenly, accepted writes are kept, and requests under way
//! are finished.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::ear::{CHANNEL, Poller, TICK};
use crate::socket::{Heard, Socket};
use crate::support::exposition::Exposition;
use crate::support::kept::{message_id, target_at};
use crate::support::{ANON_KEY, API_KEY, Node, user_token, wait_until};
use crate::tcp::{self, Tcp};

const CHANNELS: &str = "/api/realtime/channels";
const PUBLISH: &str = "REALTIME_PUBLISH";
const PATIENCE: Duration = Duration::from_secs(60);

/// Number of stock clients, and the time over which they are disconnected, in milliseconds.
const CLIENTS: usize = 150;
const WINDOW_MS: u64 = 6_000;
/// How far a node on a busy machine may be behind its schedule.
const LAG: Duration = Duration::from_millis(2_500);
/// How long a node waits for requests after its connections were told: `SHUTDOWN_GRACE_MS`.
const GRACE: Duration = Duration::from_secs(5);
/// Much less than the default time for closing connections.
const AT_ONCE: Duration = Duration::from_secs(5);
/// How late an event may be on a busy machine.
const SLACK: Duration = Duration::from_secs(5);

/// The loss of one client's connection.
#[derive(Debug, Deserialize)]
struct Loss {
    /// Milliseconds since the epoch.
    at: u64,
    reason: String,
    transport: String,
}

#[test]
fn stock_clients_go_evenly_and_come_back_to_a_successor() {
    let mut node = draining_over(WINDOW_MS);
    let mut successor = Node::start();
    for one in [&node, &successor] {
        one.create_channel(CHANNEL);
    }
    stop(&mut successor);
    let (count, transports) = (CLIENTS.to_string(), ["default", "websocket"]);
    let args = [&[CHANNEL, count.as_str()][..], &transports].concat();
    let clients = node.spawn_script("drain.mjs", &args, &[]);
    clients.wait_for("ready", PATIENCE);

    let watch = Watch::new(node.port());
    let (began, began_at) = (Instant::now(), since_epoch());
    node.signal(Signal::TERM);
    let watched = thread::spawn(move || watch.look(began));
    wait_until("the node lets nobody in", || !node.lets_in());
    successor.start_again(node.port());
    clients.wait_for("back", PATIENCE);
    let receipt = successor.publish(CHANNEL, "after", &json!({}));
    assert_eq!(receipt["audience"]["total"], CLIENTS);
    let losses = losses(&clients.next_line(PATIENCE));
    clients.succeed(PATIENCE);

    assert_eq!(node.exit_status(PATIENCE).code(), Some(0));
    for word in ["draining", "stopped"] {
        wait_until(word, || node.output().contains(word));
    }
    assert_eq!(losses.len(), CLIENTS);
    for transport in transports {
        assert!(losses.iter().any(|loss| loss.transport == transport), "{transport}");
    }
    check_pace(losses.iter().map(|loss| loss.at.saturating_sub(began_at)).collect());
    watched.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

#[test]
fn stock_clients_on_long_polling_come_back() {
    let mut node = draining_over(500);
    node.create_channel(CHANNEL);
    let clients = node.spawn_script("drain.mjs", &[CHANNEL, "6", "polling"], &[]);
    clients.wait_for("ready", PATIENCE);
    stop(&mut node);
    node.start_again(node.port());
    clients.wait_for("back", PATIENCE);
    node.publish(CHANNEL, "after", &json!({}));
    assert_eq!(losses(&clients.next_line(PATIENCE)).len(), 6);
    clients.succeed(PATIENCE);
}

#[test]
fn what_was_answered_as_created_is_there_after_a_restart() {
    let mut node = draining_over(4_000);
    let port = node.port();
    // The last of these is closed at the end of the window, so the node keeps running until then.
    let kept = [(); 16].map(|()| Socket::connect(port, ANON_KEY));
    let mut created = BTreeSet::new();
    let mut create = |tcp: &mut Tcp, pattern: String| {
        tcp.send(creation(&pattern));
        let answer = tcp.try_response("POST", tcp::PATIENCE)?;
        // At the very end the store is being flushed. It then refuses writes, with 503.
        if answer.status == 503 {
            return None;
        }
        assert_eq!(answer.status, 201, "{answer:?}");
        created.insert(pattern);
        Some(answer)
    };
    let mut connections: Vec<_> = (0..100).map(|_| connect(port)).collect();
    for (number, tcp) in connections.iter_mut().enumerate() {
        let answer = create(tcp, format!("before:{number}")).expect("the node runs");
        assert_eq!(answer.header("connection"), Some("keep-alive"));
    }
    node.begin_to_stop(Signal::TERM);
    let goodbye =
        kept.map(|mut kept| thread::spawn(move || while !matches!(kept.look(), Heard::End) {}));
    for (number, tcp) in connections.iter_mut().enumerate() {
        let Some(answer) = create(tcp, format!("meanwhile:{number}")) else { break };
        assert_eq!(answer.header("connection"), Some("close"));
        thread::sleep(Duration::from_millis(25));
    }
    for one in goodbye {
        one.join().expect("the client is let go");
    }
    assert_eq!(node.exit_status(PATIENCE).code(), Some(0));
    let log = node.data_dir().join("fanfare.db-wal");
    assert_eq!(log.metadata().map_or(0, |log| log.len()), 0, "the log is in the file");

    assert!(created.iter().filter(|pattern| pattern.starts_with("meanwhile")).count() > 1);
    node.start_again(port);
    let listed = patterns(&node);
    let lost: Vec<_> = created.difference(&listed).collect();
    assert!(lost.is_empty(), "answered as created and not there: {lost:?}");
}

#[test]
fn what_was_answered_at_the_lowest_level_is_there_after_a_restart() {
    let mut node = draining_over(1_000);
    node.create_channel(CHANNEL);
    let port = node.port();
    // Nobody listens, so that only these connections keep the node from its end.
    let pauses = (0..60).map(Duration::from_millis);
    let publishers: Vec<_> =
        pauses.map(|pause| thread::spawn(move || publish_to_the_end(port, pause))).collect();
    thread::sleep(Duration::from_millis(500));
    node.signal(Signal::TERM);
    let answered = publishers.into_iter().map(|one| one.join().expect("it publishes"));
    let answered: BTreeSet<_> = answered.flatten().collect();
    assert_eq!(node.exit_status(PATIENCE).code(), Some(0));
    assert!(answered.len() > 60);

    let kept = node.history().into_iter().map(|kept| kept.id).collect();
    let lost: Vec<_> = answered.difference(&kept).collect();
    assert!(lost.is_empty(), "answered as accepted and not there: {lost:?}");
}

#[test]
fn a_request_under_way_is_finished() {
    let mut node = draining_over(0);
    let request = creation("late");
    let (first, second) = request.split_at(request.len() - 5);
    let mut tcp = connect(node.port());
    tcp.send(first);
    wait_for_requests(&node, 1);
    node.begin_to_stop(Signal::TERM);
    assert!(tcp.is_silent_for(Duration::from_millis(500)), "the node waits");

    tcp.send(second);
    let answer = tcp.response();
    assert_eq!((answer.status, answer.header("connection")), (201, Some("close")), "{answer:?}");
    assert_eq!(node.exit_status(AT_ONCE).code(), Some(0));
    assert!(!node.output().contains("cut off"));
    node.start_again(node.port());
    assert!(patterns(&node).contains("late"));
}

#[test]
fn a_request_that_never_ends_does_not_hold_the_node() {
    let mut node = draining_over(0);
    let request = creation("never");
    let mut tcp = connect(node.port());
    tcp.send(&request[..request.len() - 5]);
    wait_for_requests(&node, 1);
    let began = Instant::now();
    node.begin_to_stop(Signal::TERM);
    assert_eq!(node.exit_status(GRACE + SLACK).code(), Some(0));
    assert!(began.elapsed() >= GRACE, "it had {:?}", began.elapsed());
    wait_until("the node says so", || node.output().contains("cut off"));
}

#[test]
fn a_poll_that_waits_is_told_that_the_session_is_over() {
    let mut node = draining_over(300);
    node.create_channel(CHANNEL);
    let mut poller = Poller::subscribe(node.port(), &user_token("poller"));
    poller.ask();
    wait_for_requests(&node, 1);
    node.begin_to_stop(Signal::TERM);
    let answer = poller.answer();
    assert_eq!((answer.status, answer.text()), (200, "1"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(node.exit_status(AT_ONCE).code(), Some(0));
}

#[test]
fn what_waits_for_a_poll_is_fetched_before_the_session_ends() {
    const POLLERS: usize = 20;
    let mut node = draining_over(6_000);
    node.create_channel(CHANNEL);
    let (port, token) = (node.port(), user_token("poller"));
    let mut pollers: Vec<_> = (0..POLLERS).map(|_| Poller::subscribe(port, &token)).collect();
    let receipt = node.publish(CHANNEL, TICK, &json!({}));
    assert_eq!(receipt["audience"]["polling"], POLLERS);
    wait_until("it waits for all", || node.metric("fanfare_deliveries_queued") == POLLERS as u64);

    node.signal(Signal::TERM);
    // The connections would be closed by then if the node did not wait for the requests.
    thread::sleep(Duration::from_millis(500));
    for poller in &mut pollers {
        poller.hear(1);
    }
    assert_eq!(node.exit_status(Duration::from_secs(6) + SLACK).code(), Some(0));
}

#[test]
fn what_was_acknowledged_before_the_end_reaches_everybody() {
    for delay_ms in [0, 2, 5, 10] {
        check_acknowledged_is_heard(Duration::from_millis(delay_ms));
    }
}

/// Checks that no acknowledged publication is lost. One worker removes all subscribers from the
/// channel in one step, so an acknowledged publication counts all of them.
fn check_acknowledged_is_heard(delay: Duration) {
    const SUBSCRIBERS: usize = 30;
    const PUBLICATIONS: usize = 2_000;
    let mut node = Node::with(|command| {
        command.args(["--workers", "1"]).env("FANFARE_DRAIN_MS", "0");
    });
    node.create_channel(CHANNEL);
    let (port, token) = (node.port(), user_token("crowd"));
    let subscribe = || {
        let mut socket = Socket::connect(port, &token);
        socket.subscribe(CHANNEL);
        socket
    };
    let ears = [(); SUBSCRIBERS].map(|()| {
        let mut socket = subscribe();
        thread::spawn(move || ticks_to_the_end(&mut socket))
    });
    let mut publisher = subscribe();
    for _ in 0..PUBLICATIONS {
        publisher.ask(PUBLISH, &json!({ "channel": CHANNEL, "event": TICK, "payload": {} }));
    }
    publisher.flush();
    thread::sleep(delay);
    node.signal(Signal::TERM);
    let mut acknowledged = 0;
    loop {
        match publisher.hear() {
            Heard::Ack(_, answer) => acknowledged += usize::from(answer["ok"] == true),
            Heard::End => break,
            _ => {}
        }
    }
    drop(publisher);
    for ear in ears {
        assert_eq!(ear.join().expect("it ends"), acknowledged, "after {delay:?}");
    }
    assert_eq!(node.exit_status(PATIENCE).code(), Some(0));
}

#[test]
fn long_polling_clients_hear_all_that_was_counted_for_them() {
    const POLLERS: usize = 20;
    const PUBLICATIONS: usize = 200;
    let mut node = draining_over(2_000);
    node.create_channel(CHANNEL);
    let (port, token) = (node.port(), user_token("crowd"));
    let pollers: Vec<_> = (0..POLLERS)
        .map(|_| {
            let mut poller = Poller::subscribe(port, &token);
            thread::spawn(move || polls_to_the_end(&mut poller, port))
        })
        .collect();
    let mut publisher = connect(port);
    publisher.send(publication().repeat(PUBLICATIONS));
    let mut promised = audience(&publisher.response(), "polling");
    node.signal(Signal::TERM);
    while let Some(answer) = publisher.try_response("POST", tcp::PATIENCE) {
        promised += audience(&answer, "polling");
    }
    let heard: usize = pollers.into_iter().map(|one| one.join().expect("it ends")).sum();
    assert_eq!(heard, promised);
    assert_eq!(node.exit_status(AT_ONCE).code(), Some(0));
}

#[test]
fn a_node_with_nothing_to_do_stops_at_once() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut node = Node::start();
        // A keep-alive connection without a request.
        let mut idle = connect(node.port());
        idle.send(tcp::request(&["GET /api/health HTTP/1.1"], ""));
        assert_eq!(idle.response().status, 200);
        let began = Instant::now();
        node.signal(signal);
        assert_eq!(node.exit_status(AT_ONCE).code(), Some(0));
        assert!(began.elapsed() < AT_ONCE);
        assert!(idle.ends_within(tcp::PATIENCE));
    }
}

#[test]
fn a_second_signal_ends_the_node_at_once() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let mut node = draining_over(600_000);
        let _kept = [(); 16].map(|()| Socket::connect(node.port(), ANON_KEY));
        node.begin_to_stop(Signal::TERM);
        thread::sleep(Duration::from_millis(200));
        assert!(node.runs(), "somebody is still to be let go");
        node.signal(signal);
        assert_eq!(node.exit_status(AT_ONCE).code(), Some(code));
    }
}

/// Reads how many connections the node has closed because of the drain.
struct Watch {
    tcp: Tcp,
}

impl Watch {
    fn new(port: u16) -> Self {
        let mut watch = Self { tcp: connect(port) };
        // The answer shows that this connection was accepted before the node stops. A stopping node
        // accepts no connection.
        assert_eq!(watch.closed(), 0.0);
        watch
    }

    /// Checks at a third, a half, two thirds and five sixths of the window that the number of
    /// closed connections is as scheduled: none too early, and none later than `LAG`.
    fn look(mut self, began: Instant) {
        let due = |passed: Duration| CLIENTS as f64 * passed.as_millis() as f64 / WINDOW_MS as f64;
        for number in 2..6 {
            let moment = Duration::from_millis(WINDOW_MS * number / 6);
            thread::sleep(moment.saturating_sub(began.elapsed()));
            let before = began.elapsed();
            let closed = self.closed();
            let least = due(before.saturating_sub(LAG));
            let most = due(began.elapsed()) + firsts() as f64;
            assert!(least <= closed && closed <= most, "{closed} not from {least} to {most}");
        }
    }

    fn closed(&mut self) -> f64 {
        self.tcp.send(tcp::request(&["GET /metrics HTTP/1.1"], ""));
        let scrape = Exposition::parse(self.tcp.response().text()).expect("it is in the format");
        scrape.value("fanfare_connections_closed_total", &[("reason", "drain")])
    }
}

/// Checks that no client loses its connection too early. `moments` are milliseconds since the
/// signal.
fn check_pace(mut moments: Vec<u64>) {
    moments.sort_unstable();
    for (lost, moment) in (1..).zip(&moments) {
        // The clocks of this test and of the node need not tick at the same moment.
        let most = CLIENTS as u64 * (moment + 20) / WINDOW_MS + firsts();
        assert!(lost <= most, "{lost} after {moment} ms, where {most} are due");
    }
}

/// Returns how many connections may be closed at once: one by each worker.
fn firsts() -> u64 {
    thread::available_parallelism().map_or(1, |cores| cores.get() as u64)
}

fn draining_over(window_ms: u64) -> Node {
    Node::with(move |command| {
        command.env("FANFARE_DRAIN_MS", window_ms.to_string());
    })
}

/// Stops a node that has no long requests under way.
fn stop(node: &mut Node) {
    node.signal(Signal::TERM);
    assert_eq!(node.exit_status(PATIENCE).code(), Some(0));
}

/// Waits until the node has read the heads of at least `count` requests that it has not answered.
fn wait_for_requests(node: &Node, count: usize) {
    // The request for the metrics counts, too.
    let is_reached = || node.metric("fanfare_http_requests") > count as u64;
    wait_until("the node knows of the request", is_reached);
}

/// Parses how clients lost their connections, and checks that stock clients reconnect after each.
fn losses(line: &str) -> Vec<Loss> {
    let losses: Vec<Loss> = serde_json::from_str(line).expect("it is a list of losses");
    for loss in &losses {
        let reason = loss.reason.as_str();
        assert!(matches!(reason, "transport close" | "transport error"), "{loss:?}");
    }
    losses
}

fn connect(port: u16) -> Tcp {
    Tcp::connect((Ipv4Addr::LOCALHOST, port).into())
}

/// Returns how many publications a client receives before it is disconnected.
fn ticks_to_the_end(socket: &mut Socket) -> usize {
    let mut ticks = 0;
    loop {
        match socket.hear() {
            Heard::Event(event) => ticks += usize::from(event.is_named(TICK)),
            Heard::End => return ticks,
            _ => {}
        }
    }
}

/// Returns how many publications a polling client receives before its session ends.
fn polls_to_the_end(poller: &mut Poller, port: u16) -> usize {
    let tick = format!("42[\"{TICK}\"");
    let mut ticks = 0;
    loop {
        poller.reconnect(port);
        let packets = poller.poll();
        ticks += packets.iter().filter(|packet| packet.starts_with(&tick)).count();
        if packets == ["1"] {
            return ticks;
        }
    }
}

/// Publishes at the lowest level of durability, with this pause after each answer, until the node
/// lets the connection go. Returns the ids that were answered.
fn publish_to_the_end(port: u16, pause: Duration) -> Vec<Uuid> {
    let mut tcp = connect(port);
    let target = format!("POST {} HTTP/1.1", target_at("memory"));
    let authorization = format!("Authorization: Bearer {API_KEY}");
    let body = json!({ "channel": CHANNEL, "event": TICK, "payload": {} }).to_string();
    let request = tcp::request(&[&target, &authorization], body);
    let mut answered = Vec::new();
    while tcp.send(&request) {
        let Some(answer) = tcp.try_response("POST", tcp::PATIENCE) else { break };
        if answer.status == 201 {
            answered.push(message_id(&answer.json()));
        }
        if answer.header("connection") == Some("close") {
            break;
        }
        thread::sleep(pause);
    }
    answered
}

/// Returns a request that publishes.
fn publication() -> Vec<u8> {
    let authorization = format!("Authorization: Bearer {API_KEY}");
    let head =
        ["POST /api/realtime/messages HTTP/1.1", &authorization, "Content-Type: application/json"];
    let body = json!({ "channel": CHANNEL, "event": TICK, "payload": {} });
    tcp::request(&head, body.to_string())
}

/// Returns the audience in the answer to a publication, for one transport.
fn audience(answer: &tcp::Response, transport: &str) -> usize {
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["audience"][transport].as_u64().expect("it is a number") as usize
}

/// Returns a request that defines a channel.
fn creation(pattern: &str) -> Vec<u8> {
    let authorization = format!("Authorization: Bearer {API_KEY}");
    let head =
        ["POST /api/realtime/channels HTTP/1.1", &authorization, "Content-Type: application/json"];
    tcp::request(&head, json!({ "pattern": pattern }).to_string())
}

/// Returns the patterns of all channels.
fn patterns(node: &Node) -> BTreeSet<String> {
    let (status, listed) = node.admin("GET", CHANNELS, &Value::Null);
    assert_eq!(status, 200);
    let listed = listed.as_array().expect("it is a list").iter();
    listed.map(|one| one["pattern"].as_str().expect("a pattern is text").to_owned()).collect()
}

fn since_epoch() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set");
    u64::try_from(now.as_millis()).expect("it fits")
}
