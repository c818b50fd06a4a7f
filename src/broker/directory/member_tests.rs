//! What a join and a leave cost in a channel of many members.

use super::*;
use crate::limits::PRESENCE_MEMBERS_MAX;
use crate::mailbox::{Capacity, Inbox, Mail};
use crate::message::{
    Activation, ChannelOptions, ConnId, Encoding, MemberId, MessageId, ReplayWish, Transport,
    WorkerId,
};

/// A channel of many members, and the mailbox of the worker that has them.
struct Room {
    directory: Directory,
    mailboxes: WorkerMailboxes,
    inbox: Inbox<Mail>,
}

fn subscriber(number: u32) -> Subscriber {
    let mut key = [0; 15];
    key[..4].copy_from_slice(&number.to_be_bytes());
    Subscriber {
        connection: ConnId { worker: WorkerId(0), slot: number, generation: 0 },
        encoding: Encoding::Sdk,
        transport: Transport::WebSocket,
        member: Some(MemberId::Connection(key)),
    }
}

impl Room {
    fn of(members: u32) -> Self {
        let capacity = Capacity { publications: 4, control: 4 };
        let (mailboxes, mut inboxes) = WorkerMailboxes::new(1, capacity).expect("descriptors");
        let room = Self { directory: Directory::default(), mailboxes, inbox: inboxes.remove(0) };
        for number in 0..members {
            room.join(number);
        }
        room
    }

    /// Lets a member join. Returns its activation, and how many announcements were posted.
    fn join(&self, number: u32) -> (Activation, usize) {
        let join = Join {
            channel: &"c".into(),
            subscriber: &subscriber(number),
            already: None,
            options: ChannelOptions::default(),
            reply: None,
            comes_back: false,
            replay: ReplayWish::default(),
            announcement: MessageId::nil(),
            now: 0,
            clock: 0,
        };
        self.directory.join(&self.mailboxes, &join).expect("there is room");
        let (mut activation, mut announced) = (None, 0);
        while let Some(mail) = self.inbox.take(Mail::slot) {
            match mail {
                Mail::Activate(it) => activation = Some(*it),
                Mail::Deliver(_) => announced += 1,
                other => panic!("nobody asked for this: {other:?}"),
            }
        }
        (activation.expect("a join posts its activation"), announced)
    }

    /// Lets a member leave. Returns how many announcements were posted.
    fn leave(&self, number: u32) -> usize {
        let leave = Leave {
            channel: &"c".into(),
            subscriber: &subscriber(number),
            lives_on: false,
            presence: Some(PresenceMode::Full),
            lingers_until: 0,
            reply: None,
            announcement: MessageId::nil(),
            now: 0,
        };
        self.directory.leave(&self.mailboxes, &leave).expect("there is room");
        std::iter::from_fn(|| self.inbox.take(Mail::slot)).count()
    }
}

#[test]
fn coming_and_going_in_a_large_channel_makes_no_list_and_no_announcement() {
    for members in [PRESENCE_MEMBERS_MAX as u32 + 1, 10_000] {
        let room = Room::of(members);
        let (first, _) = room.join(members);
        for number in members + 1..members + 100 {
            let (activation, announced) = room.join(number);
            assert!(Arc::ptr_eq(&activation.presence, &first.presence), "a list for {number}");
            assert_eq!((announced, activation.present), (0, number as usize + 1));
            assert_eq!(activation.presence.members.len(), PRESENCE_MEMBERS_MAX);
        }
        for number in members + 1..members + 100 {
            assert_eq!(room.leave(number), 0);
            let (activation, _) = room.join(number);
            assert!(Arc::ptr_eq(&activation.presence, &first.presence), "{number} was not listed");
        }
    }
}

#[test]
fn a_channel_of_few_members_announces_each_to_a_worker_once() {
    let room = Room::of(10);
    let (activation, announced) = room.join(10);
    assert_eq!((activation.presence.members.len(), announced), (11, 1));
    assert_eq!(room.leave(10), 1);
}
