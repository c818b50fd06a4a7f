//! What streams receive that were cut and come back, from the log of their channel.

use proptest::prelude::*;

use super::*;
use crate::mailbox::{Capacity, Inbox, Mail};
use crate::message::{
    ChannelOptions, ConnId, Content, Encoding, MessageId, Replay, ReplayWish, Sender, Transport,
    WorkerId,
};

/// For how long recovery keeps publications.
const KEEP: Millis = 10_000;
/// Streams of a run.
const STREAMS: usize = 3;

/// A channel, and the mailboxes of two workers.
struct World {
    directory: Directory,
    mailboxes: WorkerMailboxes,
    inboxes: Vec<Inbox<Mail>>,
    options: ChannelOptions,
    now: Millis,
    published: Vec<MessageId>,
    joins: u128,
}

fn channel() -> Channel {
    Channel::from("c")
}

impl World {
    fn new(keep: Millis, retain: Retain) -> Self {
        let capacity = Capacity { publications: 1_000, control: 1_000 };
        let (mailboxes, inboxes) = WorkerMailboxes::new(2, capacity).unwrap();
        Self {
            directory: Directory::default().with_logs(keep, 1_000_000),
            mailboxes,
            inboxes,
            options: ChannelOptions { retain, ..ChannelOptions::default() },
            now: 1,
            published: Vec::new(),
            joins: 0,
        }
    }

    fn subscriber(&self, worker: u8, transport: Transport) -> Subscriber {
        let connection = ConnId { worker: WorkerId(worker), slot: 0, generation: 0 };
        let encoding = match transport {
            Transport::EventStream => Encoding::EventStream,
            _ => Encoding::Sdk,
        };
        Subscriber { connection, encoding, transport, member: None }
    }

    fn publish(&mut self) {
        let id = MessageId::from_u128(self.published.len() as u128 + 1);
        let (event, payload) = ("e".into(), "1".into());
        let content = Content::Message { event, payload, sender: Sender::System };
        let publication = Publication::new(id, channel(), 0, content).under(self.options);
        let publication = Arc::new(publication.accepted(self.now * 1_000_000));
        self.directory.publish(&self.mailboxes, &publication, |_| ()).expect("there is room");
        self.published.push(id);
    }

    fn join(&mut self, worker: u8, transport: Transport, after: Option<MessageId>) -> Replay {
        self.joins += 1;
        let join = Join {
            channel: &channel(),
            subscriber: &self.subscriber(worker, transport),
            already: None,
            options: self.options,
            reply: None,
            comes_back: false,
            replay: ReplayWish { seconds: self.options.retain.seconds(), after, behind: None },
            announcement: MessageId::from_u128(1 << 100 | self.joins),
            now: 0,
            clock: self.now,
        };
        self.directory.join(&self.mailboxes, &join).expect("there is room");
        let mut replay = None;
        for inbox in &self.inboxes {
            while let Some(mail) = inbox.take(Mail::slot) {
                if let Mail::Activate(activation) = mail {
                    replay = Some(activation.replay);
                }
            }
        }
        replay.expect("the activation is posted")
    }

    fn leave(&self, worker: u8, transport: Transport, lingers_until: Millis) {
        let leave = Leave {
            channel: &channel(),
            subscriber: &self.subscriber(worker, transport),
            lives_on: false,
            presence: None,
            lingers_until,
            reply: None,
            announcement: MessageId::nil(),
            now: 0,
        };
        self.directory.leave(&self.mailboxes, &leave).expect("there is room");
    }

    fn stream(&mut self, after: Option<MessageId>) -> Replay {
        self.join(0, Transport::EventStream, after)
    }

    fn cut(&self) {
        self.leave(0, Transport::EventStream, self.now + KEEP);
    }

    fn sweep(&self) {
        (0..SWEEP_STEPS).for_each(|step| self.directory.sweep(step, self.now));
    }

    fn is_empty(&self) -> bool {
        let bytes = self.directory.budgets().logs.budget.bytes();
        (self.directory.channels(), self.directory.kept(), bytes) == (0, 0, 0)
    }
}

fn ids(replay: &Replay) -> Vec<u128> {
    replay.publications.iter().map(|one| one.id.as_u128()).collect()
}

#[test]
fn a_stream_that_was_cut_receives_what_it_missed() {
    let mut world = World::new(KEEP, Retain::None);
    let place = world.stream(None).last;
    assert!(place.is_some(), "it has a position before the first message");
    world.cut();
    world.publish();
    world.publish();
    world.now += KEEP - 1;
    world.sweep();
    let replay = world.stream(place);
    assert_eq!((ids(&replay), replay.is_whole), (vec![1, 2], true));
    assert_eq!(replay.last, Some(MessageId::from_u128(2)));
    world.cut();
    world.now += KEEP;
    world.sweep();
    assert!(world.is_empty());
    let replay = world.stream(replay.last);
    assert_eq!((ids(&replay), replay.is_whole), (vec![], false), "it was away for too long");
}

#[test]
fn a_quiet_channel_is_not_taken_for_a_gap() {
    let mut world = World::new(KEEP, Retain::None);
    world.stream(None);
    world.publish();
    for _ in 0..5 {
        world.now += KEEP;
        world.sweep();
    }
    world.cut();
    world.now += KEEP - 1;
    world.sweep();
    assert!(world.stream(Some(MessageId::from_u128(1))).is_whole);
}

#[test]
fn nothing_is_kept_without_streams_or_recovery() {
    let mut world = World::new(KEEP, Retain::None);
    world.join(0, Transport::WebSocket, None);
    world.publish();
    assert_eq!(world.directory.budgets().logs.budget.bytes(), 0);
    world.leave(0, Transport::WebSocket, 0);
    let mut world = World::new(0, Retain::None);
    assert_eq!(world.stream(None).last, None);
    world.publish();
    world.cut();
    assert!(world.is_empty());
    assert!(!world.stream(Some(MessageId::from_u128(1))).is_whole);
}

#[test]
fn a_new_stream_receives_the_window_alone() {
    for (retain, expected) in [(Retain::None, vec![]), (Retain::window(5), vec![2])] {
        let mut world = World::new(KEEP, retain);
        world.stream(None);
        world.publish();
        world.now += 5_000;
        world.publish();
        let replay = world.stream(None);
        assert_eq!((ids(&replay), replay.is_whole), (expected, false));
    }
}

#[test]
fn a_position_holds_for_as_long_as_the_longer_of_both_keeps() {
    for seconds in [1, 60] {
        let mut world = World::new(KEEP, Retain::window(seconds));
        world.publish();
        let place = world.stream(None).last;
        world.cut();
        world.now += 500;
        world.publish();
        world.now += KEEP.max(u64::from(seconds) * 1_000) - 501;
        world.sweep();
        let replay = world.stream(place);
        assert_eq!((ids(&replay), replay.is_whole), (vec![2], true), "{seconds}");
    }
    let mut world = World::new(KEEP, Retain::window(60));
    assert_eq!(world.stream(None).last, None, "the empty window knows longer what came since");
}

#[derive(Clone, Debug)]
enum Step {
    Publish,
    /// A stream connects, or is cut if it is connected.
    Turn(usize),
    /// A socket subscribes, and leaves at once.
    Socket,
    Pass(Millis),
    Sweep,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Publish),
        4 => (0..STREAMS).prop_map(Step::Turn),
        1 => Just(Step::Socket),
        2 => (0..KEEP).prop_map(Step::Pass),
        1 => Just(Step::Sweep),
    ];
    prop::collection::vec(step, 1..200)
}

/// A client: what it has received of the channel, and when it was cut.
#[derive(Default)]
struct Client {
    place: Option<MessageId>,
    received: usize,
    cut_at: Option<Millis>,
    is_connected: bool,
}

proptest! {
    #[test]
    fn streams_lose_and_double_nothing_or_are_told(
        steps in steps(),
        retain in prop::sample::select(vec![0, 3]),
    ) {
        let mut world = World::new(KEEP, Retain::window(retain));
        let mut clients: [Client; STREAMS] = Default::default();
        for step in steps {
            match step {
                Step::Publish => {
                    world.publish();
                    for client in clients.iter_mut().filter(|client| client.is_connected) {
                        client.received = world.published.len();
                        client.place = world.published.last().copied();
                    }
                }
                Step::Turn(which) => {
                    let client = &mut clients[which];
                    client.is_connected = !client.is_connected;
                    if !client.is_connected {
                        world.leave(which as u8 % 2, Transport::EventStream, world.now + KEEP);
                        client.cut_at = Some(world.now);
                        continue;
                    }
                    let replay = world.join(which as u8 % 2, Transport::EventStream, client.place);
                    if let Some(cut_at) = client.cut_at {
                        let is_due = world.now < cut_at + KEEP;
                        prop_assert!(replay.is_whole || !is_due, "what was kept is there");
                        if replay.is_whole {
                            let missed = &world.published[client.received..];
                            let missed: Vec<_> = missed.iter().map(MessageId::as_u128).collect();
                            prop_assert_eq!(ids(&replay), missed);
                        }
                    }
                    client.received = world.published.len();
                    client.place = replay.last;
                }
                Step::Socket => {
                    world.join(1, Transport::WebSocket, None);
                    world.leave(1, Transport::WebSocket, 0);
                }
                Step::Pass(time) => world.now += time,
                Step::Sweep => world.sweep(),
            }
        }
        for (which, _) in clients.iter().enumerate().filter(|(_, client)| client.is_connected) {
            world.leave(which as u8 % 2, Transport::EventStream, world.now + KEEP);
        }
        world.now += 2 * KEEP;
        world.sweep();
        prop_assert!(world.is_empty());
    }
}
