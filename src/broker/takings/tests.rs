//! Several nodes that share a bucket, with messages that take a while.

use proptest::prelude::*;

use super::*;

/// A node with its copy of the bucket.
#[derive(Default)]
struct Node {
    takings: Takings,
    bucket: Bucket,
    /// When what it has told has arrived at every node.
    arrives: Option<(Millis, Vec<Taking>)>,
}

/// Nodes on which clients ask for tokens.
struct Nodes {
    nodes: Vec<Node>,
    rate: u32,
    delay: Millis,
    now: Millis,
}

impl Nodes {
    fn new(count: usize, rate: u32, delay: Millis) -> Self {
        let nodes: Vec<_> = (0..count).map(|_| Node::default()).collect();
        nodes.iter().for_each(|node| node.takings.set_nodes(count));
        Self { nodes, rate, delay, now: 10_000 }
    }

    /// Lets a millisecond pass, in which clients ask so often on each node. Returns how many tokens
    /// were granted on each.
    fn pass(&mut self, asked: &[u32]) -> Vec<u32> {
        self.now += 1;
        for from in 0..self.nodes.len() {
            self.arrive(from);
        }
        let (rate, now, delay) = (self.rate, self.now, self.delay);
        let channel = Channel::from("a");
        self.nodes
            .iter_mut()
            .zip(asked)
            .map(|(node, asked)| {
                let Node { takings, bucket, arrives } = node;
                let take = |_: &u32| takings.take(&channel, (bucket, rate), now) != Taken::Refused;
                let granted = (0..*asked).filter(take).count();
                if arrives.is_none() && !takings.is_empty() {
                    *arrives = Some((now + delay, takings.tell()));
                }
                u32::try_from(granted).unwrap()
            })
            .collect()
    }

    fn arrive(&mut self, from: usize) {
        let now = self.now;
        let Some((_, told)) = self.nodes[from].arrives.take_if(|(at, _)| *at <= now) else {
            return;
        };
        self.nodes[from].takings.told();
        for (_, node) in self.nodes.iter_mut().enumerate().filter(|(to, _)| *to != from) {
            told.iter().for_each(|one| node.bucket.spend(one.rate, one.count, now));
        }
    }

    /// Lets seconds pass. Returns how many tokens were granted in each, on all nodes.
    fn seconds(&mut self, count: usize, asked: &[u32]) -> Vec<u32> {
        let second = |_| (0..1_000).map(|_| self.pass(asked).iter().sum::<u32>()).sum();
        (0..count).map(second).collect()
    }
}

#[test]
fn a_burst_on_all_nodes_is_granted_the_tokens_of_one_second() {
    let mut nodes = Nodes::new(3, 100, 2);
    let granted: u32 = nodes.pass(&[1_000; 3]).iter().sum();
    assert_eq!(granted, 99, "each has a third");
    assert!(nodes.pass(&[1_000; 3]).iter().sum::<u32>() <= 3);
}

#[test]
fn a_burst_on_one_node_has_its_share_at_once_and_the_rest_after_it_was_told() {
    let mut nodes = Nodes::new(3, 100, 2);
    assert_eq!(nodes.pass(&[1_000, 0, 0]), [33, 0, 0]);
    let more: u32 = (0..30).map(|_| nodes.pass(&[1_000, 0, 0])[0]).sum();
    assert!((60..=70).contains(&more), "{more}");
}

#[test]
fn at_a_low_rate_every_node_has_its_turn() {
    let mut nodes = Nodes::new(3, 1, 2);
    let granted: u32 = nodes.seconds(30, &[1; 3]).iter().sum();
    assert!((30..=33).contains(&granted), "{granted}");
}

#[test]
fn a_node_alone_has_nothing_to_tell() {
    let nodes = Nodes::new(1, 5, 2);
    let Node { takings, .. } = &nodes.nodes[0];
    let mut bucket = Bucket::default();
    let take = |_: &u32| takings.take(&"a".into(), (&mut bucket, 5), 9) == Taken::Granted;
    assert_eq!(((0..9).filter(take).count(), takings.is_empty()), (5, true));
}

#[test]
fn what_was_taken_is_told_once() {
    let takings = Takings::default();
    takings.set_nodes(2);
    let mut bucket = Bucket::default();
    let mut take = || takings.take(&"a".into(), (&mut bucket, 50), 9);
    let taking = |count| vec![Taking { channel: "a".into(), rate: 50, count }];
    assert_eq!([take(), take()], [Taken::First, Taken::Granted]);
    assert_eq!((takings.tell(), takings.is_empty()), (taking(2), true));
    assert_eq!(take(), Taken::First);
    takings.told();
    assert_eq!((takings.tell(), takings.tell()), (taking(1), vec![]));
    assert_eq!(take(), Taken::First);
    takings.set_nodes(1);
    assert!(takings.is_empty(), "nobody hears it");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Floods nodes, of which the first ones are busier or idle.
    #[test]
    fn each_second_all_nodes_grant_the_rate(
        rate in 50..1_000_u32,
        delay in 1..15_u64,
        asked in prop::array::uniform3(0..5_u32).prop_filter("one floods", |all| all.contains(&4)),
    ) {
        let mut nodes = Nodes::new(3, rate, delay);
        let seconds = nodes.seconds(5, &asked);
        let burst = f64::from(rate) * 2.1;
        prop_assert!(f64::from(seconds[0]) <= burst, "{:?}", seconds);
        for second in &seconds[1..] {
            let part = f64::from(*second) / f64::from(rate);
            prop_assert!((0.9..=1.1).contains(&part), "{:?} at {}", seconds, rate);
        }
    }
}
