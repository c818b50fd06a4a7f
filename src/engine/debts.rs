//! Documents that a client was not sent, because it did not keep up: it is told what they are once
//! it has taken what waits for it.

use std::collections::HashSet;

use crate::message::{Channel, Content, Publication};

/// What one client is owed. Nothing takes no memory of its own; there is never more than the
/// documents that the client is subscribed to.
#[derive(Debug, Default)]
pub struct Debts(
    #[allow(clippy::box_collection, reason = "8 bytes of an idle connection instead of 48")]
    Option<Box<HashSet<Debt>>>,
);

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
        let Some(debt) = Debt::of(publication) else { return false };
        self.0.get_or_insert_default().insert(debt);
        true
    }

    /// A document is sent: an earlier version of it is owed no longer.
    pub fn sent(&mut self, publication: &Publication) {
        let Some(debts) = &mut self.0 else { return };
        if let Some(debt) = Debt::of(publication) {
            debts.remove(&debt);
        }
        self.tidy();
    }

    /// A subscription ended: nothing of it is owed any more. Who subscribes anew is told anew.
    pub fn end(&mut self, resource: &Channel) {
        let Some(debts) = &mut self.0 else { return };
        debts.retain(|debt| debt.resource != *resource);
        self.tidy();
    }

    fn tidy(&mut self) {
        if self.0.as_ref().is_some_and(|debts| debts.is_empty()) {
            self.0 = None;
        }
    }

    /// Takes all of them out, to be paid.
    pub fn take(&mut self) -> impl Iterator<Item = Debt> + use<> {
        self.0.take().into_iter().flat_map(|debts| *debts)
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
        let mut owed: Vec<_> = debts
            .take()
            .map(|debt| (debt.resource.as_str().to_owned(), debt.is_personal))
            .collect();
        owed.sort();
        let name = |id: &str| format!("o/p///kvStore/{id}");
        assert_eq!(owed, [(name("a"), true), (name("b"), false)]);
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
        assert_eq!(debts.0.as_ref().map(|debts| debts.len()), Some(1));
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
