use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::message::{Content, MessageId, Sender};

const ME: RecoveryKey = [7; 15];
const OTHER: RecoveryKey = [8; 15];
const UNBOUNDED: usize = usize::MAX;

fn mark(number: u128) -> Mark {
    Mark::Id(id(number))
}

fn id(number: u128) -> MessageId {
    Uuid::from_u128(number)
}

fn publication(number: u128, channel: &str) -> Arc<Publication> {
    let content =
        Content::Message { event: "e".into(), payload: "1".into(), sender: Sender::System };
    Arc::new(Publication::new(id(number), Channel::from(channel), 0, content))
}

fn numbers(missed: &Option<Vec<(Position, Arc<Publication>)>>) -> Vec<u128> {
    let missed = missed.iter().flatten();
    missed.map(|(_, publication)| publication.id.as_u128()).collect()
}

#[test]
fn compressed_frames_count_and_displace_the_oldest() {
    let long = |number: u128| {
        let payload = "1".repeat(2_000).into();
        let content = Content::Message { event: "e".into(), payload, sender: Sender::System };
        Arc::new(Publication::new(id(number), Channel::from("a"), 0, content))
    };
    let (plain, deflated) = [Deflated::default(), Deflated::from(1_024)]
        .map(|deflated| weight(&long(0), deflated))
        .into();
    assert_eq!(deflated - plain, (COPIES - 1) * 2_001);
    let short = publication(1, "a");
    assert_eq!(weight(&short, Deflated::from(4_096)), weight(&short, Deflated::default()));
    let kept = |deflated: Deflated| {
        let mut log = Log::new(1_000, 3 * plain).with_deflated(deflated);
        for number in 1..=5 {
            log.heard(long(number), 0);
        }
        let (kept, bytes) = (log.end() - log.start(), log.bytes());
        log.trim(5_000);
        assert_eq!(log.bytes(), 0, "what was counted is taken back");
        (kept, bytes)
    };
    assert_eq!(kept(Deflated::default()), (3, 3 * plain));
    assert_eq!(kept(Deflated::from(1_024)), (1, deflated));
}

#[test]
fn what_follows_the_offset_is_missed_on_channels_that_are_heard() {
    let mut log = Log::new(1_000, UNBOUNDED);
    for (number, channel) in [(1, "a"), (2, "b"), (3, "a"), (4, "c"), (5, "b")] {
        log.heard(publication(number, channel), 0);
    }
    let sent = Sent { connected: 0, replayed: None, last: Some((2, mark(3))) };
    let from = log.resume_from(&sent, 4, Some(mark(1))).expect("it is here");
    let missed = log.missed(&ME, from, |channel| channel.as_str() != "c");
    assert_eq!(numbers(&missed), [2, 3, 5]);
    // The publication that was sent last need not be in the log any more.
    assert_eq!(log.resume_from(&sent, 4, Some(mark(3))), Some(4));
}

#[test]
fn what_may_be_missing_on_a_channel_that_is_heard_is_not_hidden() {
    let mut log = Log::new(1_000, UNBOUNDED);
    log.began(ME, "a".into(), 0);
    log.heard(publication(1, "a"), 0);
    log.lost("a".into(), 0);
    log.ended(ME, "a".into(), 0);
    log.lost("a".into(), 0);
    log.heard(publication(2, "b"), 0);
    assert!(log.missed(&ME, 0, |_| true).is_none());
    assert_eq!(numbers(&log.missed(&ME, 0, |channel| channel.as_str() == "b")), [2]);
    let behind = log.missed(&ME, 3, |_| true);
    assert_eq!(numbers(&behind), [2], "it was lost before, or while it was not subscribed");
}

#[test]
fn who_received_nothing_resumes_where_it_connected_or_was_cut() {
    let mut log = Log::new(1_000, UNBOUNDED);
    (1..=4).for_each(|number| {
        log.heard(publication(number, "a"), 0);
    });
    let nothing = Sent { connected: 1, replayed: None, last: None };
    assert_eq!(log.resume_from(&nothing, 3, None), Some(3));
    let something = Sent { connected: 1, replayed: None, last: Some((2, mark(3))) };
    assert_eq!(log.resume_from(&something, 3, None), Some(1));
}

#[test]
fn an_offset_of_an_earlier_session_is_as_good_as_none() {
    let mut log = Log::new(1_000, UNBOUNDED);
    log.heard(publication(1, "a"), 0);
    log.heard(publication(2, "a"), 0);
    let nothing = Sent { connected: 1, replayed: None, last: None };
    assert_eq!(log.resume_from(&nothing, 2, Some(mark(1))), Some(2));
    assert_eq!(log.resume_from(&nothing, 2, Some(mark(9))), Some(2));
    let something = Sent { connected: 1, replayed: None, last: Some((1, mark(2))) };
    assert_eq!(log.resume_from(&something, 2, Some(mark(1))), Some(1));
}

#[test]
fn what_is_unknown_or_gone_is_said_to_be() {
    let mut log = Log::new(10, UNBOUNDED);
    log.heard(publication(1, "a"), 0);
    log.heard(publication(2, "a"), 20);
    assert_eq!(log.start(), 1);
    let sent = Sent { connected: 0, replayed: None, last: Some((1, mark(2))) };
    for offset in [None, Some(mark(1)), Some(mark(9))] {
        assert_eq!(log.resume_from(&sent, 2, offset), None, "{offset:?}");
    }
    log.heard(publication(3, "a"), 50);
    assert_eq!(log.resume_from(&sent, 1, Some(mark(2))), None, "the cut is out of the log");
}

#[test]
fn nothing_from_before_a_subscription_is_missed() {
    let mut log = Log::new(1_000, UNBOUNDED);
    log.heard(publication(1, "a"), 0);
    log.heard(publication(2, "b"), 0);
    log.began(OTHER, Channel::from("b"), 0);
    log.heard(publication(3, "b"), 0);
    log.began(ME, Channel::from("b"), 0);
    log.heard(publication(4, "b"), 0);
    assert_eq!(numbers(&log.missed(&ME, 0, |_| true)), [1, 4]);
    assert_eq!(numbers(&log.missed(&OTHER, 0, |_| true)), [1, 3, 4]);
}

#[test]
fn who_ceased_to_hear_a_channel_for_a_while_misses_nothing_of_that() {
    let mut log = Log::new(1_000, UNBOUNDED);
    log.heard(publication(1, "a"), 0);
    log.ended(ME, Channel::from("a"), 0);
    log.heard(publication(2, "a"), 0);
    log.began(ME, Channel::from("a"), 0);
    log.heard(publication(3, "a"), 0);
    assert_eq!(numbers(&log.missed(&ME, 0, |_| true)), [1, 3]);
    assert_eq!(numbers(&log.missed(&OTHER, 0, |_| true)), [1, 2, 3]);
}

#[test]
fn who_was_given_what_a_channel_kept_goes_on_behind_it_or_not_at_all() {
    let mut log = Log::new(1_000, UNBOUNDED);
    (1..=2).for_each(|number| {
        log.heard(publication(number, "b"), 0);
    });
    log.began(ME, Channel::from("b"), 0);
    let replayed = Some((log.end(), mark(2)));
    log.heard(publication(3, "b"), 0);
    log.heard(publication(4, "b"), 0);
    let sent = Sent { connected: 2, replayed, last: Some((4, mark(4))) };
    assert_eq!(log.resume_from(&sent, 5, Some(mark(2))), Some(3), "all of it");
    assert_eq!(log.resume_from(&sent, 5, Some(mark(3))), Some(4));
    assert_eq!(log.resume_from(&sent, 5, Some(mark(4))), Some(5));
    for part in [Some(mark(1)), None] {
        assert_eq!(log.resume_from(&sent, 5, part), None, "a part of it");
    }
    let nothing_else = Sent { last: replayed, ..sent };
    assert_eq!(log.resume_from(&nothing_else, 5, Some(mark(2))), Some(5));
}

#[test]
fn bytes_are_bounded() {
    let mut log = Log::new(1_000_000, 10 * ENTRY_BYTES);
    (0..100).for_each(|number| {
        log.heard(publication(number, "a"), 0);
    });
    assert!(log.bytes() <= 10 * ENTRY_BYTES && log.end() == 100 && log.start() > 89);
    assert_eq!(log.positions.len() as u64, log.end() - log.start());
}

proptest! {
    #[test]
    fn whatever_was_received_the_rest_comes_once_and_in_order(
        channels in prop::collection::vec(0usize..4, 1..60),
        subscribed in prop::collection::vec(0usize..60, 4),
        received in 0usize..60,
        cut in 0usize..60,
    ) {
        let names = ["a", "b", "c", "d"];
        let cut = cut.min(channels.len());
        let mut log = Log::new(1_000, UNBOUNDED);
        let mut sent = Sent { connected: 0, replayed: None, last: None };
        let mut heard: Vec<(usize, Mark)> = Vec::new();
        let mut dropped = 0;
        for (number, channel) in channels.iter().enumerate() {
            if number == cut {
                dropped = log.end();
            }
            for (which, at) in subscribed.iter().enumerate() {
                if *at == number && number < cut {
                    log.began(ME, Channel::from(names[which]), 0);
                }
            }
            let one = publication(number as u128 + 1, names[*channel]);
            let is_subscribed = subscribed[*channel] < cut && subscribed[*channel] <= number;
            let position = log.heard(one.clone(), 0);
            if is_subscribed {
                heard.push((number, one.mark()));
                if number < cut {
                    sent.last = Some((position, one.mark()));
                }
            }
        }
        if cut == channels.len() {
            dropped = log.end();
        }
        let before_cut = heard.iter().filter(|(number, _)| *number < cut).count();
        let received = received.min(before_cut);
        let offset = received.checked_sub(1).map(|last| heard[last].1);
        let from = log.resume_from(&sent, dropped, offset).expect("all is in the log");
        let hears = |channel: &Channel| {
            let which = names.iter().position(|name| *name == channel.as_str());
            which.is_some_and(|which| subscribed[which] < cut)
        };
        let missed: Vec<Mark> =
            log.missed(&ME, from, hears).iter().flatten().map(|(_, one)| one.mark()).collect();
        let expected: Vec<Mark> = heard[received..].iter().map(|(_, id)| *id).collect();
        prop_assert_eq!(missed, expected);
    }
}
