//! A worker: a mailbox, an index, its connections' outboxes and debts, and who waits for the store.
//! What `src/worker` does between these is done here in the same order.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use fanfare::broker::directory::{Leave, Subscriber};
use fanfare::broker::index::{Counted, Index, NONE};
use fanfare::broker::outbox::{Full, Outbox, Spares};
use fanfare::broker::outgoing::Outgoing;
use fanfare::broker::shedding::Lost;
use fanfare::broker::stale::Debts;
use fanfare::interface::m2::waiters::{Answer, Awaiting, Beginning, Waiter, Wants};
use fanfare::limits::{DEBTS_PAID_MAX, M2_OUTBOX_BYTES_MAX};
use fanfare::mailbox::{Mail, Slot};
use fanfare::message::{
    Activation, Channel, ConnId, Content, Current, Deactivation, Found, Group, Load, MessageId,
    PresenceMode, Publication, Transport, WorkerId,
};

use super::client::{Client, Party};
use super::hub::{Hub, Resource, User, Word, join};
use super::{Planted, Wrong};

/// Reads of the store under way.
const LOADS_MAX: usize = 2;

pub(super) struct Worker {
    id: WorkerId,
    index: Index,
    connections: Vec<Connection>,
    users: HashMap<User, Vec<u32>>,
    awaiting: Awaiting,
    waiting: VecDeque<Load>,
    under_way: usize,
    owed: Vec<ConnId>,
    dirty: VecDeque<u32>,
    /// Subscriptions of connections that are gone, still counted.
    leaving: Vec<(Channel, ConnId)>,
    lost: Lost,
    spares: Spares<Frame>,
    /// What clients read that have just come.
    reads: Option<usize>,
    /// What was read too early, and who joins too late: a planted fault.
    early: Vec<(Channel, ConnId, Found<Arc<Publication>>)>,
    joining: Vec<(Channel, ConnId)>,
}

struct Connection {
    id: ConnId,
    first: u32,
    outbox: Outbox<Frame>,
    debts: Debts,
    is_dirty: bool,
    is_blocked: bool,
    /// Bytes that its socket takes; all that there are, where nothing is said.
    window: Option<usize>,
    client: Client,
}

#[derive(Clone, Debug)]
enum Frame {
    Document(Arc<Publication>),
    Own(Rc<[u8]>),
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Document(publication) => match &publication.content {
                Content::Document { frame, .. } => frame,
                other => panic!("not published here: {other:?}"),
            },
        }
    }
}

impl Outgoing for Frame {
    fn is_delivery(&self) -> bool {
        self.expendable().is_some()
    }
    fn expendable(&self) -> Option<&Publication> {
        match self {
            Self::Document(publication) => Some(publication),
            Self::Own(_) => None,
        }
    }
    fn gap(&self) -> Option<(&Channel, u64)> {
        None
    }
    fn notice(channel: &Channel, count: u64) -> Self {
        panic!("nobody is told that {count} documents of {channel:?} are missing")
    }
}

impl Connection {
    fn new(id: ConnId, client: Client, reads: Option<usize>) -> Self {
        Self {
            id,
            first: NONE,
            outbox: Outbox::default(),
            debts: Debts::default(),
            is_dirty: false,
            is_blocked: false,
            window: reads,
            client,
        }
    }

    fn subscriber(&self) -> Subscriber {
        let transport = Transport::WebSocket;
        Subscriber { connection: self.id, group: Group::M2, transport, member: None }
    }

    /// As `worker/conn.rs` decides it.
    fn is_owed_rather(&mut self, frame: &Frame) -> bool {
        let waits = self.outbox.bytes() + frame.as_ref().len();
        self.is_blocked
            && waits > M2_OUTBOX_BYTES_MAX
            && !self.outbox.is_empty()
            && frame.expendable().is_some_and(|document| self.debts.owe(document))
    }

    /// Its socket takes as much as it has room for.
    fn send(&mut self, hub: &Hub, spares: &mut Spares<Frame>) -> Result<(), Wrong> {
        let sent = self.window.unwrap_or(usize::MAX).min(self.outbox.bytes());
        let mut left = sent;
        for slice in self.outbox.slices() {
            let taken = slice.len().min(left);
            self.client.take(&hub.words, &slice[..taken])?;
            left -= taken;
        }
        self.outbox.advance(sent, spares);
        self.window = self.window.map(|window| window - sent);
        Ok(())
    }
}

impl Worker {
    pub(super) fn new(id: u8, clients: Vec<Client>, reads: Option<usize>) -> Self {
        let mut worker = Self {
            id: WorkerId(id),
            index: Index::default(),
            connections: Vec::new(),
            users: HashMap::new(),
            awaiting: Awaiting::default(),
            waiting: VecDeque::new(),
            under_way: 0,
            owed: Vec::new(),
            dirty: VecDeque::new(),
            leaving: Vec::new(),
            lost: Lost::default(),
            spares: Spares::default(),
            reads,
            early: Vec::new(),
            joining: Vec::new(),
        };
        for (slot, client) in (0..).zip(clients) {
            let id = ConnId { worker: worker.id, slot, generation: 0 };
            worker.welcome(slot, &client.party);
            worker.connections.push(Connection::new(id, client, reads));
        }
        worker
    }

    /// The clients of all connections, as they come back.
    pub(super) fn clients(&self) -> Vec<Client> {
        self.connections.iter().map(|connection| connection.client.comes_back()).collect()
    }

    pub(super) fn is_idle(&self) -> bool {
        let is_done = self.dirty.is_empty() && self.leaving.is_empty() && self.joining.is_empty();
        is_done && self.waiting.is_empty() && self.under_way == 0 && self.owed.is_empty()
    }

    fn welcome(&mut self, slot: u32, party: &Party) {
        if let Some(user) = &party.user {
            self.users.entry(user.clone()).or_default().push(slot);
        }
    }

    fn by_id(&mut self, id: ConnId) -> Option<&mut Connection> {
        let connection = &mut self.connections[id.slot as usize];
        (connection.id == id).then_some(connection)
    }

    pub(super) fn subscribe(&mut self, hub: &Hub, slot: usize, number: usize) {
        let Connection { id, client, .. } = &self.connections[slot];
        let (id, user) = (*id, client.party.user.clone());
        let resource = Resource { scope: client.party.scope, number };
        let channel = hub.channel(resource);
        if hub.terms.planted != Planted::LostBetween {
            return self.join(hub, id, &channel);
        }
        let (shared, question) = (!resource.is_private(), 0);
        let load = Load { connection: id, resource: channel, question, shared, user };
        let found = hub.store.borrow().load(&load).map(|document| hub.publication(&document));
        self.joining.push((load.resource.clone(), id));
        self.early.push((load.resource, id, found));
    }

    fn join(&mut self, hub: &Hub, id: ConnId, channel: &Channel) {
        let connection = &mut self.connections[id.slot as usize];
        let already = self.index.counted(connection.first, channel);
        let subscriber = connection.subscriber();
        let wish = join(channel, &subscriber, already.map(|counted| counted.group));
        if hub.directory.join(&hub.start.mailboxes, &wish).is_err() {
            return hub.note("not joined", 1);
        }
        let counted = Counted { group: Group::M2, is_present: false };
        self.index.joined(id.slot, &mut connection.first, channel, counted);
    }

    pub(super) fn unsubscribe(&mut self, hub: &Hub, slot: usize, number: usize) {
        let Connection { id, first, client, .. } = &self.connections[slot];
        let channel = hub.channel(Resource { scope: client.party.scope, number });
        let has_left = if self.index.counted(*first, &channel).is_some() {
            self.leave(hub, &channel, *id, true)
        } else {
            // What goes without saying is said behind the end that is on its way.
            let is_pending = self.index.is_pending(*first, &channel);
            let place = hub.start.mailboxes.of(self.id).reserve(Slot::Control);
            let place = place.filter(|_| is_pending);
            let end = Deactivation { connection: *id, channel: channel.clone(), reply: None };
            place.map(|place| place.post(Mail::Deactivate(Box::new(end)))).is_some()
        };
        if has_left {
            self.index.left(*first, &channel);
        }
    }

    fn leave(&self, hub: &Hub, channel: &Channel, id: ConnId, lives_on: bool) -> bool {
        let transport = Transport::WebSocket;
        let subscriber = Subscriber { connection: id, group: Group::M2, transport, member: None };
        let leave = Leave {
            channel,
            subscriber: &subscriber,
            lives_on,
            presence: Some(PresenceMode::Off),
            lingers_until: 0,
            reply: None,
            announcement: MessageId::nil(),
            now: 0,
        };
        hub.directory.leave(&hub.start.mailboxes, &leave).is_ok()
    }

    /// A connection ends, and another has its place: the same client's, or somebody else's.
    pub(super) fn reconnect(&mut self, slot: usize, party: Option<Party>) {
        let Self { connections, index, leaving, users, reads, .. } = self;
        let connection = &mut connections[slot];
        let mut id = connection.id;
        index.forget(connection.first, |channel, _| leaving.push((channel, id)));
        if let Some(user) = &connection.client.party.user {
            users.get_mut(user).expect("it is there").retain(|other| *other != id.slot);
        }
        id.generation += 1;
        let client = match party {
            Some(party) if party != connection.client.party => Client::new(party),
            _ => connection.client.comes_back(),
        };
        connection.outbox.clear(&mut self.spares);
        // Whoever stands in the list of those to drain is looked up by its slot.
        let is_dirty = connection.is_dirty;
        *connection = Connection { is_dirty, ..Connection::new(id, client, *reads) };
        let party = connection.client.party.clone();
        self.welcome(id.slot, &party);
    }

    /// The client reads so many bytes more and no others; or all there are.
    pub(super) fn read(&mut self, slot: usize, bytes: Option<usize>) {
        let connection = &mut self.connections[slot];
        let more = bytes.map(|bytes| connection.window.unwrap_or(0) + bytes);
        connection.window = more;
        if bytes != Some(0) && std::mem::take(&mut connection.is_blocked) {
            self.mark(slot);
        }
    }

    fn mark(&mut self, slot: usize) {
        let connection = &mut self.connections[slot];
        if !connection.is_dirty && !connection.is_blocked {
            connection.is_dirty = true;
            self.dirty.push_back(connection.id.slot);
        }
    }

    /// A turn that takes so much of its mail.
    pub(super) fn turn(&mut self, hub: &Hub, mail: usize) -> Result<(), Wrong> {
        for _ in 0..mail {
            let Some(mail) = hub.start.take(self.id) else { break };
            match mail {
                Mail::Deliver(delivery) => self.deliver(hub, &delivery.publication),
                Mail::Activate(activation) => self.activate(hub, *activation),
                Mail::Deactivate(deactivation) => self.deactivate(hub, &deactivation),
                Mail::Loaded(loaded) => self.loaded(hub, &loaded.load, loaded.found),
                other => panic!("nobody sends this here: {other:?}"),
            }
        }
        for (channel, id) in std::mem::take(&mut self.leaving) {
            assert!(self.leave(hub, &channel, id, false), "nobody is told of it");
        }
        for (channel, id) in std::mem::take(&mut self.joining) {
            if self.by_id(id).is_some() {
                self.join(hub, id, &channel);
            }
        }
        hub.note("conflated", std::mem::take(&mut self.lost).conflated);
        self.drain(hub)?;
        self.pay(hub);
        Ok(())
    }

    fn drain(&mut self, hub: &Hub) -> Result<(), Wrong> {
        while let Some(slot) = self.dirty.pop_front() {
            let connection = &mut self.connections[slot as usize];
            connection.is_dirty = false;
            connection.send(hub, &mut self.spares)?;
            if !connection.outbox.is_empty() {
                connection.is_blocked = true;
            } else if !connection.debts.is_empty() && hub.terms.planted != Planted::DebtsForgotten {
                self.owed.push(connection.id);
            }
        }
        Ok(())
    }

    /// As [`Drain::push`] in `worker/flush.rs`.
    fn push(&mut self, hub: &Hub, slot: usize, frame: Frame) {
        let connection = &mut self.connections[slot];
        if connection.is_owed_rather(&frame) {
            return hub.note("owed", 1);
        }
        let payment = frame.clone();
        if let Err(Full(frame)) = connection.outbox.push(frame, &mut self.spares) {
            hub.note("full", 1);
            let room = connection.outbox.make_room(&frame);
            let has_room = room.is_some();
            self.lost.add(room.unwrap_or_default());
            if !has_room || connection.outbox.push(frame.clone(), &mut self.spares).is_err() {
                let document = frame.expendable().expect("own frames are few and short");
                assert!(connection.debts.owe(document), "it is a document");
                return;
            }
        }
        payment.expendable().into_iter().for_each(|document| connection.debts.sent(document));
        if connection.is_blocked && connection.outbox.is_crowded() {
            self.lost.add(connection.outbox.conflate());
        }
        self.mark(slot);
    }

    fn tell(&mut self, hub: &Hub, id: ConnId, word: Word) {
        self.push(hub, id.slot as usize, Frame::Own(hub.words.frame(word, 0).into()));
    }

    fn activate(&mut self, hub: &Hub, activation: Activation) {
        let Activation { connection: id, channel, current, is_again, .. } = activation;
        let Some(connection) = self.by_id(id) else { return };
        let (first, party) = (connection.first, connection.client.party.clone());
        self.index.activate(first, &channel, Group::M2);
        let resource = Resource::of(&channel, party.scope);
        self.tell(hub, id, Word::Began { resource, is_again });
        if let Some(place) = self.early.iter().position(|one| (&one.0, one.1) == (&channel, id)) {
            let (_, _, found) = self.early.remove(place);
            let beginning = Beginning::of(&channel, Current::Unknown, party.user);
            let mut alone = Awaiting::default();
            let load = beginning.wants.and_then(|wants| alone.begin(&channel, id, wants));
            return match load.and_then(|load| alone.take(&load)) {
                Some(waiter) => self.answer(hub, (id, resource), &waiter, found),
                None => self.tell(hub, id, Word::NotFound(resource)),
            };
        }
        let Beginning { document, is_not_found, wants } =
            Beginning::of(&channel, current, party.user);
        if is_not_found {
            hub.note("known to be absent", 1);
            self.tell(hub, id, Word::NotFound(resource));
        }
        let is_owed = document.is_some_and(|document| {
            hub.note("known", 1);
            self.push(hub, id.slot as usize, Frame::Document(document.clone()));
            self.is_owed(id, &document)
        });
        match wants {
            Some(wants) => {
                self.ask(hub, id, &channel, if is_owed { wants.untold() } else { wants });
            }
            None if is_owed => _ = self.remember_unanswered(hub, id, &channel, 1),
            None => {}
        }
    }

    fn is_owed(&mut self, id: ConnId, document: &Publication) -> bool {
        self.by_id(id).is_some_and(|connection| connection.debts.is_owed(document))
    }

    fn remember_unanswered(
        &mut self,
        hub: &Hub,
        id: ConnId,
        resource: &Channel,
        times: u16,
    ) -> bool {
        let times = if hub.terms.planted == Planted::UnansweredForgotten { 0 } else { times };
        let connection = self.by_id(id);
        let is_owed = connection.is_some_and(|one| one.debts.add_unanswered(resource, times));
        hub.note("answered by what is owed", u64::from(is_owed));
        is_owed
    }

    fn deactivate(&mut self, hub: &Hub, deactivation: &Deactivation) {
        let Deactivation { connection: id, ref channel, .. } = *deactivation;
        let Some(connection) = self.connections.get_mut(id.slot as usize) else { return };
        if connection.id != id {
            return;
        }
        self.index.deactivate(&mut connection.first, channel);
        if hub.terms.planted != Planted::DebtsOutlive {
            connection.debts.end(channel);
        }
        let resource = Resource::of(channel, connection.client.party.scope);
        self.awaiting.end(channel, id);
        self.tell(hub, id, Word::Ended(resource));
    }

    fn deliver(&mut self, hub: &Hub, publication: &Arc<Publication>) {
        let Content::Document { audience, .. } = &publication.content else {
            panic!("nothing else is published here")
        };
        let frame = Frame::Document(publication.clone());
        let is_audience_ignored = hub.terms.planted == Planted::AudienceIgnored;
        let slots: Vec<u32> = match audience {
            Some(user) if !is_audience_ignored => {
                let slots = self.users.get(user).into_iter().flatten().copied();
                let hears = |slot: &u32| {
                    let first = self.connections[*slot as usize].first;
                    self.index.hears(first, &publication.channel)
                };
                slots.filter(hears).collect()
            }
            _ => {
                let listeners = self.index.listeners(&publication.channel, Group::M2);
                listeners.iter().map(|listener| listener.connection).collect()
            }
        };
        for slot in slots {
            self.push(hub, slot as usize, frame.clone());
        }
        if hub.terms.planted != Planted::SnapshotAfterUpdate {
            let Self { awaiting, connections, .. } = self;
            awaiting.published(publication, |id| {
                let connection = &connections[id.slot as usize];
                connection.id == id && connection.debts.is_owed(publication)
            });
        }
    }

    fn ask(&mut self, hub: &Hub, id: ConnId, resource: &Channel, wants: Wants) {
        self.waiting.extend(self.awaiting.begin(resource, id, wants));
        self.ask_store(hub);
    }

    fn ask_store(&mut self, hub: &Hub) {
        while self.under_way < LOADS_MAX
            && let Some(load) = self.waiting.pop_front()
        {
            if !self.awaiting.is_wanted(&load) {
                hub.note("asked in vain", 1);
                continue;
            }
            let Some(place) = hub.start.mailboxes.of(self.id).reserve(Slot::Control) else {
                return self.waiting.push_front(load);
            };
            place.promise();
            hub.loads.borrow_mut().push_back(load);
            self.under_way += 1;
        }
    }

    fn loaded(&mut self, hub: &Hub, load: &Load, found: Option<Found<Arc<Publication>>>) {
        self.under_way -= 1;
        let (id, is_known) = (load.connection, found.is_some());
        if let Some(waiter) = self.awaiting.take(load)
            && let Some(connection) = self.by_id(id)
        {
            let resource = Resource::of(&load.resource, connection.client.party.scope);
            if found.is_none() {
                let debts = waiter.wants().debts(&load.resource);
                debts.for_each(|debt| connection.debts.add(debt));
            }
            match found {
                Some(found) => self.answer(hub, (id, resource), &waiter, found),
                None => {
                    let (times, unanswered) = waiter.wants().subscribes();
                    let word = Word::Unavailable(resource);
                    let words = std::iter::repeat_n(word, unanswered.max(times.min(1)).into());
                    words.for_each(|word| self.tell(hub, id, word));
                }
            }
        }
        if is_known {
            self.look_at_debts(hub, id);
        }
        self.ask_store(hub);
    }

    /// Every client is sent something, such as a ping.
    pub(super) fn ping(&mut self, hub: &Hub) {
        let ids: Vec<ConnId> = self.connections.iter().map(|connection| connection.id).collect();
        ids.into_iter().for_each(|id| self.look_at_debts(hub, id));
    }

    fn look_at_debts(&mut self, hub: &Hub, id: ConnId) {
        let is_forgotten = hub.terms.planted == Planted::DebtsForgotten;
        if let Some(connection) = self.by_id(id)
            && connection.outbox.is_empty()
            && !connection.debts.is_empty()
            && !is_forgotten
        {
            self.owed.push(id);
        }
    }

    fn answer(
        &mut self,
        hub: &Hub,
        (id, resource): (ConnId, Resource),
        waiter: &Waiter,
        found: Found<Arc<Publication>>,
    ) {
        let Answer { documents, times, unanswered, is_not_found } =
            waiter.answer(found, hub.terms.notify_deletes);
        let is_outdated = documents.is_empty() && !is_not_found;
        hub.note(if is_outdated { "outdated answer" } else { "answer" }, 1);
        hub.note("not found", u64::from(is_not_found));
        hub.note("paid", waiter.wants().debts(&hub.channel(resource)).count() as u64);
        hub.note("told again", u64::from(times) - 1);
        let mut is_told = unanswered == 0;
        for document in (0..times).flat_map(|_| &documents) {
            self.push(hub, id.slot as usize, Frame::Document(document.clone()));
            is_told |= !self.is_owed(id, document);
        }
        let channel = hub.channel(resource);
        if !is_told && !self.remember_unanswered(hub, id, &channel, unanswered) && is_not_found {
            (0..unanswered).for_each(|_| self.tell(hub, id, Word::NotFound(resource)));
        }
    }

    fn pay(&mut self, hub: &Hub) {
        for id in std::mem::take(&mut self.owed) {
            let Some(connection) = self.by_id(id) else { continue };
            let user = connection.client.party.user.clone();
            for (debt, unanswered) in connection.debts.take(DEBTS_PAID_MAX) {
                let wants = Wants::owed(&debt, unanswered, user.clone());
                self.ask(hub, id, &debt.resource, wants);
            }
        }
        self.ask_store(hub);
    }

    /// Everything was taken: each client knows what the store has.
    pub(super) fn check(&self, hub: &Hub) -> Result<(), Wrong> {
        assert!(self.is_idle() && self.awaiting.is_empty(), "nobody waits for anything");
        for connection in &self.connections {
            let scope = connection.client.party.scope;
            let subscribed = self.index.of(connection.first);
            let subscribed: Vec<_> =
                subscribed.map(|(channel, _)| Resource::of(channel, scope)).collect();
            let store = hub.store.borrow();
            connection.client.check(&subscribed, &store, hub.terms.notify_deletes)?;
        }
        Ok(())
    }

    /// Nobody is subscribed any more: nothing is left.
    pub(super) fn check_empty(&self) {
        assert!(self.index.is_empty(), "nothing is left in the index");
        assert!(self.is_idle() && self.awaiting.is_empty(), "nobody waits for anything");
    }
}
