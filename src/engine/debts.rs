//! Documents that a client was not sent, because it did not keep up: it is told what they are once
//! it has taken what waits for it.

use std::collections::HashMap;

use crate::message::{Channel, Content, Publication};

/// What one client is owed. Nothing takes no memory of its own; there is never more than the
/// documents that the client is subscribed to.
#[derive(Debug, Default)]
pub struct Debts(Option<Box<Owed>>);

/// Each with its age: the oldest are paid first.
#[derive(Debug, Default)]
struct Owed {
    debts: HashMap<Debt, u64>,
    owed_ever: u64,
}

/// One document.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Debt {
    /// Of this resource.
    pub resource: Channel,
    /// The client's own, and not the one for everybody.
    pub is_personal: bool,
}

impl Debt {
    fn of(publication: &Publication) -> Option<Self> {
        let Content::Document { audience, .. } = &publication.content else { return None };
        Some(Self { resource: publication.channel.clone(), is_personal: audience.is_some() })
    }
}

impl Debts {
    /// A document is not sent. False where it is none.
    pub fn owe(&mut self, publication: &Publication) -> bool {
        let debt = Debt::of(publication);
        debt.map(|debt| self.add(debt)).is_some()
    }

    /// Something is owed, or still is.
    pub fn add(&mut self, debt: Debt) {
        let all = self.0.get_or_insert_default();
        all.owed_ever += 1;
        all.debts.entry(debt).or_insert(all.owed_ever);
    }

    /// A document is sent: an earlier version of it is owed no longer.
    pub fn sent(&mut self, publication: &Publication) {
        let Some(all) = &mut self.0 else { return };
        if let Some(paid) = Debt::of(publication) {
            all.debts.remove(&paid);
        }
        self.tidy();
    }

    /// A subscription ended: nothing of it is owed any more. Who subscribes anew is told anew.
    pub fn end(&mut self, resource: &Channel) {
        let Some(all) = &mut self.0 else { return };
        all.debts.retain(|debt, _| debt.resource != *resource);
        self.tidy();
    }

    /// Takes so many of the oldest out, to be paid.
    pub fn take(&mut self, most: usize) -> Vec<Debt> {
        let Some(all) = &mut self.0 else { return Vec::new() };
        let mut ages: Vec<u64> = all.debts.values().copied().collect();
        ages.sort_unstable();
        let youngest = ages.get(most).copied().unwrap_or(u64::MAX);
        let taken = all.debts.extract_if(|_, age| *age < youngest).map(|(debt, _)| debt).collect();
        self.tidy();
        taken
    }

    fn tidy(&mut self) {
        if self.0.as_ref().is_some_and(|all| all.debts.is_empty()) {
            self.0 = None;
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::message::Sender;

    fn document(id: &str, audience: Option<&str>) -> Publication {
        let resource = Channel::resource_named(&format!("o/p///kvStore/{id}"));
        let audience = audience.map(Into::into);
        let content = Content::Document { audience, version: 1, exists: true, frame: [].into() };
        Publication::new(Uuid::nil(), resource, 0, content)
    }

    #[test]
    fn a_document_is_owed_once_and_until_it_is_sent() {
        let mut debts = Debts::default();
        for _ in 0..2 {
            assert!(debts.owe(&document("a", None)) && debts.owe(&document("a", Some("u"))));
            assert!(debts.owe(&document("b", None)));
        }
        debts.sent(&document("a", None));
        debts.sent(&document("c", None));
        let name = |debt: &Debt| (debt.resource.as_str().to_owned(), debt.is_personal);
        let first: Vec<_> = debts.take(1).iter().map(name).collect();
        assert_eq!(first, [("o/p///kvStore/a".to_owned(), true)], "the oldest");
        let rest: Vec<_> = debts.take(9).iter().map(name).collect();
        assert_eq!(rest, [("o/p///kvStore/b".to_owned(), false)]);
        assert!(debts.is_empty());
        debts.owe(&document("a", None));
        debts.sent(&document("a", None));
        assert!(debts.is_empty(), "nothing takes no memory");
    }

    #[test]
    fn who_unsubscribes_is_owed_nothing() {
        let mut debts = Debts::default();
        let all = [document("a", None), document("a", Some("u")), document("b", None)];
        assert!(all.iter().all(|document| debts.owe(document)));
        debts.end(&all[0].channel);
        assert_eq!(debts.0.as_ref().map(|all| all.debts.len()), Some(1));
        debts.end(&all[2].channel);
        assert!(debts.is_empty(), "nothing takes no memory");
    }

    #[test]
    fn nothing_else_can_be_owed() {
        let content =
            Content::Message { event: "e".into(), payload: "1".into(), sender: Sender::System };
        let message = Publication::new(Uuid::nil(), Channel::from("c"), 0, content);
        assert!(!Debts::default().owe(&message));
    }
}
