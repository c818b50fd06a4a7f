use super::*;
use crate::message::Channel;

fn key(id: &str) -> DocumentKey {
    DocumentKey { resource: Channel::resource(id), audience: None }
}

fn write(id: &str, data: Option<&str>, version: Option<Millis>) -> DocumentWrite {
    DocumentWrite { key: key(id), user_id: None, data: data.map(Into::into), version }
}

/// What a copy says that has everything up to this place.
fn copy(standing: Option<(Seq, Millis, bool)>, position: Seq) -> Before {
    let standing = standing.map(|(seq, version, is_there)| Standing { seq, version, is_there });
    Before { standing, forgotten: 0, has_room: true, position }
}

fn put<T>(next: Option<Next<T>>) -> Put {
    match next {
        Some(Next::Put(put)) => *put,
        _ => panic!("nothing is sent"),
    }
}

fn answer<T>(next: Option<Next<T>>) -> Answer {
    match next {
        Some(Next::Answer(_, answer)) => answer,
        _ => panic!("nothing is answered"),
    }
}

fn done<T: Copy>(settled: Option<Settled<T>>) -> (T, Answer) {
    match settled {
        Some(Settled::Answer(ticket, answer, _)) => (ticket, answer),
        _ => panic!("it is not settled"),
    }
}

#[test]
fn writes_of_one_document_follow_each_other_by_the_streams_own_answers() {
    let mut writes = Writes::default();
    let first = writes.take(write("a", Some("1"), None), 1, 100).unwrap();
    assert_eq!(writes.take(write("a", Some("2"), None), 2, 100), None, "it waits for the first");
    let old = copy(Some((7, 1_000, true)), 9);
    let sent = put(writes.decide(&first, &old, false, 500));
    assert_eq!((sent.expected, sent.document.version), (7, 1_001));
    assert!(writes.decide(&first, &old, true, 500).is_none(), "it is on its way");
    assert_eq!(
        done(writes.settled(sent.number, Outcome::Stored(20), 9)),
        (1, Answer::Written(1_001))
    );
    let second = writes.first(&key("a")).unwrap();
    let sent = put(writes.decide(&second, &old, false, 500));
    assert_eq!((sent.expected, sent.document.version), (20, 1_002), "the copy is behind");
    assert_eq!(
        done(writes.settled(sent.number, Outcome::Stored(21), 9)),
        (2, Answer::Written(1_002))
    );
    assert!(writes.is_empty());
    writes.passed(&key("a"), 20);
    assert_eq!(writes.lines.len(), 1, "the copy is still behind");
    writes.passed(&key("a"), 21);
    assert!(writes.lines.is_empty() && writes.flying.is_empty() && writes.bytes == 0);
}

#[test]
fn a_writer_that_was_too_slow_decides_again() {
    let mut writes = Writes::default();
    let name = writes.take(write("a", Some("1"), Some(2_000)), 1, 100).unwrap();
    let sent = put(writes.decide(&name, &copy(None, 5), false, 0));
    assert_eq!((sent.expected, sent.document.version), (0, 2_000));
    let moved = Outcome::Refused(Refusal::Moved(8));
    let Some(Settled::Behind(again, 8)) = writes.settled(sent.number, moved, 5) else {
        panic!("the copy is behind")
    };
    // The faster writer's version is later: the refusal needs a proof.
    let newer = copy(Some((8, 3_000, true)), 8);
    assert!(matches!(writes.decide(&again, &newer, false, 0), Some(Next::Prove(_))));
    assert_eq!(answer(writes.decide(&again, &newer, true, 0)), Answer::Stale(3_000));
    assert!(writes.decide(&again, &newer, true, 0).is_none() && writes.is_empty());
}

#[test]
fn a_forgotten_document_whose_message_is_left_is_written_over_it() {
    let mut writes = Writes::default();
    let name = writes.take(write("a", Some("1"), None), 1, 100).unwrap();
    let forgotten = Before { forgotten: 700, ..copy(None, 50) };
    let sent = put(writes.decide(&name, &forgotten, false, 10));
    assert_eq!((sent.expected, sent.document.version), (0, 701));
    let moved = Outcome::Refused(Refusal::Moved(3));
    let Some(Settled::Prove(again)) = writes.settled(sent.number, moved, 50) else {
        panic!("the copy is not behind")
    };
    assert_eq!(put(writes.decide(&again, &forgotten, true, 10)).expected, 3);
}

#[test]
fn refusals_are_proven_first_and_only_for_the_write_that_waited() {
    let mut writes = Writes::default();
    let name = writes.take(write("a", None, None), 1, 100).unwrap();
    let Some(Next::Prove(waiting)) = writes.decide(&name, &copy(None, 5), false, 0) else {
        panic!("a copy may be behind")
    };
    let (answers, names) = writes.expire(100);
    assert_eq!((answers, names), (vec![(1, Answer::Unavailable)], vec![]));
    let later = writes.take(write("a", None, None), 2, 200).unwrap();
    assert!(writes.decide(&waiting, &copy(None, 5), true, 0).is_none(), "an older proof");
    assert_eq!(answer(writes.decide(&later, &copy(None, 5), true, 0)), Answer::Missing);
    let full = Before { has_room: false, ..copy(None, 5) };
    let name = writes.take(write("a", Some("1"), None), 3, 200).unwrap();
    assert_eq!(answer(writes.decide(&name, &full, true, 0)), Answer::Full);
}

#[test]
fn what_became_of_a_write_is_unknown_only_if_it_was_sent() {
    let mut writes = Writes::default();
    let first = writes.take(write("a", Some("1"), None), 1, 100).unwrap();
    writes.take(write("a", Some("2"), None), 2, 150);
    writes.take(write("a", Some("3"), None), 3, 250);
    let sent = put(writes.decide(&first, &copy(None, 5), false, 0));
    let (answers, names) = writes.expire(200);
    assert_eq!(answers, [(1, Answer::Unknown), (2, Answer::Unavailable)]);
    assert!(writes.settled(sent.number, Outcome::Stored(6), 5).is_none(), "it is answered");
    let third = put(writes.decide(&names[0], &copy(None, 5), false, 0));
    writes.take(write("a", Some("4"), None), 4, 300);
    writes.take(write("b", Some("5"), None), 5, 300);
    let mut refused = writes.refuse_unsent();
    refused.sort_unstable();
    assert_eq!(refused, [4, 5], "the third is on its way");
    assert_eq!(done(writes.settled(third.number, Outcome::Unknown, 5)), (3, Answer::Unknown));
    assert!(writes.is_empty() && writes.lines.is_empty() && writes.bytes == 0);
}

#[test]
fn a_writer_that_is_always_too_slow_is_busy_in_the_end() {
    let mut writes = Writes::default();
    let name = writes.take(write("a", Some("1"), None), 1, 100).unwrap();
    let mut settled = None;
    for seq in 1..=u64::from(CLUSTER_WRITE_TRIES_MAX) + 1 {
        let sent = put(writes.decide(&name, &copy(None, 0), false, 0));
        settled = writes.settled(sent.number, Outcome::Refused(Refusal::Moved(seq)), 0);
    }
    assert_eq!(done(settled), (1, Answer::Busy));
}

#[test]
fn places_and_bytes_are_bounded() {
    let mut writes = Writes::default();
    for number in 0..CLUSTER_WRITES_MAX {
        assert!(writes.has_room());
        writes.take(write(&number.to_string(), None, None), number, 100);
    }
    assert!(!writes.has_room());
    assert_eq!(writes.refuse_unsent().len(), CLUSTER_WRITES_MAX);
    let long = "1".repeat(CLUSTER_WRITE_BYTES_MAX);
    writes.take(write("a", Some(&long), None), 0, 100);
    assert!(!writes.has_room());
}
