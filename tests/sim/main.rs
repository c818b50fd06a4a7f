//! The pure core on its own: a directory, and workers that are nothing but a mailbox, an index and
//! what their connections heard. Random publishers, joiners and leavers meet mailboxes that fill
//! up; a model that sees every call knows what each subscriber must have heard.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use fanfare::engine::Mailboxes;
use fanfare::engine::directory::{Directory, Join, Leave, Subscriber};
use fanfare::engine::index::{Counted, Index, NONE};
use fanfare::engine::presence::MemberKey;
use fanfare::message::{
    Activation, Channel, ChannelOptions, ConnId, Content, Deactivation, Delivery, Group, MessageId,
    PresenceMode, Publication, Sender, Transport, WorkerId,
};
use proptest::prelude::*;

const WORKERS: usize = 3;
const CONNECTIONS: usize = 4;
const CHANNELS: usize = 2;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    Publish {
        channel: usize,
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
    /// A worker takes so much of its mail.
    Turn {
        worker: usize,
        mail: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..CHANNELS).prop_map(|channel| Step::Publish { channel }),
        3 => (0..WORKERS, 0..CONNECTIONS, 0..CHANNELS, any::<bool>()).prop_map(
            |(worker, connection, channel, documented)| Step::Join {
                worker,
                connection,
                channel,
                documented
            }
        ),
        2 => (0..WORKERS, 0..CONNECTIONS, 0..CHANNELS)
            .prop_map(|(worker, connection, channel)| Step::Leave { worker, connection, channel }),
        1 => (0..WORKERS, 0..CONNECTIONS)
            .prop_map(|(worker, connection)| Step::Close { worker, connection }),
        4 => (0..WORKERS, 1..6usize).prop_map(|(worker, mail)| Step::Turn { worker, mail }),
    ];
    prop::collection::vec(step, 1..200)
}

#[derive(Debug)]
enum Mail {
    Deliver(Delivery),
    Activate(Activation),
    Deactivate(Deactivation),
}

/// Mailboxes with few slots, and a count of what is reserved and not used.
#[derive(Default)]
struct Boxes {
    waiting: RefCell<Vec<VecDeque<Mail>>>,
    publications: RefCell<Vec<usize>>,
    control: RefCell<Vec<usize>>,
    reserved: RefCell<i64>,
}

impl Boxes {
    fn new(slots: usize) -> Self {
        Self {
            waiting: RefCell::new((0..WORKERS).map(|_| VecDeque::new()).collect()),
            publications: RefCell::new(vec![slots; WORKERS]),
            control: RefCell::new(vec![slots; WORKERS]),
            reserved: RefCell::new(0),
        }
    }

    fn take(&self, worker: usize) -> Option<Mail> {
        let mail = self.waiting.borrow_mut()[worker].pop_front()?;
        match mail {
            Mail::Deliver(_) => self.publications.borrow_mut()[worker] += 1,
            _ => self.control.borrow_mut()[worker] += 1,
        }
        Some(mail)
    }

    fn reserve(&self, slots: &RefCell<Vec<usize>>, worker: WorkerId) -> bool {
        let free = &mut slots.borrow_mut()[worker.index()];
        if *free == 0 {
            return false;
        }
        *free -= 1;
        *self.reserved.borrow_mut() += 1;
        true
    }

    fn release(&self, slots: &RefCell<Vec<usize>>, worker: WorkerId) {
        slots.borrow_mut()[worker.index()] += 1;
        *self.reserved.borrow_mut() -= 1;
    }

    fn post(&self, worker: WorkerId, mail: Mail) {
        *self.reserved.borrow_mut() -= 1;
        self.waiting.borrow_mut()[worker.index()].push_back(mail);
    }
}

impl Mailboxes for Boxes {
    fn reserve_publication(&self, worker: WorkerId) -> bool {
        self.reserve(&self.publications, worker)
    }
    fn release_publication(&self, worker: WorkerId) {
        self.release(&self.publications, worker);
    }
    fn reserve_control(&self, worker: WorkerId) -> bool {
        self.reserve(&self.control, worker)
    }
    fn release_control(&self, worker: WorkerId) {
        self.release(&self.control, worker);
    }
    fn deliver(&self, worker: WorkerId, delivery: Delivery) {
        self.post(worker, Mail::Deliver(delivery));
    }
    fn activate(&self, activation: Activation) {
        self.post(activation.connection.worker, Mail::Activate(activation));
    }
    fn deactivate(&self, deactivation: Deactivation) {
        self.post(deactivation.connection.worker, Mail::Deactivate(deactivation));
    }
    fn ring(&self, _worker: WorkerId) {}
}

/// What one connection sees, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Seen {
    Acknowledged(Group),
    Heard(MessageId, Group),
    Left,
}

struct Conn {
    id: ConnId,
    first: u32,
    seen: HashMap<usize, Vec<Seen>>,
    expected: HashMap<usize, Vec<Seen>>,
    /// The group that it asked for last, while it is subscribed.
    groups: HashMap<usize, Group>,
}

struct World {
    directory: Directory,
    boxes: Boxes,
    indexes: Vec<Index>,
    connections: Vec<Vec<Conn>>,
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
            seen: HashMap::new(),
            expected: HashMap::new(),
            groups: HashMap::new(),
        };
        Self {
            directory: Directory::default(),
            boxes: Boxes::new(slots),
            indexes: (0..WORKERS).map(|_| Index::default()).collect(),
            connections: (0..WORKERS)
                .map(|worker| (0..CONNECTIONS).map(|slot| connection(worker, slot)).collect())
                .collect(),
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
            Step::Publish { channel } => self.publish(channel),
            Step::Join { worker, connection, channel, documented } => {
                let group = if documented { Group::InsforgeDocumented } else { Group::InsforgeSdk };
                self.join(worker, connection, channel, group);
            }
            Step::Leave { worker, connection, channel } => self.leave(worker, connection, channel),
            Step::Close { worker, connection } => self.close(worker, connection),
            Step::Turn { worker, mail } => {
                for _ in 0..mail {
                    self.take_mail(worker);
                }
            }
        }
        assert_eq!(*self.boxes.reserved.borrow(), 0, "a slot is used or given back, never kept");
    }

    fn publish(&mut self, number: usize) {
        self.published += 1;
        let id = MessageId::from_u128(self.published);
        let content =
            Content::Message { event: "e".into(), payload: "1".into(), sender: Sender::System };
        let publication = Arc::new(Publication::new(id, channel(number), 0, content));
        let before: Vec<usize> = self.boxes.waiting.borrow().iter().map(VecDeque::len).collect();
        match self.directory.publish(&self.boxes, &publication) {
            Ok(published) => {
                let mut audience = 0;
                for conn in self.connections.iter_mut().flatten() {
                    if let Some(group) = conn.groups.get(&number) {
                        audience += 1;
                        let heard = Seen::Heard(id, *group);
                        conn.expected.entry(number).or_default().push(heard);
                    }
                }
                assert_eq!(published.audience.total(), audience, "the audience is the truth");
            }
            Err(_) => {
                let after: Vec<usize> =
                    self.boxes.waiting.borrow().iter().map(VecDeque::len).collect();
                assert_eq!(before, after, "refused whole");
            }
        }
    }

    fn join(&mut self, worker: usize, connection: usize, number: usize, group: Group) {
        let subscriber = self.subscriber(worker, connection, group);
        let conn = &mut self.connections[worker][connection];
        let already = self.indexes[worker].counted(conn.first, channel(number).as_str());
        let already = already.map(|counted| counted.group);
        assert_eq!(already, conn.groups.get(&number).copied(), "index and model agree");
        let channel = channel(number);
        let join = Join {
            channel: &channel,
            subscriber: &subscriber,
            already,
            options: ChannelOptions::default(),
            reply: None,
            announcement: MessageId::nil(),
            now: 0,
        };
        if self.directory.join(&self.boxes, &join).is_ok() {
            let counted = Counted { group, is_present: true };
            self.indexes[worker].joined(conn.id.slot, &mut conn.first, &channel, counted);
            conn.groups.insert(number, group);
            conn.expected.entry(number).or_default().push(Seen::Acknowledged(group));
        }
    }

    fn leave(&mut self, worker: usize, connection: usize, number: usize) {
        let Some(group) = self.connections[worker][connection].groups.get(&number).copied() else {
            return;
        };
        let (subscriber, channel) = (self.subscriber(worker, connection, group), channel(number));
        let leave = wish(&channel, &subscriber, true);
        if self.directory.leave(&self.boxes, &leave).is_ok() {
            let conn = &mut self.connections[worker][connection];
            self.indexes[worker].left(conn.first, &channel);
            conn.groups.remove(&number);
            conn.expected.entry(number).or_default().push(Seen::Left);
        }
    }

    /// The connection goes away and its slot is used again. Leaves that find no room are tried
    /// again, as a worker does, until others have taken their mail.
    fn close(&mut self, worker: usize, connection: usize) {
        let mut left = Vec::new();
        let first = std::mem::replace(&mut self.connections[worker][connection].first, NONE);
        self.indexes[worker].forget(first, |channel, group| left.push((channel, group.group)));
        for (channel, group) in left {
            let subscriber = self.subscriber(worker, connection, group);
            while self.directory.leave(&self.boxes, &wish(&channel, &subscriber, false)).is_err() {
                (0..WORKERS).for_each(|worker| self.take_mail(worker));
            }
        }
        let conn = &mut self.connections[worker][connection];
        conn.id.generation += 1;
        conn.groups.clear();
        // What was on its way to the closed connection reaches nobody.
        conn.seen.clear();
        conn.expected.clear();
    }

    fn take_mail(&mut self, worker: usize) {
        let Some(mail) = self.boxes.take(worker) else { return };
        let (index, connections) = (&mut self.indexes[worker], &mut self.connections[worker]);
        match mail {
            Mail::Activate(Activation { connection, channel, group, .. }) => {
                let conn = &mut connections[connection.slot as usize];
                if conn.id == connection {
                    index.activate(conn.first, &channel, group);
                    let seen = conn.seen.entry(number(&channel)).or_default();
                    seen.push(Seen::Acknowledged(group));
                }
            }
            Mail::Deactivate(Deactivation { connection, channel, .. }) => {
                let conn = &mut connections[connection.slot as usize];
                if conn.id == connection {
                    index.deactivate(&mut conn.first, &channel);
                    conn.seen.entry(number(&channel)).or_default().push(Seen::Left);
                }
            }
            Mail::Deliver(Delivery { publication, .. }) => {
                if !matches!(publication.content, Content::Message { .. }) {
                    return;
                }
                for group in Group::ALL {
                    for listener in index.listeners(&publication.channel, group) {
                        let conn = &mut connections[listener.connection as usize];
                        let seen = conn.seen.entry(number(&publication.channel)).or_default();
                        seen.push(Seen::Heard(publication.id, group));
                    }
                }
            }
        }
    }

    /// Everybody has seen exactly what the calls, in their order, promised.
    fn check(&mut self) {
        for worker in 0..WORKERS {
            while !self.boxes.waiting.borrow()[worker].is_empty() {
                self.take_mail(worker);
            }
        }
        for conn in self.connections.iter_mut().flatten() {
            conn.seen.retain(|_, seen| !seen.is_empty());
            assert_eq!(conn.seen, conn.expected, "{:?}", conn.id);
        }
        for worker in 0..WORKERS {
            for connection in 0..CONNECTIONS {
                self.close(worker, connection);
            }
            assert!(self.indexes[worker].is_empty(), "nothing is left in an index");
        }
        assert_eq!(self.directory.channels(), 0, "nothing is left in the directory");
    }
}

fn wish<'a>(channel: &'a Channel, subscriber: &'a Subscriber, lives_on: bool) -> Leave<'a> {
    let presence = Some(PresenceMode::Full);
    let announcement = MessageId::nil();
    Leave { channel, subscriber, lives_on, presence, reply: None, announcement, now: 0 }
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
    world.publish(0);
    world.boxes.waiting.borrow_mut()[0].swap(0, 1);
    world.check();
}
