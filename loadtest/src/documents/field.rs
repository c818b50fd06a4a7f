//! The documents of a run, the clients that watch each, and the order of the writes.
//!
//! All of this follows from a seed, so that clients and writers agree without exchanging messages,
//! and a run can be repeated.

use crate::api::m2::Resource;

const ID_PREFIX: &str = "load:";
const ID_DIGITS: usize = 7;

/// Draws for different purposes are independent of each other, although the seed is the same.
#[derive(Clone, Copy)]
enum Purpose {
    Watching = 1,
    Writing = 2,
}

/// The documents of a run, numbered from 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Field {
    /// The seed of all draws.
    pub(crate) seed: u64,
    /// Number of documents, of all types in turn.
    pub(crate) resources: u32,
    /// Number of documents that each client watches; at most all.
    pub(crate) subscriptions: u32,
}

impl Field {
    /// Returns the documents that a client watches, in ascending order and each once.
    pub(super) fn watched(&self, client: usize) -> Vec<u32> {
        let mut watched = Vec::with_capacity(self.subscriptions as usize);
        // Floyd's algorithm needs one draw per subscription, however many documents there are.
        for last in self.resources - self.subscriptions..self.resources {
            let turn = (client as u64) << 32 | u64::from(last);
            let drawn = self.draw(Purpose::Watching, turn, last + 1);
            let taken = watched.binary_search(&drawn);
            let chosen = if taken.is_ok() { last } else { drawn };
            let place = watched.binary_search(&chosen).unwrap_or_else(|place| place);
            watched.insert(place, chosen);
        }
        watched
    }

    /// Returns the document of a write.
    pub(super) fn written(&self, sequence: u64) -> u32 {
        self.draw(Purpose::Writing, sequence, self.resources)
    }

    /// Returns a number below `end`.
    fn draw(&self, purpose: Purpose, turn: u64, end: u32) -> u32 {
        let random = mixed(mixed(mixed(self.seed) ^ purpose as u64) ^ turn);
        let drawn = (u128::from(random) * u128::from(end)) >> 64;
        u32::try_from(drawn).expect("it is below the end")
    }
}

/// Returns the id of a document.
pub(super) fn id(number: u32) -> String {
    format!("{ID_PREFIX}{number:0ID_DIGITS$}")
}

/// Returns the document of this number, whose id is `id`. Its type follows from the number.
pub(super) fn resource(number: u32, id: &str) -> Resource<'_> {
    Resource::of_turn(number as usize, id)
}

/// Returns the number of a document, or `None` if it is not one of this tool.
pub(super) fn number(named: Resource<'_>) -> Option<u32> {
    let number = named.id.strip_prefix(ID_PREFIX)?.parse().ok()?;
    (resource(number, named.id) == named).then_some(number)
}

/// The last step of Splitmix64: every bit of the result depends on every bit of the number.
fn mixed(number: u64) -> u64 {
    let mut bits = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_watch_each_document_once_and_all_alike() {
        let field = Field { seed: 1, resources: 1_000, subscriptions: 20 };
        let mut watchers = vec![0_u32; 1_000];
        for client in 0..5_000 {
            let watched = field.watched(client);
            assert!(watched.len() == 20 && watched.is_sorted_by(|one, next| one < next));
            watched.iter().for_each(|number| watchers[*number as usize] += 1);
        }
        // The expected count is 100 and the standard deviation 10.
        assert!(watchers.iter().all(|count| (50..150).contains(count)), "{watchers:?}");
        assert_ne!(field.watched(1), Field { seed: 2, ..field }.watched(1));
        let all = Field { resources: 20, ..field };
        assert_eq!(all.watched(3), (0..20).collect::<Vec<_>>());
    }

    #[test]
    fn writes_go_to_all_documents_alike() {
        let field = Field { seed: 1, resources: 100, subscriptions: 1 };
        let mut writes = vec![0_u32; 100];
        (0..10_000).for_each(|sequence| writes[field.written(sequence) as usize] += 1);
        assert!(writes.iter().all(|count| (50..150).contains(count)), "{writes:?}");
    }

    #[test]
    fn a_name_says_the_number() {
        for of in [0, 1, 99_999, 12_345_678] {
            let id = id(of);
            assert_eq!(number(resource(of, &id)), Some(of));
            assert_eq!(number(resource(of + 1, &id)), None, "of another type");
        }
        assert_eq!(number(Resource { kind: "kvStore", id: "load:x" }), None);
        assert_eq!(number(Resource { kind: "kvStore", id: "other" }), None);
    }
}
