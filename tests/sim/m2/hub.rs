//! What all threads share: the directory, the mailboxes, the questions to the store; and all words
//! that clients are told.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};

use fanfare::broker::directory::{Directory, Join, Subscriber};
use fanfare::config::M2;
use fanfare::limits::{M2_RETAINED_BYTES_MAX, M2_RETAINED_OVERHEAD_BYTES};
use fanfare::mailbox::{Capacity, WorkerMailboxes};
use fanfare::message::{
    Channel, ConnId, Content, FrameBytes, Group, Load, MessageId, Publication, ReplayWish,
    ResourceKind, Scope, Transport, WorkerId,
};

use super::client::HEAD_BYTES;
use super::start::Start;
use super::store::{Store, Stored};
use super::{NUMBERS, Planted, Terms};

/// A user's id.
pub(super) type User = Arc<str>;

/// What leaves room for so many bytes in what the directory may know: so many documents, so large.
const BALLAST_ROOM: usize = 400_000;
const BALLAST: usize = 128;
const BALLAST_BYTES: usize = (M2_RETAINED_BYTES_MAX - BALLAST_ROOM) / BALLAST;

/// A resource: its scope and its number there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Resource {
    pub(super) scope: usize,
    pub(super) number: usize,
}

impl Resource {
    /// The one that has a document for each user and none for everybody.
    const PRIVATE: usize = 1;

    pub(super) fn is_private(self) -> bool {
        self.number == Self::PRIVATE
    }

    fn parts(self) -> (ResourceKind, String) {
        let kind = ResourceKind::ALL[self.number % 3];
        let id = if self.is_private() { "private".into() } else { (self.number / 3).to_string() };
        (kind, id)
    }

    /// The one in that scope whose channel this is.
    pub(super) fn of(channel: &Channel, scope: usize) -> Self {
        let parts = channel.resource_parts().expect("it was made of them");
        let mut all = (0..NUMBERS).map(|number| Self { scope, number });
        let is_one = |one: &Self| {
            let (kind, id) = one.parts();
            (kind, id.as_str()) == parts
        };
        all.find(is_one).expect("there is no other")
    }
}

/// Scopes that must not be taken for each other.
fn scope(number: usize) -> Scope {
    let scope = |organization: &str, project: &str, launch_context: &str, world: &str| Scope {
        organization: organization.into(),
        project: project.into(),
        launch_context: launch_context.into(),
        world: world.into(),
    };
    match number {
        0 => scope("o", "p", "", ""),
        1 => scope("o", "p", "", "w"),
        2 => scope("o", "p", "w", ""),
        _ => scope("o/p", "", "", ""),
    }
}

/// What a client is told.
#[derive(Clone, Debug)]
pub(super) enum Word {
    Document {
        resource: Resource,
        audience: Option<User>,
        version: u64,
        exists: bool,
    },
    NotFound(Resource),
    Unavailable(Resource),
    /// A subscription begins, or is asked for again. Real clients are not told that in words of
    /// its own; these are, so that a word can be held against the subscription that it belongs to.
    Began {
        resource: Resource,
        is_again: bool,
    },
    /// The same of its end.
    Ended(Resource),
}

impl Word {
    pub(super) fn resource(&self) -> Resource {
        match self {
            Self::Document { resource, .. }
            | Self::Began { resource, .. }
            | Self::NotFound(resource)
            | Self::Unavailable(resource)
            | Self::Ended(resource) => *resource,
        }
    }
}

/// All words so far. A frame has the number of its word.
#[derive(Default)]
pub(super) struct Words(RefCell<Vec<Word>>);

impl Words {
    /// The frame of a word, of so many bytes.
    pub(super) fn frame(&self, word: Word, bytes: usize) -> Vec<u8> {
        let bytes = bytes.max(HEAD_BYTES + 1);
        let mut words = self.0.borrow_mut();
        let mut frame = vec![0; bytes];
        let place = u32::try_from(words.len()).expect("they are few");
        frame[..4].copy_from_slice(&place.to_be_bytes());
        frame[4..8].copy_from_slice(&u32::try_from(bytes).expect("it is short").to_be_bytes());
        words.push(word);
        frame
    }

    /// Which word a frame is that begins like this, and how many bytes follow.
    pub(super) fn head(head: &[u8]) -> (usize, usize) {
        let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().expect("four")) as usize;
        (number(&head[..4]), number(&head[4..HEAD_BYTES]) - HEAD_BYTES)
    }

    pub(super) fn word(&self, place: usize) -> Word {
        self.0.borrow()[place].clone()
    }
}

pub(super) struct Hub<'s> {
    pub(super) directory: Directory,
    pub(super) start: &'s Start,
    /// Behind it only the writer writes; that others can look is for planted faults and for checks.
    pub(super) store: RefCell<Store>,
    pub(super) loads: RefCell<VecDeque<Load>>,
    pub(super) words: Words,
    pub(super) terms: Terms,
    /// What has happened, and how often.
    pub(super) tally: RefCell<BTreeMap<&'static str, u64>>,
}

impl<'s> Hub<'s> {
    pub(super) fn new(terms: Terms, start: &'s Start) -> Self {
        let mut hub = Self {
            directory: Directory::default(),
            start,
            store: RefCell::default(),
            loads: RefCell::default(),
            words: Words::default(),
            terms,
            tally: RefCell::default(),
        };
        hub.restart();
        hub
    }

    /// All but the store is as new.
    pub(super) fn restart(&mut self) {
        self.note_evicted();
        self.directory = Directory::default();
        self.start = self.start.next();
        self.loads.borrow_mut().clear();
        self.add_ballast();
    }

    fn ballast(&self) -> usize {
        if self.terms.has_ballast { BALLAST } else { 0 }
    }

    /// Somebody whose mail nobody reads is subscribed to large documents that nobody else knows.
    fn add_ballast(&self) {
        static FRAME: OnceLock<FrameBytes> = OnceLock::new();
        let frame =
            FRAME.get_or_init(|| vec![0; BALLAST_BYTES - M2_RETAINED_OVERHEAD_BYTES].into());
        let capacity = Capacity { publications: BALLAST, control: BALLAST };
        let nowhere = WorkerMailboxes::new(1, capacity);
        let (nowhere, _inboxes) = nowhere.expect("the system gives event descriptors");
        let connection = ConnId { worker: WorkerId(0), slot: u32::MAX, generation: 0 };
        let transport = Transport::WebSocket;
        let subscriber = Subscriber { connection, group: Group::M2, transport, member: None };
        for number in 0..self.ballast() {
            let (kind, id) = (ResourceKind::KvStore, number.to_string());
            let channel = Channel::resource("ballast/p///", kind, &id);
            let joined = self.directory.join(&nowhere, &join(&channel, &subscriber, None));
            assert!(joined.is_ok(), "there is a place for each");
            let frame = frame.clone();
            let content = Content::Document { audience: None, version: 1, exists: true, frame };
            let publication = Arc::new(publication(channel, content));
            let published = self.directory.publish(&nowhere, &publication, |_| ());
            assert_eq!(published.expect("there is a place for each").offset, 1);
        }
    }

    /// Nobody is subscribed any more: nothing is left.
    pub(super) fn check_empty(&self) {
        self.note_evicted();
        assert_eq!(self.directory.channels(), self.ballast(), "nobody is left in the directory");
        assert_eq!(self.directory.kept(), 0, "nothing is left in the directory");
        let retained = self.directory.retained().bytes();
        assert_eq!(retained, self.ballast() * BALLAST_BYTES, "no document is left there");
        assert!(self.start.is_idle() && self.loads.borrow().is_empty(), "no mail is left");
    }

    fn note_evicted(&self) {
        self.note("not retained", self.directory.retained().evicted());
    }

    /// The channel of a resource.
    pub(super) fn channel(&self, resource: Resource) -> Channel {
        let mut scope = scope(resource.scope);
        if self.terms.planted == Planted::ScopeCut {
            scope = Scope { organization: scope.organization, ..Scope::default() };
        }
        let (kind, id) = resource.parts();
        Channel::resource(&scope.to_string(), kind, &id)
    }

    /// A document as it is fanned out.
    pub(super) fn publication(&self, document: &Stored) -> Arc<Publication> {
        let &Stored { resource, ref audience, version, bytes } = document;
        let exists = bytes.is_some();
        let word = Word::Document { resource, audience: audience.clone(), version, exists };
        let frame = self.words.frame(word, bytes.unwrap_or_default()).into();
        let content = Content::Document { audience: audience.clone(), version, exists, frame };
        Arc::new(publication(self.channel(resource), content))
    }

    /// Something has happened so often.
    pub(super) fn note(&self, what: &'static str, count: u64) {
        *self.tally.borrow_mut().entry(what).or_default() += count;
    }
}

fn publication(channel: Channel, content: Content) -> Publication {
    Publication::new(MessageId::nil(), channel, 0, content).under(M2::OPTIONS)
}

/// The wish to be subscribed to a resource.
pub(super) fn join<'a>(
    channel: &'a Channel,
    subscriber: &'a Subscriber,
    already: Option<Group>,
) -> Join<'a> {
    Join {
        channel,
        subscriber,
        already,
        options: M2::OPTIONS,
        reply: None,
        comes_back: false,
        replay: ReplayWish::default(),
        announcement: MessageId::nil(),
        now: 0,
        clock: 0,
    }
}
