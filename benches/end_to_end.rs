//! Latency from a publish to the subscribers, through a real node: the product's binary on
//! loopback.
//!
//! Every figure runs from before the first byte of the publish is written until the last
//! subscriber's frame is read. The next publish follows the answer to this one, so the node is idle
//! each time: this measures latency, not throughput. `http` publishes over one HTTP connection that
//! is kept open, `socket` over the WebSocket of the subscriber itself. `document` writes an M2
//! document over HTTP, which is committed before it is fanned out. Publisher and subscribers are
//! one thread on the machine of the node, so the clients' own system calls count: with a thousand
//! subscribers, a thousand reads.
//!
//! Criterion reports means. The quantiles of the single publishes, warm-up included, follow at the
//! end.

#[path = "../tests/support/mod.rs"]
mod node;
mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode};
use serde_json::json;
use tungstenite::client::IntoClientRequest as _;
use tungstenite::http::HeaderValue;
use tungstenite::{Message, WebSocket};

use node::{API_KEY, Node};
use support::audience::Audience;
use support::{EVENT, PAYLOAD, masked};

/// The headers that name the documents' organization and project.
const M2_SCOPE: [(&str, &str); 2] = [("x-m2-organization", "bench"), ("x-m2-project", "bench")];
/// Longer than any run, so that no heartbeat comes between the publications.
const PING_INTERVAL_MS: &str = "3600000";
/// Longer than in other benches, because a publish to a thousand subscribers takes milliseconds.
const MEASURED: Duration = Duration::from_secs(10);

fn main() {
    support::raise_descriptor_limit();
    let node = Node::with(|command| {
        command.env("FANFARE_ENGINE_IO_PING_INTERVAL_MS", PING_INTERVAL_MS);
    });
    node.create_channel("bench:*");
    let mut criterion = support::by_wall_clock();
    let quantiles = [
        measure(&mut criterion, "http to 1", || Scene::over_http(&node, "bench:http:1", 1)),
        measure(&mut criterion, "http to 1000", || Scene::over_http(&node, "bench:http:2", 1_000)),
        measure(&mut criterion, "document to 1", || Scene::of_document(&node, "bench-1", 1)),
        measure(&mut criterion, "socket to 1", || Scene::over_socket(&node, "bench:socket:1")),
    ];
    criterion.final_summary();
    for line in quantiles.into_iter().flatten() {
        println!("{line}");
    }
}

/// Measures one figure and returns its quantiles; `None` if a filter excluded it.
fn measure(criterion: &mut Criterion, name: &str, set: impl Fn() -> Scene) -> Option<String> {
    // Criterion calls the closure once per sample, or never if a filter excludes the figure.
    let mut scene = None;
    let mut samples = Vec::new();
    let mut group = criterion.benchmark_group("end_to_end");
    group.measurement_time(MEASURED).sampling_mode(SamplingMode::Flat);
    group.bench_function(name, |bencher| {
        let scene = scene.get_or_insert_with(&set);
        bencher.iter_custom(|times| {
            let before = samples.len();
            samples.extend((0..times).map(|_| scene.publish()));
            samples[before..].iter().sum()
        });
    });
    group.finish();
    samples.sort_unstable();
    let last = samples.len().checked_sub(1)?;
    let quantile = |percent: usize| samples[last * percent / 100];
    Some(format!(
        "{name}: p50 {:?}, p90 {:?}, p99 {:?}, max {:?}, {} publishes",
        quantile(50),
        quantile(90),
        quantile(99),
        quantile(100),
        samples.len()
    ))
}

/// A channel with its subscribers and a publisher.
struct Scene {
    subscribers: Audience,
    publisher: TcpStream,
    request: Vec<u8>,
    /// Whether the publisher receives an answer.
    is_http: bool,
    /// Bytes that all subscribers together read for one publication.
    bytes: usize,
}

impl Scene {
    fn over_http(node: &Node, channel: &str, subscribers: usize) -> Self {
        let publisher = connect(node.port());
        let body = format!(r#"{{"channel":"{channel}","event":"{EVENT}","payload":{PAYLOAD}}}"#);
        let head = format!(
            "POST /api/realtime/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {API_KEY}\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        let request = [head, body].concat().into_bytes();
        let subscribers = (0..subscribers).map(|_| subscribe(node.port(), channel)).collect();
        Self::begin(subscribers, publisher, request, true)
    }

    fn of_document(node: &Node, id: &str, subscribers: usize) -> Self {
        let body = format!(r#"{{"data":{PAYLOAD}}}"#);
        let scope = M2_SCOPE.map(|(name, value)| format!("{name}: {value}\r\n")).concat();
        let head = format!(
            "PUT /api/realtime/resources/kvStore/{id} HTTP/1.1\r\nHost: 127.0.0.1\r\n{scope}\
             X-API-Key: {API_KEY}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let request = [head, body].concat().into_bytes();
        let subscribers = (0..subscribers).map(|_| subscribe_to(node.port(), id)).collect();
        Self::begin(subscribers, connect(node.port()), request, true)
    }

    fn over_socket(node: &Node, channel: &str) -> Self {
        let subscriber = subscribe(node.port(), channel);
        let publisher = subscriber.get_ref().try_clone().expect("a descriptor is free");
        let argument =
            format!(r#"{{"channel":"{channel}","event":"{EVENT}","payload":{PAYLOAD}}}"#);
        let request = masked(&format!(r#"42["REALTIME_PUBLISH",{argument}]"#));
        Self::begin(vec![subscriber], publisher, request, false)
    }

    /// Publishes once and checks the frames, so that later only their bytes need counting.
    fn begin(
        subscribers: Vec<WebSocket<TcpStream>>,
        publisher: TcpStream,
        request: Vec<u8>,
        is_http: bool,
    ) -> Self {
        let mut scene =
            Self { subscribers: Audience::new(Vec::new()), publisher, request, is_http, bytes: 0 };
        scene.ask();
        let mut sockets = Vec::new();
        for mut subscriber in subscribers {
            let text = hear(&mut subscriber);
            assert!(text.contains(PAYLOAD), "{text}");
            scene.bytes += support::server_frame_bytes(&text);
            sockets.push(subscriber.into_inner());
        }
        scene.listen_to_answer();
        scene.subscribers = Audience::new(sockets);
        scene
    }

    /// Publishes and returns the time until all subscribers have read the frame.
    fn publish(&mut self) -> Duration {
        let start = Instant::now();
        self.ask();
        let mut missing = self.bytes;
        while missing > 0 {
            let heard = self.subscribers.hear();
            assert!(heard > 0, "every subscriber gets it");
            missing = missing.checked_sub(heard).expect("nobody gets anything else");
        }
        let spent = start.elapsed();
        self.listen_to_answer();
        spent
    }

    fn ask(&mut self) {
        self.publisher.write_all(&self.request).expect("the node reads");
    }

    fn listen_to_answer(&mut self) {
        if !self.is_http {
            return;
        }
        let mut answer = Vec::new();
        let mut piece = [0; 4_096];
        while !is_whole(&answer) {
            let read = self.publisher.read(&mut piece).expect("the node answers");
            assert!(read > 0, "the node keeps the connection open");
            answer.extend_from_slice(&piece[..read]);
        }
    }
}

/// Whether the answer to a publish is complete. Panics if it is not a success.
fn is_whole(answer: &[u8]) -> bool {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(head_bytes)) = head.parse(answer) else { return false };
    assert!(matches!(head.code, Some(200 | 201)), "the publish is accepted");
    let length =
        head.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|field| std::str::from_utf8(field.value).ok()?.parse().ok());
    answer.len() == head_bytes + length.unwrap_or(0)
}

/// Returns a connection that subscribed to the channel with the documented event names. All
/// connections belong to one user, so that no presence is announced.
fn subscribe(port: u16, channel: &str) -> WebSocket<TcpStream> {
    let url = format!("ws://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket");
    let (mut socket, _) = tungstenite::client(url, connect(port)).expect("the node upgrades");
    let token = json!({ "token": node::user_token("bench") });
    let wish = json!(["REALTIME_SUBSCRIBE", { "channel": channel }]);
    assert!(hear(&mut socket).starts_with('0'), "the session opens");
    socket.send(Message::text(format!("40{token}"))).expect("the node reads");
    assert!(hear(&mut socket).starts_with("40"), "the namespace is entered");
    socket.send(Message::text(format!("420{wish}"))).expect("the node reads");
    assert!(hear(&mut socket).starts_with(r#"430[{"ok":true"#), "the subscription is acknowledged");
    socket
}

/// Returns a connection that subscribed to an M2 resource.
fn subscribe_to(port: u16, id: &str) -> WebSocket<TcpStream> {
    let url = format!("ws://127.0.0.1:{port}/api/realtime/");
    let mut request = url.into_client_request().expect("it is an address");
    for (name, value) in M2_SCOPE.into_iter().chain([("x-api-key", API_KEY)]) {
        request.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    let (mut socket, _) = tungstenite::client(request, connect(port)).expect("the node upgrades");
    let resource = json!({ "type": "kvStore", "id": id });
    let wish = json!({ "action": "subscribe", "resource": resource });
    socket.send(Message::text(wish.to_string())).expect("the node reads");
    assert!(hear(&mut socket).contains("resource_not_found"), "nothing was written yet");
    socket
}

fn hear(socket: &mut WebSocket<TcpStream>) -> String {
    match socket.read() {
        Ok(Message::Text(text)) => text.to_string(),
        other => panic!("unexpected: {other:?}"),
    }
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the node listens");
    stream.set_nodelay(true).expect("TCP_NODELAY can be set");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("the timeout is not zero");
    stream
}
