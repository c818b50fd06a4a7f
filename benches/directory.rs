//! The directory (`engine::directory`): a publication gets its place in the channel and is posted.
//!
//! `publish`: from the shard's lock to the last worker's bell, for a publication whose frames are
//! made, with subscribers on no worker, one and two. Over how many workers an audience spreads is
//! all that matters here, not its size. `hub`: the same with everything before it, as
//! `Hub::publish` does it: id, frames of both groups, directory. The workers are awake, so no bell
//! is rung (`mailbox` has that), and taking the mail out again is not in the figures.

mod support;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use criterion::{BenchmarkId, Criterion};
use fanfare::broker::definitions::Definitions;
use fanfare::broker::directory::{Directory, Join, Subscriber};
use fanfare::broker::presence::MemberKey;
use fanfare::config::Config;
use fanfare::hub::{About, Clock, Hub, Submission, message_id};
use fanfare::interface::encode::encode;
use fanfare::interface::forge;
use fanfare::mailbox::{Inboxes, Mail, Mailboxes};
use fanfare::message::{Channel, ChannelOptions, ConnId, Group, ReplayWish, Transport, WorkerId};
use fanfare::metrics::Metrics;

use support::{AT, CHANNEL, CpuTime, cpu_time};

const WORKERS: usize = 2;
/// Places for publications in a mailbox, and what is published before they are emptied.
const MAILBOX: usize = 4_096;
const BATCH: u64 = 1_024;

fn main() {
    let mut criterion = support::by_cpu_time();
    publish(&mut criterion);
    hub(&mut criterion);
    criterion.final_summary();
}

fn publish(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("directory/publish");
    for workers in 0..=WORKERS {
        let (hub, inboxes) = node(workers);
        let publication = Arc::new(support::publication());
        for &shape in publication.channel.groups() {
            publication.frame(shape, encode);
        }
        group.bench_function(BenchmarkId::new("workers", workers), |bencher| {
            let publish =
                |()| hub.directory.publish(&hub.mailboxes.workers, &publication, |_| ()).is_ok();
            bencher.iter_custom(|times| publishing(times, &inboxes, || (), publish));
        });
    }
    group.finish();
}

fn hub(criterion: &mut Criterion<CpuTime>) {
    let definition = support::ephemeral();
    let mut group = criterion.benchmark_group("directory/hub");
    for workers in 0..=WORKERS {
        let (hub, inboxes) = node(workers);
        let input = || (Channel::from(CHANNEL), support::content());
        group.bench_function(BenchmarkId::new("workers", workers), |bencher| {
            let publish = |(channel, content)| {
                let (options, now, history) = (definition.options, hub.clock.now(), None);
                let id = message_id(now.wall, &mut rand::rng());
                hub.publish(Submission { channel, content, options, id, now, history }).is_ok()
            };
            bencher.iter_custom(|times| publishing(times, &inboxes, input, publish));
        });
    }
    group.finish();
}

/// The time that so many publications take, without what goes in and the emptying of mailboxes.
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

/// What the hot threads of a node share, with a subscriber of each group on so many workers.
fn node(workers: usize) -> (Hub, Inboxes) {
    let (mailboxes, inboxes) = Mailboxes::new(WORKERS, 0, MAILBOX).expect("event descriptors");
    let config = Config::defaults();
    let hub = Hub {
        directory: Directory::default(),
        definitions: ArcSwap::from_pointee(Definitions::default()),
        policies: Arc::default(),
        mailboxes: Arc::new(mailboxes),
        metrics: Metrics::new(WORKERS),
        timings: config.engine_io,
        recovery: None,
        forge: config.forge,
        m2: config.m2.clone(),
        config: Arc::new(config),
        clock: Clock::new(),
        start: 0,
        events: forge::Shared::default(),
        about: About { driver: "none", driver_reason: String::new(), started: AT },
        shutdown: OnceLock::new(),
    };
    for worker in (0u8..).map(WorkerId).take(workers) {
        for (slot, group) in (0..).zip(Channel::from(CHANNEL).groups()) {
            join(&hub, ConnId { worker, slot, generation: 0 }, *group);
        }
    }
    empty(&inboxes);
    (hub, inboxes)
}

fn join(hub: &Hub, connection: ConnId, group: Group) {
    let id = format!("{}-{}", connection.worker.0, connection.slot);
    let member = Some(MemberKey { is_user: false, id: id.into() });
    let subscriber = Subscriber { connection, group, transport: Transport::WebSocket, member };
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
    hub.directory.join(&hub.mailboxes.workers, &join).expect("the mailboxes are empty");
}

fn empty(inboxes: &Inboxes) {
    for inbox in &inboxes.workers {
        while inbox.take(Mail::slot).is_some() {}
    }
}
