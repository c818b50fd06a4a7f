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

use arc_swap::ArcSwap;
use criterion::{BenchmarkId, Criterion};
use fanfare::broker::definitions::Definitions;
use fanfare::broker::directory::{Directory, Join, Subscriber};
use fanfare::broker::memory::Memory;
use fanfare::broker::presence::MemberKey;
use fanfare::broker::publish::{Broker, Submission, message_id};
use fanfare::interface::encode::encode;
use fanfare::mailbox::{Inboxes, Mail, Mailboxes};
use fanfare::message::{
    Channel, ChannelOptions, ConnId, Encoding, Now, ReplayWish, Transport, WorkerId,
};

use support::{AT, CHANNEL, CpuTime, cpu_time};

const WORKERS: usize = 2;
/// Places for publications in a mailbox, and the number of publications between two emptyings.
const MAILBOX: usize = 4_096;
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
        let (broker, inboxes) = node(workers);
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
        let (broker, inboxes) = node(workers);
        let input = || (Channel::from(CHANNEL), support::content());
        group.bench_function(BenchmarkId::new("workers", workers), |bencher| {
            let publish = |(channel, content)| {
                let (options, history) = (definition.options, None);
                let now = Now { nanos: clock.elapsed().as_nanos() as u64, wall: AT };
                let id = message_id(now.wall, &mut rand::rng());
                let is_recoverable = false;
                let submission =
                    Submission { channel, content, options, id, now, is_recoverable, history };
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

/// Returns a node's shared state with one subscriber of each encoding on each of this many workers.
fn node(workers: usize) -> (Broker, Inboxes) {
    let (mailboxes, inboxes) =
        Mailboxes::new(WORKERS, 0, MAILBOX, usize::MAX).expect("event descriptors");
    let broker = Broker {
        directory: Directory::default(),
        definitions: ArcSwap::from_pointee(Definitions::default()),
        policies: Arc::default(),
        mailboxes: Arc::new(mailboxes),
        memory: Memory::unbounded(),
    };
    for worker in (0u8..).map(WorkerId).take(workers) {
        for (slot, encoding) in (0..).zip(Channel::from(CHANNEL).encodings()) {
            join(&broker, ConnId { worker, slot, generation: 0 }, *encoding);
        }
    }
    empty(&inboxes);
    (broker, inboxes)
}

fn join(broker: &Broker, connection: ConnId, encoding: Encoding) {
    let id = format!("{}-{}", connection.worker.0, connection.slot);
    let member = Some(MemberKey { is_user: false, id: id.into() });
    let subscriber = Subscriber { connection, encoding, transport: Transport::WebSocket, member };
    let join = Join {
        channel: &Channel::from(CHANNEL),
        subscriber: &subscriber,
        already: None,
        options: ChannelOptions::default(),
        reply: None,
        comes_back: false,
        replay: ReplayWish::default(),
        announcement: message_id(AT, &mut rand::rng()),
        now: AT,
        clock: 0,
    };
    broker.directory.join(&broker.mailboxes.workers, &join).expect("the mailboxes are empty");
}

fn empty(inboxes: &Inboxes) {
    for inbox in &inboxes.workers {
        while inbox.take(Mail::slot).is_some() {}
    }
}
