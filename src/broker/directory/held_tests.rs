//! Joins and leaves that wait for a cluster's stream, and workers that are behind it.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::broker::index::{Counted, Index, NONE};
use crate::mailbox::{Capacity, Inbox, Mail};
use crate::message::{
    ChannelOptions, ChannelOrder, ConnId, Content, Encoding, Landed, MarkPlace, MemberId,
    MessageId, Offset, ReplayWish, Transport, WorkerId,
};

pub(super) const CHANNEL: &str = "c";

/// A node of a cluster with one worker.
pub(super) struct Node {
    pub(super) directory: Directory,
    interests: Arc<Interests>,
    pub(super) mailboxes: WorkerMailboxes,
    inbox: Inbox<Mail>,
}

/// Mail as the tests compare it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Seen {
    Begin(u32),
    End(u32),
    Refused(u32),
    Heard(Offset),
    Gap,
}

pub(super) fn subscriber(number: u32) -> Subscriber {
    Subscriber {
        connection: ConnId { worker: WorkerId(0), slot: number, generation: 0 },
        encoding: Encoding::Sdk,
        transport: Transport::WebSocket,
        member: None::<MemberId>,
    }
}

fn publication() -> Arc<Publication> {
    let content = Content::Event { payload: "1".into() };
    Arc::new(Publication::new(Uuid::nil(), CHANNEL.into(), 0, content))
}

impl Node {
    pub(super) fn new(publications: usize, control: usize) -> Self {
        let capacity = Capacity { publications, control };
        let (mailboxes, mut inboxes) = WorkerMailboxes::new(1, capacity).unwrap();
        let interests = Arc::new(Interests::new().unwrap());
        let directory = Directory::default().in_cluster(interests.clone());
        Self { directory, interests, mailboxes, inbox: inboxes.remove(0) }
    }

    fn join_as(
        &self,
        number: u32,
        already: Option<Encoding>,
        order: ChannelOrder,
    ) -> Result<(), Refused> {
        self.join_with(&subscriber(number), already, order)
    }

    fn join_with(
        &self,
        subscriber: &Subscriber,
        already: Option<Encoding>,
        order: ChannelOrder,
    ) -> Result<(), Refused> {
        let join = Join {
            channel: &CHANNEL.into(),
            subscriber,
            already,
            options: ChannelOptions { order, ..ChannelOptions::default() },
            reply: None,
            comes_back: false,
            replay: ReplayWish::default(),
            announcement: MessageId::nil(),
            now: 0,
            clock: 0,
        };
        self.directory.join(&self.mailboxes, &join).map(drop)
    }

    fn join(&self, number: u32) {
        self.join_as(number, None, ChannelOrder::Cluster).expect("there is room");
    }

    fn leave(&self, number: u32, lives_on: bool) -> Result<(), Refused> {
        self.leave_with(&subscriber(number), lives_on)
    }

    fn leave_with(&self, subscriber: &Subscriber, lives_on: bool) -> Result<(), Refused> {
        let leave = Leave {
            channel: &CHANNEL.into(),
            subscriber,
            lives_on,
            presence: None,
            lingers_until: 0,
            reply: None,
            announcement: MessageId::nil(),
            now: 0,
        };
        self.directory.leave(&self.mailboxes, &leave).map(drop)
    }

    fn attached(&self) -> usize {
        self.attached_at(0)
    }

    fn attached_at(&self, now: Millis) -> usize {
        self.directory.attached(&self.mailboxes, &CHANNEL.into(), MarkPlace::default(), now)
    }

    fn publish(&self, offset: Offset) -> Landed {
        self.directory.publish_ordered(&self.mailboxes, &publication(), MarkPlace::new(1, offset))
    }

    /// Returns how often the channel was noted, and whether the node needs it now.
    fn asked(&self) -> (usize, bool) {
        (self.interests.take().len(), self.directory.needs(&CHANNEL.into()))
    }

    fn detached(&self) {
        self.directory.detached(&CHANNEL.into());
    }

    fn behind(&self) -> Vec<(Offset, Offset)> {
        let behind = self.directory.behind(&CHANNEL.into()).into_iter();
        behind.map(|behind| (behind.after, behind.up_to)).collect()
    }

    fn catch_up(&self, offsets: std::ops::RangeInclusive<Offset>) -> bool {
        let missed: Vec<_> = offsets.map(|offset| (offset, publication())).collect();
        self.directory.catch_up(&self.mailboxes, (&CHANNEL.into(), WorkerId(0)), &missed)
    }

    fn mail(&self) -> Vec<Seen> {
        let seen = |mail| match mail {
            Mail::Activate(it) => Seen::Begin(it.connection.slot),
            Mail::Deactivate(it) => Seen::End(it.connection.slot),
            Mail::JoinRefused(it) => Seen::Refused(it.connection.slot),
            Mail::Deliver(it) => Seen::Heard(it.offset),
            Mail::Gap(_) => Seen::Gap,
            other => panic!("no such mail was asked for: {other:?}"),
        };
        self.take_mail().into_iter().map(seen).collect()
    }

    pub(super) fn take_mail(&self) -> Vec<Mail> {
        std::iter::from_fn(|| self.inbox.take(Mail::slot)).collect()
    }

    fn unattachable(&self) -> bool {
        self.directory.unattachable(&self.mailboxes, &CHANNEL.into())
    }
}

#[test]
fn a_join_waits_until_the_node_hears_the_channel() {
    let node = Node::new(8, 8);
    node.join(1);
    assert_eq!((node.mail(), node.asked()), (vec![], (1, true)));
    assert_eq!(node.publish(7), Landed::default(), "nobody is subscribed yet");
    assert_eq!((node.attached(), node.mail()), (0, vec![Seen::Begin(1)]));
    node.join(2);
    assert_eq!(node.publish(9).audience.websocket, 2);
    assert_eq!(node.mail(), [Seen::Begin(2), Seen::Heard(9)]);
    assert_eq!(node.asked(), (0, true));
}

#[test]
fn a_channel_of_local_order_waits_for_nothing() {
    let node = Node::new(8, 8);
    node.join_as(1, None, ChannelOrder::Local).unwrap();
    assert_eq!((node.mail(), node.asked()), (vec![Seen::Begin(1)], (0, false)));
    assert_eq!(node.publish(7), Landed::default(), "it is not of the stream");
}

#[test]
fn a_leave_stays_behind_the_join_that_waits() {
    let node = Node::new(8, 8);
    node.join(1);
    node.leave(1, true).unwrap();
    assert_eq!((node.mail(), node.asked()), (vec![], (1, true)));
    assert_eq!((node.attached(), node.mail()), (0, vec![Seen::Begin(1), Seen::End(1)]));
    assert_eq!(node.asked(), (1, false));
    node.detached();
    (0..SWEEP_STEPS).for_each(|step| node.directory.sweep(step, 1_000_000));
    assert_eq!((node.directory.channels(), node.directory.kept()), (0, 0));
}

#[test]
fn a_connection_that_has_ended_is_passed_over() {
    let node = Node::new(8, 8);
    node.join(1);
    node.join(2);
    node.leave(1, false).unwrap();
    assert_eq!((node.attached(), node.mail()), (0, vec![Seen::Begin(2)]));
    assert_eq!(node.publish(1).audience.websocket, 1);
    node.leave(2, false).unwrap();
    assert_eq!(node.asked(), (1, false));
}

#[test]
fn a_counted_connection_that_ends_is_uncounted_whatever_is_held() {
    let node = Node::new(1, 8);
    node.join(1);
    node.attached();
    node.publish(1);
    node.publish(2);
    node.join_as(1, Some(Encoding::Sdk), ChannelOrder::Cluster).unwrap();
    node.leave(1, false).unwrap();
    assert_eq!(node.mail(), [Seen::Begin(1), Seen::Heard(1)]);
    assert_eq!((node.attached(), node.mail()), (0, vec![]));
    assert_eq!(node.asked(), (1, false));
}

#[test]
fn a_connection_that_upgrades_while_its_join_waits_is_counted_once() {
    let node = Node::new(8, 8);
    let mut link = Subscriber { transport: Transport::Polling, ..subscriber(1) };
    node.join_with(&link, None, ChannelOrder::Cluster).unwrap();
    node.directory.upgrade(&CHANNEL.into(), link.connection, link.encoding);
    link.transport = Transport::WebSocket;
    assert_eq!(node.directory.channels(), 0, "its join is not carried out");
    node.attached();
    let audience = Audience { websocket: 1, ..Audience::default() };
    assert_eq!(node.publish(1).audience, audience);
    node.leave_with(&link, true).unwrap();
    assert_eq!((node.directory.channels(), node.asked()), (0, (1, false)));
}

#[test]
fn a_channel_that_is_needed_again_is_asked_for_again() {
    let node = Node::new(8, 8);
    node.join(1);
    node.attached();
    node.leave(1, false).unwrap();
    node.join(2);
    assert_eq!(node.asked(), (1, true));
    node.detached();
    assert_eq!((node.attached(), node.mail()), (0, vec![Seen::Begin(1), Seen::Begin(2)]));
}

#[test]
fn joins_that_waited_for_a_worker_go_on_once_it_has_caught_up() {
    let node = Node::new(1, 8);
    let carry_on = || node.directory.carry_on(&node.mailboxes, &CHANNEL.into());
    node.join(1);
    assert_eq!((carry_on(), node.mail()), (0, vec![]), "the node does not hear the channel");
    node.attached();
    node.publish(1);
    node.publish(2);
    node.join(2);
    assert_eq!((node.mail(), carry_on()), (vec![Seen::Begin(1), Seen::Heard(1)], 1));
    assert!(!node.catch_up(2..=2));
    assert_eq!((carry_on(), node.mail()), (0, vec![Seen::Heard(2), Seen::Begin(2)]));
}

#[test]
fn a_worker_lacks_nothing_from_before_the_node_hears_a_channel() {
    let node = Node::new(1, 8);
    node.join(1);
    node.attached();
    node.publish(5);
    node.leave(1, false).unwrap();
    node.detached();
    node.join(2);
    node.attached();
    node.publish(50);
    assert_eq!(node.behind(), [(49, 50)], "its mailbox was full");
    node.directory.tell_gap(&node.mailboxes, &CHANNEL.into(), None, 0);
    node.publish(3);
    assert_eq!(node.behind(), [(2, 3)], "the stream has begun again");
}

#[test]
fn what_a_channel_keeps_ends_with_what_the_node_hears_though_it_is_needed_again() {
    let node = Node::new(8, 8);
    node.join(1);
    node.attached();
    let retain = Retain::window(60);
    let (id, content) = (MessageId::nil(), Content::Event { payload: "1".into() });
    let kept = Publication::new(id, CHANNEL.into(), 0, content).accepted(1);
    let kept = kept.under(ChannelOptions { retain, ..ChannelOptions::default() });
    node.directory.publish_ordered(&node.mailboxes, &Arc::new(kept), MarkPlace::new(1, 1));
    let bytes = || node.directory.budgets().windows.bytes();
    node.leave(1, false).unwrap();
    assert!(bytes() > 0, "the node still hears the channel");
    node.join(2);
    node.detached();
    assert_eq!(bytes(), 0, "what follows is missing in the window");
    assert_eq!((node.asked(), node.attached()), ((1, true), 0));
    assert_eq!(node.mail().last(), Some(&Seen::Begin(2)));
}

#[test]
fn a_replay_is_whole_only_from_when_the_node_hears_the_channel() {
    let node = Node::new(8, 8);
    let resume = |number, clock| {
        let options = ChannelOptions { retain: Retain::window(60), ..ChannelOptions::default() };
        let after = Some(MessageId::from_u128(7));
        let join = Join {
            channel: &CHANNEL.into(),
            subscriber: &subscriber(number),
            already: None,
            options,
            reply: None,
            comes_back: false,
            replay: ReplayWish { seconds: 60, after, behind: None },
            announcement: MessageId::nil(),
            now: 0,
            clock,
        };
        node.directory.join(&node.mailboxes, &join).unwrap();
    };
    let gaps = || {
        // The stream cannot be read.
        node.directory.fill(&CHANNEL.into(), None);
        node.directory.carry_on(&node.mailboxes, &CHANNEL.into());
        let told = |mail| match mail {
            Mail::Activate(it) => Some(it.replay.has_gap),
            _ => None,
        };
        node.take_mail().into_iter().filter_map(told).collect::<Vec<_>>()
    };
    resume(1, 100_000);
    node.attached_at(100_001);
    assert_eq!(gaps(), [true], "it may have missed something before");
    resume(2, 160_000);
    resume(3, 160_001);
    assert_eq!(gaps(), [true, false], "the window is whole after a minute");
    node.directory.tell_gap(&node.mailboxes, &CHANNEL.into(), None, 200_000);
    resume(4, 200_001);
    assert_eq!(gaps(), [true]);
}

#[test]
fn a_channel_is_heard_as_long_as_a_lost_listener_may_come_back() {
    let node = Node::new(8, 8);
    node.join(1);
    node.attached();
    let leave = Leave {
        channel: &CHANNEL.into(),
        subscriber: &subscriber(1),
        lives_on: false,
        presence: None,
        lingers_until: 5_000,
        reply: None,
        announcement: MessageId::nil(),
        now: 0,
    };
    node.interests.take();
    node.directory.leave(&node.mailboxes, &leave).unwrap();
    let sweep = |now| (0..SWEEP_STEPS).for_each(|step| node.directory.sweep(step, now));
    sweep(4_999);
    assert_eq!(node.asked(), (0, true));
    sweep(5_000);
    assert_eq!(node.asked(), (1, false));
    node.detached();
    sweep(5_001);
    assert_eq!(node.directory.kept(), 0);
}

#[test]
fn a_worker_that_is_behind_is_given_what_it_missed_before_anything_else() {
    let node = Node::new(2, 8);
    node.join(1);
    node.attached();
    assert!(!node.publish(1).is_behind && !node.publish(2).is_behind);
    assert!(node.publish(5).is_behind);
    assert_eq!(node.mail(), [Seen::Begin(1), Seen::Heard(1), Seen::Heard(2)]);
    assert!(node.publish(6).is_behind, "there is room, but 5 is missing");
    node.join(2);
    assert_eq!((node.attached(), node.mail(), node.behind()), (1, vec![], vec![(2, 6)]));
    assert!(node.catch_up(1..=5), "6 is missing");
    assert_eq!(node.mail(), [3, 4].map(Seen::Heard));
    assert!(!node.catch_up(5..=6));
    assert_eq!((node.mail(), node.behind()), ([5, 6].map(Seen::Heard).into(), vec![]));
    assert_eq!((node.attached(), node.mail()), (0, vec![Seen::Begin(2)]));
    assert!(!node.publish(7).is_behind);
}

#[test]
fn what_cannot_be_attached_is_given_up_and_the_channel_is_asked_for_anew() {
    let node = Node::new(8, 8);
    node.join(1);
    node.join(2);
    node.leave(2, true).unwrap();
    node.join(3);
    node.leave(3, false).unwrap();
    assert!(!node.unattachable());
    assert_eq!(node.mail(), [Seen::Refused(1), Seen::Refused(2), Seen::End(2)]);
    node.directory.forget_refusal(&CHANNEL.into(), subscriber(1).connection);
    assert_eq!((node.attached(), node.mail(), node.asked()), (0, vec![], (1, false)));
    node.join(1);
    assert_eq!((node.asked(), node.attached()), ((1, true), 0));
    assert_eq!(node.mail(), [Seen::Begin(1)]);
}

#[test]
fn a_channel_is_attached_once_the_stream_orders_it() {
    let node = Node::new(8, 8);
    node.join_as(1, None, ChannelOrder::Local).unwrap();
    node.directory.reorder(|_| false);
    assert_eq!((node.asked(), node.publish(7)), ((0, false), Landed::default()));
    node.directory.reorder(|channel| channel.as_str() == CHANNEL);
    node.join(2);
    assert_eq!((node.asked(), node.mail()), ((1, true), vec![Seen::Begin(1)]));
    node.attached();
    assert_eq!(node.publish(9).audience.websocket, 2);
    assert_eq!(node.mail(), [Seen::Gap, Seen::Begin(2), Seen::Heard(9)]);
}

#[test]
fn what_the_stream_has_ordered_comes_before_what_the_node_orders() {
    let node = Node::new(1, 8);
    node.join(1);
    node.attached();
    node.publish(1);
    node.publish(2);
    let publish = || node.directory.publish(&node.mailboxes, &publication(), |_| ());
    assert_eq!(node.mail(), [Seen::Begin(1), Seen::Heard(1)]);
    assert_eq!(publish(), Err(Refused::Overloaded), "2 is missing");
    assert!(!node.catch_up(2..=2));
    assert_eq!(node.mail(), [Seen::Heard(2)]);
    assert_eq!(publish().map(|done| done.audience.websocket), Ok(1));
    assert_eq!(node.mail(), [Seen::Heard(3)]);
}

#[test]
fn requests_wait_for_room_and_their_number_is_bounded() {
    let node = Node::new(8, 1);
    (0..3).for_each(|number| node.join(number));
    for left in [2, 1, 0] {
        assert_eq!((node.attached(), node.attached()), (left, left));
        assert_eq!(node.mail().len(), 1);
    }
    let node = Node::new(8, 8);
    let most = u32::try_from(crate::limits::HELD_JOINS_MAX).unwrap();
    (0..most).for_each(|number| node.join(number));
    assert_eq!(node.join_as(most, None, ChannelOrder::Cluster), Err(Refused::Overloaded));
    (0..most).for_each(|number| node.leave(number, false).unwrap());
    while node.attached() > 0 {}
    assert_eq!(node.mail(), []);
    node.join(most);
}

/// What happens to a channel of a few connections.
#[derive(Clone, Copy, Debug)]
enum Step {
    Join(u32, Encoding),
    Leave(u32),
    Cut(u32),
    /// The connection moves from long-polling to WebSocket.
    Upgrade(u32),
    Publish,
    Attached,
    /// The node could not hear the channel in time.
    Unattachable,
    /// The thread that hears the stream begins again.
    Again,
    CatchUp,
    TakeMail,
}

fn step() -> impl Strategy<Value = Step> {
    let encoding = prop_oneof![Just(Encoding::Sdk), Just(Encoding::Documented)];
    prop_oneof![
        4 => (0..4u32, encoding).prop_map(|(at, encoding)| Step::Join(at, encoding)),
        3 => (0..4u32).prop_map(Step::Leave),
        3 => (0..4u32).prop_map(Step::Cut),
        2 => (0..4u32).prop_map(Step::Upgrade),
        3 => Just(Step::Publish),
        3 => Just(Step::Attached),
        1 => Just(Step::Unattachable),
        1 => Just(Step::Again),
        3 => Just(Step::CatchUp),
        3 => Just(Step::TakeMail),
    ]
}

/// A node, and what its worker knows of its connections.
struct World {
    node: Node,
    index: Index,
    /// The connections of a place follow each other. This is the number of the present one's
    /// predecessors.
    ended: [u32; 4],
    /// The heads of the present connections' subscriptions.
    heads: [u32; 4],
    /// The transports of the present connections.
    transports: [Transport; 4],
    offset: Offset,
    /// The requests of each connection, in order: whether each is a join.
    asked: HashMap<u32, Vec<bool>>,
    answered: HashMap<u32, Vec<bool>>,
    /// What each connection that is subscribed has heard since its subscription began, or since it
    /// was told of a gap.
    heard: HashMap<u32, Vec<Offset>>,
}

impl World {
    fn new() -> Self {
        Self {
            node: Node::new(3, 3),
            index: Index::default(),
            ended: [0; 4],
            heads: [NONE; 4],
            transports: [Transport::Polling; 4],
            offset: 0,
            asked: HashMap::new(),
            answered: HashMap::new(),
            heard: HashMap::new(),
        }
    }

    /// Returns the number of the present connection in a place.
    fn number(&self, at: u32) -> u32 {
        at + 4 * self.ended[at as usize]
    }

    /// Returns the present connection in a place, as its worker names it.
    fn subscriber(&self, at: u32, encoding: Encoding) -> Subscriber {
        let transport = self.transports[at as usize];
        Subscriber { encoding, transport, ..subscriber(self.number(at)) }
    }

    fn counted(&self, at: u32) -> Option<Encoding> {
        let counted = self.index.counted(self.heads[at as usize], &CHANNEL.into());
        counted.map(|counted| counted.encoding)
    }

    fn run(&mut self, step: Step) {
        let channel = &CHANNEL.into();
        let node = &self.node;
        match step {
            Step::Join(at, encoding) => {
                let number = self.number(at);
                let already = self.counted(at);
                let subscriber = self.subscriber(at, encoding);
                if node.join_with(&subscriber, already, ChannelOrder::Cluster).is_ok() {
                    let counted = Counted { encoding, is_present: false };
                    self.index.joined(number, &mut self.heads[at as usize], channel, counted);
                    self.asked.entry(number).or_default().push(true);
                }
            }
            Step::Leave(at) => {
                let (Some(encoding), number) = (self.counted(at), self.number(at)) else { return };
                if node.leave_with(&self.subscriber(at, encoding), true).is_ok() {
                    self.index.left(self.heads[at as usize], channel);
                    self.asked.entry(number).or_default().push(false);
                }
            }
            Step::Cut(at) => {
                let number = self.number(at);
                if let Some(encoding) = self.counted(at) {
                    node.leave_with(&self.subscriber(at, encoding), false).unwrap();
                }
                let head = std::mem::replace(&mut self.heads[at as usize], NONE);
                self.index.forget(head, |_, _| {});
                self.heard.remove(&number);
                self.ended[at as usize] += 1;
                self.transports[at as usize] = Transport::Polling;
            }
            Step::Upgrade(at) if self.transports[at as usize] == Transport::Polling => {
                if let Some(encoding) = self.counted(at) {
                    let connection = subscriber(self.number(at)).connection;
                    node.directory.upgrade(channel, connection, encoding);
                }
                self.transports[at as usize] = Transport::WebSocket;
            }
            Step::Upgrade(_) => {}
            Step::Publish => {
                self.offset += 1;
                node.publish(self.offset);
            }
            Step::Attached => drop(node.attached()),
            Step::Unattachable => {
                node.directory.unattachable(&node.mailboxes, channel);
            }
            Step::Again => node.directory.attach_again(),
            Step::CatchUp => {
                for (after, up_to) in node.behind() {
                    node.catch_up(after + 1..=up_to);
                }
            }
            Step::TakeMail => {
                for mail in node.take_mail() {
                    self.take(mail);
                }
            }
        }
    }

    /// Does what the worker does with a piece of mail.
    fn take(&mut self, mail: Mail) {
        let channel = &CHANNEL.into();
        let connection = match &mail {
            Mail::Activate(it) => it.connection,
            Mail::Deactivate(it) => it.connection,
            Mail::JoinRefused(it) => it.connection,
            Mail::Deliver(it) => {
                self.heard.values_mut().for_each(|heard| heard.push(it.offset));
                return;
            }
            Mail::Gap(_) => return self.heard.values_mut().for_each(Vec::clear),
            other => panic!("no such mail was asked for: {other:?}"),
        };
        let (number, at) = (connection.slot, connection.slot % 4);
        if number != self.number(at) {
            return;
        }
        let head = &mut self.heads[at as usize];
        self.answered.entry(number).or_default().push(!matches!(mail, Mail::Deactivate(_)));
        match mail {
            Mail::Activate(it) => {
                self.index.activate(*head, channel, it.encoding);
                self.heard.entry(number).or_default();
            }
            Mail::Deactivate(_) => {
                self.index.deactivate(head, channel);
                self.heard.remove(&number);
            }
            _ => {
                if self.index.refuse(head, channel) {
                    self.node.directory.forget_refusal(channel, connection);
                }
            }
        }
    }
}

proptest! {
    /// Each connection is answered in the order of its requests. Between the beginning and the end
    /// of its subscription it hears each publication once, in order, without a gap of which it was
    /// not told. In the end the directory counts exactly the connections that hear the channel.
    #[test]
    fn requests_and_publications_keep_their_order(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::new();
        steps.into_iter().for_each(|step| world.run(step));
        // In the end everything is carried out.
        for _ in 0..200 {
            let last = [Step::TakeMail, Step::CatchUp, Step::TakeMail, Step::Attached];
            last.into_iter().for_each(|step| world.run(step));
        }
        world.run(Step::TakeMail);
        prop_assert!(world.node.behind().is_empty());
        let mut audience = Audience::default();
        for at in 0..4 {
            let number = world.number(at);
            prop_assert_eq!(world.answered.get(&number), world.asked.get(&number));
            let hears = world.index.hears(world.heads[at as usize], &CHANNEL.into());
            prop_assert_eq!(hears, world.counted(at).is_some());
            prop_assert_eq!(hears, world.heard.contains_key(&number));
            match world.transports[at as usize] {
                Transport::WebSocket => audience.websocket += u32::from(hears),
                _ => audience.polling += u32::from(hears),
            }
        }
        for heard in world.heard.values().filter(|heard| !heard.is_empty()) {
            let expected: Vec<_> = (heard[0]..=world.offset).collect();
            prop_assert_eq!(heard, &expected);
        }
        world.offset += 1;
        prop_assert_eq!(world.node.publish(world.offset).audience, audience);
        prop_assert!(lock(&world.node.directory.home(&CHANNEL.into()).refused).is_empty());
    }
}
