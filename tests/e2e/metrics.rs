//! The counts of `GET /metrics` agree with what clients saw.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use crate::ear::{CHANNEL, Counted, Ear, Poller, TICK, open_websocket};
use crate::socket::{SUBSCRIBE, Socket};
use crate::support::exposition::Exposition;
use crate::support::script::Script;
use crate::support::{ANON_KEY, API_KEY, Node, user_token};
use crate::tcp;

const UNSUBSCRIBE: &str = "REALTIME_UNSUBSCRIBE";
const PUBLISH: &str = "REALTIME_PUBLISH";
const MESSAGES: &str = "/api/realtime/messages";
const CHANNELS: &str = "/api/realtime/channels";
const PATIENCE: Duration = Duration::from_secs(30);

/// A masked close frame with code 1000. The mask is zero.
const CLOSE: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE8];
/// A masked text frame with a packet of an unknown type.
const NONSENSE: [u8; 7] = [0x81, 0x81, 0, 0, 0, 0, b'9'];

const OPENED: &str = "fanfare_connections_opened_total";
const CLOSED: &str = "fanfare_connections_closed_total";
const OPEN: &str = "fanfare_connections";
const REFUSED: &str = "fanfare_refusals_total";
const MATCHED: &str = "fanfare_deliveries_matched_total";
const DELIVERED: &str = "fanfare_deliveries_total";
const DROPPED: &str = "fanfare_deliveries_dropped_total";
const QUEUED: &str = "fanfare_deliveries_queued";

#[test]
fn at_rest_every_count_is_what_clients_saw() {
    let node = on_two_workers();
    node.create_channel(CHANNEL);
    let mut crowd = Crowd::gather(&node);
    settle(&node, |now| {
        now.is(OPEN, &insforge("websocket"), 5);
        now.is(OPEN, &insforge("polling"), 4);
        now.is(OPENED, &[], 9);
        now.is("fanfare_subscriptions", &[("api", "insforge")], 9);
        now.is("fanfare_channels", &[], 1);
    });
    crowd.hear_each_other(&node);
    settle(&node, |now| {
        now.is("fanfare_publications_total", &publications("http"), 10);
        now.is("fanfare_publications_total", &publications("socket"), 10);
        now.are_deliveries(9 * 20, 0, 0);
    });
    crowd.hear_without_pollers(&node);
    settle(&node, |now| {
        now.is("fanfare_subscriptions", &[("api", "insforge")], 8);
        now.are_deliveries(9 * 20 + 6 * 3, 0, 2 * 3);
    });
    crowd.pollers[0].hear(23);
    settle(&node, |now| now.are_deliveries(9 * 20 + 7 * 3, 0, 3));

    let rest = crowd.leave_in_many_ways();
    settle(&node, |now| {
        now.is(OPENED, &[], 9);
        now.is(OPEN, &insforge("websocket"), 2);
        now.is(OPEN, &insforge("polling"), 2);
        now.is(CLOSED, &[("reason", "client")], 3);
        now.is(CLOSED, &[("reason", "protocol")], 2);
        now.is_sum(CLOSED, 5);
        now.is("fanfare_subscriptions", &[("api", "insforge")], 4);
        now.are_deliveries(9 * 20 + 7 * 3, 3, 0);
        // The POST that broke the protocol was answered 400. A stock client that leaves may poll
        // once more when its session is over, so this is not counted later.
        now.is(REFUSED, &[("reason", "invalid")], 1);
        now.is_sum(REFUSED, 1);
    });
    let _talker = rest.leave();
    settle(&node, |now| {
        now.is(OPEN, &insforge("websocket"), 0);
        now.is(OPEN, &insforge("polling"), 1);
        now.is(CLOSED, &[("reason", "client")], 6);
        now.is_sum(CLOSED, 8);
        now.is("fanfare_channels", &[], 1);
        now.are_deliveries(9 * 20 + 7 * 3, 3, 0);
    });
}

#[test]
fn refusals_are_counted_by_reason() {
    let node = Node::start();
    node.create_channel(CHANNEL);
    let token = user_token("crowd");
    let mut ears = Ear::on_each_transport(node.port(), &token);
    for ear in &mut ears {
        let code = |answer: Value| answer["error"]["code"].as_str().map(str::to_owned);
        let refused = |code: &str| Some(code.to_owned());
        let nowhere = json!({ "channel": "nowhere" });
        assert_eq!(code(ear.ask(SUBSCRIBE, &nowhere)), refused("REALTIME_UNAUTHORIZED"));
        for (event, argument) in [(SUBSCRIBE, json!({})), ("NONSENSE", nowhere)] {
            assert_eq!(code(ear.ask(event, &argument)), refused("INVALID_INPUT"));
        }
        assert_eq!(code(ear.ask(PUBLISH, &tick("nowhere"))), refused("REALTIME_NOT_SUBSCRIBED"));
    }
    settle(&node, |now| {
        now.is(REFUSED, &[("reason", "unauthorized")], 2);
        now.is(REFUSED, &[("reason", "invalid")], 4);
        now.is(REFUSED, &[("reason", "not_subscribed")], 2);
        now.is_sum(REFUSED, 8);
    });

    let status = |method: &str, path: &str, key: &str, body: &str| {
        let headers = [("x-api-key", key), ("content-type", "application/json")];
        node.request(method, path, &headers, body.as_bytes()).status
    };
    let (message, pattern) = (tick(CHANNEL).to_string(), json!({ "pattern": CHANNEL }).to_string());
    let unauthorized = [
        node.request("POST", MESSAGES, &[], message.as_bytes()).status,
        status("POST", MESSAGES, "ik_wrong", &message),
        status("GET", CHANNELS, ANON_KEY, ""),
    ];
    assert!(unauthorized.iter().all(|status| matches!(status, 401 | 403)), "{unauthorized:?}");
    let invalid = [
        status("POST", MESSAGES, API_KEY, "{"),
        status("POST", MESSAGES, API_KEY, &tick("nowhere").to_string()),
        status("POST", CHANNELS, API_KEY, &pattern),
        status("PUT", MESSAGES, API_KEY, ""),
        status("GET", "/api/nothing", API_KEY, ""),
        status("POST", "/metrics", API_KEY, ""),
        status("GET", "/socket.io/?EIO=4&transport=carrier-pigeon", API_KEY, ""),
        status("GET", "/socket.io/?EIO=4&transport=polling&sid=nobody", API_KEY, ""),
    ];
    assert_eq!(invalid, [400, 404, 409, 405, 404, 405, 400, 400]);
    settle(&node, |now| {
        now.is(REFUSED, &[("reason", "unauthorized")], 2 + 3);
        now.is(REFUSED, &[("reason", "invalid")], 4 + 8);
        now.is_sum(REFUSED, 8 + 11);
        now.is_sum("fanfare_publications_total", 0);
    });
}

#[test]
fn a_refused_credential_is_counted() {
    let node = Node::start();
    let mut poller = Poller::open(node.port());
    let wrong = format!("40{}", json!({ "token": "nonsense" }));
    assert_eq!(poller.post(&wrong).status, 200);
    assert!(poller.poll()[0].starts_with("44"), "the namespace is closed to it");
    settle(&node, |now| {
        now.is(REFUSED, &[("reason", "unauthorized")], 1);
        now.is_sum(REFUSED, 1);
        now.is_sum(OPEN, 1);
    });
}

#[test]
fn connections_that_time_ends_are_counted_by_what_was_missing() {
    let node = Node::with(|command| {
        command.env("FANFARE_ENGINE_IO_CONNECT_TIMEOUT_MS", "3000");
        command.env("FANFARE_ENGINE_IO_PING_INTERVAL_MS", "4000");
        command.env("FANFARE_ENGINE_IO_PING_TIMEOUT_MS", "500");
    });
    let port = node.port();
    let silent = (Socket::connect(port, ANON_KEY), Socket::connect_polling(port, ANON_KEY));
    let outside = (open_websocket(port), Poller::open(port));
    settle(&node, |now| {
        now.is(OPENED, &[], 4);
        now.is(CLOSED, &[("reason", "ping_timeout")], 2);
        now.is(CLOSED, &[("reason", "connect_timeout")], 2);
        now.is_sum(CLOSED, 4);
        now.is_sum(OPEN, 0);
    });
    drop((silent, outside));
}

#[test]
fn bytes_and_frames_are_those_that_a_client_read_and_wrote() {
    let node = on_two_workers();
    node.create_channel(CHANNEL);
    let (mut websocket, traffic) = open_websocket(node.port());
    let handshake = traffic.written.get();
    let mut frames = 0;
    let mut read_until = |websocket: &mut WebSocket<Counted>, beginning: &str| {
        loop {
            let message = websocket.read().expect("the node says something");
            frames += 1;
            if message.to_text().expect("it is text").starts_with(beginning) {
                return;
            }
        }
    };
    read_until(&mut websocket, "0{");
    let entry = format!("40{}", json!({ "token": user_token("crowd") }));
    let subscription = format!("420{}", json!([SUBSCRIBE, { "channel": CHANNEL }]));
    for (said, answered) in [(entry, "40{"), (subscription, "430[")] {
        websocket.send(Message::text(said)).expect("the node takes it");
        read_until(&mut websocket, answered);
    }
    // Larger than one read, on either side.
    let bulk = "x".repeat(300_000);
    node.publish(CHANNEL, "bulk", &json!({ "fill": bulk }));
    read_until(&mut websocket, "42[\"bulk\"");
    let publication =
        json!([PUBLISH, { "channel": CHANNEL, "event": TICK, "payload": { "fill": bulk } }]);
    websocket.send(Message::text(format!("421{publication}"))).expect("the node takes it");
    // Its own publication and the acknowledgement may come in either order.
    read_until(&mut websocket, "4");
    read_until(&mut websocket, "4");

    settle(&node, |now| {
        let over = [("over", "websocket")];
        now.is("fanfare_bytes_sent_total", &over, traffic.read.get());
        now.is("fanfare_bytes_received_total", &over, traffic.written.get() - handshake);
        // The answer to the upgrade is sent like a frame and counted as one.
        now.is("fanfare_frames_sent_total", &[], frames + 1);
        now.is("fanfare_frames_per_drain_sum", &[], frames + 1);
    });
}

#[test]
fn each_publication_is_timed_once_on_each_worker_that_has_subscribers() {
    const PUBLICATIONS: u64 = 25;
    let node = on_two_workers();
    node.create_channel(CHANNEL);
    let (port, token) = (node.port(), user_token("crowd"));
    let publish = |ears: &mut [&mut Ear], total| {
        for _ in 0..PUBLICATIONS {
            node.publish(CHANNEL, TICK, &json!({}));
        }
        ears.iter_mut().for_each(|ear| ear.hear(total));
    };
    let timed = "fanfare_publish_to_drain_seconds_count";
    let mut first = Ear::over_websocket(port, &token);
    publish(&mut [&mut first], 25);
    settle(&node, |now| now.is(timed, &[], PUBLICATIONS));

    let mut second = Ear::over_websocket(port, &token);
    assert_ne!(first.socket.home(), second.socket.home(), "there is one on each worker");
    publish(&mut [&mut first, &mut second], 25);
    settle(&node, |now| {
        now.is(timed, &[], 3 * PUBLICATIONS);
        let frames = now.scrape.plain("fanfare_frames_sent_total") as u64;
        now.is("fanfare_frames_per_drain_sum", &[], frames);
    });

    let now = node.scrape();
    let (turns, took) =
        ("fanfare_turn_duration_seconds_count", "fanfare_turn_duration_seconds_sum");
    assert!(now.plain(turns) >= 2.0 * PUBLICATIONS as f64, "{} turns", now.plain(turns));
    assert!(now.plain(took) > 0.0);
    let waited = now.plain("fanfare_publish_to_drain_seconds_sum");
    assert!(waited > 0.0 && waited < 3.0 * PUBLICATIONS as f64 * PATIENCE.as_secs_f64());
    assert!(now.plain("fanfare_frames_per_drain_count") <= now.plain("fanfare_sends_total"));
}

/// Nine subscribers: five on WebSocket and four on long-polling, including a stock client on each.
struct Crowd {
    stock: Script,
    ears: [Ear; 4],
    talker: Ear,
    pollers: [Poller; 2],
}

/// The connections that are left.
struct Rest {
    stock: Script,
    ears: [Ear; 3],
    talker: Ear,
    _pollers: [Poller; 2],
}

impl Crowd {
    fn gather(node: &Node) -> Self {
        let stock = node.spawn_script("listen.mjs", &[CHANNEL, "polling", "websocket"], &[]);
        stock.wait_for("ready", PATIENCE);
        let (port, token) = (node.port(), user_token("crowd"));
        Self {
            stock,
            ears: [(); 4].map(|()| Ear::over_websocket(port, &token)),
            talker: Ear::new(Socket::connect_polling(port, &token)),
            pollers: [(); 2].map(|()| Poller::subscribe(port, &token)),
        }
    }

    /// All subscribers receive 20 publications, half of which come from subscribers.
    fn hear_each_other(&mut self, node: &Node) {
        for _ in 0..10 {
            let receipt = node.publish(CHANNEL, TICK, &json!({}));
            let audience = json!({ "total": 9, "websocket": 5, "polling": 4, "sse": 0 });
            assert_eq!(receipt["audience"], audience);
        }
        for _ in 0..5 {
            assert_eq!(self.ears[0].ask(PUBLISH, &tick(CHANNEL))["ok"], true);
            assert_eq!(self.talker.ask(PUBLISH, &tick(CHANNEL))["ok"], true);
        }
        self.ears.iter_mut().chain([&mut self.talker]).for_each(|ear| ear.hear(20));
        self.pollers.iter_mut().for_each(|poller| poller.hear(20));
        (0..2 * 20).for_each(|_| _ = self.stock.next_line(PATIENCE));
    }

    /// Publishes three more times, while one subscriber has unsubscribed and two do not poll.
    fn hear_without_pollers(&mut self, node: &Node) {
        let unsubscribed = self.ears[1].ask(UNSUBSCRIBE, &json!({ "channel": CHANNEL }));
        assert_eq!(unsubscribed, json!({ "ok": true }));
        for _ in 0..3 {
            assert_eq!(node.publish(CHANNEL, TICK, &json!({}))["audience"]["total"], 8);
        }
        let [first, _, others @ ..] = &mut self.ears;
        others.iter_mut().chain([first, &mut self.talker]).for_each(|ear| ear.hear(23));
        (0..2 * 3).for_each(|_| _ = self.stock.next_line(PATIENCE));
    }

    /// Ends five connections, each in another way. The publications that wait for one of them are
    /// lost.
    fn leave_in_many_ways(self) -> Rest {
        let [first, mut closing, breaking, mut violating] = self.ears;
        closing.send(&CLOSE);
        breaking.reset();
        violating.send(&NONSENSE);
        let [mut closing_poller, mut violating_poller] = self.pollers;
        assert_eq!(closing_poller.post("1").status, 200);
        assert_eq!(violating_poller.post("9").status, 400);
        Rest {
            stock: self.stock,
            ears: [first, closing, violating],
            talker: self.talker,
            _pollers: [closing_poller, violating_poller],
        }
    }
}

impl Rest {
    /// Ends all connections but that of the talker, whose loss the node notices only at its
    /// heartbeat.
    fn leave(self) -> Ear {
        self.stock.succeed(PATIENCE);
        drop(self.ears);
        self.talker
    }
}

/// The counts of a node at one moment, and those that are wrong.
struct Now {
    scrape: Exposition,
    wrong: Vec<String>,
}

impl Now {
    fn is(&mut self, name: &str, labels: &[(&str, &str)], expected: u64) {
        let value = self.scrape.value(name, labels);
        self.compare(format!("{name} {labels:?}"), value, expected);
    }

    fn is_sum(&mut self, family: &str, expected: u64) {
        let value = self.scrape.sum(family);
        self.compare(format!("the sum of {family}"), value, expected);
    }

    fn are_deliveries(&mut self, delivered: u64, dropped: u64, queued: u64) {
        self.is(MATCHED, &[], delivered + dropped + queued);
        self.is(DELIVERED, &[], delivered);
        self.is(DROPPED, &[("reason", "closed")], dropped);
        self.is_sum(DROPPED, dropped);
        self.is(QUEUED, &[], queued);
    }

    fn compare(&mut self, what: String, value: f64, expected: u64) {
        if value != expected as f64 {
            self.wrong.push(format!("{what} is {value}, not {expected}"));
        }
    }
}

/// Checks the counts until they are right. Workers count in their own time and notice closed
/// sockets late, so all counts must be right at one moment, and still be a moment later.
fn settle(node: &Node, check: impl Fn(&mut Now)) {
    let look = || {
        let mut now = Now { scrape: node.scrape(), wrong: Vec::new() };
        check(&mut now);
        now.wrong
    };
    let deadline = Instant::now() + tcp::PATIENCE;
    while !look().is_empty() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    thread::sleep(Duration::from_millis(20));
    let wrong = look();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn on_two_workers() -> Node {
    Node::with(|command| {
        command.args(["--workers", "2"]);
    })
}

fn insforge(transport: &str) -> [(&str, &str); 2] {
    [("api", "insforge"), ("transport", transport)]
}

fn publications(source: &str) -> [(&str, &str); 2] {
    [("api", "insforge"), ("source", source)]
}

fn tick(channel: &str) -> Value {
    json!({ "channel": channel, "event": TICK, "payload": {} })
}
