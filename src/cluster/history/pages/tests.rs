use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::cluster::history::Below;

/// Histories of nodes, each oldest first, as the nodes would answer.
struct World {
    nodes: BTreeMap<NodeName, Vec<Held>>,
}

fn node(number: usize) -> NodeName {
    NodeName::read(&format!("n{number}")).unwrap()
}

fn key(node: &NodeName, held: &Held) -> Key {
    Key { place: held.place, node: node.clone(), position: held.position }
}

impl World {
    /// Gives messages to nodes: the node, how much later its place is than that of the one before
    /// it in the stream, and whether another node has it, too. Messages without a later place are
    /// at the same.
    fn new(count: usize, messages: &[(usize, u64, bool)]) -> Self {
        let mut nodes: BTreeMap<_, Vec<Held>> =
            (0..count).map(|number| (node(number), Vec::new())).collect();
        let mut seq = 0;
        for ((at, later, is_twice), twin) in messages.iter().zip(1u128..) {
            seq += later;
            let place = StreamPlace { epoch: 1, seq };
            for number in [Some(*at), is_twice.then_some(at + 1)].into_iter().flatten() {
                let own = nodes.get_mut(&node(number % count)).unwrap();
                let position = own.len() as Position * 3 + 1;
                let twin = Uuid::from_u128(twin);
                own.push(Held { place, position, twin, bytes: 1 });
            }
        }
        Self { nodes }
    }

    /// Returns the messages of all nodes, the newest first and each once.
    fn all(&self) -> Vec<(Key, Uuid)> {
        let each = self
            .nodes
            .iter()
            .flat_map(|(node, all)| all.iter().map(move |held| (key(node, held), held.twin)));
        let mut all: Vec<_> = each.collect();
        all.sort_unstable();
        let mut seen = HashSet::new();
        all.into_iter().rev().filter(|(_, twin)| seen.insert(*twin)).collect()
    }

    /// Answers as a node does that searches its positions.
    fn find(&self, at: &NodeName, below: Option<&Key>, skip: u64, limit: u64) -> Vec<Held> {
        let is_below = |held: &&Held| match below.map_or(Below::End, |key| key.on(at)) {
            Below::End => true,
            Below::Position(position) => held.position < position,
            Below::Place(place) => held.place < place,
        };
        let newest_first = self.nodes[at].iter().rev().filter(is_below);
        newest_first.skip(skip as usize).take(limit as usize).copied().collect()
    }

    /// Returns a page, and the number of rounds of questions for it.
    fn page(
        &self,
        before: Option<&(Key, Uuid)>,
        offset: u64,
        limit: u32,
    ) -> (Vec<(Key, Uuid)>, usize) {
        let mut pages = Pages::new(self.nodes.keys().cloned(), before, offset, limit);
        for rounds in 1.. {
            match pages.next() {
                Next::Pass(number) => {
                    let found = pages.nodes().filter_map(|(node, below)| {
                        let found = self.find(node, below, number - 1, 1);
                        found.first().map(|held| (node.clone(), *held))
                    });
                    let found: Vec<_> = found.collect();
                    if !pages.pass(number, found) {
                        return (Vec::new(), rounds);
                    }
                }
                Next::Take(count) => {
                    let found = pages.nodes().map(|(node, below)| {
                        (node.clone(), self.find(node, below, 0, count.into()))
                    });
                    let page = pages.page(found.collect::<Vec<_>>());
                    let page = page.iter().map(|(node, held)| (key(node, held), held.twin));
                    return (page.collect(), rounds);
                }
            }
        }
        unreachable!("a search ends")
    }
}

#[test]
fn far_offsets_are_reached_in_few_rounds() {
    let messages: Vec<_> =
        (0..60_000).map(|number: usize| (number * number % 7, 1, false)).collect();
    for count in [1, 2, 3, 7] {
        let world = World::new(count, &messages);
        let all = world.all();
        for offset in [0, 4_000, 4_097, 20_000, 59_990, 60_000, 70_000] {
            let (page, rounds) = world.page(None, offset, 50);
            let expected: Vec<_> = all.iter().skip(offset as usize).take(50).cloned().collect();
            assert_eq!(page, expected, "{count} nodes, offset {offset}");
            assert!(rounds < 12 * count, "{count} nodes, offset {offset}: {rounds}");
        }
    }
}

proptest! {
    #[test]
    fn pages_are_those_of_one_list(
        count in 1..5usize,
        messages in prop::collection::vec((0..5usize, 0..3u64, Just(false)), 0..60),
        limit in 1..7u32,
    ) {
        let world = World::new(count, &messages);
        let all = world.all();
        let (mut by_cursor, mut by_offset) = (Vec::new(), Vec::new());
        loop {
            let (page, _) = world.page(by_cursor.last(), 0, limit);
            let (same, _) = world.page(None, by_offset.len() as u64, limit);
            prop_assert_eq!(&page, &same);
            if page.is_empty() {
                break;
            }
            by_cursor.extend(page);
            by_offset.extend(same);
        }
        prop_assert_eq!(&by_cursor, &all);
    }

    #[test]
    fn a_message_of_two_nodes_is_on_a_page_once(
        count in 2..5usize,
        messages in prop::collection::vec((0..5usize, 1..3u64, any::<bool>()), 0..60),
        limit in 1..7u32,
    ) {
        let world = World::new(count, &messages);
        let all = world.all();
        prop_assert_eq!(all.len(), messages.len());
        // The two are at one place, so that pages by cursor have it once, too.
        let mut by_cursor: Vec<(Key, Uuid)> = Vec::new();
        while by_cursor.len() < all.len() {
            let (page, _) = world.page(by_cursor.last(), 0, limit);
            prop_assert!(!page.is_empty());
            by_cursor.extend(page);
        }
        prop_assert_eq!(&by_cursor, &all);
        for offset in 0..all.len() {
            let (page, _) = world.page(None, offset as u64, limit);
            let expected: Vec<_> = all.iter().skip(offset).take(limit as usize).cloned().collect();
            prop_assert_eq!(page, expected);
        }
    }
}
