//! Stale documents: those that a client was not sent because it did not keep up. They are read
//! again once the client has taken its queued frames.

use std::collections::HashMap;

use crate::limits::REPEATED_SUBSCRIBES_MAX;
use crate::message::{Channel, Content, Publication};

/// The stale documents of one client. Without any it owns no memory; there are never more than the
/// documents that the client is subscribed to.
#[derive(Debug, Default)]
pub struct StaleDocuments(Option<Box<Entries>>);

#[derive(Debug, Default)]
struct Entries {
    entries: HashMap<StaleDocument, Entry>,
    marked_ever: u64,
}

#[derive(Debug)]
struct Entry {
    /// Entries are numbered as they are added, so that the oldest are read first.
    number: u64,
    /// Subscribes of the client to the resource that are still without an answer, up to
    /// [`REPEATED_SUBSCRIBES_MAX`]. This document answers all of them.
    unanswered: u16,
}

/// Names a stale document.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct StaleDocument {
    /// The channel of the resource.
    pub resource: Channel,
    /// True for the client's own document, false for the shared document.
    pub is_personal: bool,
}

impl StaleDocument {
    fn of(publication: &Publication) -> Option<Self> {
        let Content::Document { audience, .. } = &publication.content else { return None };
        Some(Self { resource: publication.channel.clone(), is_personal: audience.is_some() })
    }

    /// Returns both documents of a resource.
    fn both(resource: &Channel) -> [Self; 2] {
        [false, true].map(|is_personal| Self { resource: resource.clone(), is_personal })
    }
}

impl StaleDocuments {
    /// Marks a document as stale. Returns false if the publication is not a document.
    pub fn mark(&mut self, publication: &Publication) -> bool {
        let document = StaleDocument::of(publication);
        document.map(|document| self.insert(document)).is_some()
    }

    /// Adds a document, unless it is stale already.
    pub fn insert(&mut self, document: StaleDocument) {
        let all = self.0.get_or_insert_default();
        all.marked_ever += 1;
        let entry = Entry { number: all.marked_ever, unanswered: 0 };
        all.entries.entry(document).or_insert(entry);
    }

    /// Counts subscribes to a resource that no frame has answered, until a document of the resource
    /// is sent. Returns false if no document of the resource is stale.
    pub fn add_unanswered(&mut self, resource: &Channel, times: u16) -> bool {
        let entries = self.0.as_mut().map(|all| &mut all.entries);
        let entry = entries.and_then(|entries| {
            let mut ids = StaleDocument::both(resource).into_iter();
            let id = ids.find(|document| entries.contains_key(document))?;
            entries.get_mut(&id)
        });
        let Some(entry) = entry else { return false };
        entry.unanswered = entry.unanswered.saturating_add(times).min(REPEATED_SUBSCRIBES_MAX);
        true
    }

    /// Returns whether this document, or an earlier version of it, is stale.
    pub fn contains(&self, publication: &Publication) -> bool {
        let document = self.0.as_ref().and(StaleDocument::of(publication));
        document
            .zip(self.0.as_ref())
            .is_some_and(|(document, all)| all.entries.contains_key(&document))
    }

    /// Notes that a document is sent: it is not stale any more, and the subscribes to its resource
    /// are answered.
    pub fn sent(&mut self, publication: &Publication) {
        let Some(all) = &mut self.0 else { return };
        if let Some(sent) = StaleDocument::of(publication) {
            for document in StaleDocument::both(&sent.resource) {
                if document == sent {
                    all.entries.remove(&document);
                } else if let Some(entry) = all.entries.get_mut(&document) {
                    entry.unanswered = 0;
                }
            }
        }
        self.tidy();
    }

    /// Forgets the documents of a resource whose subscription ended. A new subscribe gets a new
    /// answer.
    pub fn end(&mut self, resource: &Channel) {
        let Some(all) = &mut self.0 else { return };
        all.entries.retain(|document, _| document.resource != *resource);
        self.tidy();
    }

    /// Removes and returns the oldest documents, at most `most`, each with the number of subscribes
    /// that it answers.
    pub fn take(&mut self, most: usize) -> Vec<(StaleDocument, u16)> {
        let Some(all) = &mut self.0 else { return Vec::new() };
        let mut numbers: Vec<u64> = all.entries.values().map(|entry| entry.number).collect();
        numbers.sort_unstable();
        let first_left = numbers.get(most).copied().unwrap_or(u64::MAX);
        let taken = all.entries.extract_if(|_, entry| entry.number < first_left);
        let mut taken: Vec<_> = taken.collect();
        taken.sort_unstable_by_key(|(_, entry)| entry.number);
        self.tidy();
        taken.into_iter().map(|(document, entry)| (document, entry.unanswered)).collect()
    }

    fn tidy(&mut self) {
        if self.0.as_ref().is_some_and(|all| all.entries.is_empty()) {
            self.0 = None;
        }
    }

    /// Returns whether no document is stale.
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
        let resource = Channel::resource(&format!("o/p///kvStore/{id}"));
        let audience = audience.map(Into::into);
        let content = Content::Document { audience, version: 1, exists: true, frame: [].into() };
        Publication::new(Uuid::nil(), resource, 0, content)
    }

    #[test]
    fn a_document_is_stale_once_and_until_it_is_sent() {
        let mut stale = StaleDocuments::default();
        for _ in 0..2 {
            assert!(stale.mark(&document("a", None)) && stale.mark(&document("a", Some("u"))));
            assert!(stale.mark(&document("b", None)));
        }
        stale.sent(&document("a", None));
        stale.sent(&document("c", None));
        let name = |(document, _): &(StaleDocument, u16)| {
            (document.resource.as_str().to_owned(), document.is_personal)
        };
        let first: Vec<_> = stale.take(1).iter().map(name).collect();
        assert_eq!(first, [("o/p///kvStore/a".to_owned(), true)], "the oldest");
        let rest: Vec<_> = stale.take(9).iter().map(name).collect();
        assert_eq!(rest, [("o/p///kvStore/b".to_owned(), false)]);
        assert!(stale.is_empty());
        stale.mark(&document("a", None));
        stale.sent(&document("a", None));
        assert!(stale.is_empty(), "nothing takes no memory");
    }

    /// Returns the stale documents, the oldest first: whether each is the user's own, and how many
    /// subscribes it answers.
    fn unanswered(stale: &mut StaleDocuments) -> Vec<(bool, u16)> {
        let one_by_one = std::iter::from_fn(|| stale.take(1).pop());
        one_by_one.map(|(document, unanswered)| (document.is_personal, unanswered)).collect()
    }

    #[test]
    fn a_subscribe_without_an_answer_is_remembered_until_a_document_is_sent() {
        let (shared, own, other) = (document("a", None), document("a", Some("u")), "b");
        let other = document(other, None);
        let mut stale = StaleDocuments::default();
        assert!(!stale.add_unanswered(&shared.channel, 1), "no document is stale");
        assert!(stale.mark(&own) && stale.mark(&other));
        assert!(stale.contains(&own) && !stale.contains(&shared));
        assert!(stale.add_unanswered(&own.channel, 1), "the other document will answer it");
        assert!(stale.mark(&own) && stale.mark(&shared), "it is stale once more");
        assert!(stale.add_unanswered(&own.channel, 2));
        stale.sent(&other);
        assert_eq!(unanswered(&mut stale), [(true, 1), (false, 2)]);

        assert!(stale.mark(&own) && stale.mark(&shared));
        assert!(stale.add_unanswered(&own.channel, u16::MAX));
        assert_eq!(unanswered(&mut stale), [(true, 0), (false, REPEATED_SUBSCRIBES_MAX)]);

        assert!(stale.mark(&own) && stale.mark(&shared) && stale.add_unanswered(&own.channel, 1));
        stale.sent(&own);
        assert_eq!(unanswered(&mut stale), [(false, 0)], "one of them is an answer");

        assert!(stale.mark(&shared) && stale.add_unanswered(&own.channel, 1));
        stale.end(&own.channel);
        assert!(stale.mark(&shared));
        assert_eq!(unanswered(&mut stale), [(false, 0)], "that subscription has ended");
    }

    #[test]
    fn an_unsubscribe_ends_stale_documents() {
        let mut stale = StaleDocuments::default();
        let all = [document("a", None), document("a", Some("u")), document("b", None)];
        assert!(all.iter().all(|document| stale.mark(document)));
        stale.end(&all[0].channel);
        assert_eq!(stale.0.as_ref().map(|all| all.entries.len()), Some(1));
        stale.end(&all[2].channel);
        assert!(stale.is_empty(), "nothing takes no memory");
    }

    #[test]
    fn only_documents_become_stale() {
        let content =
            Content::Message { event: "e".into(), payload: "1".into(), sender: Sender::System };
        let message = Publication::new(Uuid::nil(), Channel::from("c"), 0, content);
        assert!(!StaleDocuments::default().mark(&message));
    }
}
