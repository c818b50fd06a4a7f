//! Wire formats (`interface`): packets of clients to commands, publications to packets.
//!
//! `encode` makes the text of one publication in one encoding. It happens once per publication and
//! encoding in use, before any lock. `decode` parses one Engine.IO packet through all three layers
//! to its command. It happens once per packet of a client. `Forge` and `M2` are the same for their
//! events and documents, and for messages of their sockets.

mod support;

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion};
use fanfare::broker::publish::message_id;
use fanfare::codec::json::{Document, Scratch};
use fanfare::interface::encode;
use fanfare::interface::forge::wire as forge;
use fanfare::interface::insforge::command::Command;
use fanfare::interface::insforge::wire::Request;
use fanfare::interface::insforge::{engineio, socketio, wire as insforge};
use fanfare::interface::m2::wire as m2;
use fanfare::message::{Channel, Content, Encoding, Member, Publication};

use support::{AT, CHANNEL, CpuTime, EVENT, PAYLOAD};

/// A topic id of the usual length.
const TOPIC: &str = "Qm3AAAAAAAAAAAAAAAAAAA";

fn main() {
    let mut criterion = support::by_cpu_time();
    encode(&mut criterion);
    decode(&mut criterion);
    criterion.final_summary();
}

fn encode(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("protocol/encode");
    let message = support::publication();
    for &shape in Channel::from(CHANNEL).encodings() {
        group.bench_function(BenchmarkId::new("message", format!("{shape:?}")), |bencher| {
            bencher.iter(|| encode::text(black_box(&message), shape));
        });
    }
    let content = Content::Event { payload: json_string(PAYLOAD).into() };
    let event =
        Publication::new(message_id(AT, &mut rand::rng()), Channel::topic(TOPIC), AT, content);
    group.bench_function(BenchmarkId::new("message", "Forge"), |bencher| {
        bencher.iter(|| encode::text(black_box(&event), Encoding::Topic));
    });
    let document = support::document();
    group.bench_function(BenchmarkId::new("message", "M2"), |bencher| {
        bencher.iter(|| m2::document(black_box(&document)));
    });
    let member = Member { is_user: true, presence_id: "u1".into(), joined_at: AT };
    let content = Content::Joined(Arc::new(member));
    let joined =
        Publication::new(message_id(AT, &mut rand::rng()), Channel::from(CHANNEL), AT, content);
    group.bench_function("presence", |bencher| {
        bencher.iter(|| encode::text(black_box(&joined), Encoding::Sdk));
    });
    group.finish();
}

fn decode(criterion: &mut Criterion<CpuTime>) {
    let subscribe = format!(r#"4217["REALTIME_SUBSCRIBE",{{"channel":"{CHANNEL}"}}]"#);
    let publish = format!(
        r#"4218["REALTIME_PUBLISH",{{"channel":"{CHANNEL}","event":"{EVENT}","payload":{PAYLOAD}}}]"#
    );
    assert!(matches!(command(&subscribe), Command::Subscribe { .. }));
    assert!(matches!(command(&publish), Command::Publish { .. }));
    let mut group = criterion.benchmark_group("protocol/decode");
    for (name, packet) in [("subscribe", subscribe), ("publish", publish)] {
        group.bench_function(name, |bencher| bencher.iter(|| command(black_box(&packet))));
    }
    let message = r#"{"action":"subscribe","resource":{"type":"kvStore","id":"World:store:key"}}"#;
    let mut scratch = Scratch::default();
    group.bench_function(BenchmarkId::new("subscribe", "M2"), |bencher| {
        bencher.iter(|| {
            let document = Document::from_text(black_box(message), &mut scratch);
            let document = document.expect("it is an object");
            let Ok(m2::Request::Subscribe(_, id)) = m2::read(&document) else {
                panic!("not a subscribe: {message}")
            };
            id.len()
        });
    });
    let payload = json_string(PAYLOAD);
    let message = format!(
        r#"{{"type":"publish","id":4,"channel":"{CHANNEL}","payload":{payload},"options":{{}}}}"#
    );
    let mut scratch = Scratch::default();
    group.bench_function(BenchmarkId::new("publish", "Forge"), |bencher| {
        bencher.iter(|| {
            let document = Document::from_text(black_box(&message), &mut scratch);
            let document = document.expect("it is an object");
            let Ok(forge::Request::Publish { payload, .. }) = forge::read(&document).request else {
                panic!("not a publish: {message}")
            };
            payload.raw().len()
        });
    });
    group.finish();
}

/// Returns a text as a JSON string.
fn json_string(text: &str) -> String {
    serde_json::to_string(text).expect("text is JSON")
}

/// Parses a packet as a worker's session does.
fn command(packet: &str) -> Command {
    let Ok(engineio::Packet::Message(data)) = engineio::decode(packet) else {
        panic!("not a message: {packet}")
    };
    let Ok(socketio::Packet::Event(event)) = socketio::decode(data) else {
        panic!("not an event: {data}")
    };
    let Request::Command(command) = insforge::request(&event, |payload| payload.into()) else {
        panic!("not a command: {data}")
    };
    command
}
