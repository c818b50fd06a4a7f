//! WebSocket frames (`codec::websocket`): the first step for the bytes of a client, and the last
//! before a publication's frame is shared.
//!
//! `encode` makes one server frame around a payload, including its allocation. It happens once per
//! publication and encoding, not per subscriber. `decode` parses and unmasks one frame of a client
//! in place. It includes a copy of the frame's bytes into the read buffer, which the kernel does in
//! a node.

mod support;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use fanfare::codec::websocket::{Decoder, Opcode, frame};

use support::packets::unmask;
use support::{CpuTime, masked};

fn main() {
    let mut criterion = support::by_cpu_time();
    encode(&mut criterion);
    decode(&mut criterion);
    criterion.final_summary();
}

fn encode(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("frame/encode");
    for bytes in [128, 16 * 1_024] {
        let payload = "x".repeat(bytes);
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::from_parameter(bytes), |bencher| {
            bencher.iter(|| frame(Opcode::Text, &[black_box(payload.as_bytes())]));
        });
    }
    group.finish();
}

fn decode(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("frame/decode");
    for bytes in [128, 16 * 1_024] {
        let sent = masked(&"x".repeat(bytes));
        let mut buffer = sent.clone();
        let mut decoder = Decoder::default();
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::from_parameter(bytes), |bencher| {
            bencher.iter(|| unmask(&mut decoder, &mut buffer, black_box(&sent), bytes));
        });
    }
    group.finish();
}
