//! The one thread that writes to the store: it keeps publications, carries wishes out, and has
//! webhooks called.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, select};

use super::documents::Documents;
use super::history::History;
use super::retention::RetentionTasks;
use super::store::{Store, StoreError};
use super::webhook::{Call, Settings, Settled, Webhooks};
use super::{News, admin, reader};
use crate::limits::{HISTORY_BATCH_MAX, SHUTDOWN_WEBHOOKS_MS, WEBHOOK_WAITING_MAX};
use crate::mailbox::{Health, Keep, Mailboxes, Wish, Write};
use crate::message::{Load, MessageId, Record};
use crate::metrics::Counters;

/// The one thread that writes to the store.
pub struct Writer {
    store: Store,
    wishes: Receiver<Wish>,
    history: History,
    documents: Documents,
    chores: RetentionTasks,
    /// What was wrong with the store when somebody asked last.
    ailment: Option<String>,
    calls: Calls,
    mailboxes: Arc<Mailboxes>,
    counters: Arc<Counters>,
}

/// What comes into a [`Writer`].
#[derive(Debug)]
pub struct Incoming {
    /// What is asked of it.
    pub wishes: Receiver<Wish>,
    /// What it is to keep.
    pub records: Receiver<Keep>,
    /// Documents that it is to write.
    pub writes: Receiver<Write>,
    /// Documents that it is to read.
    pub loads: Receiver<Load>,
}

/// Webhooks, and what they say.
struct Calls {
    webhooks: Webhooks,
    settled: Receiver<MessageId>,
}

impl Calls {
    fn start(settings: Settings, counters: Arc<Counters>) -> io::Result<Self> {
        let (told, settled) = bounded(WEBHOOK_WAITING_MAX);
        let webhooks = Webhooks::start(settings, counters, move |call: Settled| {
            // The writer takes them between two commits; it waits for no webhook.
            if call.delivered {
                let _ = told.send(call.message);
            }
        })?;
        Ok(Self { webhooks, settled })
    }
}

impl Writer {
    /// That calls webhooks as these settings say, with a thread and counters of their own.
    ///
    /// # Errors
    /// When the system gives no thread, or no TLS.
    pub fn new(
        store: Store,
        incoming: Incoming,
        settings: Settings,
        mailboxes: Arc<Mailboxes>,
        [counters, of_webhooks]: [Arc<Counters>; 2],
    ) -> io::Result<Self> {
        let Incoming { wishes, records, writes, loads } = incoming;
        let calls = Calls::start(settings, of_webhooks)?;
        let history = History::new(records);
        let documents = Documents::new(writes, loads);
        let chores = RetentionTasks::default();
        let ailment = None;
        Ok(Self { store, wishes, history, documents, chores, ailment, calls, mailboxes, counters })
    }

    /// Keeps publications and carries wishes out, one after the other, until it is told to stop.
    /// `announce` is given the news of each change before it is answered, so that whoever was
    /// answered finds it in force.
    ///
    /// # Errors
    /// When what was stored cannot be flushed at the end.
    pub fn run(mut self, announce: impl Fn(News<'_>)) -> Result<(), StoreError> {
        loop {
            let idle = self.chores.step(&mut self.store, &self.mailboxes);
            // Wishes are few, and somebody waits for each: they go before what is only to be kept.
            let wish = self.wishes.try_recv().ok().or_else(|| self.work_or_wait(idle, &announce));
            match wish {
                Some(Wish::Stop) => break,
                Some(wish) => self.carry_out(wish, &announce),
                None => {}
            }
        }
        self.stop(&announce)
    }

    /// Does what there is to do besides wishes, or waits for anything at all: for a while, or for a
    /// wish.
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
            recv(self.calls.settled) -> settled => {
                if let Ok(message) = settled {
                    self.count_delivered(message);
                }
                None
            }
            // Who wishes is gone only when the node is.
            recv(self.wishes) -> wish => Some(wish.unwrap_or(Wish::Stop)),
            default(patience) => None,
        }
    }

    fn carry_out(&mut self, wish: Wish, announce: &impl Fn(News<'_>)) {
        let (store, mailboxes) = (&mut self.store, &self.mailboxes);
        match wish {
            Wish::Change(ticket, change) => {
                mailboxes.answer(ticket, admin::change(store, change, announce));
            }
            Wish::Permit(ticket, permissions) => {
                mailboxes.answer(ticket, admin::permit(store, permissions, announce));
            }
            Wish::Clear(ticket) => {
                // What waits was published before; what comes meanwhile is not waited for.
                self.keep_waiting();
                self.chores.clear(ticket, self.store.newest());
            }
            Wish::SetRetention(ticket, days) => {
                let set = store.set_retention(days).map_err(|error| reader::refusal(&error));
                self.chores.look_at_retention();
                mailboxes.answer(ticket, set.map(|()| days));
            }
            Wish::Retention(ticket) => {
                let days = store.retention().map_err(|error| reader::refusal(&error));
                mailboxes.answer(ticket, days);
            }
            Wish::Probe(ticket) => {
                let health = self.probe();
                self.mailboxes.answer(ticket, health);
            }
            // The end is seen to by who takes wishes.
            Wish::Stop => {}
        }
    }

    /// Carries out what came before the end.
    fn stop(mut self, announce: &impl Fn(News<'_>)) -> Result<(), StoreError> {
        while let Ok(write) = self.documents.writes.try_recv() {
            self.write(write, announce);
        }
        while !self.history.records.is_empty() {
            self.keep_waiting();
        }
        let Self { mut store, calls: Calls { webhooks, settled }, chores, mailboxes, .. } = self;
        chores.abandon(&mailboxes);
        webhooks.stop(Duration::from_millis(SHUTDOWN_WEBHOOKS_MS));
        count(&mut store, settled.try_iter());
        store.flush()
    }

    /// Whether the store works. What is wrong is logged when it changes: anybody may ask.
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

    /// Keeps all that waits now.
    fn keep_waiting(&mut self) {
        let mut left = self.history.records.len();
        while left > 0
            && let Ok(keep) = self.history.records.try_recv()
        {
            left = left.saturating_sub(self.keep(keep));
        }
    }

    /// Keeps a publication and those that wait behind it, and has their webhooks called. Answers
    /// how many.
    fn keep(&mut self, first: Keep) -> usize {
        let records = self.history.keep(first, &mut self.store, &self.mailboxes, &self.counters);
        let count = records.len();
        for Record { publication, definition, .. } in records {
            if definition.webhook_urls.as_ref().is_some_and(|urls| !urls.is_empty()) {
                self.calls.webhooks.offer(Call { publication, definition });
            }
        }
        count
    }

    /// Counts a webhook that took a message, and those that wait to be counted behind it.
    fn count_delivered(&mut self, first: MessageId) {
        let more = self.calls.settled.try_iter().take(HISTORY_BATCH_MAX);
        count(&mut self.store, std::iter::once(first).chain(more));
    }
}

fn count(store: &mut Store, delivered: impl Iterator<Item = MessageId>) {
    let mut counts = HashMap::<MessageId, u32>::new();
    delivered.for_each(|message| *counts.entry(message).or_default() += 1);
    let counts: Vec<_> = counts.into_iter().collect();
    if let Err(error) = store.count_delivered(&counts) {
        tracing::error!(%error, messages = counts.len(), "history misses who took these messages");
    }
}
