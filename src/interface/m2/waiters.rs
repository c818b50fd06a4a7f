//! Subscriptions that wait until the store has said what the documents of their resources are.
//!
//! A subscriber is counted first and the store is asked afterwards, so that no document is missed.
//! A document that is published meanwhile reaches the subscriber at once, and of the store's answer
//! it receives only documents that are newer than those. Every question to the store has a number,
//! so that a late answer is not taken for that to another question.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::nouns::resource_of;
use crate::broker::stale::StaleDocument;
use crate::limits::REPEATED_SUBSCRIBES_MAX;
use crate::message::{Channel, ConnId, Content, Found, Load, Millis, Publication, Retained};

#[cfg(test)]
mod tests;

/// The waiting subscriptions of one worker. A subscription waits at most once, however often its
/// client has subscribed.
#[derive(Debug, Default)]
pub struct Waiters {
    resources: HashMap<Channel, HashMap<ConnId, Waiter>>,
    len: usize,
    questions: u64,
}

/// A subscription that waits for the store's answer to a question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Waiter {
    question: u64,
    wants: Wants,
}

/// The documents that a subscription waits for, and the subscribes that they answer.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wants {
    /// Whether the shared document is wanted.
    shared: bool,
    /// The user whose own document is wanted; `None` if only the shared one is.
    user: Option<Arc<str>>,
    /// The versions that were sent already or are stale. Only newer ones are sent.
    sent: Found<Millis>,
    /// Whether a document was sent since the last subscribe. It has answered that subscribe.
    is_told: bool,
    /// The stale documents that are read again.
    stale: Found<()>,
    /// Number of subscribes that wait for the store, up to [`REPEATED_SUBSCRIBES_MAX`].
    times: u16,
}

/// The answer to a client when its subscription begins, and the question to the store.
#[derive(Debug, Default)]
pub struct Beginning {
    /// The known shared document, which is sent at once.
    pub document: Option<Arc<Publication>>,
    /// Whether it is certain that there is no document.
    pub is_not_found: bool,
    /// The documents that the store is asked for; `None` if all are known.
    pub wants: Option<Wants>,
}

/// The documents and warnings for a subscriber after the store has answered.
#[derive(Debug, Default)]
pub struct Answer {
    /// The documents, in the order of their versions.
    pub documents: Vec<Arc<Publication>>,
    /// How often the documents are sent: once for each subscribe, and at least once.
    pub times: u16,
    /// Number of subscribes that no earlier document has answered.
    pub unanswered: u16,
    /// Whether there is no document, unless one is stale.
    pub is_not_found: bool,
}

impl Waiters {
    /// Adds a waiting subscription, or more wants to it. Returns the question to the store; `None`
    /// if the answer to the earlier question will serve.
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

    /// Notes that a document was published and sent to its subscribers, except those for which it
    /// `is_stale`.
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

    /// Removes a subscription that has ended or was answered.
    pub fn end(&mut self, resource: &Channel, connection: ConnId) {
        let Some(waiters) = self.resources.get_mut(resource) else { return };
        self.len -= usize::from(waiters.remove(&connection).is_some());
        if waiters.is_empty() {
            self.resources.remove(resource);
        }
    }

    /// Removes and returns the subscription that waits for the answer to this question; `None` if
    /// it has ended or has asked another question.
    pub fn take(&mut self, load: &Load) -> Option<Waiter> {
        let waiter = self.waiter(load)?.clone();
        self.end(&load.resource, load.connection);
        Some(waiter)
    }

    /// Returns whether a subscription waits for the answer to this question.
    pub fn is_wanted(&self, load: &Load) -> bool {
        self.waiter(load).is_some()
    }

    fn waiter(&self, load: &Load) -> Option<&Waiter> {
        let waiter = self.resources.get(&load.resource)?.get(&load.connection);
        waiter.filter(|waiter| waiter.question == load.question)
    }

    /// Returns the number of waiting subscriptions.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether no subscription waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Beginning {
    /// Returns how a user's subscription begins, if the directory knows `retained` of the resource.
    /// Only the store knows the user's own document.
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

/// Returns whether a resource has no shared document.
fn is_private(resource: &Channel) -> bool {
    resource_of(resource).is_some_and(|(kind, id)| kind.is_private(id))
}

/// Returns the retained document and its version.
fn known(retained: Retained) -> Option<(Millis, Arc<Publication>)> {
    let Retained::Value(document) = retained else { return None };
    let Content::Document { version, .. } = document.content else { return None };
    Some((version, document))
}

impl Wants {
    /// Returns the wants of a client that has taken its frames and has a stale document. If
    /// `unanswered` subscribes have had no answer, all documents of the resource are wanted,
    /// because the answer may be that the resource has no document.
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

    /// Returns the stale documents that are read again.
    pub fn stale_documents(
        &self,
        resource: &Channel,
    ) -> impl Iterator<Item = StaleDocument> + use<> {
        let stale = [(self.stale.shared, false), (self.stale.personal, true)];
        let resource = resource.clone();
        let stale = stale.into_iter().filter(|(stale, _)| stale.is_some());
        stale.map(move |(_, is_personal)| StaleDocument { resource: resource.clone(), is_personal })
    }

    /// Returns the same wants for a subscriber that was not sent the known document, which is
    /// stale.
    #[must_use]
    pub fn untold(self) -> Self {
        Self { is_told: false, ..self }
    }

    /// Returns the number of subscribes that wait for the store, and how many of them no document
    /// has answered.
    pub fn subscribes(&self) -> (u16, u16) {
        (self.times, if self.is_told { 0 } else { self.times })
    }

    /// Adds later wants. Returns true if the question that is under way still serves all wants.
    fn join(&mut self, later: Self) -> bool {
        let before = (self.shared, self.user.is_some());
        if later.times > 0 {
            // Subscribes that a document has answered do not count again; the new ones do.
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
        // A stale document needs another read: the answer under way may be older than it.
        later.stale == Found::default() && before == (self.shared, self.user.is_some())
    }
}

impl Waiter {
    /// Returns what the subscription waits for.
    pub fn wants(&self) -> &Wants {
        &self.wants
    }

    /// Returns what the subscriber receives, given what the store has found. It receives a deletion
    /// only if the document was stale and `tells_deletions` is set.
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
