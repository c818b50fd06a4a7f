//! The publications of this node that the stream has not settled, and what follows when it has:
//! history keeps them and their publishers are answered.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::cluster::ack::Refusal;
use crate::cluster::events::Published;
use crate::cluster::limits::LIMBO_MS;
use crate::limits::{LATE_PUBLICATIONS_BYTES_MAX, LATE_PUBLICATIONS_MAX};
use crate::mailbox::{Keep, Keeping, Mail, Mailboxes, Publisher, Submitted};
use crate::message::{
    Attempt, Audience, ChannelDefinition, Durability, Millis, Ordered, Publication, Record,
    Settled, Spread, StreamPlace,
};

/// Publications under way, by the tokens that name them.
#[derive(Debug, Default)]
pub(super) struct Flights {
    flying: HashMap<u64, Flying>,
    last: u64,
    late: Late,
}

/// A publication under way.
#[derive(Debug)]
struct Flying {
    submitted: Submitted,
    /// What history keeps of it beside the audience, once the stream has it.
    at: At,
}

/// The place of a publication in the stream, and whether that has recognized a repetition.
type At = (Option<StreamPlace>, Attempt);

/// Publications that the stream did not answer in time. History keeps those that it answers later.
#[derive(Debug, Default)]
struct Late {
    all: HashMap<u64, (Arc<Publication>, Arc<ChannelDefinition>)>,
    /// Their tokens, each with the time at which it is forgotten.
    order: VecDeque<(Millis, u64)>,
    bytes: usize,
}

impl Flights {
    /// Returns whether nothing is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.flying.is_empty()
    }

    /// Notes a publication that departs now. Returns its token, which no other one has.
    pub(super) fn depart(&mut self, submitted: Submitted) -> u64 {
        self.last += 1;
        self.flying.insert(self.last, Flying { submitted, at: At::default() });
        self.last
    }

    /// Takes what became of a publication, in this epoch of the stream. Returns false if history
    /// will lack it, although the stream has it or may have it.
    pub(super) fn settled(
        &mut self,
        mailboxes: &Mailboxes,
        (token, published): (u64, Published),
        epoch: u64,
        now: Millis,
    ) -> bool {
        let ordered = match published {
            Published::Late(seq) => {
                // Its publisher may have published it again meanwhile.
                let at = (Some(StreamPlace { epoch, seq }), Attempt::Repeated);
                return self.late.take(token).is_none_or(|one| keep(mailboxes, one, at));
            }
            Published::Stored { seq, duplicate } => {
                let Some(flying) = self.flying.get_mut(&token) else { return true };
                let place = StreamPlace { epoch, seq };
                let attempt = if duplicate { Attempt::Repeated } else { Attempt::First };
                flying.at = (Some(place), attempt);
                if flying.submitted.is_counted() {
                    return true;
                }
                Ordered::Stored(None)
            }
            Published::NotHeard => Ordered::NotHeard,
            Published::Unproven => Ordered::Unproven,
            Published::Refused(Refusal::Overloaded) => Ordered::Overloaded,
            Published::Refused(refusal) => {
                if let Refusal::Error(code) = refusal {
                    tracing::error!(code, "NATS refused a publication; its code says why");
                }
                Ordered::Unavailable
            }
            Published::Unknown => Ordered::Unknown,
        };
        let Some(flying) = self.flying.remove(&token) else { return true };
        let is_kept = match (&ordered, &flying.submitted.keep) {
            (Ordered::Unknown, Some(keeping)) => {
                let publication = flying.submitted.publication.clone();
                self.late.put(token, (publication, keeping.definition.clone()), now)
            }
            _ => true,
        };
        finish(mailboxes, flying, ordered);
        is_kept
    }

    /// Answers all publishers that it is not known what became of their publications.
    pub(super) fn fail(&mut self, mailboxes: &Mailboxes, now: Millis) {
        let tokens: Vec<_> = self.flying.keys().copied().collect();
        for token in tokens {
            self.settled(mailboxes, (token, Published::Unknown), 0, now);
        }
    }

    /// Takes the audience of a publication that the stream has.
    pub(super) fn counted(&mut self, mailboxes: &Mailboxes, token: u64, spread: Spread) {
        if let Some(flying) = self.flying.remove(&token) {
            finish(mailboxes, flying, Ordered::Stored(Some(Box::new(spread))));
        }
    }
}

/// Answers the publisher of a publication, after history was given it if the stream has it.
fn finish(mailboxes: &Mailboxes, flying: Flying, ordered: Ordered) {
    let Flying { mut submitted, at: (place, attempt) } = flying;
    if let Some(stream) = &mailboxes.stream {
        stream.publications.taken(&submitted);
    }
    match &ordered {
        Ordered::Stored(spread) => {
            let audience = spread.as_ref().map_or_else(Audience::default, |one| one.audience);
            let publication = submitted.publication.clone();
            if let Some(Keeping { definition, level, ticket }) = submitted.keep.take() {
                let record = Record { publication, definition, audience, place, attempt };
                mailboxes.history.fulfil(Keep { record, level, ticket });
            }
        }
        _ => release_history(mailboxes, &mut submitted),
    }
    let Submitted { publication, publisher, .. } = submitted;
    match publisher {
        Publisher::Request { ticket, .. } => mailboxes.answer(ticket, ordered),
        Publisher::Connection(connection, reply) => {
            let (channel, id) = (publication.channel.clone(), publication.id);
            let settled = Settled { connection, channel, reply, id, at: publication.at, ordered };
            mailboxes.workers.of(connection.worker).answer(Mail::Settled(Box::new(settled)));
        }
    }
}

/// Gives back the place that was promised in the queue to history.
fn release_history(mailboxes: &Mailboxes, submitted: &mut Submitted) {
    if let Some(keeping) = submitted.keep.take() {
        mailboxes.history.give_up(submitted.publication.content.bytes());
        if let Some(ticket) = keeping.ticket {
            // The publisher waits for the stream's answer first, which says what happened.
            mailboxes.answer(ticket, Durability::Memory);
        }
    }
}

/// Has history keep a publication that the stream answered late. Returns false if history's queue
/// is full.
fn keep(
    mailboxes: &Mailboxes,
    (publication, definition): (Arc<Publication>, Arc<ChannelDefinition>),
    (place, attempt): At,
) -> bool {
    let Some(room) = mailboxes.history.reserve(publication.content.bytes()) else { return false };
    let audience = Audience::default();
    let record = Record { publication, definition, audience, place, attempt };
    room.post(Keep { record, level: Durability::Memory, ticket: None });
    true
}

impl Late {
    /// Notes a publication. Returns false if an older one is forgotten for it.
    fn put(
        &mut self,
        token: u64,
        one: (Arc<Publication>, Arc<ChannelDefinition>),
        now: Millis,
    ) -> bool {
        while self.order.front().is_some_and(|(until, _)| *until <= now) {
            self.forget();
        }
        self.bytes += one.0.content.bytes();
        self.all.insert(token, one);
        self.order.push_back((now + LIMBO_MS, token));
        let mut is_within = true;
        while self.order.len() > LATE_PUBLICATIONS_MAX || self.bytes > LATE_PUBLICATIONS_BYTES_MAX {
            is_within &= !self.forget();
        }
        is_within
    }

    /// Forgets the oldest one. Returns whether it was still waited for.
    fn forget(&mut self) -> bool {
        self.order.pop_front().is_some_and(|(_, token)| self.take(token).is_some())
    }

    fn take(&mut self, token: u64) -> Option<(Arc<Publication>, Arc<ChannelDefinition>)> {
        let one = self.all.remove(&token)?;
        self.bytes -= one.0.content.bytes();
        Some(one)
    }
}
