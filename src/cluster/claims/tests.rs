use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::name::Incarnation;
use super::*;
use crate::message::Channel;

fn node(number: usize) -> NodeName {
    NodeName::read(&format!("n{number}")).unwrap()
}

fn origin(number: usize, incarnation: u64) -> Origin {
    Origin { node: node(number), incarnation: Incarnation(incarnation) }
}

fn hash(number: usize) -> ChannelHash {
    ChannelHash::of(&Channel::from(&*number.to_string()))
}

fn place(number: usize) -> Place {
    Place::Channel(hash(number))
}

fn claim(claims: &mut Claims, place: Place, by: Origin, listens: bool) {
    let Origin { node, incarnation } = by;
    claims.apply(place, node, Claim { incarnation, listens }, claims.applied() + 1);
}

#[test]
fn a_claim_costs_56_bytes_beside_the_tree() {
    assert!(size_of::<(Place, SmallVec<[Entry; 1]>)>() == 56);
}

#[test]
fn a_later_start_takes_the_place_of_an_earlier_one() {
    let mut claims = Claims::default();
    claim(&mut claims, place(1), origin(1, 7), true);
    claim(&mut claims, place(1), origin(2, 7), true);
    claim(&mut claims, place(1), origin(1, 8), true);
    assert_eq!(claims.named(hash(1), |_| false), [origin(1, 8), origin(2, 7)]);
    assert!(!claims.has_any(|one| *one == origin(1, 7)));
    claim(&mut claims, place(1), origin(1, 7), false);
    assert_eq!(claims.named(hash(1), |_| false), [origin(2, 7)]);
    claim(&mut claims, place(1), origin(2, 7), false);
    claim(&mut claims, place(1), origin(2, 7), false);
    assert!(claims.is_empty());
    assert_eq!(claims.applied(), 6);
}

#[test]
fn patterns_are_named_by_what_they_match() {
    let mut claims = Claims::default();
    let pattern = |id| Place::Pattern(PatternId(id));
    claim(&mut claims, place(1), origin(1, 7), true);
    claim(&mut claims, pattern(5), origin(1, 7), true);
    claim(&mut claims, pattern(5), origin(2, 7), true);
    claim(&mut claims, pattern(u64::MAX), origin(3, 7), true);
    let named = |claims: &Claims, number, matching: u64| {
        claims.named(hash(number), |pattern| pattern.0 == matching)
    };
    assert_eq!(named(&claims, 1, 0), [origin(1, 7)]);
    assert_eq!(named(&claims, 1, 5), [origin(1, 7), origin(2, 7)], "each once");
    assert_eq!(named(&claims, 2, u64::MAX), [origin(3, 7)]);
    assert_eq!(named(&claims, 2, 0), []);
}

#[test]
fn claims_of_one_start_are_found_in_steps() {
    let mut claims = Claims::default();
    for number in 0..25 {
        claim(&mut claims, place(number), origin(number % 2, 7), true);
    }
    let (mut after, mut found, mut steps) = (None, Vec::new(), 0);
    loop {
        let (some, next) = claims.of(|one| *one == origin(1, 7), after, 10);
        found.extend(some.into_iter().map(|held| held.place));
        steps += 1;
        after = next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((found.len(), steps), (12, 3));
}

#[test]
fn nodes_beyond_the_bound_make_the_mirror_incomplete() {
    let mut claims = Claims::default();
    for number in 0..2 * NODES_MAX {
        claim(&mut claims, place(number), origin(number, 7), true);
    }
    assert!(!claims.is_cut());
    claim(&mut claims, place(0), origin(9_999, 7), true);
    assert!(claims.is_cut());
    claims.reset();
    assert!(!claims.is_cut() && claims.is_empty());
    assert_eq!(claims.applied(), 0);
}

#[test]
fn a_decision_waits_for_a_barrier_that_begins_later() {
    let mut barrier = Barrier::default();
    assert!(!barrier.is_wanted());
    barrier.wait(1).unwrap();
    assert!(barrier.is_wanted());
    barrier.sent(1_000);
    barrier.wait(2).unwrap();
    assert!(!barrier.is_wanted(), "one at a time");
    assert_eq!(barrier.applied(100), [0; 0], "not acknowledged yet");
    assert_eq!(barrier.stored(50, 49), [0; 0]);
    assert_eq!(barrier.applied(50), [1], "2 came after it had begun");
    assert!(barrier.is_wanted());
    barrier.sent(1_000);
    assert_eq!(barrier.fail(), [2]);
    assert_eq!(barrier.stored(60, 70), [0; 0]);
    for _ in 0..BARRIER_WAITING_MAX {
        barrier.wait(3).unwrap();
    }
    assert_eq!(barrier.wait(4), Err(4));
}

#[derive(Clone, Debug)]
enum Step {
    Claim(usize, usize, bool),
    /// The mirror's consumer delivers some more.
    Deliver(usize),
    Decide,
    Ack,
    Fail,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..4_usize, 0..3_usize, any::<bool>())
            .prop_map(|(place, node, listens)| Step::Claim(place, node, listens)),
        4 => (1..5_usize).prop_map(Step::Deliver),
        3 => Just(Step::Decide),
        3 => Just(Step::Ack),
        1 => Just(Step::Fail),
    ];
    proptest::collection::vec(step, 0..100)
}

proptest! {
    /// The stream of claims, of which the mirror is some way behind.
    #[test]
    fn a_decision_knows_every_claim_that_was_stored_before_it_was_asked_for(steps in steps()) {
        let mut stream: Vec<Option<(usize, usize, bool)>> = Vec::new();
        let (mut claims, mut barrier) = (Claims::default(), Barrier::default());
        let mut sent = None;
        for step in steps {
            let mut decided: Vec<(usize, usize)> = Vec::new();
            match step {
                Step::Claim(place, node, listens) => stream.push(Some((place, node, listens))),
                Step::Deliver(count) => {
                    let from = claims.applied() as usize;
                    for (at, one) in stream.iter().enumerate().skip(from).take(count) {
                        let seq = at as Seq + 1;
                        match *one {
                            Some((number, by, listens)) => {
                                let claim = Claim { incarnation: Incarnation(1), listens };
                                claims.apply(place(number), node(by), claim, seq);
                            }
                            None => claims.passed(seq),
                        }
                    }
                    decided = barrier.applied(claims.applied());
                }
                // Who claims place 0? What is stored by now must be known to the decision.
                Step::Decide => barrier.wait((stream.len(), 0)).unwrap(),
                Step::Ack => match sent.take() {
                    Some(seq) => decided = barrier.stored(seq, claims.applied()),
                    None if barrier.is_wanted() => {
                        barrier.sent(1_000);
                        stream.push(None);
                        sent = Some(stream.len() as Seq);
                    }
                    None => {}
                },
                Step::Fail => {
                    sent = None;
                    barrier.fail();
                }
            }
            for (stored, number) in decided {
                prop_assert!(claims.applied() as usize >= stored, "the mirror is too old");
                let known = &stream[..claims.applied() as usize];
                let mut expected = BTreeSet::new();
                for &(at, by, listens) in known.iter().flatten() {
                    if at == number && listens {
                        expected.insert(node(by));
                    } else if at == number {
                        expected.remove(&node(by));
                    }
                }
                let named = claims.named(hash(number), |_| false);
                let named: BTreeSet<_> = named.into_iter().map(|one| one.node).collect();
                prop_assert_eq!(named, expected);
            }
        }
    }
}
