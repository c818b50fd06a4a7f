//! A worker's index (`broker::index`): the subscribers of a channel among its connections.
//!
//! One lookup in each encoding and a walk over all subscribers, among ten thousand other channels.
//! With one subscriber the figure is the price of the lookups; with thousands it is the share of
//! the index in every delivery (the reciprocal of the throughput).

mod support;

use std::hint::black_box;

use criterion::{BenchmarkId, Throughput};
use fanfare::message::Channel;

use support::CHANNEL;
use support::broker::{index, walk};

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
