//! Behaviour at the limits: a full mailbox, a client that does not read, a worker that is never
//! idle.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use socket2::{Domain, Type};
use uuid::Uuid;

use crate::crowd::Crowd;
use crate::member::Member;
use crate::order::{Ending, join};
use crate::publisher::{Caller, Report, TICK};
use crate::socket::{Heard, Socket};
use crate::support::{ANON_KEY, Node, user_token};
use crate::tcp::PATIENCE;
use crate::witness::{END, Order, Witness};

const CHANNEL: &str = "crowd";
/// Number of publications for which a worker's mailbox has room.
const MAILBOX: &str = "8";
/// Number of publications sent without waiting, many more than the mailbox holds.
const BREATH: usize = 40;
/// Number of subscribers on each of the crowd's two threads.
const CROWD: usize = 100;
/// The test ends after this many publications and refusals, or after this time.
const PUBLICATIONS: u64 = 2_000;
const REFUSALS: u64 = 400;
const PUSH: Duration = Duration::from_secs(5);
/// The test ends in any case after this many publications, which would all fit into one outbox.
const PUBLICATIONS_MAX: u64 = 6_000;

/// Bytes of a publication; a few fill an outbox.
const BULK: usize = 64 * 1024;
/// Number of such publications that fill all buffers on the way to a client, and its outbox.
const BULKS_MAX: usize = 1_000;
/// Size of the receive buffer of a client that does not read, in bytes.
const RECEIVE_BUFFER: usize = 64 * 1024;
const READERS: usize = 6;

/// Number of clients that keep a worker busy, and of requests that it must serve meanwhile.
const BUSY: u64 = 12;
const REQUESTS: usize = 4;
/// How long they keep it busy if the requests are not served.
const BUSY_MAX: Duration = Duration::from_secs(25);

#[test]
fn a_full_mailbox_refuses_whole_and_keeps_the_order() {
    let node = Node::with(|command| {
        command.args(["--workers", "2"]).env("FANFARE_MAILBOX_PUBLICATIONS", MAILBOX);
    });
    node.create_channel(CHANNEL);
    let (port, token) = (node.port(), user_token("crowd"));
    let mut witness = Witness::subscribe(port, CHANNEL, &token);
    let mut crowds = [(); 2].map(|()| Crowd::subscribe(port, CHANNEL, &token, CROWD));

    let push = Push::new();
    let (events, reports, late) = thread::scope(|scope| {
        let witness = scope.spawn(|| witness.listen());
        let crowds = crowds.each_mut().map(|crowd| scope.spawn(|| crowd.listen()));
        let reports = push.run(scope, port);
        let late = publish_end(&node);
        crowds.into_iter().for_each(join);
        (join(witness), reports, late)
    });

    let order = Order::of(&events);
    order.check(&reports);
    for heard in crowds.iter().flat_map(|crowd| &crowd.heard) {
        order.check_rest(heard);
    }
    let [over_http, on_sockets] = push.refused();
    assert!(over_http > 0 && on_sockets > 0, "refused: {over_http} and {on_sockets}");
    let overloads = late + reports.iter().map(|report| report.overloads).sum::<u64>();
    assert_eq!(node.metric("fanfare_refusals_total{reason=\"overloaded\"}"), overloads);
    let publications = order.publications() as u64 + 1;
    assert_eq!(node.metric("fanfare_publications_total"), publications);

    drop((crowds, witness));
    for gauge in ["fanfare_connections", "fanfare_subscriptions", "fanfare_channels"] {
        wait_until(&format!("{gauge} is 0"), || node.metric(gauge) == 0);
    }
}

#[test]
fn a_client_that_does_not_read_is_let_go_and_nobody_else_notices() {
    let node = Node::start();
    let unseen = json!({ "pattern": CHANNEL, "presence": "off" });
    assert_eq!(node.admin("POST", "/api/realtime/channels", &unseen).0, 201);
    let token = user_token("reader");
    let mut readers = [(); READERS].map(|()| Witness::subscribe(node.port(), CHANNEL, &token));
    let narrow = Socket::over(narrow(node.port()), &token);
    let mut silent = [narrow, Socket::connect_polling(node.port(), &token)];
    for socket in &mut silent {
        socket.subscribe(CHANNEL);
    }

    let fill = "x".repeat(BULK);
    let mut ids = Vec::new();
    let closed = || node.metric("fanfare_connections_closed_total{reason=\"slow_consumer\"}");
    while closed() < 2 {
        assert!(ids.len() < BULKS_MAX, "nobody is closed");
        let (id, _) = tell_all(&node, &mut readers, &fill);
        ids.push(id);
    }
    let (_, audience) = tell_all(&node, &mut readers, "");
    assert_eq!(audience["total"], READERS);
    assert_eq!(closed(), 2);
    assert_eq!(node.metric("fanfare_connections"), READERS as u64);
    assert_eq!(node.metric("fanfare_subscriptions"), READERS as u64);
    assert!(node.metric("fanfare_deliveries_dropped_total{reason=\"slow_consumer\"}") > 0);

    let [mut websocket, mut polling] = silent;
    let heard = hear_to_the_end(&mut websocket);
    assert!(heard.len() < ids.len(), "what was dropped does not come");
    assert!(ids.starts_with(&heard), "what came before the end is in order");
    assert!(hear_to_the_end(&mut polling).is_empty(), "a session that is over says nothing");
}

#[test]
fn busy_sockets_leave_http_its_turn() {
    serve_http_beside_busy_sockets(&Node::with(|command| {
        command.args(["--workers", "1"]);
    }));
}

#[test]
fn busy_sockets_leave_http_its_turn_on_epoll() {
    serve_http_beside_busy_sockets(&Node::with(|command| {
        command.args(["--workers", "1"]).env("MONOIO_FORCE_LEGACY_DRIVER", "1");
    }));
}

/// Sends requests over HTTP while the only worker is never idle.
fn serve_http_beside_busy_sockets(node: &Node) {
    // Without history, because its writer would compete for the few cores.
    let busy = json!({ "pattern": CHANNEL, "ephemeral": true });
    assert_eq!(node.admin("POST", "/api/realtime/channels", &busy).0, 201);
    let connect = |number| {
        let mut member = Member::connect(node.port(), CHANNEL, &user_token("busy"), number);
        member.enter();
        member
    };
    let members: Vec<_> = (0..BUSY).map(connect).collect();
    let is_over = AtomicBool::new(false);
    let end = Instant::now() + BUSY_MAX;
    let are_busy = Barrier::new(members.len() + 1);
    let keep_busy = |mut member: Member| {
        member.publish(BREATH);
        are_busy.wait();
        while !is_over.load(Ordering::Relaxed) && Instant::now() < end {
            member.publish(BREATH);
        }
    };
    thread::scope(|scope| {
        let _ending = Ending(&is_over);
        for member in members {
            scope.spawn(|| keep_busy(member));
        }
        are_busy.wait();
        for _ in 0..REQUESTS {
            let health = node.request("GET", "/api/health", &[], b"");
            assert_eq!(health.status, 200, "{}", health.json());
        }
        assert!(Instant::now() < end, "requests are answered before the sockets fall silent");
    });
}

/// Publishers that publish as fast as they can.
struct Push {
    start: Instant,
    accepted: AtomicU64,
    over_http: AtomicU64,
    on_sockets: AtomicU64,
}

impl Push {
    fn new() -> Self {
        let [accepted, over_http, on_sockets] = Default::default();
        Self { start: Instant::now(), accepted, over_http, on_sockets }
    }

    /// Publishes over HTTP and on sockets while others come and go. Returns all reports.
    fn run<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, port: u16) -> Vec<Report> {
        let callers = (0..4).map(|number| scope.spawn(move || self.call(port, number)));
        let callers: Vec<_> = callers.collect();
        let speakers = (4..6).map(|number| scope.spawn(move || self.speak(port, number)));
        let speakers: Vec<_> = speakers.collect();
        let churners = (6..14).map(|number| scope.spawn(move || self.churn(port, number)));
        let churners: Vec<_> = churners.collect();
        callers.into_iter().chain(speakers).chain(churners).map(join).collect()
    }

    /// Returns how many publications were refused over HTTP and on sockets.
    fn refused(&self) -> [u64; 2] {
        [&self.over_http, &self.on_sockets].map(|count| count.load(Ordering::Relaxed))
    }

    fn is_enough(&self) -> bool {
        let accepted = self.accepted.load(Ordering::Relaxed);
        let is_refused = self.refused().iter().all(|count| *count >= REFUSALS);
        (is_refused && accepted >= PUBLICATIONS)
            || accepted >= PUBLICATIONS_MAX
            || self.start.elapsed() > PUSH
    }

    fn count(&self, refused: usize, counter: &AtomicU64) {
        counter.fetch_add(refused as u64, Ordering::Relaxed);
        self.accepted.fetch_add((BREATH - refused) as u64, Ordering::Relaxed);
    }

    fn call(&self, port: u16, number: u64) -> Report {
        let mut caller = Caller::new(port, CHANNEL, number);
        while !self.is_enough() {
            self.count(caller.publish(BREATH), &self.over_http);
        }
        caller.report
    }

    fn speak(&self, port: u16, number: u64) -> Report {
        let mut member = Member::connect(port, CHANNEL, ANON_KEY, number);
        member.enter();
        while !self.is_enough() {
            self.count(member.publish(BREATH), &self.on_sockets);
        }
        member.leave();
        member.report
    }

    fn churn(&self, port: u16, number: u64) -> Report {
        let mut member = Member::connect(port, CHANNEL, ANON_KEY, number);
        for round in number.. {
            if self.is_enough() {
                break;
            }
            member.enter();
            member.listen(round as usize % 30, Duration::from_millis(200));
            match round % 3 {
                0 => member.vanish(),
                _ => member.leave(),
            }
        }
        member.report
    }
}

/// Publishes the last event until it is accepted. Returns how often it was refused.
fn publish_end(node: &Node) -> u64 {
    let publication = json!({ "channel": CHANNEL, "event": END, "payload": null });
    let mut refused = 0;
    wait_until("the node accepts publications again", || {
        let (status, body) = node.admin("POST", "/api/realtime/messages", &publication);
        assert!(status == 201 || status == 503, "{status}: {body}");
        refused += u64::from(status == 503);
        status == 201
    });
    refused
}

/// Publishes and waits until all readers have received it, so that none falls behind.
fn tell_all(node: &Node, readers: &mut [Witness], fill: &str) -> (Uuid, Value) {
    let receipt = node.publish(CHANNEL, TICK, &json!({ "fill": fill }));
    let id = receipt["messageId"].as_str().expect("an id is text");
    let id = Uuid::try_parse(id).expect("an id is a UUID");
    for reader in readers {
        assert_eq!(reader.next().id, id, "readers hear this and nothing else");
    }
    (id, receipt["audience"].clone())
}

/// Returns the publications that come before the connection ends.
fn hear_to_the_end(socket: &mut Socket) -> Vec<Uuid> {
    let mut ids = Vec::new();
    loop {
        match socket.hear() {
            Heard::Event(event) => ids.push(event.id),
            Heard::End => return ids,
            heard => panic!("unexpected: {heard:?}"),
        }
    }
}

/// Returns a connection whose client has a small receive buffer.
pub(crate) fn narrow(port: u16) -> TcpStream {
    try_narrow(port).expect("it is accepted")
}

/// The same, or an error if the node does not listen.
pub(crate) fn try_narrow(port: u16) -> io::Result<TcpStream> {
    let stream = socket2::Socket::new(Domain::IPV4, Type::STREAM, None)?;
    stream.set_recv_buffer_size(RECEIVE_BUFFER)?;
    stream.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    Ok(stream.into())
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "after {PATIENCE:?} still not: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
