//! The directory (`broker::directory`): a publication receives its offset and is posted to the
//! workers.
//!
//! `publish` runs from the shard's lock to the last worker's bell, for a publication whose frames
//! exist, with subscribers on no worker, one and two. Only the number of workers matters here, not
//! that of subscribers. `broker` includes everything before that, as `Broker::publish` does it: id,
//! frames of both encodings, directory. The workers are awake, so no bell is rung (`mailbox`
//! measures that). Emptying the mailboxes is not measured.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion};
use fanfare::broker::directory::Directory;
use fanfare::broker::publish::{Submission, message_id};
use fanfare::interface::encode::encode;
use fanfare::mailbox::Inboxes;
use fanfare::message::{Channel, Now};

use support::broker::{WORKERS, empty, node};
use support::{AT, CHANNEL, CpuTime, cpu_time};

/// The number of publications between two emptyings of the mailboxes, which have room for more.
const BATCH: u64 = 1_024;

fn main() {
    let mut criterion = support::by_cpu_time();
    publish(&mut criterion);
    broker(&mut criterion);
    criterion.final_summary();
}

fn publish(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("directory/publish");
    for workers in 0..=WORKERS {
        let (broker, inboxes) = node(workers, Directory::default());
        let publication = Arc::new(support::publication());
        for &shape in publication.channel.encodings() {
            publication.frame(shape, encode);
        }
        group.bench_function(BenchmarkId::new("workers", workers), |bencher| {
            let publish = |()| {
                broker.directory.publish(&broker.mailboxes.workers, &publication, |_| ()).is_ok()
            };
            bencher.iter_custom(|times| publishing(times, &inboxes, || (), publish));
        });
    }
    group.finish();
}

fn broker(criterion: &mut Criterion<CpuTime>) {
    let definition = support::ephemeral();
    let clock = Instant::now();
    let mut group = criterion.benchmark_group("directory/broker");
    for workers in 0..=WORKERS {
        let (broker, inboxes) = node(workers, Directory::default());
        let input = || (Channel::from(CHANNEL), support::content());
        group.bench_function(BenchmarkId::new("workers", workers), |bencher| {
            let publish = |(channel, content)| {
                let (options, history) = (definition.options, None);
                let now = Now { nanos: clock.elapsed().as_nanos() as u64, wall: AT };
                let id = message_id(now.wall, &mut rand::rng());
                let (is_recoverable, repeat) = (false, None);
                let submission = Submission {
                    channel,
                    content,
                    options,
                    id,
                    now,
                    is_recoverable,
                    history,
                    repeat,
                };
                broker.publish(submission, encode).is_ok()
            };
            bencher.iter_custom(|times| publishing(times, &inboxes, input, publish));
        });
    }
    group.finish();
}

/// Returns the time of `times` publications, without preparing the input and emptying the
/// mailboxes.
fn publishing<I>(
    times: u64,
    inboxes: &Inboxes,
    input: impl Fn() -> I,
    publish: impl Fn(I) -> bool,
) -> Duration {
    let (mut left, mut spent) = (times, Duration::ZERO);
    while left > 0 {
        let inputs: Vec<I> = (0..left.min(BATCH)).map(|_| input()).collect();
        left -= inputs.len() as u64;
        let start = cpu_time();
        for input in inputs {
            assert!(publish(input), "a batch fits into the mailboxes");
        }
        spent += cpu_time() - start;
        empty(inboxes);
    }
    spent
}
