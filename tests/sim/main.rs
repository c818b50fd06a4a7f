//! The pure core on its own: a directory, and workers that are nothing but a mailbox, an index and
//! their connections' outboxes. Random publishers, joiners and leavers meet mailboxes that fill up,
//! readers that do not read, and channels whose options change; a model that sees every call knows
//! what each subscriber must have heard.

mod consumer;
mod frames;
mod m2;
mod node;

use std::collections::HashMap;
use std::sync::Arc;

use fanfare::broker::directory::{Directory, Join, Leave, Subscriber};
use fanfare::broker::index::{Counted, Index, NONE};
use fanfare::broker::presence::MemberKey;
use fanfare::limits::SWEEP_STEPS;
use fanfare::mailbox::{Capacity, Inbox, Mail, Slot, WorkerMailboxes};
use fanfare::message::{
    Activation, Channel, ChannelOptions, ConnId, Content, Deactivation, Delivery, Group, MessageId,
    PresenceMode, Publication, ReplayWish, Sender, SlowConsumer, Transport, WorkerId,
};
use proptest::prelude::*;

use consumer::{Consumer, LARGE, Seen};

const WORKERS: usize = 3;
const CONNECTIONS: usize = 4;
const CHANNELS: usize = 2;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    Publish {
        channel: usize,
        event: usize,
        is_large: bool,
    },
    Join {
        worker: usize,
        connection: usize,
        channel: usize,
        documented: bool,
    },
    Leave {
        worker: usize,
        connection: usize,
        channel: usize,
    },
    Close {
        worker: usize,
        connection: usize,
    },
    /// An administrator changes how a channel behaves.
    Define {
        channel: usize,
        options: ChannelOptions,
    },
    /// A client reads so many frames.
    Read {
        worker: usize,
        connection: usize,
        frames: usize,
    },
    /// Time passes, and what is kept no longer may be swept out.
    Pass {
        millis: u64,
        is_swept: bool,
    },
    /// A worker takes so much of its mail.
    Turn {
        worker: usize,
        mail: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let place = || (0..WORKERS, 0..CONNECTIONS);
    let step = prop_oneof![
        8 => (0..CHANNELS, 0..3usize, prop::bool::weighted(0.3))
            .prop_map(|(channel, event, is_large)| Step::Publish { channel, event, is_large }),
        4 => (place(), 0..CHANNELS, any::<bool>()).prop_map(
            |((worker, connection), channel, documented)| Step::Join {
                worker,
                connection,
                channel,
                documented
            }
        ),
        1 => (place(), 0..CHANNELS).prop_map(|((worker, connection), channel)| Step::Leave {
            worker,
            connection,
            channel
        }),
        1 => place().prop_map(|(worker, connection)| Step::Close { worker, connection }),
        1 => (0..CHANNELS, options())
            .prop_map(|(channel, options)| Step::Define { channel, options }),
        1 => (place(), 1..12usize).prop_map(|((worker, connection), frames)| Step::Read {
            worker,
            connection,
            frames
        }),
        1 => (1..2_000u64, any::<bool>())
            .prop_map(|(millis, is_swept)| Step::Pass { millis, is_swept }),
        8 => (0..WORKERS, 1..6usize).prop_map(|(worker, mail)| Step::Turn { worker, mail }),
    ];
    prop::collection::vec(step, 1..300)
}

fn options() -> impl Strategy<Value = ChannelOptions> {
    let presence = prop::sample::select(PresenceMode::ALL.to_vec());
    let verdict = prop::sample::select(SlowConsumer::ALL.to_vec());
    (presence, verdict, 0..4u32).prop_map(|(presence, slow_consumer, replay_seconds)| {
        ChannelOptions { presence, slow_consumer, replay_seconds, ..ChannelOptions::default() }
    })
}

struct Conn {
    id: ConnId,
    first: u32,
    consumer: Consumer,
    expected: HashMap<usize, Vec<Seen>>,
    /// The group that it asked for last, while it is subscribed, and whether it is present.
    counted: HashMap<usize, Counted>,
    is_closing: bool,
}

struct World {
    directory: Directory,
    mailboxes: WorkerMailboxes,
    inboxes: Vec<Inbox<Mail>>,
    /// Places of each mailbox, of each kind.
    slots: usize,
    indexes: Vec<Index>,
    connections: Vec<Vec<Conn>>,
    options: [ChannelOptions; CHANNELS],
    /// What each channel keeps, with the time of each, and for how long.
    kept: [(Vec<(Seen, u64)>, u64); CHANNELS],
    clock: u64,
    /// Connections of each member of each channel.
    members: [HashMap<Box<str>, usize>; CHANNELS],
    published: u128,
}

fn channel(number: usize) -> Channel {
    Channel::from(format!("channel:{number}").as_str())
}

fn number(channel: &Channel) -> usize {
    channel.as_str()["channel:".len()..].parse().expect("made by `channel`")
}

impl World {
    fn new(slots: usize) -> Self {
        let connection = |worker: usize, slot: usize| Conn {
            id: ConnId {
                worker: WorkerId(u8::try_from(worker).expect("few")),
                slot: u32::try_from(slot).expect("few"),
                generation: 0,
            },
            first: NONE,
            consumer: Consumer::default(),
            expected: HashMap::new(),
            counted: HashMap::new(),
            is_closing: false,
        };
        let capacity = Capacity { publications: slots, control: slots };
        let made = WorkerMailboxes::new(WORKERS, capacity);
        let (mailboxes, inboxes) = made.expect("the system gives event descriptors");
        Self {
            directory: Directory::default(),
            mailboxes,
            inboxes,
            slots,
            indexes: (0..WORKERS).map(|_| Index::default()).collect(),
            connections: (0..WORKERS)
                .map(|worker| (0..CONNECTIONS).map(|slot| connection(worker, slot)).collect())
                .collect(),
            options: Default::default(),
            kept: Default::default(),
            clock: 1,
            members: Default::default(),
            published: 0,
        }
    }

    fn subscriber(&self, worker: usize, connection: usize, group: Group) -> Subscriber {
        let id = self.connections[worker][connection].id;
        // Two connections of a worker are one user, the others stand for themselves.
        let user = if connection < 2 { format!("user-{worker}") } else { format!("{id:?}") };
        let member = Some(MemberKey { is_user: connection < 2, id: user.into() });
        Subscriber { connection: id, group, transport: Transport::WebSocket, member }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Publish { channel, event, is_large } => self.publish(channel, event, is_large),
            Step::Join { worker, connection, channel, documented } => {
                let group = if documented { Group::InsforgeDocumented } else { Group::InsforgeSdk };
                self.join(worker, connection, channel, group);
            }
            Step::Leave { worker, connection, channel } => self.leave(worker, connection, channel),
            Step::Close { worker, connection } => self.close(worker, connection),
            Step::Define { channel, options } => self.options[channel] = options,
            Step::Read { worker, connection, frames } => {
                self.connections[worker][connection].consumer.read(frames);
            }
            Step::Pass { millis, is_swept } => self.pass(millis, is_swept),
            Step::Turn { worker, mail } => {
                for _ in 0..mail {
                    self.take_mail(worker);
                }
            }
        }
        for inbox in &self.inboxes {
            let free = |slot| inbox.mailbox().free(slot);
            let taken = 2 * self.slots - free(Slot::Publication) - free(Slot::Control);
            assert_eq!(taken, inbox.len(), "a place is used or released, never kept");
        }
    }

    /// Pieces of mail that wait, by worker.
    fn waiting(&self) -> Vec<usize> {
        self.inboxes.iter().map(Inbox::len).collect()
    }

    fn pass(&mut self, millis: u64, is_swept: bool) {
        self.clock += millis;
        if is_swept {
            (0..SWEEP_STEPS).for_each(|step| self.directory.sweep(step, self.clock));
            for (kept, keep) in &mut self.kept {
                kept.retain(|(_, at)| at + *keep > self.clock);
            }
        }
    }

    fn publish(&mut self, number: usize, event: usize, is_large: bool) {
        self.published += 1;
        let id = MessageId::from_u128(self.published);
        let payload = if is_large { LARGE } else { "1" };
        let content = Content::Message {
            event: format!("e{event}").into(),
            payload: payload.into(),
            sender: Sender::System,
        };
        let options = self.options[number];
        let publication = Publication::new(id, channel(number), 0, content).under(options);
        let publication = Arc::new(publication.accepted(self.clock * 1_000_000));
        let before = self.waiting();
        match self.directory.publish(&self.mailboxes, &publication, |_| ()) {
            Ok(published) => {
                self.keep(number, id);
                let mut audience = 0;
                for conn in self.connections.iter_mut().flatten() {
                    if let Some(Counted { group, .. }) = conn.counted.get(&number) {
                        audience += 1;
                        let heard = Seen::Heard(id, *group, options.slow_consumer);
                        conn.expected.entry(number).or_default().push(heard);
                    }
                }
                assert_eq!(published.audience.total(), audience, "the audience is the truth");
            }
            Err(_) => assert_eq!(before, self.waiting(), "refused whole"),
        }
    }

    fn keep(&mut self, number: usize, id: MessageId) {
        let options = self.options[number];
        let (kept, keep) = &mut self.kept[number];
        *keep = u64::from(options.replay_seconds) * 1_000;
        // The group is that of whoever hears it.
        let heard = Seen::Heard(id, Group::InsforgeSdk, options.slow_consumer);
        kept.push((heard, self.clock));
        kept.retain(|(_, at)| at + *keep > self.clock);
    }

    /// What a new subscriber hears of what was before.
    fn replay(&self, number: usize, group: Group) -> Vec<Seen> {
        let keep = u64::from(self.options[number].replay_seconds) * 1_000;
        let young = self.kept[number].0.iter().filter(|(_, at)| at + keep > self.clock);
        young
            .map(|(seen, _)| match seen {
                Seen::Heard(id, _, verdict) => Seen::Heard(*id, group, *verdict),
                other => other.clone(),
            })
            .collect()
    }

    fn join(&mut self, worker: usize, connection: usize, number: usize, group: Group) {
        let mut subscriber = self.subscriber(worker, connection, group);
        let options = self.options[number];
        let presence = options.presence;
        subscriber.member = subscriber.member.filter(|_| presence != PresenceMode::Off);
        let conn = &mut self.connections[worker][connection];
        let already = self.indexes[worker].counted(conn.first, &channel(number));
        assert_eq!(already, conn.counted.get(&number).copied(), "index and model agree");
        let is_present = already.map_or(subscriber.member.is_some(), |counted| counted.is_present);
        let channel = channel(number);
        let seconds = if already.is_none() { options.replay_seconds } else { 0 };
        let join = Join {
            comes_back: false,
            replay: ReplayWish { seconds, after: None },
            channel: &channel,
            subscriber: &subscriber,
            already: already.map(|counted| counted.group),
            options,
            reply: None,
            announcement: MessageId::nil(),
            now: 0,
            clock: self.clock,
        };
        if self.directory.join(&self.mailboxes, &join).is_err() {
            return;
        }
        let counted = Counted { group, is_present };
        self.indexes[worker].joined(conn.id.slot, &mut conn.first, &channel, counted);
        conn.counted.insert(number, counted);
        if already.is_none()
            && let Some(member) = subscriber.member
        {
            let connections = self.members[number].entry(member.id.clone()).or_default();
            *connections += 1;
            if *connections == 1 && presence == PresenceMode::Full {
                self.expect_others(number, subscriber.connection, &Seen::Came(member.id));
            }
        }
        let present = self.members[number].len();
        let (named, present) = match presence {
            PresenceMode::Full => (present, present),
            PresenceMode::Count => (0, present),
            PresenceMode::Off => (0, 0),
        };
        let acknowledged = Seen::Acknowledged(group, named, present);
        let replay = if already.is_none() { self.replay(number, group) } else { Vec::new() };
        let conn = &mut self.connections[worker][connection];
        conn.expected.entry(number).or_default().push(acknowledged);
        conn.expected.entry(number).or_default().extend(replay);
    }

    fn leave(&mut self, worker: usize, connection: usize, number: usize) {
        let Some(counted) = self.connections[worker][connection].counted.get(&number).copied()
        else {
            return;
        };
        if self.try_leave(worker, connection, (number, counted), true) {
            let conn = &mut self.connections[worker][connection];
            self.indexes[worker].left(conn.first, &channel(number));
            conn.expected.entry(number).or_default().push(Seen::Left);
        }
    }

    /// Leaves in the directory and in the model. False where there is no room.
    fn try_leave(
        &mut self,
        worker: usize,
        connection: usize,
        (number, counted): (usize, Counted),
        lives_on: bool,
    ) -> bool {
        let mut subscriber = self.subscriber(worker, connection, counted.group);
        subscriber.member = subscriber.member.filter(|_| counted.is_present);
        let channel = channel(number);
        let leave = Leave {
            channel: &channel,
            subscriber: &subscriber,
            lives_on,
            presence: Some(self.options[number].presence),
            lingers_until: 0,
            reply: None,
            announcement: MessageId::nil(),
            now: 0,
        };
        if self.directory.leave(&self.mailboxes, &leave).is_err() {
            return false;
        }
        self.connections[worker][connection].counted.remove(&number);
        let Some(member) = subscriber.member else { return true };
        let connections = self.members[number].get_mut(&member.id).expect("it has joined");
        *connections -= 1;
        if *connections == 0 {
            self.members[number].remove(&member.id);
            if self.options[number].presence == PresenceMode::Full {
                self.expect_others(number, subscriber.connection, &Seen::Went(member.id));
            }
        }
        true
    }

    /// Everybody on the channel must be told this, except whom it is about.
    fn expect_others(&mut self, number: usize, about: ConnId, seen: &Seen) {
        for conn in self.connections.iter_mut().flatten() {
            if conn.id != about && conn.counted.contains_key(&number) {
                conn.expected.entry(number).or_default().push(seen.clone());
            }
        }
    }

    /// The connection goes away and its slot is used again. Leaves that find no room are tried
    /// again, as a worker does, until others have taken their mail.
    fn close(&mut self, worker: usize, connection: usize) {
        let mut left = Vec::new();
        let conn = &mut self.connections[worker][connection];
        // While others take their mail: what is on its way to it reaches nobody any more.
        conn.is_closing = true;
        let first = std::mem::replace(&mut conn.first, NONE);
        self.indexes[worker].forget(first, |channel, counted| left.push((channel, counted)));
        for (channel, counted) in left {
            while !self.try_leave(worker, connection, (number(&channel), counted), false) {
                (0..WORKERS).for_each(|worker| self.take_mail(worker));
            }
        }
        let conn = &mut self.connections[worker][connection];
        conn.id.generation += 1;
        conn.is_closing = false;
        assert!(conn.counted.is_empty(), "index and model agree");
        conn.consumer = Consumer::default();
        conn.expected.clear();
    }

    fn take_mail(&mut self, worker: usize) {
        if let Some(mail) = self.inboxes[worker].take(Mail::slot) {
            self.receive(worker, mail);
        }
    }

    /// Takes all mail of a worker.
    fn mail(&self, worker: usize) -> Vec<Mail> {
        std::iter::from_fn(|| self.inboxes[worker].take(Mail::slot)).collect()
    }

    fn receive(&mut self, worker: usize, mail: Mail) {
        let (index, connections) = (&mut self.indexes[worker], &mut self.connections[worker]);
        let mut slow = Vec::new();
        match mail {
            Mail::Activate(activation) => {
                let Activation { connection, channel, group, presence, present, replay, .. } =
                    *activation;
                let conn = &mut connections[connection.slot as usize];
                if conn.id != connection || conn.is_closing {
                    return;
                }
                index.activate(conn.first, &channel, group);
                let acknowledged = Seen::Acknowledged(group, presence.members.len(), present);
                let mut has_room = conn.consumer.tell(number(&channel), acknowledged);
                for publication in &replay.publications {
                    has_room = has_room && conn.consumer.deliver(publication, group);
                }
                slow.extend((!has_room).then_some(connection.slot));
            }
            Mail::Deactivate(deactivation) => {
                let Deactivation { connection, channel, .. } = *deactivation;
                let conn = &mut connections[connection.slot as usize];
                if conn.id != connection || conn.is_closing {
                    return;
                }
                index.deactivate(&mut conn.first, &channel);
                let has_room = conn.consumer.tell(number(&channel), Seen::Left);
                slow.extend((!has_room).then_some(connection.slot));
            }
            Mail::Deliver(Delivery { publication, .. }) => {
                for &group in publication.channel.groups() {
                    for listener in index.listeners(&publication.channel, group) {
                        let conn = &mut connections[listener.connection as usize];
                        let has_room = publication.except == Some(conn.id)
                            || conn.consumer.deliver(&publication, group);
                        slow.extend((!has_room).then_some(listener.connection));
                    }
                }
            }
            other => panic!("nobody sends this here: {other:?}"),
        }
        for slot in slow {
            self.close(worker, slot as usize);
        }
    }

    /// Everybody has seen exactly what the calls, in their order, promised.
    fn check(&mut self) {
        // Who turns out too slow leaves, which is mail for others.
        while self.inboxes.iter().any(|inbox| !inbox.is_empty()) {
            (0..WORKERS).for_each(|worker| self.take_mail(worker));
        }
        for conn in self.connections.iter_mut().flatten() {
            conn.consumer.check(&conn.expected);
        }
        for worker in 0..WORKERS {
            for connection in 0..CONNECTIONS {
                self.close(worker, connection);
            }
            assert!(self.indexes[worker].is_empty(), "nothing is left in an index");
        }
        assert_eq!(self.directory.channels(), 0, "nobody is left in the directory");
        self.pass(10_000, true);
        assert_eq!(self.directory.kept(), 0, "nothing is left in the directory");
        assert_eq!(self.directory.budget().bytes(), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn each_subscriber_hears_one_order_from_its_acknowledgement_to_its_leave(
        steps in steps(),
        slots in 1..12usize,
    ) {
        let mut world = World::new(slots);
        for step in &steps {
            world.step(step);
        }
        world.check();
    }
}

/// The check itself is not blind: a delivery that overtakes the activation before it is noticed.
#[test]
#[should_panic(expected = "left")]
fn a_publication_that_overtakes_its_subscribers_acknowledgement_is_found() {
    let mut world = World::new(8);
    world.join(0, 0, 0, Group::InsforgeSdk);
    world.publish(0, 0, false);
    let [activation, delivery] = world.mail(0).try_into().expect("there are two");
    world.receive(0, delivery);
    world.receive(0, activation);
    world.check();
}

/// Nor is it blind to losses that nobody is told of.
#[test]
#[should_panic(expected = "left: what is missing is told of")]
fn a_publication_that_is_lost_in_silence_is_found() {
    let mut world = World::new(8);
    world.options[0].slow_consumer = SlowConsumer::DropOldest;
    world.join(0, 0, 0, Group::InsforgeSdk);
    world.publish(0, 0, false);
    let [activation, _lost] = world.mail(0).try_into().expect("there are two");
    world.receive(0, activation);
    world.check();
}
