//! Who waits for the store to say what the documents of a resource are.
//!
//! A subscriber is counted first and the store is read afterwards, so that nothing falls between:
//! what is published meanwhile reaches it at once, and of what the store says then only that is
//! told which is newer than what was sent (contract M7).

use std::collections::HashMap;
use std::sync::Arc;

use super::debts::Debt;
use crate::message::{Channel, ConnId, Content, Current, Found, Load, Millis, Publication};

/// Those of one worker.
#[derive(Debug, Default)]
pub struct Awaiting {
    /// In the order in which the store is asked, and so answers.
    resources: HashMap<Channel, Vec<Place>>,
    len: usize,
}

/// The place of a subscriber that waits. It outlives the subscription: the answer that comes for it
/// is to another question than that of who subscribes anew.
#[derive(Debug)]
struct Place {
    connection: ConnId,
    waiter: Option<Waiter>,
}

/// A subscriber that waits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Waiter {
    /// Who.
    pub connection: ConnId,
    /// Whether it waits for the document for everybody.
    pub shared: bool,
    /// Whose own document it waits for.
    pub user: Option<Arc<str>>,
    /// What it was sent already.
    pub sent: Found<Millis>,
    /// Whether it was told of the resource before and is owed what became of it: that it was
    /// deleted, too.
    pub is_owed: bool,
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

/// What the store is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wants {
    shared: bool,
    user: Option<Arc<str>>,
    sent: Found<Millis>,
}

/// What a subscriber is told.
#[derive(Debug)]
pub enum Answer {
    /// These documents, in the order of their versions; nothing, where it knows all of them.
    Documents(Vec<Arc<Publication>>),
    /// That there is none.
    NotFound,
}

impl Awaiting {
    /// Somebody waits from here on.
    pub fn begin(&mut self, resource: Channel, waiter: Waiter) {
        let place = Place { connection: waiter.connection, waiter: Some(waiter) };
        self.resources.entry(resource).or_default().push(place);
        self.len += 1;
    }

    /// A document was published and sent to everybody who is subscribed and may know of it.
    pub fn published(&mut self, publication: &Publication) {
        let Content::Document { audience, version, .. } = &publication.content else { return };
        let Some(places) = self.resources.get_mut(&publication.channel) else { return };
        for waiter in places.iter_mut().filter_map(|place| place.waiter.as_mut()) {
            match audience {
                None => waiter.sent.shared = waiter.sent.shared.max(Some(*version)),
                Some(user) if waiter.user.as_ref() == Some(user) => {
                    waiter.sent.personal = waiter.sent.personal.max(Some(*version));
                }
                Some(_) => {}
            }
        }
    }

    /// A subscription ended: nobody waits for it.
    pub fn end(&mut self, resource: &Channel, connection: ConnId) {
        let Some(places) = self.resources.get_mut(resource) else { return };
        for place in places.iter_mut().filter(|place| place.connection == connection) {
            self.len -= usize::from(place.waiter.take().is_some());
        }
    }

    /// Whom the oldest answer is for that is still to come for this connection; none, where its
    /// subscription has ended. To be called once for each waiter, in the order of their questions.
    pub fn take(&mut self, resource: &Channel, connection: ConnId) -> Option<Waiter> {
        let places = self.resources.get_mut(resource)?;
        let at = places.iter().position(|place| place.connection == connection)?;
        let waiter = places.remove(at).waiter;
        self.len -= usize::from(waiter.is_some());
        if places.is_empty() {
            self.resources.remove(resource);
        }
        waiter
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
    pub fn of(resource: &Channel, current: Current, user: Option<Arc<str>>) -> Self {
        let is_private = resource.resource_parts().is_some_and(|(kind, id)| kind.is_private(id));
        let shared = !is_private && matches!(current, Current::Unknown);
        let (document, mut sent) = (known(current), Found::default());
        if let Some((version, _)) = &document {
            sent.shared = Some(*version);
        }
        let wants = (shared || user.is_some()).then_some(Wants { shared, user, sent });
        let is_not_found = document.is_none() && wants.is_none();
        Self { document: document.map(|(_, document)| document), is_not_found, wants }
    }
}

impl Wants {
    /// Somebody waits for it.
    pub fn waiter(self, connection: ConnId) -> Waiter {
        let Self { shared, user, sent } = self;
        Waiter { connection, shared, user, sent, is_owed: false }
    }
}

/// A document and its version.
fn known(current: Current) -> Option<(Millis, Arc<Publication>)> {
    let Current::Known(document) = current else { return None };
    let Content::Document { version, .. } = document.content else { return None };
    Some((version, document))
}

impl Waiter {
    /// A client that has taken what waited for it is owed this.
    pub fn owed(connection: ConnId, debt: &Debt, user: Option<Arc<str>>) -> Self {
        let (shared, sent) = (!debt.is_personal, Found::default());
        Self { connection, shared, user: user.filter(|_| debt.is_personal), sent, is_owed: true }
    }

    /// The question to the store.
    pub fn load(&self, resource: Channel) -> Load {
        let Self { connection, shared, .. } = *self;
        Load { connection, resource, shared, user: self.user.clone() }
    }

    /// What it is told, now that the store has said what there is.
    pub fn answer(&self, found: Found<Arc<Publication>>) -> Answer {
        let Found { shared, personal } = found;
        let pairs = [(shared, self.sent.shared), (personal, self.sent.personal)];
        let mut news: Vec<_> =
            pairs.into_iter().filter_map(|(found, sent)| self.news(found, sent)).collect();
        let knows_nothing = self.sent.shared.is_none() && self.sent.personal.is_none();
        if news.is_empty() && knows_nothing {
            return Answer::NotFound;
        }
        news.sort_by_key(|(version, _)| *version);
        Answer::Documents(news.into_iter().map(|(_, document)| document).collect())
    }

    /// A document that it must be told of, and its version.
    fn news(
        &self,
        found: Option<Arc<Publication>>,
        sent: Option<Millis>,
    ) -> Option<(Millis, Arc<Publication>)> {
        let found = found?;
        let Content::Document { version, exists, .. } = found.content else { return None };
        let is_new = sent.is_none_or(|sent| sent < version);
        (is_new && (exists || self.is_owed)).then_some((version, found))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::message::WorkerId;

    fn resource() -> Channel {
        Channel::resource_named("o/p///kvStore/a")
    }

    fn document(audience: Option<&str>, version: Millis, exists: bool) -> Arc<Publication> {
        let audience = audience.map(Into::into);
        let content = Content::Document { audience, version, exists, frame: [].into() };
        Arc::new(Publication::new(Uuid::nil(), resource(), 0, content))
    }

    fn id(slot: u32) -> ConnId {
        ConnId { worker: WorkerId(0), slot, generation: 0 }
    }

    fn waiter(slot: u32, user: Option<&str>) -> Waiter {
        let (user, sent) = (user.map(Into::into), Found::default());
        Waiter { connection: id(slot), shared: true, user, sent, is_owed: false }
    }

    fn versions(answer: &Answer) -> Option<Vec<Millis>> {
        let Answer::Documents(documents) = answer else { return None };
        let version = |one: &Arc<Publication>| match one.content {
            Content::Document { version, .. } => version,
            _ => unreachable!("made here"),
        };
        Some(documents.iter().map(version).collect())
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

    #[test]
    fn what_the_store_has_is_told_in_the_order_of_versions() {
        let me = waiter(1, Some("u"));
        assert_eq!(versions(&me.answer(found(None, None))), None);
        assert_eq!(versions(&me.answer(found(Some((5, false)), None))), None, "deleted is none");
        assert_eq!(versions(&me.answer(found(Some((5, true)), Some((3, true))))), Some(vec![3, 5]));
        let owed = Waiter { is_owed: true, ..me };
        assert_eq!(versions(&owed.answer(found(Some((5, false)), None))), Some(vec![5]));
    }

    #[test]
    fn what_was_sent_meanwhile_is_not_told_again_nor_what_is_older() {
        let mut awaiting = Awaiting::default();
        awaiting.begin(resource(), waiter(1, Some("u")));
        awaiting.begin(resource(), waiter(2, None));
        awaiting.published(&document(None, 7, true));
        awaiting.published(&document(Some("u"), 9, true));
        awaiting.published(&document(Some("other"), 99, true));
        let first = awaiting.take(&resource(), id(1)).expect("it waits");
        assert_eq!(versions(&first.answer(found(Some((7, true)), Some((8, true))))), Some(vec![]));
        assert_eq!(versions(&first.answer(found(Some((8, true)), None))), Some(vec![8]));
        let second = awaiting.take(&resource(), id(2)).expect("it waits");
        assert_eq!(second.sent.personal, None);
        assert_eq!(versions(&second.answer(found(Some((6, true)), None))), Some(vec![]));
        assert!(awaiting.is_empty() && awaiting.resources.is_empty());
    }

    #[test]
    fn what_the_directory_knows_is_told_at_once_and_the_rest_asked_for() {
        let begin = |current: &Current, user: Option<&str>| {
            let Beginning { document, is_not_found, wants } =
                Beginning::of(&resource(), current.clone(), user.map(Into::into));
            let wants = wants.map(|wants| (wants.shared, wants.user.is_some(), wants.sent.shared));
            (document.is_some(), is_not_found, wants)
        };
        let known = Current::Known(document(None, 7, true));
        let table = [
            (&Current::Unknown, None, (false, false, Some((true, false, None)))),
            (&Current::Unknown, Some("u"), (false, false, Some((true, true, None)))),
            (&Current::Absent, None, (false, true, None)),
            (&Current::Absent, Some("u"), (false, false, Some((false, true, None)))),
            (&known, None, (true, false, None)),
            (&known, Some("u"), (true, false, Some((false, true, Some(7))))),
        ];
        for (current, user, expected) in table {
            assert_eq!(begin(current, user), expected, "{current:?} {user:?}");
        }
    }

    #[test]
    fn a_private_collection_is_nobodys_without_a_user() {
        let private = Channel::resource_named("o/p///collection/private");
        let nobody = Beginning::of(&private, Current::Unknown, None);
        assert!(nobody.is_not_found && nobody.wants.is_none());
        let wants = Beginning::of(&private, Current::Unknown, Some("u".into())).wants.unwrap();
        let load = wants.waiter(id(1)).load(private);
        assert!(!load.shared && load.user.as_deref() == Some("u"));
    }

    #[test]
    fn who_unsubscribes_waits_no_longer() {
        let mut awaiting = Awaiting::default();
        awaiting.begin(resource(), waiter(1, None));
        awaiting.begin(resource(), waiter(1, None));
        awaiting.begin(resource(), waiter(2, None));
        awaiting.end(&resource(), id(1));
        assert_eq!(awaiting.len(), 1);
        assert!(awaiting.take(&resource(), id(1)).is_none());
        assert!(awaiting.take(&resource(), id(2)).is_some());
        assert!(awaiting.is_empty());
    }

    #[test]
    fn the_answer_to_an_ended_subscription_is_not_taken_for_that_of_the_next() {
        let mut awaiting = Awaiting::default();
        awaiting.begin(resource(), Waiter { shared: false, ..waiter(1, Some("u")) });
        awaiting.end(&resource(), id(1));
        awaiting.begin(resource(), waiter(1, Some("u")));
        awaiting.published(&document(None, 7, true));
        assert!(awaiting.take(&resource(), id(1)).is_none());
        let next = awaiting.take(&resource(), id(1)).expect("it waits");
        assert!(next.shared && next.sent.shared == Some(7));
        assert!(awaiting.is_empty() && awaiting.resources.is_empty());
    }
}
