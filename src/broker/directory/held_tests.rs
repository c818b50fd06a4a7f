//! Joins and leaves that wait for a cluster's stream, and workers that are behind it.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::mailbox::{Capacity, Inbox, Mail};
use crate::message::{
    ChannelOptions, ChannelOrder, ConnId, Content, Encoding, Landed, MemberId, MessageId, Offset,
    ReplayWish, Transport, WorkerId,
};

const CHANNEL: &str = "c";

/// A node of a cluster with one worker.
struct Node {
    directory: Directory,
    interests: Arc<Interests>,
    mailboxes: WorkerMailboxes,
    inbox: Inbox<Mail>,
}

/// Mail as the tests compare it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Seen {
    Begin(u32),
    End(u32),
    Heard(Offset),
}

fn subscriber(number: u32) -> Subscriber {
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
    fn new(publications: usize, control: usize) -> Self {
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
        let join = Join {
            channel: &CHANNEL.into(),
            subscriber: &subscriber(number),
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
        let leave = Leave {
            channel: &CHANNEL.into(),
            subscriber: &subscriber(number),
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
        self.directory.attached(&self.mailboxes, &CHANNEL.into())
    }

    fn publish(&self, offset: Offset) -> Landed {
        self.directory.publish_ordered(&self.mailboxes, &publication(), offset)
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
            Mail::Deliver(it) => Seen::Heard(it.offset),
            other => panic!("nobody asked for this: {other:?}"),
        };
        std::iter::from_fn(|| self.inbox.take(Mail::slot)).map(seen).collect()
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
    node.directory.tell_gap(&node.mailboxes, &CHANNEL.into(), None);
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
    node.directory.publish_ordered(&node.mailboxes, &Arc::new(kept), 1);
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
    let unheld = node.directory.unattachable(&CHANNEL.into());
    let unheld: Vec<_> = unheld.iter().map(|one| (one.connection.slot, one.is_join)).collect();
    assert_eq!(unheld, [(1, true), (2, true), (2, false)]);
    assert_eq!((node.attached(), node.mail(), node.asked()), (0, vec![], (1, false)));
    node.join(1);
    assert_eq!((node.asked(), node.attached()), ((1, true), 0));
    assert_eq!(node.mail(), [Seen::Begin(1)]);
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
    Join(u32),
    Leave(u32),
    Cut(u32),
    Publish,
    Attached,
    CatchUp,
    TakeMail,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4u32).prop_map(Step::Join),
        (0..4u32).prop_map(Step::Leave),
        (0..4u32).prop_map(Step::Cut),
        Just(Step::Publish),
        Just(Step::Attached),
        Just(Step::CatchUp),
        Just(Step::TakeMail),
    ]
}

proptest! {
    /// Each connection sees its own requests in their order, and between the beginning and the end
    /// of its subscription each publication once, in order, without a gap.
    #[test]
    fn requests_and_publications_keep_their_order(steps in prop::collection::vec(step(), 1..80)) {
        let node = Node::new(3, 3);
        // The connections of a place follow each other.
        let mut alive = [0u32; 4];
        let mut subscribed = [false; 4];
        let mut offset = 0;
        let mut asked = HashMap::<u32, Vec<Seen>>::new();
        let mut mail = Vec::new();
        let mut run = |step: Step| match step {
            Step::Join(at) => {
                let place = at as usize;
                let number = at + 4 * alive[place];
                let already = subscribed[place].then_some(Encoding::Sdk);
                if node.join_as(number, already, ChannelOrder::Cluster).is_ok() {
                    subscribed[place] = true;
                    asked.entry(number).or_default().push(Seen::Begin(number));
                }
            }
            Step::Leave(at) if subscribed[at as usize] => {
                let number = at + 4 * alive[at as usize];
                if node.leave(number, true).is_ok() {
                    subscribed[at as usize] = false;
                    asked.entry(number).or_default().push(Seen::End(number));
                }
            }
            Step::Cut(at) if subscribed[at as usize] => {
                node.leave(at + 4 * alive[at as usize], false).unwrap();
                (subscribed[at as usize], alive[at as usize]) = (false, alive[at as usize] + 1);
            }
            Step::Leave(_) | Step::Cut(_) => {}
            Step::Publish => {
                offset += 1;
                node.publish(offset);
            }
            Step::Attached => drop(node.attached()),
            Step::CatchUp => {
                for (after, up_to) in node.behind() {
                    node.catch_up(after + 1..=up_to);
                }
            }
            Step::TakeMail => mail.extend(node.mail()),
        };
        steps.into_iter().for_each(&mut run);
        // In the end everything is carried out.
        for _ in 0..200 {
            let last = [Step::TakeMail, Step::CatchUp, Step::TakeMail, Step::Attached];
            last.into_iter().for_each(&mut run);
        }
        run(Step::TakeMail);
        prop_assert!(node.behind().is_empty());
        for (number, asked) in asked {
            let is_own = |seen: &&Seen| {
                matches!(seen, Seen::Begin(it) | Seen::End(it) if *it == number)
            };
            let own = mail.iter().filter(is_own);
            let own: Vec<_> = own.copied().collect();
            let lives = number / 4 == alive[number as usize % 4];
            let expected = if lives { &asked[..] } else { &asked[..own.len()] };
            prop_assert_eq!(&own[..], expected);
            // One that was cut is told nothing more, though its worker may still hear the channel.
            if lives {
                check_heard(&mail, number, subscribed[number as usize % 4], offset)?;
            }
        }
    }
}

/// Checks that a connection hears consecutive publications while it is subscribed.
fn check_heard(
    mail: &[Seen],
    number: u32,
    is_subscribed: bool,
    newest: Offset,
) -> Result<(), TestCaseError> {
    let (mut hears, mut last) = (false, None);
    for seen in mail {
        match seen {
            Seen::Begin(it) if *it == number => {
                (hears, last) = (true, if hears { last } else { None });
            }
            Seen::End(it) if *it == number => hears = false,
            Seen::Heard(offset) if hears => {
                prop_assert!(last.is_none_or(|last| offset - last == 1), "{mail:?}");
                last = Some(*offset);
            }
            _ => {}
        }
    }
    if is_subscribed
        && hears
        && let Some(last) = last
    {
        prop_assert_eq!(last, newest);
    }
    Ok(())
}
