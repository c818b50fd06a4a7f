//! A worker as it runs in a node, with its clients at the other ends of their connections.

use std::sync::Arc;

use fanfare::broker::stale::{StaleDocument, StaleDocuments};
use fanfare::interface::m2::nouns::Party as ProvedParty;
use fanfare::interface::{Session, m2};
use fanfare::limits::OUTBOX_BYTES_MAX;
use fanfare::mailbox::Mail;
use fanfare::message::{Channel, ConnId, Content, Load, Now, Retained, WorkerId};
use fanfare::runtime::Worker;
use fanfare::runtime::transmit::one_by_one;

use super::client::{Client, Party};
use super::resource::{Resource, scope};
use super::word::Mark;
use super::world::Common;
use super::{Planted, Wrong};
use crate::frames::{CLOSE, Line, PING, TEXT, masked};

pub(super) struct Station {
    id: WorkerId,
    worker: Worker,
    seats: Vec<Seat>,
    /// How many bytes a new client reads; `None` if it reads all.
    reads: Option<usize>,
    /// Subscribes that a planted fault withholds from the worker until its next turn.
    held_back: Vec<(ConnId, Vec<u8>)>,
}

/// A client and its connection.
struct Seat {
    line: Line,
    client: Client,
}

/// The level of a client's outbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Level {
    frames: usize,
    bytes: usize,
    is_stale: bool,
}

impl Station {
    pub(super) fn new(common: &Common<'_>, id: WorkerId, clients: Vec<Client>, now: Now) -> Self {
        let mut station = Self {
            id,
            worker: common.start.node.worker(id, now),
            seats: Vec::new(),
            reads: common.terms.reads,
            held_back: Vec::new(),
        };
        for client in clients {
            let seat = station.seat(common, client);
            station.seats.push(seat);
        }
        station
    }

    pub(super) fn id(&self) -> WorkerId {
        self.id
    }

    /// Returns the clients of all connections, as they are when they connect again.
    pub(super) fn clients(&self) -> Vec<Client> {
        self.seats.iter().map(|seat| seat.client.comes_back()).collect()
    }

    fn seat(&mut self, common: &Common<'_>, client: Client) -> Seat {
        let Party { scope: number, user } = client.party.clone();
        let scope = scope(number, common.terms.planted).into();
        let party = Arc::new(ProvedParty { scope, user, expires_at: None });
        let timings = &common.start.node.hub.interfaces.timings;
        let session = Session::M2(m2::Session::new(party, Now::default(), timings));
        let id = common.start.node.open(&mut self.worker, self.id, session);
        Seat { line: Line::new(id, self.reads), client }
    }

    /// Replaces a connection by another one of the same client, or by that of another party.
    pub(super) fn reconnect(&mut self, common: &Common<'_>, slot: usize, party: Option<Party>) {
        let Seat { line: Line { id, .. }, ref client } = self.seats[slot];
        let client = match party {
            Some(party) if party != client.party => {
                self.send(id, CLOSE, &[]);
                Client::new(party)
            }
            _ => client.comes_back(),
        };
        self.worker.ended(id.slot);
        self.seats[slot] = self.seat(common, client);
    }

    /// Sends a frame from a client to the worker.
    fn send(&mut self, id: ConnId, opcode: u8, payload: &[u8]) {
        self.worker.receive(id.slot, &mut masked(opcode, payload));
        self.worker.reap();
    }

    fn mark(&mut self, id: ConnId, mark: Mark) {
        self.send(id, PING, &mark.payload());
    }

    fn request(&self, slot: usize, action: &str, number: usize) -> String {
        let scope = self.seats[slot].client.party.scope;
        let (kind, id) = Resource { scope, number }.parts();
        let kind = kind.name();
        format!(r#"{{"action":"{action}","resource":{{"type":"{kind}","id":"{id}"}}}}"#)
    }

    pub(super) fn subscribe(&mut self, common: &Common<'_>, slot: usize, number: usize) {
        let request = self.request(slot, "subscribe", number);
        let Seat { line: Line { id, .. }, ref client } = self.seats[slot];
        if common.terms.planted == Planted::LostBetween {
            let resource = Resource { scope: client.party.scope, number };
            let (shared, user) = (!resource.is_private(), client.party.user.clone());
            let resource = resource.channel(common.terms.planted);
            let load = Load { connection: id, resource, question: 0, shared, user };
            let found = common.store.borrow().load(&load);
            common.early.borrow_mut().insert((id, load.resource), found);
            return self.held_back.push((id, request.into_bytes()));
        }
        let before = common.start.node.waiting(self.id);
        self.send(id, TEXT, request.as_bytes());
        common.note("not joined", u64::from(common.start.node.waiting(self.id) == before));
    }

    pub(super) fn unsubscribe(&mut self, slot: usize, number: usize) {
        let request = self.request(slot, "unsubscribe", number);
        self.send(self.seats[slot].line.id, TEXT, request.as_bytes());
    }

    /// Lets a client read `bytes` more bytes; `None` lets it read all.
    pub(super) fn read(&mut self, slot: usize, bytes: Option<usize>) {
        self.seats[slot].line.read(&mut self.worker, bytes);
    }

    /// Sends a ping from each client with stale documents. The worker answers it, and then requests
    /// again the documents that the store could not read.
    pub(super) fn nudge(&mut self) {
        for at in 0..self.seats.len() {
            if self.level(at).is_stale {
                self.mark(self.seats[at].line.id, Mark::Nudge);
            }
        }
    }

    /// Runs a turn of the worker, which takes at most `mail` pieces of mail.
    pub(super) fn turn(&mut self, common: &Common<'_>, now: Now, mail: usize) -> Result<(), Wrong> {
        self.worker.at(now);
        for _ in 0..mail {
            let Some(mail) = common.start.node.take(self.id) else { break };
            self.take(common, mail);
        }
        self.worker.catch_up();
        for (id, request) in std::mem::take(&mut self.held_back) {
            if self.worker.link(id).is_some() {
                self.send(id, TEXT, &request);
            }
        }
        if common.terms.planted == Planted::StaleForgotten {
            self.forget_stale();
        }
        self.end_turn(common)
    }

    fn end_turn(&mut self, common: &Common<'_>) -> Result<(), Wrong> {
        let loads = &common.start.node.inboxes.loads;
        let before = loads.len();
        let Self { worker, seats, .. } = self;
        worker.end_turn(&mut one_by_one(|id, _, slices| {
            let seat = seats.iter_mut().find(|seat| seat.line.id == id);
            seat.expect("no other connection has anything to send").line.take(slices)
        }));
        common.note("paid", (loads.len() - before) as u64);
        seats.iter_mut().try_for_each(|Seat { line, client }| {
            line.heard().into_iter().try_for_each(|frame| client.take(common, frame))
        })
    }

    /// Hands the worker a piece of mail, between the marks that tell clients what it is about.
    fn take(&mut self, common: &Common<'_>, mail: Mail) {
        let before = self.levels();
        match mail {
            Mail::Deliver(ref delivery) => {
                let Content::Document { ref frame, .. } = delivery.publication.content else {
                    panic!("nothing else is published here")
                };
                let bytes = frame.len();
                self.worker.take(mail);
                let is_full = |(before, after): (Level, Level)| {
                    before.bytes + bytes > OUTBOX_BYTES_MAX && before != after
                };
                let all = before.iter().copied().zip(self.levels());
                common.note("full", all.filter(|one| is_full(*one)).count() as u64);
            }
            Mail::Activate(ref activation) => {
                let (id, is_again) = (activation.connection, activation.is_again);
                let about = self.about(id, &activation.channel);
                let known = match &activation.retained {
                    Retained::Value(document) => Some(document.clone()),
                    Retained::Unknown | Retained::Absent => None,
                };
                let is_absent = matches!(activation.retained, Retained::Absent);
                if let Some(resource) = about {
                    common.note("known to be absent", is_absent.into());
                    common.note("known", known.is_some().into());
                    self.mark(id, Mark::Began { resource, is_again });
                }
                self.worker.take(mail);
                if let (Some(link), Some(document)) = (self.worker.link(id), known) {
                    let is_stale = link.is_stale_in(&document);
                    common.note("answered by what is owed", is_stale.into());
                }
                self.name(id, about);
            }
            Mail::Deactivate(ref deactivation) => {
                let (id, channel) = (deactivation.connection, deactivation.channel.clone());
                let about = self.about(id, &channel);
                let stale = self.stale_of(common, id, &channel);
                self.worker.take(mail);
                if let Some(link) = self.worker.link(id).filter(|_| !stale.is_empty()) {
                    link.with_stale(|all| {
                        stale.into_iter().for_each(|document| all.insert(document));
                    });
                }
                if let Some(resource) = about {
                    self.mark(id, Mark::Ended(resource));
                }
            }
            Mail::Loaded(ref loaded) => {
                let (id, is_known) = (loaded.load.connection, loaded.found.is_some());
                let about = self.about(id, &loaded.load.resource);
                let is_told = self.worker.take(mail) > 0 || before != self.levels();
                if is_known && about.is_some() {
                    common.note(if is_told { "answer" } else { "outdated answer" }, 1);
                }
                self.name(id, about);
            }
            other => panic!("nobody sends this here: {other:?}"),
        }
        self.worker.reap();
        for (before, after) in before.into_iter().zip(self.levels()) {
            common.note("owed", u64::from(after.is_stale && !before.is_stale));
            common.note("conflated", before.frames.saturating_sub(after.frames) as u64);
        }
        if common.terms.planted == Planted::UnansweredForgotten {
            self.forget_unanswered();
        }
    }

    /// Returns the resource of a connection's mail; `None` if the connection has ended.
    fn about(&self, id: ConnId, channel: &Channel) -> Option<Resource> {
        let seat = self.seats.iter().find(|seat| seat.line.id == id)?;
        Some(Resource::of(channel, seat.client.party.scope))
    }

    /// Sends a mark that names the resource of warnings and errors, if the outbox has any frame.
    fn name(&mut self, id: ConnId, about: Option<Resource>) {
        if let Some(resource) = about
            && self.worker.link(id).is_some_and(|link| !link.outbox.is_empty())
        {
            self.mark(id, Mark::About(resource));
        }
    }

    fn level(&mut self, at: usize) -> Level {
        let link = self.worker.link(self.seats[at].line.id).expect("no connection ends by itself");
        let (frames, bytes) = (link.outbox.len(), link.outbox.bytes());
        Level { frames, bytes, is_stale: link.is_stale() }
    }

    fn levels(&mut self) -> Vec<Level> {
        (0..self.seats.len()).map(|at| self.level(at)).collect()
    }

    pub(super) fn is_idle(&mut self) -> bool {
        self.held_back.is_empty()
            && self.levels().iter().all(|level| level.frames == 0 && !level.is_stale)
    }

    /// Checks that each client knows what the store has, after all frames were taken.
    pub(super) fn check(&mut self, common: &Common<'_>) -> Result<(), Wrong> {
        for Seat { line, client } in &self.seats {
            let link = self.worker.link(line.id).expect("no connection ends by itself");
            assert!(line.is_between_frames(), "the last frame is whole");
            let subscribed = link.subscribed.into();
            client.check(subscribed, &common.store.borrow(), common.terms.notify_deletes)?;
        }
        Ok(())
    }

    /// Checks that the worker keeps nothing of connections that have ended.
    pub(super) fn check_empty(&self) {
        assert!(self.worker.is_vacant(), "nothing is left of those who are gone");
    }
}

/// Faults that a test plants, to see that the rules find them.
impl Station {
    /// Returns the stale documents of a subscription that outlive it as a planted fault; empty
    /// without the fault.
    fn stale_of(
        &mut self,
        common: &Common<'_>,
        id: ConnId,
        resource: &Channel,
    ) -> Vec<StaleDocument> {
        let is_planted = common.terms.planted == Planted::StaleOutlives;
        let Some(link) = self.worker.link(id).filter(|_| is_planted) else { return Vec::new() };
        let stale = link.with_stale(|all| {
            let stale = all.take(usize::MAX);
            restore(all, &stale);
            stale
        });
        let stale = stale.into_iter().map(|(document, _)| document);
        stale.filter(|document| document.resource == *resource).collect()
    }

    /// Forgets the stale documents that would be read again now.
    fn forget_stale(&mut self) {
        for Seat { line, .. } in &self.seats {
            let link = self.worker.link(line.id).expect("no connection ends by itself");
            if line.takes(link.outbox.bytes()) && link.is_stale() {
                link.with_stale(|all| all.take(usize::MAX));
            }
        }
    }

    /// Forgets which subscribes the stale documents must answer.
    fn forget_unanswered(&mut self) {
        for Seat { line, .. } in &self.seats {
            let link = self.worker.link(line.id).expect("no connection ends by itself");
            if link.is_stale() {
                link.with_stale(|all| {
                    let stale = all.take(usize::MAX);
                    stale.into_iter().for_each(|(document, _)| all.insert(document));
                });
            }
        }
    }
}

fn restore(all: &mut StaleDocuments, stale: &[(StaleDocument, u16)]) {
    for (document, unanswered) in stale {
        all.insert(document.clone());
        all.add_unanswered(&document.resource, *unanswered);
    }
}
