//! Proves that the checker finds each fault, in histories that are written by hand.

use crate::histories::{Answer, Fact, Fault, faults};

const NODE: u64 = 1;
const CHANNEL: u64 = 7;

fn joined(subscriber: u64) -> Fact {
    Fact::Joined { subscriber, node: NODE, channel: CHANNEL }
}

fn asked(attempt: u64, id: u64) -> Fact {
    Fact::Asked { attempt, id, channel: CHANNEL, node: 2 }
}

fn answered(attempt: u64, answer: Answer) -> Fact {
    Fact::Answered { attempt, answer }
}

fn heard(subscriber: u64, id: u64, place: u64) -> Fact {
    Fact::Heard { subscriber, id, place: Some(place) }
}

fn counted(attempt: u64, total: u64, nodes: u64, unknown: &[u64]) -> Fact {
    Fact::Counted { attempt, total, nodes, unknown: unknown.to_vec(), is_named: true }
}

/// Returns the facts of a publication that is stored at the place which is its id.
fn stored(id: u64) -> [Fact; 2] {
    [asked(id, id), answered(id, Answer::Stored { place: Some(id) })]
}

fn check(facts: &[&[Fact]], expected: &[Fault]) {
    assert_eq!(faults(&facts.concat()), expected);
}

#[test]
fn a_history_without_a_fault_has_none() {
    let [one, two] = [stored(1), stored(2)];
    check(&[&[joined(5)], &one, &[heard(5, 1, 1)], &two, &[heard(5, 2, 2)]], &[]);
    // The live message may come before the acknowledgement, and a subscriber after both.
    check(&[&[joined(5), asked(1, 1), heard(5, 1, 1), one[1].clone(), joined(6)]], &[]);
}

#[test]
fn what_is_missed_must_be_told_in_its_place() {
    let missed = Fault::Missed { subscriber: 5, id: 2 };
    let gap = Fact::Gap { subscriber: 5 };
    let [one, two, three] = [stored(1), stored(2), stored(3)];
    let before: &[&[Fact]] = &[&[joined(5)], &one, &two, &three];
    let with = |rest: &[Fact]| [&before.concat(), rest].concat();
    check(&[&with(&[heard(5, 1, 1), heard(5, 3, 3)])], std::slice::from_ref(&missed));
    check(&[&with(&[heard(5, 1, 1), gap.clone(), heard(5, 3, 3)])], &[]);
    check(&[&with(&[heard(5, 1, 1), heard(5, 3, 3), gap.clone()])], std::slice::from_ref(&missed));
    check(&[&with(&[gap, heard(5, 1, 1), heard(5, 3, 3)])], std::slice::from_ref(&missed));
    // A subscriber that has left is judged by what it heard afterwards.
    let left = Fact::Left { subscriber: 5 };
    check(&[&with(&[heard(5, 1, 1), left.clone()])], &[]);
    check(&[&with(&[heard(5, 1, 1), heard(5, 3, 3), left])], &[missed]);
}

#[test]
fn nothing_is_heard_twice_or_in_two_orders() {
    let [one, two] = [stored(1), stored(2)];
    let twice = [heard(5, 1, 1), heard(5, 1, 1)];
    check(
        &[&[joined(5)], &one, &twice],
        &[Fault::Twice { subscriber: 5, id: 1 }, Fault::Disorder { subscriber: 5, id: 1 }],
    );
    let turned = [heard(5, 2, 2), heard(5, 1, 1)];
    check(&[&[joined(5)], &one, &two, &turned], &[Fault::Disorder { subscriber: 5, id: 1 }]);
    // Nothing is known of places, but two subscribers disagree.
    let heard = |subscriber, id| Fact::Heard { subscriber, id, place: None };
    let apart = [heard(5, 1), heard(5, 2), heard(6, 2), heard(6, 1)];
    check(
        &[&[joined(5), joined(6)], &one, &two, &apart],
        &[Fault::Disorder { subscriber: 5, id: 1 }, Fault::Disorder { subscriber: 6, id: 2 }],
    );
}

#[test]
fn what_was_refused_is_not_heard() {
    for answer in [Answer::Refused, Answer::NotHeard] {
        check(
            &[&[asked(1, 1), answered(1, answer), joined(5), heard(5, 1, 1)]],
            &[Fault::Denied { subscriber: 5, id: 1 }],
        );
    }
    check(&[&[joined(5), asked(1, 1), answered(1, Answer::Unknown), heard(5, 1, 1)]], &[]);
    check(&[&[joined(5), heard(5, 1, 1)], &stored(1)], &[Fault::Stray { subscriber: 5, id: 1 }]);
}

#[test]
fn what_is_published_again_with_its_id_is_heard_once() {
    let again = [asked(2, 1), answered(2, Answer::Stored { place: Some(9) })];
    let first = [joined(5), asked(1, 1), answered(1, Answer::Unknown)];
    check(&[&first, &again, &[heard(5, 1, 9)]], &[]);
    check(&[&first, &again], &[Fault::Missed { subscriber: 5, id: 1 }]);
    check(
        &[&first, &[heard(5, 1, 4)], &again, &[heard(5, 1, 9)]],
        &[Fault::Twice { subscriber: 5, id: 1 }],
    );
}

#[test]
fn what_the_servers_have_lost_is_told_some_time() {
    let lost = Fact::Lost { id: 1, place: Some(1) };
    let gap = Fact::Gap { subscriber: 5 };
    let one = stored(1);
    let missed = Fault::Missed { subscriber: 5, id: 1 };
    check(&[&[joined(5)], &one, std::slice::from_ref(&lost)], &[missed]);
    check(&[&[joined(5)], &one, &[gap, lost.clone()]], &[]);
    // The only node that knew of it has ended.
    check(&[&[joined(5)], &one, &[Fact::Away { node: 2 }, lost]], &[]);
}

#[test]
fn a_null_is_true_of_acknowledged_subscribers() {
    let null = [asked(1, 1), answered(1, Answer::NotHeard)];
    let wrong = Fault::FalseNull { attempt: 1, subscriber: 5 };
    check(&[&[joined(5)], &null], &[wrong]);
    check(&[&null, &[joined(5)]], &[]);
    check(&[&[null[0].clone(), joined(5), null[1].clone()]], &[]);
    check(&[&[joined(5), null[0].clone(), Fact::Left { subscriber: 5 }, null[1].clone()]], &[]);
    // Its node was taken for dead, and says so.
    check(&[&[joined(5)], &null, &[Fact::Gap { subscriber: 5 }]], &[]);
}

#[test]
fn an_audience_hides_no_listener_and_invents_none() {
    let one = stored(1);
    let before: &[&[Fact]] = &[&[joined(5), joined(6)], &one, &[heard(5, 1, 1), heard(6, 1, 1)]];
    let with = |rest: &[Fact]| [&before.concat(), rest].concat();
    check(&[&with(&[counted(1, 2, 1, &[])])], &[]);
    check(
        &[&with(&[counted(1, 1, 1, &[])])],
        &[Fault::Hidden { attempt: 1, counted: 1, least: 2 }],
    );
    check(&[&with(&[counted(1, 0, 0, &[NODE])])], &[]);
    check(
        &[&with(&[counted(1, 3, 1, &[])])],
        &[Fault::Invented { attempt: 1, counted: 3, most: 2 }],
    );
    let nameless =
        Fact::Counted { attempt: 1, total: 0, nodes: 0, unknown: vec![], is_named: false };
    check(&[&with(&[nameless])], &[]);
    // Nothing can be said of a node that is away.
    let away = [Fact::Away { node: NODE }, counted(1, 0, 0, &[]), Fact::Back { node: NODE }];
    check(&[&with(&away)], &[]);
}

#[test]
fn a_subscriber_that_comes_or_goes_may_be_counted_and_need_not_be() {
    let [ask, answer] = stored(1);
    let joining = Fact::Joining { subscriber: 5, node: NODE, channel: CHANNEL };
    let leaving = Fact::Leaving { subscriber: 5 };
    let left = Fact::Left { subscriber: 5 };
    for total in [0, 1] {
        let count = [answer.clone(), counted(1, total, total, &[])];
        check(&[&[joining.clone(), ask.clone()], &count, &[joined(5)]], &[]);
        let before = [joining.clone(), joined(5), leaving.clone(), ask.clone()];
        check(&[&before, &count, std::slice::from_ref(&left)], &[]);
    }
    let one = [ask.clone(), answer.clone(), counted(1, 1, 1, &[])];
    let invented = [Fault::Invented { attempt: 1, counted: 1, most: 0 }];
    check(&[&one, std::slice::from_ref(&joining)], &invented);
    check(&[&[joining.clone(), left.clone()], &one], &invented);
    // A subscribe that is not acknowledged promises nothing.
    check(&[&[joining.clone(), ask.clone(), answer.clone()]], &[]);
    let null = [ask.clone(), answered(1, Answer::NotHeard)];
    check(&[std::slice::from_ref(&joining), &null, &[joined(5)]], &[]);
    check(&[&[joining.clone(), joined(5), leaving], &null], &[]);
    let wrong = Fault::FalseNull { attempt: 1, subscriber: 5 };
    check(&[&[joining, joined(5)], &null, &[left]], &[wrong]);
}

#[test]
fn each_attempt_is_answered_once() {
    check(&[&[asked(1, 1)]], &[Fault::Answers { attempt: 1, count: 0 }]);
    let refused = answered(1, Answer::Refused);
    check(&[&[asked(1, 1), refused.clone(), refused]], &[Fault::Answers { attempt: 1, count: 2 }]);
    let late = answered(1, Answer::Stored { place: Some(1) });
    check(&[&[asked(1, 1), answered(1, Answer::Unknown), late.clone()]], &[]);
    check(
        &[&[asked(1, 1), answered(1, Answer::Unknown), late.clone(), late]],
        &[Fault::Answers { attempt: 1, count: 2 }],
    );
}
