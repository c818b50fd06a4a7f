//! The thread that has the node's copy of the cluster's documents. It takes writes to the stream,
//! applies what the stream brings, and reads.

mod changes;
mod reading;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, never, select};

use super::{Ask, Inside, Told};
use crate::background::store::copy::{Change, Copy};
use crate::background::{News, now};
use crate::cluster::ack::Refusal;
use crate::cluster::documents::proofs::Proofs;
use crate::cluster::documents::writes::{Answer, Name, Next, Outcome, Settled, Writes};
use crate::cluster::name::{NodeName, Seq};
use crate::limits::{CLUSTER_DOCUMENT_MS_MAX, CLUSTER_PROOFS_MAX};
use crate::mailbox::{self, Mailboxes, StoreRefusal, StoreResult, Ticket, Write};
use crate::message::{Document, DocumentKey, Durability, Load, Millis};
use crate::metrics::{Counters, LogThrottle};
use changes::Marks;

/// How long the thread sleeps without work: writes and reads are given up so much later.
const SLEEP: Duration = Duration::from_millis(50);

/// The right to answer a writer.
type Writer = Ticket<StoreResult<mailbox::Written>>;

/// A question for a document.
pub type Look = (Ticket<StoreResult<Option<Box<Document>>>>, DocumentKey);

/// The queues that the desk takes its work from.
pub struct Queues {
    /// Documents to write.
    pub writes: Receiver<Write>,
    /// Documents to read for subscribers.
    pub loads: Receiver<Load>,
    /// Documents that callers ask for.
    pub looks: Receiver<Look>,
}

/// The thread's state.
pub struct Desk<S> {
    copy: Copy,
    me: NodeName,
    inside: Inside,
    queues: Queues,
    mailboxes: Arc<Mailboxes>,
    counters: Arc<Counters>,
    /// Returns whether the node serves its cluster's channels.
    is_serving: S,
    started: Instant,
    writes: Writes<Writer>,
    proofs: Proofs<Waiter>,
    /// What the number of a proof is added to, so that other starts of the node have others.
    first_proof: u64,
    /// Writes that wait until the copy has come to a place.
    behind: Vec<(Seq, Name)>,
    /// Loads whose proof the copy has.
    ready: VecDeque<Load>,
    /// Changes that found no room.
    held: VecDeque<Change>,
    marks: Marks,
    log_throttle: LogThrottle,
}

/// A write or a read that the desk answers behind a proof.
enum Waiter {
    /// A write that would be refused.
    Write(Name),
    Look(Look),
    Load(Load),
}

impl<S: Fn() -> bool> Desk<S> {
    /// Creates the desk of the node `me`.
    pub fn new(
        (copy, me): (Copy, NodeName),
        inside: Inside,
        queues: Queues,
        (mailboxes, counters): (Arc<Mailboxes>, Arc<Counters>),
        is_serving: S,
    ) -> Self {
        let position = copy.position();
        inside.outside.note_reached(&position.life, position.seq);
        Self {
            copy,
            me,
            inside,
            queues,
            mailboxes,
            counters,
            is_serving,
            started: Instant::now(),
            writes: Writes::default(),
            proofs: Proofs::default(),
            first_proof: rand::random(),
            behind: Vec::new(),
            ready: VecDeque::new(),
            held: VecDeque::new(),
            marks: Marks::default(),
            log_throttle: LogThrottle::default(),
        }
    }

    /// Works until the node ends. `announce` receives each change before it is answered, and what
    /// was read for subscribers.
    pub fn run(mut self, announce: impl Fn(News<'_>)) {
        loop {
            self.wait();
            for _ in 0..self.inside.told.len() {
                let Ok(told) = self.inside.told.try_recv() else { break };
                self.told(told);
            }
            self.apply(&announce);
            self.go_on();
            self.load(&announce);
            self.expire(&announce);
        }
    }

    /// Waits for work and takes some of it.
    fn wait(&mut self) {
        let none = (never(), never(), never());
        let has_places = self.proofs.len() < CLUSTER_PROOFS_MAX;
        let writes = if self.writes.has_room() { &self.queues.writes } else { &none.0 };
        let loads = if has_places { &self.queues.loads } else { &none.1 };
        let looks = if has_places { &self.queues.looks } else { &none.2 };
        let changes = if self.held.is_empty() { &self.inside.changes } else { &never() };
        let sleep = if !self.ready.is_empty() { Duration::ZERO } else { self.pause() };
        select! {
            recv(self.inside.told) -> told => if let Ok(told) = told { self.told(told) },
            recv(changes) -> change => self.held.extend(change),
            recv(writes) -> write => if let Ok(write) = write { self.write(write) },
            recv(loads) -> load => if let Ok(load) = load { self.take_load(load) },
            recv(looks) -> look => if let Ok(look) = look { self.take_look(look) },
            default(sleep) => {}
        }
    }

    /// Returns the time since the start, in milliseconds.
    fn clock(&self) -> Millis {
        Millis::try_from(self.started.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    fn ends(&self) -> Millis {
        self.clock() + CLUSTER_DOCUMENT_MS_MAX
    }

    fn position(&self) -> Seq {
        self.copy.position().seq
    }

    fn write(&mut self, write: Write) {
        self.mailboxes.documents.taken(&write);
        let Write { what, ticket, .. } = write;
        if !(self.is_serving)() {
            return self.answer(ticket, Answer::Unavailable);
        }
        let ends = self.ends();
        if let Some(name) = self.writes.take(what, ticket, ends) {
            self.decide(name, false);
        }
    }

    /// Decides on a write and on those behind it, until one is sent or waits.
    fn decide(&mut self, name: Name, is_proven: bool) {
        let mut next = Some((name, is_proven));
        while let Some((name, is_proven)) = next.take() {
            let before = match self.copy.before(&name.key) {
                Ok(before) => before,
                Err(error) => {
                    // The write is given up at its end.
                    self.say(&error);
                    return;
                }
            };
            match self.writes.decide(&name, &before, is_proven, now()) {
                None => {}
                Some(Next::Put(put)) => {
                    let number = put.number;
                    let ends = Instant::now() + Duration::from_millis(CLUSTER_DOCUMENT_MS_MAX);
                    if self.inside.asks.try_send(Ask::Put(put, ends)).is_err() {
                        self.settled(number, Outcome::Refused(Refusal::Overloaded));
                    }
                }
                Some(Next::Prove(name)) => {
                    let ends = self.ends();
                    self.proofs.wait(Waiter::Write(name), ends);
                }
                Some(Next::Answer(ticket, answer)) => {
                    self.answer(ticket, answer);
                    next = self.writes.first(&name.key).map(|name| (name, false));
                }
            }
        }
    }

    fn told(&mut self, told: Told) {
        match told {
            Told::Put(number, outcome) => self.settled(number, outcome),
            Told::Proof(number, seq) => {
                let counters = &self.counters;
                match seq {
                    Some(_) => counters.cluster_document_proofs.add(1),
                    None => counters.cluster_document_unproven.add(1),
                }
                if self.proofs.answered(number, seq, self.copy.position().seq) {
                    self.begin_again();
                }
            }
            Told::Raised => self.marks.raised(),
            Told::Begins => {
                self.marks.raised();
                self.proofs.begin_again();
            }
        }
    }

    fn settled(&mut self, number: u64, outcome: Outcome) {
        match self.writes.settled(number, outcome, self.position()) {
            None => {}
            Some(Settled::Answer(ticket, answer, key)) => {
                self.answer(ticket, answer);
                if let Some(name) = self.writes.first(&key) {
                    self.decide(name, false);
                }
            }
            Some(Settled::Behind(name, seq)) => {
                self.counters.cluster_document_conflicts.add(1);
                self.behind.push((seq, name));
            }
            Some(Settled::Prove(name)) => {
                self.counters.cluster_document_conflicts.add(1);
                let ends = self.ends();
                self.proofs.wait(Waiter::Write(name), ends);
            }
        }
    }

    /// Lets everything be read anew, because the stream has given places to other messages.
    fn begin_again(&mut self) {
        self.inside.outside.is_lost.store(true, Ordering::Release);
        // Without room for it, the next proof notices it again.
        let _ = self.inside.asks.try_send(Ask::Again);
    }

    /// Carries out what the copy's place allows, and asks for the next proof.
    fn go_on(&mut self) {
        let position = self.position();
        let ready: Vec<_> = self.behind.extract_if(.., |(seq, _)| *seq <= position).collect();
        for (_, name) in ready {
            self.decide(name, false);
        }
        for waiter in self.proofs.ready() {
            match waiter {
                Waiter::Write(name) => self.decide(name, true),
                Waiter::Look(look) => self.look(look),
                Waiter::Load(load) => self.ready.push_back(load),
            }
        }
        if let Some(number) = self.proofs.begin() {
            let text = self.first_proof.wrapping_add(number);
            if self.inside.asks.try_send(Ask::Prove(number, text)).is_err() {
                self.proofs.answered(number, None, position);
            }
        }
    }

    /// Gives up what has waited for too long, or what cannot be done because the stream cannot be
    /// reached.
    fn expire(&mut self, announce: &impl Fn(News<'_>)) {
        let now = self.clock();
        let (answers, names) = self.writes.expire(now);
        answers.into_iter().for_each(|(ticket, answer)| self.answer(ticket, answer));
        names.into_iter().for_each(|name| self.decide(name, false));
        let writes = &self.writes;
        self.behind.retain(|(_, name)| writes.first(&name.key).as_ref() == Some(name));
        let mut over = self.proofs.expire(now);
        if !(self.is_serving)() {
            // Writes on their way may be stored, and subscribers wait for a while.
            let refused = self.writes.refuse_unsent();
            refused.into_iter().for_each(|ticket| self.answer(ticket, Answer::Unavailable));
            over.extend(self.proofs.refuse(|waiter| !matches!(waiter, Waiter::Load(_))));
        }
        for waiter in over {
            match waiter {
                // It is given up by itself.
                Waiter::Write(_) => {}
                Waiter::Look((ticket, _)) => {
                    self.mailboxes.answer(ticket, Err(StoreRefusal::Unavailable));
                }
                Waiter::Load(load) => announce(News::Loaded(load, None)),
            }
        }
    }

    fn answer(&self, ticket: Writer, answer: Answer) {
        let counters = &self.counters;
        let answer = match answer {
            Answer::Written(version) => {
                counters.documents_written.add(1);
                counters.cluster_documents_stored.add(1);
                Ok(mailbox::Written::Done(version, Durability::Stored))
            }
            Answer::Stale(version) => {
                counters.documents_stale.add(1);
                Ok(mailbox::Written::Stale(version))
            }
            Answer::Missing => Err(StoreRefusal::NotFound),
            Answer::Full => Err(StoreRefusal::Full),
            Answer::Busy => {
                counters.cluster_documents_refused.add(1);
                Err(StoreRefusal::Busy)
            }
            Answer::Unavailable => {
                counters.cluster_documents_refused.add(1);
                Err(StoreRefusal::Unavailable)
            }
            Answer::Unknown => {
                counters.cluster_documents_unknown.add(1);
                Err(StoreRefusal::Unknown)
            }
            Answer::Failed => {
                counters.cluster_documents_refused.add(1);
                Err(StoreRefusal::Failed)
            }
        };
        self.mailboxes.answer(ticket, answer);
    }

    fn say(&mut self, error: &dyn std::fmt::Display) {
        if let Some(count) = self.log_throttle.add(1) {
            tracing::error!(%error, count, "the copy of the cluster's documents failed");
        }
    }
}
