//! A worker's index (`broker::index`): the subscribers of a channel among its connections.
//!
//! One lookup in each encoding and a walk over all subscribers, among ten thousand other channels.
//! With one subscriber the figure is the price of the lookups; with thousands it is the share of
//! the index in every delivery (the reciprocal of the throughput).

mod support;

use std::hint::black_box;

use criterion::{BenchmarkId, Throughput};
use fanfare::broker::index::{Counted, Index, NONE};
use fanfare::message::Channel;

use support::CHANNEL;

const OTHER_CHANNELS: u32 = 10_000;

fn main() {
    let mut criterion = support::by_cpu_time();
    let mut group = criterion.benchmark_group("index/walk");
    for subscribers in [1, 1_000, 10_000] {
        let index = index(subscribers);
        let channel = Channel::from(CHANNEL);
        group.throughput(Throughput::Elements(u64::from(subscribers)));
        group.bench_function(BenchmarkId::new("subscribers", subscribers), |bencher| {
            bencher.iter(|| walk(&index, black_box(&channel)));
        });
    }
    group.finish();
    criterion.final_summary();
}

fn walk(index: &Index, channel: &Channel) {
    for &encoding in channel.encodings() {
        for listener in index.listeners(channel, encoding) {
            black_box(listener.connection);
        }
    }
}

/// Returns an index in which the channel has `subscribers` subscribers, half of them in each
/// encoding.
fn index(subscribers: u32) -> Index {
    let mut index = Index::default();
    for connection in 0..OTHER_CHANNELS {
        let other = Channel::from(format!("order:other:{connection}").as_str());
        subscribe(&mut index, connection, &other);
    }
    for connection in 0..subscribers {
        subscribe(&mut index, connection, &Channel::from(CHANNEL));
    }
    index
}

fn subscribe(index: &mut Index, connection: u32, channel: &Channel) {
    // No subscription ends here, so the head of a connection's subscriptions need not be kept.
    let mut first = NONE;
    let encodings = channel.encodings();
    let encoding = encodings[connection as usize % encodings.len()];
    let counted = Counted { encoding, is_present: true };
    index.joined(connection, &mut first, channel, counted);
    index.activate(first, channel, encoding);
}
