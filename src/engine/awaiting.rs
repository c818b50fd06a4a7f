//! Who waits for the store to say what the documents of a resource are.
//!
//! A subscriber is counted first and the store is read afterwards, so that nothing falls between:
//! what is published meanwhile reaches it at once, and of what the store says then only that is
//! told which is newer than what was sent (contract M7).

use std::collections::HashMap;
use std::sync::Arc;

use crate::message::{Channel, ConnId, Content, Found, Millis, Publication};

/// Those of one worker.
#[derive(Debug, Default)]
pub struct Awaiting {
    resources: HashMap<Channel, Vec<Waiter>>,
    len: usize,
}

/// A subscriber that waits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Waiter {
    /// Who.
    pub connection: ConnId,
    /// On whose behalf.
    pub user: Option<Arc<str>>,
    /// What it was sent already.
    pub sent: Found<Millis>,
    /// Whether it was told of the resource before and is owed what became of it: that it was
    /// deleted, too.
    pub is_owed: bool,
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
        self.resources.entry(resource).or_default().push(waiter);
        self.len += 1;
    }

    /// A document was published and sent to everybody who is subscribed and may know of it.
    pub fn published(&mut self, publication: &Publication) {
        let Content::Document { audience, version, .. } = &publication.content else { return };
        let Some(waiters) = self.resources.get_mut(&publication.channel) else { return };
        for waiter in waiters {
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
        let Some(waiters) = self.resources.get_mut(resource) else { return };
        let before = waiters.len();
        waiters.retain(|waiter| waiter.connection != connection);
        self.len -= before - waiters.len();
        if waiters.is_empty() {
            self.resources.remove(resource);
        }
    }

    /// Takes out the one of this connection that has waited for longest.
    pub fn take(&mut self, resource: &Channel, connection: ConnId) -> Option<Waiter> {
        let waiters = self.resources.get_mut(resource)?;
        let place = waiters.iter().position(|waiter| waiter.connection == connection)?;
        let waiter = waiters.remove(place);
        self.len -= 1;
        if waiters.is_empty() {
            self.resources.remove(resource);
        }
        Some(waiter)
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

impl Waiter {
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
        Waiter { connection: id(slot), user, sent, is_owed: false }
    }

    fn versions(answer: &Answer) -> Option<Vec<Millis>> {
        let Answer::Documents(documents) = answer else { return None };
        let version = |one: &Arc<Publication>| match one.content {
            Content::Document { version, .. } => version,
            _ => unreachable!("made here"),
        };
        Some(documents.iter().map(version).collect())
    }

    fn found(shared: Option<(Millis, bool)>, personal: Option<(Millis, bool)>)
    -> Found<Arc<Publication>> {
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
}
