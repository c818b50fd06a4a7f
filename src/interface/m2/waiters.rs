//! Who waits for the store to say what the documents of a resource are.
//!
//! A subscriber is counted first and the store is read afterwards, so that nothing falls between:
//! what is published meanwhile reaches it at once, and of what the store says then only that is
//! told which is newer than what was sent. Every question has a number, so that an
//! answer that comes late is not taken for that to another question.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::nouns::resource_of;
use crate::broker::stale::StaleDocument;
use crate::limits::REPEATED_SUBSCRIBES_MAX;
use crate::message::{Channel, ConnId, Content, Found, Load, Millis, Publication, Retained};

#[cfg(test)]
mod tests;

/// Those of one worker: each subscription at most once, however often it is asked for.
#[derive(Debug, Default)]
pub struct Waiters {
    resources: HashMap<Channel, HashMap<ConnId, Waiter>>,
    len: usize,
    questions: u64,
}

/// A subscription that waits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Waiter {
    question: u64,
    wants: Wants,
}

/// What somebody waits for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wants {
    /// Whether that is the document for everybody.
    shared: bool,
    /// Whose own document it is.
    user: Option<Arc<str>>,
    /// Versions that were sent already or are owed. Only newer ones are told.
    sent: Found<Millis>,
    /// Whether a document was sent since the last subscribe, which answers it.
    is_told: bool,
    /// What the client was told of before and is owed, as it is now.
    stale: Found<()>,
    /// How often it has subscribed and not been told yet, up to [`REPEATED_SUBSCRIBES_MAX`].
    times: u16,
}

/// How a subscription begins.
#[derive(Debug, Default)]
pub struct Beginning {
    /// This document is sent at once.
    pub document: Option<Arc<Publication>>,
    /// There is none, and that is all.
    pub is_not_found: bool,
    /// What the store is asked for.
    pub wants: Option<Wants>,
}

/// What a subscriber is told.
#[derive(Debug, Default)]
pub struct Answer {
    /// These documents, in the order of their versions.
    pub documents: Vec<Arc<Publication>>,
    /// So many times: once for each time that it has subscribed.
    pub times: u16,
    /// Subscribes that nothing sent before has answered.
    pub unanswered: u16,
    /// Whether there is no document, unless one is owed.
    pub is_not_found: bool,
}

impl Waiters {
    /// Somebody waits from here on. Answers the question to the store, unless the answer that is on
    /// its way will do.
    pub fn begin(&mut self, resource: &Channel, connection: ConnId, wants: Wants) -> Option<Load> {
        let question = self.questions;
        let place = self.resources.entry(resource.clone()).or_default().entry(connection);
        let waiter = match place {
            Entry::Vacant(place) => {
                self.len += 1;
                place.insert(Waiter { question, wants })
            }
            Entry::Occupied(place) => {
                let waiter = place.into_mut();
                if waiter.wants.join(wants) {
                    return None;
                }
                waiter.question = question;
                waiter
            }
        };
        self.questions += 1;
        let Wants { shared, user, .. } = &waiter.wants;
        let (shared, user) = (*shared, user.clone());
        Some(Load { connection, resource: resource.clone(), question, shared, user })
    }

    /// A document was published, and sent to everybody who is subscribed and may know of it but to
    /// those connections that are owed it.
    pub fn published(
        &mut self,
        publication: &Publication,
        mut is_stale: impl FnMut(ConnId) -> bool,
    ) {
        let Content::Document { audience, version, .. } = &publication.content else { return };
        let Some(waiters) = self.resources.get_mut(&publication.channel) else { return };
        for (connection, Waiter { wants, .. }) in waiters {
            let sent = match audience {
                None => &mut wants.sent.shared,
                Some(user) if wants.user.as_ref() == Some(user) => &mut wants.sent.personal,
                Some(_) => continue,
            };
            *sent = (*sent).max(Some(*version));
            wants.is_told |= !is_stale(*connection);
        }
    }

    /// A subscription ended: nobody waits for it.
    pub fn end(&mut self, resource: &Channel, connection: ConnId) {
        let Some(waiters) = self.resources.get_mut(resource) else { return };
        self.len -= usize::from(waiters.remove(&connection).is_some());
        if waiters.is_empty() {
            self.resources.remove(resource);
        }
    }

    /// Whom the answer to a question is for; nobody, where its subscription has ended or something
    /// else was asked for it.
    pub fn take(&mut self, load: &Load) -> Option<Waiter> {
        let waiter = self.waiter(load)?.clone();
        self.end(&load.resource, load.connection);
        Some(waiter)
    }

    /// Whether anybody waits for the answer to a question.
    pub fn is_wanted(&self, load: &Load) -> bool {
        self.waiter(load).is_some()
    }

    fn waiter(&self, load: &Load) -> Option<&Waiter> {
        let waiter = self.resources.get(&load.resource)?.get(&load.connection);
        waiter.filter(|waiter| waiter.question == load.question)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nobody does.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Beginning {
    /// Of a user's subscription to a resource of which the directory knows this. Nobody knows what
    /// a user's own document is but the store.
    pub fn of(resource: &Channel, retained: Retained, user: Option<Arc<str>>) -> Self {
        let shared = !is_private(resource) && matches!(retained, Retained::Unknown);
        let (document, mut sent) = (known(retained), Found::default());
        if let Some((version, _)) = &document {
            sent.shared = Some(*version);
        }
        let is_told = document.is_some();
        let wants = Wants { shared, user, sent, is_told, stale: Found::default(), times: 1 };
        let wants = (shared || wants.user.is_some()).then_some(wants);
        let is_not_found = document.is_none() && wants.is_none();
        Self { document: document.map(|(_, document)| document), is_not_found, wants }
    }
}

/// Whether a resource has no document for everybody.
fn is_private(resource: &Channel) -> bool {
    resource_of(resource).is_some_and(|(kind, id)| kind.is_private(id))
}

/// A document and its version.
fn known(retained: Retained) -> Option<(Millis, Arc<Publication>)> {
    let Retained::Value(document) = retained else { return None };
    let Content::Document { version, .. } = document.content else { return None };
    Some((version, document))
}

impl Wants {
    /// What a client that has taken what waited for it is owed. It has received no answer to so
    /// many subscribes: whether there is none depends on all documents, so all are asked for.
    pub fn reload(document: &StaleDocument, unanswered: u16, user: Option<Arc<str>>) -> Self {
        let is_personal = document.is_personal;
        let stale = match is_personal {
            true => Found { personal: Some(()), shared: None },
            false => Found { personal: None, shared: Some(()) },
        };
        let shared = !is_personal || unanswered > 0 && !is_private(&document.resource);
        let user = user.filter(|_| is_personal || unanswered > 0);
        Self { shared, user, stale, times: unanswered, ..Self::default() }
    }

    /// The stale that it stands for.
    pub fn stale_documents(
        &self,
        resource: &Channel,
    ) -> impl Iterator<Item = StaleDocument> + use<> {
        let stale = [(self.stale.shared, false), (self.stale.personal, true)];
        let resource = resource.clone();
        let stale = stale.into_iter().filter(|(stale, _)| stale.is_some());
        stale.map(move |(_, is_personal)| StaleDocument { resource: resource.clone(), is_personal })
    }

    /// Returns the same for a subscriber that is owed the known document instead of being sent it.
    #[must_use]
    pub fn untold(self) -> Self {
        Self { is_told: false, ..self }
    }

    /// Counts the subscribes that wait for the store, and those of them that nothing has answered.
    pub fn subscribes(&self) -> (u16, u16) {
        (self.times, if self.is_told { 0 } else { self.times })
    }

    /// Takes in what is wanted later. True where nothing more is wanted of the store than before.
    fn join(&mut self, later: Self) -> bool {
        let before = (self.shared, self.user.is_some());
        if later.times > 0 {
            // Who was told something since it subscribed is told again, and only for this time.
            let (_, unanswered) = self.subscribes();
            self.times = (unanswered + later.times).min(REPEATED_SUBSCRIBES_MAX);
            self.is_told = later.is_told;
        }
        if later.stale == Found::default() {
            self.sent = later.sent;
        }
        if later.stale.shared.is_some() {
            (self.stale.shared, self.sent.shared) = (Some(()), None);
        }
        if later.stale.personal.is_some() {
            (self.stale.personal, self.sent.personal) = (Some(()), None);
        }
        self.shared |= later.shared;
        self.user = later.user.or_else(|| self.user.take());
        // What is owed is read from the store once more: the answer may be from before it.
        later.stale == Found::default() && before == (self.shared, self.user.is_some())
    }
}

impl Waiter {
    /// What it waits for.
    pub fn wants(&self) -> &Wants {
        &self.wants
    }

    /// What it is told, now that the store has said what there is. That a document was deleted is
    /// told to whom it is owed, where such is told at all.
    pub fn answer(&self, found: Found<Arc<Publication>>, tells_deletions: bool) -> Answer {
        let Wants { sent, stale, .. } = &self.wants;
        let news = |found: Option<Arc<Publication>>, sent: Option<Millis>, stale: Option<()>| {
            let found = found?;
            let Content::Document { version, exists, .. } = found.content else { return None };
            let is_told = exists || stale.is_some() && tells_deletions;
            (sent.is_none_or(|sent| sent < version) && is_told).then_some((version, found))
        };
        let shared = news(found.shared, sent.shared, stale.shared);
        let personal = news(found.personal, sent.personal, stale.personal);
        let mut documents: Vec<_> = shared.into_iter().chain(personal).collect();
        documents.sort_by_key(|(version, _)| *version);
        let documents: Vec<_> = documents.into_iter().map(|(_, document)| document).collect();
        let (times, unanswered) = self.wants.subscribes();
        let is_not_found = documents.is_empty() && unanswered > 0 && *sent == Found::default();
        Answer { documents, times: times.max(1), unanswered, is_not_found }
    }
}
