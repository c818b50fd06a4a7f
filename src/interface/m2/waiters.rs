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

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::message::WorkerId;

    fn resource() -> Channel {
        Channel::resource("o/p///kvStore/a")
    }

    fn document(audience: Option<&str>, version: Millis, exists: bool) -> Arc<Publication> {
        let audience = audience.map(Into::into);
        let content = Content::Document { audience, version, exists, frame: [].into() };
        Arc::new(Publication::new(Uuid::nil(), resource(), 0, content))
    }

    fn id(slot: u32) -> ConnId {
        ConnId { worker: WorkerId(0), slot, generation: 0 }
    }

    fn wants(user: Option<&str>) -> Wants {
        let user = user.map(Into::into);
        Wants { shared: true, user, times: 1, ..Wants::default() }
    }

    fn reload(is_personal: bool) -> Wants {
        Wants::reload(&StaleDocument { resource: resource(), is_personal }, 0, Some("u".into()))
    }

    /// What is told, by versions and how often; nothing, where it is that there is none.
    fn told(waiter: &Waiter, found: Found<Arc<Publication>>) -> Option<(Vec<Millis>, u16)> {
        let Answer { documents, is_not_found, times, .. } = waiter.answer(found, true);
        let version = |one: &Arc<Publication>| match one.content {
            Content::Document { version, .. } => version,
            _ => unreachable!("made here"),
        };
        assert!(!is_not_found || documents.is_empty());
        (!is_not_found).then(|| (documents.iter().map(version).collect(), times))
    }

    fn found(
        shared: Option<(Millis, bool)>,
        personal: Option<(Millis, bool)>,
    ) -> Found<Arc<Publication>> {
        Found {
            shared: shared.map(|(version, exists)| document(None, version, exists)),
            personal: personal.map(|(version, exists)| document(Some("u"), version, exists)),
        }
    }

    /// Somebody who waits alone for this.
    fn waiter(wants: Wants) -> Waiter {
        let mut waiters = Waiters::default();
        let load = waiters.begin(&resource(), id(1), wants).expect("nobody has asked yet");
        waiters.take(&load).expect("it waits")
    }

    #[test]
    fn what_the_store_has_is_told_in_the_order_of_versions() {
        let me = waiter(wants(Some("u")));
        assert_eq!(told(&me, found(None, None)), None);
        assert_eq!(told(&me, found(Some((5, false)), None)), None, "deleted is none");
        let both = found(Some((5, true)), Some((3, true)));
        assert_eq!(told(&me, both), Some((vec![3, 5], 1)));
    }

    #[test]
    fn who_is_owed_a_document_is_told_of_its_end_where_such_is_told() {
        let stale = waiter(reload(false));
        let gone = || found(Some((5, false)), Some((3, false)));
        assert_eq!(told(&stale, gone()), Some((vec![5], 1)));
        assert!(stale.answer(gone(), false).documents.is_empty());
        assert_eq!(told(&stale, found(None, None)), Some((vec![], 1)), "it did not subscribe");
        let stale: Vec<_> = stale.wants().stale_documents(&resource()).collect();
        assert_eq!(stale, [StaleDocument { resource: resource(), is_personal: false }]);
    }

    #[test]
    fn an_owed_publication_does_not_answer_a_subscribe() {
        let mut waiters = Waiters::default();
        let load = waiters.begin(&resource(), id(1), wants(None)).expect("a question");
        assert_eq!(waiters.begin(&resource(), id(1), wants(None)), None);
        waiters.published(&document(None, 7, true), |connection| connection == id(1));
        let waiter = waiters.take(&load).expect("it waits");
        let answer = waiter.answer(found(Some((7, true)), None), false);
        assert!(answer.documents.is_empty(), "it is stale");
        assert_eq!((answer.unanswered, answer.is_not_found), (2, false));
    }

    #[test]
    fn an_unanswered_subscribe_asks_for_all_documents() {
        let table = [(false, None, true), (true, Some("u"), true), (false, Some("u"), true)];
        for (is_personal, user, shared) in table {
            let document = StaleDocument { resource: resource(), is_personal };
            let mut waiters = Waiters::default();
            let wants = Wants::reload(&document, 2, user.map(Into::into));
            let load = waiters.begin(&resource(), id(1), wants).expect("a question");
            assert_eq!((load.shared, load.user.as_deref()), (shared, user), "all is asked for");
            let waiter = waiters.take(&load).expect("it waits");
            let gone = waiter.answer(found(Some((5, false)), None), false);
            assert_eq!((gone.unanswered, gone.is_not_found), (2, true));
            let there = waiter.answer(found(Some((5, true)), None), false);
            assert_eq!((there.documents.len(), there.times), (1, 2));
        }
        let private = Channel::resource("o/p///collection/private");
        let document = StaleDocument { resource: private.clone(), is_personal: true };
        let wants = Wants::reload(&document, 1, Some("u".into()));
        let load = Waiters::default().begin(&private, id(1), wants).expect("a question");
        assert!(!load.shared && load.user.is_some());
    }

    #[test]
    fn what_was_sent_meanwhile_is_not_told_again_nor_what_is_older() {
        let mut waiters = Waiters::default();
        let first = waiters.begin(&resource(), id(1), wants(Some("u"))).expect("a question");
        let second = waiters.begin(&resource(), id(2), wants(None)).expect("a question");
        waiters.published(&document(None, 7, true), |_| false);
        waiters.published(&document(Some("u"), 9, true), |_| false);
        waiters.published(&document(Some("other"), 99, true), |_| false);
        let first = waiters.take(&first).expect("it waits");
        assert_eq!(told(&first, found(Some((7, true)), Some((8, true)))), Some((vec![], 1)));
        assert_eq!(told(&first, found(Some((8, true)), None)), Some((vec![8], 1)));
        let second = waiters.take(&second).expect("it waits");
        assert_eq!(told(&second, found(Some((6, true)), None)), Some((vec![], 1)));
        assert!(waiters.is_empty() && waiters.resources.is_empty());
    }

    #[test]
    fn what_the_directory_knows_is_told_at_once_and_the_rest_asked_for() {
        let begin = |retained: &Retained, user: Option<&str>| {
            let Beginning { document, is_not_found, wants } =
                Beginning::of(&resource(), retained.clone(), user.map(Into::into));
            let wants = wants.map(|wants| (wants.shared, wants.user.is_some(), wants.sent.shared));
            (document.is_some(), is_not_found, wants)
        };
        let known = Retained::Value(document(None, 7, true));
        let table = [
            (&Retained::Unknown, None, (false, false, Some((true, false, None)))),
            (&Retained::Unknown, Some("u"), (false, false, Some((true, true, None)))),
            (&Retained::Absent, None, (false, true, None)),
            (&Retained::Absent, Some("u"), (false, false, Some((false, true, None)))),
            (&known, None, (true, false, None)),
            (&known, Some("u"), (true, false, Some((false, true, Some(7))))),
        ];
        for (current, user, expected) in table {
            assert_eq!(begin(current, user), expected, "{current:?} {user:?}");
        }
    }

    #[test]
    fn a_private_collection_is_nobodys_without_a_user() {
        let private = Channel::resource("o/p///collection/private");
        let nobody = Beginning::of(&private, Retained::Unknown, None);
        assert!(nobody.is_not_found && nobody.wants.is_none());
        let wants = Beginning::of(&private, Retained::Unknown, Some("u".into())).wants.unwrap();
        let load = Waiters::default().begin(&private, id(1), wants).unwrap();
        assert!(!load.shared && load.user.as_deref() == Some("u"));
    }

    #[test]
    fn who_subscribes_again_is_told_as_often_by_one_answer() {
        let mut waiters = Waiters::default();
        let load = waiters.begin(&resource(), id(1), wants(None)).expect("a question");
        for _ in 0..100_000 {
            assert_eq!(waiters.begin(&resource(), id(1), wants(None)), None);
        }
        assert_eq!(waiters.len(), 1);
        let answer = waiters.take(&load).unwrap().answer(found(None, None), true);
        assert!(answer.is_not_found && answer.times == REPEATED_SUBSCRIBES_MAX);
    }

    #[test]
    fn who_was_told_and_subscribes_again_is_told_again_once() {
        let mut waiters = Waiters::default();
        let own = || Wants { shared: false, ..wants(Some("u")) };
        let load = waiters.begin(&resource(), id(1), own()).expect("a question");
        waiters.published(&document(Some("u"), 7, true), |_| false);
        assert_eq!(waiters.begin(&resource(), id(1), own()), None);
        let waiter = waiters.take(&load).expect("it waits");
        assert_eq!(told(&waiter, found(None, Some((7, true)))), Some((vec![7], 1)));
    }

    #[test]
    fn another_question_takes_the_place_of_one_that_asks_for_less() {
        let mut waiters = Waiters::default();
        let own = Wants { shared: false, ..wants(Some("u")) };
        let less = waiters.begin(&resource(), id(1), own).expect("a question");
        let more = waiters.begin(&resource(), id(1), wants(Some("u"))).expect("another one");
        assert!(more.shared && more.user.is_some() && !waiters.is_wanted(&less));
        assert_eq!(waiters.take(&less), None);
        let waiter = waiters.take(&more).expect("it waits");
        assert_eq!(told(&waiter, found(Some((1, true)), None)), Some((vec![1], 2)));
    }

    #[test]
    fn what_is_owed_is_asked_for_anew_though_it_counted_as_sent() {
        let mut waiters = Waiters::default();
        let first = waiters.begin(&resource(), id(1), wants(Some("u"))).expect("a question");
        waiters.published(&document(None, 7, true), |_| false);
        waiters.published(&document(Some("u"), 7, true), |_| false);
        let second = waiters.begin(&resource(), id(1), reload(false)).expect("another one");
        assert!(second.user.is_some() && !waiters.is_wanted(&first));
        let waiter = waiters.take(&second).expect("it waits");
        let both = found(Some((7, true)), Some((7, true)));
        assert_eq!(told(&waiter, both), Some((vec![7], 1)), "the own one was sent");
    }

    #[test]
    fn an_answer_is_not_taken_for_that_to_the_next_subscription() {
        let mut waiters = Waiters::default();
        let own = Wants { shared: false, ..wants(Some("u")) };
        let before = waiters.begin(&resource(), id(1), own).expect("a question");
        waiters.end(&resource(), id(1));
        assert!(waiters.is_empty() && waiters.resources.is_empty());
        let next = waiters.begin(&resource(), id(1), wants(Some("u"))).expect("a question");
        waiters.published(&document(None, 7, true), |_| false);
        assert_eq!(waiters.take(&before), None);
        let next = waiters.take(&next).expect("it waits");
        assert!(next.wants.shared && next.wants.sent.shared == Some(7));
    }
}
