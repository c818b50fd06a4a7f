//! Wire formats (`interface`): packets of clients to commands, publications to packets.
//!
//! `encode` makes the text of one publication in one encoding. It happens once per publication and
//! encoding in use, before any lock. `decode` parses one Engine.IO packet through all three layers
//! to its command. It happens once per packet of a client. `Forge` and `M2` are the same for their
//! events and documents, and for messages of their sockets.

mod support;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion};
use fanfare::codec::json::Scratch;
use fanfare::interface::encode;
use fanfare::interface::insforge::command::Command;
use fanfare::interface::m2::wire as m2;
use fanfare::message::{Channel, Encoding};

use support::packets::{self, M2_SUBSCRIBE, command};
use support::{CHANNEL, CpuTime};

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
    let event = packets::event();
    group.bench_function(BenchmarkId::new("message", "Forge"), |bencher| {
        bencher.iter(|| encode::text(black_box(&event), Encoding::Topic));
    });
    let document = support::document();
    group.bench_function(BenchmarkId::new("message", "M2"), |bencher| {
        bencher.iter(|| m2::document(black_box(&document)));
    });
    let joined = packets::joined();
    group.bench_function("presence", |bencher| {
        bencher.iter(|| encode::text(black_box(&joined), Encoding::Sdk));
    });
    group.finish();
}

fn decode(criterion: &mut Criterion<CpuTime>) {
    let (subscribe, publish) = (packets::subscribe(), packets::publish());
    assert!(matches!(command(&subscribe), Command::Subscribe { .. }));
    assert!(matches!(command(&publish), Command::Publish { .. }));
    let mut group = criterion.benchmark_group("protocol/decode");
    for (name, packet) in [("subscribe", subscribe), ("publish", publish)] {
        group.bench_function(name, |bencher| bencher.iter(|| command(black_box(&packet))));
    }
    let mut scratch = Scratch::default();
    group.bench_function(BenchmarkId::new("subscribe", "M2"), |bencher| {
        bencher.iter(|| packets::read_m2_subscribe(black_box(M2_SUBSCRIBE), &mut scratch));
    });
    let message = packets::forge_publish();
    group.bench_function(BenchmarkId::new("publish", "Forge"), |bencher| {
        bencher.iter(|| packets::read_forge_publish(black_box(&message), &mut scratch));
    });
    group.finish();
}
