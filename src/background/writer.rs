//! The writer: the one thread that writes to the store. It keeps publications, carries out requests
//! and has webhooks called.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded, select};

use super::admin::sharing::{self, Sharing};
use super::documents::Documents;
use super::histories::{Asked, Look, Unoffered, Writing, refusal};
use super::history::History;
use super::retention::{Caller, RetentionTasks};
use super::store::{Store, StoreError};
use super::webhook::{Call, Settings, Settled, Webhooks};
use super::{News, admin, reader};
use crate::cluster::history::{Answer, Question, Refusal};
use crate::limits::{
    HISTORY_BATCH_MAX, SHUTDOWN_PLACES_MS, SHUTDOWN_WEBHOOKS_MS, WEBHOOK_SETTLED_MAX,
};
use crate::mailbox::{
    Changed, Health, Keep, Mailboxes, StoreRefusal, StoreResult, Ticket, Wish, Write,
};
use crate::message::{Durability, Load, MessageId, MessageName, Record};
use crate::metrics::Counters;

/// The state of the thread that writes to the store.
pub struct Writer {
    store: Store,
    wishes: Receiver<Wish>,
    history: History,
    documents: Documents,
    retention: RetentionTasks,
    sharing: Sharing,
    histories: Writing,
    /// The store's error at the last probe.
    ailment: Option<String>,
    calls: Calls,
    mailboxes: Arc<Mailboxes>,
    counters: Arc<Counters>,
}

/// The queues that a [`Writer`] takes its work from.
#[derive(Debug)]
pub struct Incoming {
    /// Requests of administrators, probes, and the order to stop.
    pub wishes: Receiver<Wish>,
    /// Publications to keep in history.
    pub records: Receiver<Keep>,
    /// Documents to write, each with the right to answer its writer.
    pub writes: Receiver<Write>,
    /// Documents to read for subscribers.
    pub loads: Receiver<Load>,
    /// The way to the other nodes of a cluster.
    pub sharing: Sharing,
    /// The way to the histories of the other nodes.
    pub histories: Writing,
}

/// The thread of webhooks, and the messages that webhooks took.
struct Calls {
    webhooks: Webhooks,
    settled: Receiver<MessageId>,
}

impl Calls {
    fn start(settings: Settings, counters: Arc<Counters>) -> io::Result<Self> {
        let (told, settled) = bounded(WEBHOOK_SETTLED_MAX);
        let webhooks = Webhooks::start(settings, counters, move |call: Settled| {
            // The writer takes these between two commits; it waits for no webhook.
            if call.delivered {
                let _ = told.send(call.message);
            }
        })?;
        Ok(Self { webhooks, settled })
    }
}

impl Writer {
    /// Creates the writer and starts the thread of webhooks, which counts with `of_webhooks`.
    ///
    /// # Errors
    /// If the system gives no thread, or TLS cannot be set up.
    pub fn new(
        store: Store,
        incoming: Incoming,
        settings: Settings,
        mailboxes: Arc<Mailboxes>,
        [counters, of_webhooks]: [Arc<Counters>; 2],
    ) -> io::Result<Self> {
        let Incoming { wishes, records, writes, loads, sharing, histories } = incoming;
        let calls = Calls::start(settings, of_webhooks)?;
        let history = History::new(records);
        let documents = Documents::new(writes, loads);
        let retention = RetentionTasks::default();
        let ailment = None;
        Ok(Self {
            store,
            wishes,
            history,
            documents,
            retention,
            sharing,
            histories,
            ailment,
            calls,
            mailboxes,
            counters,
        })
    }

    /// Keeps publications and carries out requests, one after the other, until [`Wish::Stop`].
    /// `announce` receives each change before the change is answered, so that a caller with an
    /// answer finds the change in force.
    ///
    /// # Errors
    /// If the store cannot be flushed at the end.
    pub fn run(mut self, announce: impl Fn(News<'_>)) -> Result<(), StoreError> {
        loop {
            let idle = self.retention.step(&mut self.store, &self.mailboxes);
            // Requests are few and their callers wait, so they go before publications and
            // documents.
            let wish = self.wishes.try_recv().ok().or_else(|| self.work_or_wait(idle, &announce));
            match wish {
                Some(Wish::Stop) => break,
                Some(wish) => self.carry_out(wish, &announce),
                None => {}
            }
        }
        self.stop(&announce)
    }

    /// Handles the next publication, write, load or delivered webhook call, waiting for at most
    /// `patience`. Returns a request if one arrives in this time.
    fn work_or_wait(&mut self, patience: Duration, announce: &impl Fn(News<'_>)) -> Option<Wish> {
        select! {
            recv(self.history.records) -> keep => {
                if let Ok(keep) = keep {
                    self.keep(keep);
                }
                None
            }
            recv(self.documents.writes) -> write => {
                if let Ok(write) = write {
                    self.write(write, announce);
                }
                None
            }
            recv(self.documents.loads) -> load => {
                if let Ok(load) = load {
                    self.documents.load(load, &self.store, &self.counters, announce);
                }
                None
            }
            recv(self.sharing.calls()) -> call => {
                if let Ok(call) = call {
                    sharing::carry_out(&mut self.store, call, announce);
                    self.retention.look_at_retention();
                }
                None
            }
            recv(self.histories.looks()) -> look => {
                if let Ok(look) = look {
                    self.look(look);
                }
                None
            }
            recv(self.calls.settled) -> settled => {
                if let Ok(message) = settled {
                    self.count_delivered(message);
                }
                None
            }
            // Senders are gone only when the node is.
            recv(self.wishes) -> wish => Some(wish.unwrap_or(Wish::Stop)),
            default(patience) => None,
        }
    }

    fn carry_out(&mut self, wish: Wish, announce: &impl Fn(News<'_>)) {
        let (store, mailboxes) = (&mut self.store, &self.mailboxes);
        match wish {
            wish @ (Wish::Change(..) | Wish::Permit(..) | Wish::SetRetention(..)) => {
                if let Some(wish) = self.sharing.pass_on(wish, mailboxes) {
                    admin::change(store, wish, mailboxes, announce);
                    self.retention.look_at_retention();
                }
            }
            wish @ Wish::Invoke(..) => {
                // A node alone does not ask.
                if let Some(wish) = self.sharing.pass_on(wish, mailboxes) {
                    admin::refuse(mailboxes, wish, StoreRefusal::Failed);
                }
            }
            Wish::Clear(ticket) => self.clear(ticket),
            Wish::Retention(ticket) => {
                let days = store.retention().map_err(|error| reader::refusal(&error));
                mailboxes.answer(ticket, days);
            }
            Wish::Probe(ticket) => {
                let health = self.probe();
                self.mailboxes.answer(ticket, health);
            }
            // `run` handles this.
            Wish::Stop => {}
        }
    }

    /// Removes all messages, on all nodes of a cluster.
    fn clear(&mut self, ticket: Ticket<StoreResult<Changed<u64>>>) {
        if !self.histories.is_shared() {
            self.clear_own(Caller::Ticket(ticket));
            return;
        }
        let (asked, refusal) = match self.histories.pass_on(Asked::Clear(ticket)) {
            Ok(()) => return,
            Err(Unoffered::Full(asked)) => (asked, StoreRefusal::Busy),
            Err(Unoffered::Closed(asked)) => (asked, StoreRefusal::Unavailable),
        };
        asked.refuse(&self.mailboxes, refusal);
    }

    fn clear_own(&mut self, caller: Caller) {
        // Queued publications are older than the request and are removed, too; later ones stay.
        self.keep_waiting();
        self.retention.clear(caller, self.store.newest());
    }

    /// Answers a question about the history of this node.
    fn look(&mut self, look: Look) {
        let Look { question, answer, .. } = look;
        let has = match question {
            Question::Clear => return self.clear_own(Caller::Task(answer)),
            Question::Has(name, level) => {
                self.keep_waiting();
                self.has(&name, level)
            }
            // The reader answers the others.
            _ => Ok(Answer::Refused(Refusal::Failed)),
        };
        // The task does not wait any more if it takes no answer.
        let _ = answer.send(has.unwrap_or_else(|error| Answer::Refused(refusal(&error))));
    }

    /// Returns whether history has a message. If it has, it is as safe as this level.
    fn has(&mut self, name: &MessageName, level: Durability) -> Result<Answer, StoreError> {
        let has = self.store.has(name)?;
        if has && level == Durability::Synced {
            self.store.sync()?;
        }
        Ok(Answer::Has(has))
    }

    /// Closes the queues, writes what has a place in them, refuses removals, stops the webhooks and
    /// flushes the store.
    fn stop(mut self, announce: &impl Fn(News<'_>)) -> Result<(), StoreError> {
        let ends = Instant::now() + Duration::from_millis(SHUTDOWN_PLACES_MS);
        let mailboxes = self.mailboxes.clone();
        let all_written = mailboxes.documents.close(|| match self.documents.writes.try_recv() {
            Ok(write) => {
                self.write(write, announce);
                true
            }
            Err(_) => wait_until(ends),
        });
        let all_kept = mailboxes.history.close(|| match self.history.records.try_recv() {
            Ok(keep) => {
                self.keep(keep);
                true
            }
            Err(_) => wait_until(ends),
        });
        if !(all_written && all_kept) {
            tracing::error!("reserved places of the store's queues were not used in time");
        }
        let Self { mut store, calls: Calls { webhooks, settled }, retention, mailboxes, .. } = self;
        retention.abandon(&mailboxes);
        webhooks.stop(Duration::from_millis(SHUTDOWN_WEBHOOKS_MS));
        count(&mut store, settled.try_iter());
        store.flush()
    }

    /// Checks whether the store works. An error is logged only when it changes, because any client
    /// may probe.
    fn probe(&mut self) -> Health {
        let ailment = self.store.probe().err().map(|error| (error.to_string(), error.ailment()));
        let told = ailment.as_ref().map(|(error, _)| error);
        if let Some(error) = told.filter(|told| Some(*told) != self.ailment.as_ref()) {
            tracing::warn!(error, "the store does not work");
        }
        self.ailment = told.cloned();
        ailment.map_or(Ok(()), |(_, ailment)| Err(ailment))
    }

    fn write(&mut self, first: Write, announce: &impl Fn(News<'_>)) {
        let Self { documents, store, mailboxes, counters, .. } = self;
        documents.write(first, store, (mailboxes, counters), announce);
    }

    /// Keeps the publications that are queued now.
    fn keep_waiting(&mut self) {
        let mut left = self.history.records.len();
        while left > 0
            && let Ok(keep) = self.history.records.try_recv()
        {
            left = left.saturating_sub(self.keep(keep));
        }
    }

    /// Keeps this publication and those queued behind it, and has their webhooks called. Returns
    /// how many there were.
    fn keep(&mut self, first: Keep) -> usize {
        let (count, records) = self.history.keep(
            first,
            &mut self.store,
            (&self.mailboxes, &self.histories),
            &self.counters,
        );
        for Record { publication, definition, .. } in records {
            if definition.webhook_urls.as_ref().is_some_and(|urls| !urls.is_empty()) {
                self.calls.webhooks.offer(Call { publication, definition });
            }
        }
        count
    }

    /// Counts a webhook that took a message in history, and those queued behind it.
    fn count_delivered(&mut self, first: MessageId) {
        let more = self.calls.settled.try_iter().take(HISTORY_BATCH_MAX);
        count(&mut self.store, std::iter::once(first).chain(more));
    }
}

/// Waits a moment for places that are reserved. Returns false after `ends`.
fn wait_until(ends: Instant) -> bool {
    thread::sleep(Duration::from_millis(1));
    Instant::now() < ends
}

fn count(store: &mut Store, delivered: impl Iterator<Item = MessageId>) {
    let mut counts = HashMap::<MessageId, u32>::new();
    delivered.for_each(|message| *counts.entry(message).or_default() += 1);
    let counts: Vec<_> = counts.into_iter().collect();
    if let Err(error) = store.count_delivered(&counts) {
        tracing::error!(%error, messages = counts.len(), "history does not count the webhooks that took these messages");
    }
}
