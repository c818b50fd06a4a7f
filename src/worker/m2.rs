//! Clients of M2 Realtime: what they subscribe to, and how they learn what its documents are
//! (contract sections 2.3 and 5).
//!
//! A subscriber is counted in the directory first. Where that knows the current document, it comes
//! with the activation; else the store is asked, and what is published meanwhile goes out at once
//! ([`Awaiting`]). A client that does not keep up is owed documents instead of being sent them, and
//! asks the store for what they are once it has taken what waits for it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::close::{self, Reason};
use super::command::{Joining, join, unsubscribe};
use super::conn::{Connection, Connections};
use super::frame::Frame;
use super::{Worker, credential, liveness};
use crate::config::M2 as Terms;
use crate::engine::awaiting::{Answer, Awaiting, Beginning, Wants};
use crate::engine::debts::Debts;
use crate::limits::{DEBTS_PAID_MAX, LOADS_OUTDATED_MAX, LOADS_PER_WORKER_MAX};
use crate::mailbox::{Loaded, Slot};
use crate::message::{
    Channel, ConnId, Current, Found, Group, Load, Millis, Party, Publication, Refusal, ReplayWish,
};
use crate::protocol::engineio::{Heartbeat, Timings};
use crate::protocol::m2::{self, Fault, Request};
use crate::wire::json::Document;

/// Close code of a client whose token has expired (RFC 6455 section 7.4.1: policy).
pub(super) const EXPIRED: u16 = 1008;

/// A client, and on whose behalf it listens.
#[derive(Debug)]
pub(super) struct M2 {
    pub(super) party: Arc<Party>,
    /// Whether it is still there.
    pub(super) heartbeat: Heartbeat,
    /// What it is owed.
    pub(super) debts: Debts,
}

impl M2 {
    /// That comes now.
    pub(super) fn new(party: Arc<Party>, now: Millis, timings: &Timings) -> Self {
        Self { party, heartbeat: Heartbeat::new(now, timings), debts: Debts::default() }
    }
}

/// What a worker's clients of M2 share.
#[derive(Debug, Default)]
pub(super) struct Clients {
    /// The connections of each user, by their slots.
    users: HashMap<Arc<str>, Vec<u32>>,
    awaiting: Awaiting,
    /// Questions to the store that wait until fewer are under way.
    waiting: VecDeque<Load>,
    under_way: usize,
    /// Connections that have taken what waited for them and are owed more.
    pub(super) owed: Vec<ConnId>,
}

/// A client is here.
pub(super) fn welcome(worker: &mut Worker, id: ConnId) {
    let Some(client) = client(worker, id) else { return };
    if let Some(user) = client.party.user.clone() {
        worker.m2.users.entry(user).or_default().push(id.slot);
    }
}

/// A connection ends. Nothing, where it is no client of M2.
pub(super) fn leave(worker: &mut Worker, id: ConnId) {
    let Some(client) = client(worker, id) else { return };
    let Some(user) = client.party.user.clone() else { return };
    let Some(slots) = worker.m2.users.get_mut(&user) else { return };
    slots.retain(|slot| *slot != id.slot);
    if slots.is_empty() {
        worker.m2.users.remove(&user);
    }
}

fn client(worker: &mut Worker, id: ConnId) -> Option<&mut M2> {
    worker.connections.by_id(id)?.m2()
}

/// Looks at the clock for a client: pings it, or lets it go.
pub(super) fn on_time(worker: &mut Worker, id: ConnId) {
    let now = worker.now;
    if credential::expires(worker, id.slot).is_some_and(|at| at <= now) {
        return close::gracefully(worker, id.slot, Some(EXPIRED), Reason::Expired);
    }
    liveness::beat(worker, id);
}

/// Acts on a message. One that makes no sense is answered, and the client stays.
pub(super) fn on_text(worker: &mut Worker, id: ConnId, text: &str) {
    liveness::on_message(worker, id);
    let mut scratch = std::mem::take(&mut worker.json);
    let done = match Document::from_text(text, &mut scratch) {
        Ok(document) => m2::read(&document).and_then(|request| carry_out(worker, id, request)),
        Err(_) => Err(Fault::Message),
    };
    worker.json = scratch;
    if let Err(fault) = done {
        refuse(worker, id, fault);
    }
}

/// Refuses a message that no client may send.
pub(super) fn on_binary(worker: &mut Worker, id: ConnId) {
    refuse(worker, id, Fault::Message);
}

fn refuse(worker: &mut Worker, id: ConnId, fault: Fault) {
    let counters = &worker.counters;
    let counter = match fault {
        Fault::Message | Fault::IdTooLong => &counters.refused_invalid,
        Fault::TooManySubscriptions => &counters.refused_subscriptions,
        Fault::Overloaded | Fault::Unavailable => &counters.refused_overloaded,
    };
    counter.add(1);
    tracing::debug!(?fault, "refusing a message of M2");
    worker.send_text(id.slot, &m2::error(fault));
}

fn carry_out(worker: &mut Worker, id: ConnId, request: Request<'_>) -> Result<(), Fault> {
    let Some(client) = client(worker, id) else { return Ok(()) };
    let scope = &client.party.scope;
    match request {
        Request::Subscribe(kind, name) => {
            let resource = Channel::resource(scope, kind, name);
            subscribe(worker, id, &resource)
        }
        Request::Unsubscribe(kind, name) => {
            let resource = Channel::resource(scope, kind, name);
            unsubscribe(worker, id, &resource, None).map_err(fault)
        }
    }
}

fn subscribe(worker: &mut Worker, id: ConnId, resource: &Channel) -> Result<(), Fault> {
    let Some(connection) = worker.connections.by_id(id) else { return Ok(()) };
    if connection.is_leaving {
        return Err(Fault::Overloaded);
    }
    let (first, subscribed) = (connection.subscriptions, connection.subscribed);
    let is_full = usize::from(subscribed) >= worker.hub.m2.subscriptions;
    if is_full && worker.index.counted(first, resource).is_none() {
        return Err(Fault::TooManySubscriptions);
    }
    let (group, options, replay) = (Group::M2, Terms::OPTIONS, ReplayWish::default());
    let joining = Joining { group, options, reply: None, replay, comes_back: false };
    join(worker, id, resource, &joining).map_err(fault)
}

fn fault(refusal: Refusal) -> Fault {
    match refusal {
        Refusal::TooManySubscriptions => Fault::TooManySubscriptions,
        // Nothing else keeps anybody from joining or leaving a resource.
        _ => Fault::Overloaded,
    }
}

/// A subscription begins: its client is told what the documents are, as far as that is known, and
/// the store is asked for the others. Answers how many bytes that was.
pub(super) fn activated(
    worker: &mut Worker,
    id: ConnId,
    resource: Channel,
    current: Current,
) -> usize {
    let Some(client) = client(worker, id) else { return 0 };
    let user = client.party.user.clone();
    let Beginning { document, is_not_found, wants } = Beginning::of(&resource, current, user);
    if is_not_found {
        tell_not_found(worker, id, &resource);
    }
    let Some(document) = document else {
        wants.into_iter().for_each(|wants| ask(worker, id, &resource, wants));
        return 0;
    };
    let bytes = send(worker, id, &document);
    let is_owed = is_owed(&mut worker.connections, id, &document);
    match wants {
        Some(wants) => ask(worker, id, &resource, if is_owed { wants.untold() } else { wants }),
        None if is_owed => _ = remember_unanswered(worker, id, &resource, 1),
        None => {}
    }
    bytes
}

/// Whether a document that was to be sent to a client is owed to it instead.
fn is_owed(connections: &mut Connections, id: ConnId, document: &Publication) -> bool {
    let client = connections.by_id(id).and_then(Connection::m2);
    client.is_some_and(|client| client.debts.is_owed(document))
}

/// Remembers subscribes that a document which is owed will answer. Returns false if none is owed.
fn remember_unanswered(worker: &mut Worker, id: ConnId, resource: &Channel, times: u16) -> bool {
    client(worker, id).is_some_and(|client| client.debts.add_unanswered(resource, times))
}

/// Asks the store for what somebody waits for, as soon as there is room for the answer.
fn ask(worker: &mut Worker, id: ConnId, resource: &Channel, wants: Wants) {
    let Clients { awaiting, waiting, .. } = &mut worker.m2;
    let Some(load) = awaiting.begin(resource, id, wants) else { return };
    waiting.push_back(load);
    if waiting.len() > 2 * awaiting.len() + LOADS_OUTDATED_MAX {
        waiting.retain(|load| awaiting.is_wanted(load));
    }
    ask_store(worker);
}

fn ask_store(worker: &mut Worker) {
    let mailbox = worker.inbox.mailbox();
    let Clients { awaiting, waiting, under_way, .. } = &mut worker.m2;
    while *under_way < LOADS_PER_WORKER_MAX
        && let Some(load) = waiting.pop_front()
    {
        if !awaiting.is_wanted(&load) {
            continue;
        }
        let Some(place) = mailbox.reserve(Slot::Control) else {
            return waiting.push_front(load);
        };
        if worker.hub.mailboxes.load(load, place).is_err() {
            // The node stops: nobody is told anything any more.
            return;
        }
        *under_way += 1;
    }
}

/// The store has answered. What is not newer than what its client was sent is dropped.
pub(super) fn loaded(worker: &mut Worker, loaded: Loaded) -> usize {
    let Loaded { load, found } = loaded;
    worker.m2.under_way -= 1;
    let is_known = found.is_some();
    let bytes = answer(worker, &load, found);
    let connection = worker.connections.by_id(load.connection);
    if is_known && connection.is_some_and(|one| one.outbox.is_empty() && one.is_in_debt()) {
        // Nothing that was owed had to be sent, so that nobody will say when it was.
        worker.m2.owed.push(load.connection);
    }
    ask_store(worker);
    bytes
}

fn answer(worker: &mut Worker, load: &Load, found: Option<Found<Arc<Publication>>>) -> usize {
    let id = load.connection;
    let Some(waiter) = worker.m2.awaiting.take(load) else { return 0 };
    let tells_deletions = worker.hub.m2.notify_deletes;
    let Some(client) = client(worker, id) else { return 0 };
    let Some(found) = found else {
        // What is owed is asked for again when something else was sent, a ping at the latest.
        waiter.wants().debts(&load.resource).for_each(|debt| client.debts.add(debt));
        // An error answers a subscribe, whatever else was sent since: not all is known.
        let (times, unanswered) = waiter.wants().subscribes();
        for _ in 0..unanswered.max(times.min(1)) {
            refuse(worker, id, Fault::Unavailable);
        }
        return 0;
    };
    let Answer { documents, times, unanswered, is_not_found } =
        waiter.answer(found, tells_deletions);
    let (mut bytes, mut is_told) = (0, unanswered == 0);
    for document in (0..times).flat_map(|_| &documents) {
        bytes += send(worker, id, document);
        is_told |= !is_owed(&mut worker.connections, id, document);
    }
    if !is_told && !remember_unanswered(worker, id, &load.resource, unanswered) && is_not_found {
        (0..unanswered).for_each(|_| tell_not_found(worker, id, &load.resource));
    }
    bytes
}

fn tell_not_found(worker: &mut Worker, id: ConnId, resource: &Channel) {
    if let Some((kind, _)) = resource.resource_parts() {
        worker.send_text(id.slot, &m2::not_found(kind));
    }
}

/// Sends a client a document, and answers how many bytes that is.
fn send(worker: &mut Worker, id: ConnId, document: &Arc<Publication>) -> usize {
    let Some(connection) = worker.connections.by_id(id) else { return 0 };
    let frame = Frame::of(document, Group::M2);
    let bytes = frame.as_ref().len();
    worker.counters.matched.add(1);
    if !worker.drain.push(id.slot, connection, frame) {
        worker.counters.dropped_slow_consumer.add(1);
    }
    bytes
}

/// A subscription has ended.
pub(super) fn deactivated(worker: &mut Worker, id: ConnId, resource: &Channel) {
    worker.m2.awaiting.end(resource, id);
    if let Some(client) = client(worker, id) {
        client.debts.end(resource);
    }
}

/// Puts a user's own document into the outboxes of its connections here that hear the resource.
/// Answers how many bytes one of them got, at most.
pub(super) fn deliver(worker: &mut Worker, publication: &Arc<Publication>, user: &str) -> usize {
    let frame = Frame::of(publication, Group::M2);
    let (mut taken, mut dropped) = (0, 0);
    for slot in worker.m2.users.get(user).into_iter().flatten() {
        let Some(connection) = worker.connections.get_mut(*slot) else { continue };
        if !worker.index.hears(connection.subscriptions, &publication.channel) {
            continue;
        }
        match worker.drain.push(*slot, connection, frame.clone()) {
            true => taken += 1,
            false => dropped += 1,
        }
    }
    worker.counters.matched.add(taken + dropped);
    worker.counters.dropped_slow_consumer.add(dropped);
    worker.undrained.push(publication.accepted);
    delivered(worker, publication);
    frame.as_ref().len()
}

/// A document was put into the outboxes of all who hear of it.
pub(super) fn delivered(worker: &mut Worker, publication: &Publication) {
    let Worker { connections, m2: Clients { awaiting, .. }, .. } = worker;
    if !awaiting.is_empty() {
        awaiting.published(publication, |id| is_owed(connections, id, publication));
    }
}

/// Asks the store for what clients are owed that have taken what waited for them, for some of it at
/// a time.
pub(super) fn pay(worker: &mut Worker) {
    for id in std::mem::take(&mut worker.m2.owed) {
        let Some(client) = client(worker, id) else { continue };
        let (user, debts) = (client.party.user.clone(), client.debts.take(DEBTS_PAID_MAX));
        for (debt, unanswered) in debts {
            ask(worker, id, &debt.resource, Wants::owed(&debt, unanswered, user.clone()));
        }
    }
    ask_store(worker);
}
