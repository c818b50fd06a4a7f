//! Documents that a waiting subscription receives, and questions to the store.

use uuid::Uuid;

use super::*;
use crate::message::WorkerId;

fn resource() -> Channel {
    Channel::resource("o/p///kvStore/a")
}

fn document(audience: Option<&str>, version: Millis, exists: bool) -> Arc<Publication> {
    let audience = audience.map(Into::into);
    let content = Content::Document { audience, version, exists, frame: [].into() };
    Arc::new(Publication::new(Uuid::nil(), resource(), 0, content))
}

fn id(slot: u32) -> ConnId {
    ConnId { worker: WorkerId(0), slot, generation: 0 }
}

fn wants(user: Option<&str>) -> Wants {
    let user = user.map(Into::into);
    Wants { shared: true, user, times: 1, ..Wants::default() }
}

fn reload(is_personal: bool) -> Wants {
    Wants::reload(&StaleDocument { resource: resource(), is_personal }, 0, Some("u".into()))
}

/// Returns the versions that a subscriber receives and how often; `None` for the answer that there
/// is no document.
fn told(waiter: &Waiter, found: Found<Arc<Publication>>) -> Option<(Vec<Millis>, u16)> {
    let Answer { documents, is_not_found, times, .. } = waiter.answer(found, true);
    let version = |one: &Arc<Publication>| match one.content {
        Content::Document { version, .. } => version,
        _ => unreachable!("made here"),
    };
    assert!(!is_not_found || documents.is_empty());
    (!is_not_found).then(|| (documents.iter().map(version).collect(), times))
}

fn found(
    shared: Option<(Millis, bool)>,
    personal: Option<(Millis, bool)>,
) -> Found<Arc<Publication>> {
    Found {
        shared: shared.map(|(version, exists)| document(None, version, exists)),
        personal: personal.map(|(version, exists)| document(Some("u"), version, exists)),
    }
}

/// Returns a waiting subscription with these wants.
fn waiter(wants: Wants) -> Waiter {
    let mut waiters = Waiters::default();
    let load = waiters.begin(&resource(), id(1), wants).expect("nobody has asked yet");
    waiters.take(&load).expect("it waits")
}

#[test]
fn what_the_store_has_is_told_in_the_order_of_versions() {
    let me = waiter(wants(Some("u")));
    assert_eq!(told(&me, found(None, None)), None);
    assert_eq!(told(&me, found(Some((5, false)), None)), None, "deleted is none");
    let both = found(Some((5, true)), Some((3, true)));
    assert_eq!(told(&me, both), Some((vec![3, 5], 1)));
}

#[test]
fn who_is_owed_a_document_is_told_of_its_end_where_such_is_told() {
    let stale = waiter(reload(false));
    let gone = || found(Some((5, false)), Some((3, false)));
    assert_eq!(told(&stale, gone()), Some((vec![5], 1)));
    assert!(stale.answer(gone(), false).documents.is_empty());
    assert_eq!(told(&stale, found(None, None)), Some((vec![], 1)), "it did not subscribe");
    let stale: Vec<_> = stale.wants().stale_documents(&resource()).collect();
    assert_eq!(stale, [StaleDocument { resource: resource(), is_personal: false }]);
}

#[test]
fn an_owed_publication_does_not_answer_a_subscribe() {
    let mut waiters = Waiters::default();
    let load = waiters.begin(&resource(), id(1), wants(None)).expect("a question");
    assert_eq!(waiters.begin(&resource(), id(1), wants(None)), None);
    waiters.published(&document(None, 7, true), |connection| connection == id(1));
    let waiter = waiters.take(&load).expect("it waits");
    let answer = waiter.answer(found(Some((7, true)), None), false);
    assert!(answer.documents.is_empty(), "it is stale");
    assert_eq!((answer.unanswered, answer.is_not_found), (2, false));
}

#[test]
fn an_unanswered_subscribe_asks_for_all_documents() {
    let table = [(false, None, true), (true, Some("u"), true), (false, Some("u"), true)];
    for (is_personal, user, shared) in table {
        let document = StaleDocument { resource: resource(), is_personal };
        let mut waiters = Waiters::default();
        let wants = Wants::reload(&document, 2, user.map(Into::into));
        let load = waiters.begin(&resource(), id(1), wants).expect("a question");
        assert_eq!((load.shared, load.user.as_deref()), (shared, user), "all is asked for");
        let waiter = waiters.take(&load).expect("it waits");
        let gone = waiter.answer(found(Some((5, false)), None), false);
        assert_eq!((gone.unanswered, gone.is_not_found), (2, true));
        let there = waiter.answer(found(Some((5, true)), None), false);
        assert_eq!((there.documents.len(), there.times), (1, 2));
    }
    let private = Channel::resource("o/p///collection/private");
    let document = StaleDocument { resource: private.clone(), is_personal: true };
    let wants = Wants::reload(&document, 1, Some("u".into()));
    let load = Waiters::default().begin(&private, id(1), wants).expect("a question");
    assert!(!load.shared && load.user.is_some());
}

#[test]
fn what_was_sent_meanwhile_is_not_told_again_nor_what_is_older() {
    let mut waiters = Waiters::default();
    let first = waiters.begin(&resource(), id(1), wants(Some("u"))).expect("a question");
    let second = waiters.begin(&resource(), id(2), wants(None)).expect("a question");
    waiters.published(&document(None, 7, true), |_| false);
    waiters.published(&document(Some("u"), 9, true), |_| false);
    waiters.published(&document(Some("other"), 99, true), |_| false);
    let first = waiters.take(&first).expect("it waits");
    assert_eq!(told(&first, found(Some((7, true)), Some((8, true)))), Some((vec![], 1)));
    assert_eq!(told(&first, found(Some((8, true)), None)), Some((vec![8], 1)));
    let second = waiters.take(&second).expect("it waits");
    assert_eq!(told(&second, found(Some((6, true)), None)), Some((vec![], 1)));
    assert!(waiters.is_empty() && waiters.resources.is_empty());
}

#[test]
fn what_the_directory_knows_is_told_at_once_and_the_rest_asked_for() {
    let begin = |retained: &Retained, user: Option<&str>| {
        let Beginning { document, is_not_found, wants } =
            Beginning::of(&resource(), retained.clone(), user.map(Into::into));
        let wants = wants.map(|wants| (wants.shared, wants.user.is_some(), wants.sent.shared));
        (document.is_some(), is_not_found, wants)
    };
    let known = Retained::Value(document(None, 7, true));
    let table = [
        (&Retained::Unknown, None, (false, false, Some((true, false, None)))),
        (&Retained::Unknown, Some("u"), (false, false, Some((true, true, None)))),
        (&Retained::Absent, None, (false, true, None)),
        (&Retained::Absent, Some("u"), (false, false, Some((false, true, None)))),
        (&known, None, (true, false, None)),
        (&known, Some("u"), (true, false, Some((false, true, Some(7))))),
    ];
    for (current, user, expected) in table {
        assert_eq!(begin(current, user), expected, "{current:?} {user:?}");
    }
}

#[test]
fn a_private_collection_is_nobodys_without_a_user() {
    let private = Channel::resource("o/p///collection/private");
    let nobody = Beginning::of(&private, Retained::Unknown, None);
    assert!(nobody.is_not_found && nobody.wants.is_none());
    let wants = Beginning::of(&private, Retained::Unknown, Some("u".into())).wants.unwrap();
    let load = Waiters::default().begin(&private, id(1), wants).unwrap();
    assert!(!load.shared && load.user.as_deref() == Some("u"));
}

#[test]
fn who_subscribes_again_is_told_as_often_by_one_answer() {
    let mut waiters = Waiters::default();
    let load = waiters.begin(&resource(), id(1), wants(None)).expect("a question");
    for _ in 0..100_000 {
        assert_eq!(waiters.begin(&resource(), id(1), wants(None)), None);
    }
    assert_eq!(waiters.len(), 1);
    let answer = waiters.take(&load).unwrap().answer(found(None, None), true);
    assert!(answer.is_not_found && answer.times == REPEATED_SUBSCRIBES_MAX);
}

#[test]
fn who_was_told_and_subscribes_again_is_told_again_once() {
    let mut waiters = Waiters::default();
    let own = || Wants { shared: false, ..wants(Some("u")) };
    let load = waiters.begin(&resource(), id(1), own()).expect("a question");
    waiters.published(&document(Some("u"), 7, true), |_| false);
    assert_eq!(waiters.begin(&resource(), id(1), own()), None);
    let waiter = waiters.take(&load).expect("it waits");
    assert_eq!(told(&waiter, found(None, Some((7, true)))), Some((vec![7], 1)));
}

#[test]
fn another_question_takes_the_place_of_one_that_asks_for_less() {
    let mut waiters = Waiters::default();
    let own = Wants { shared: false, ..wants(Some("u")) };
    let less = waiters.begin(&resource(), id(1), own).expect("a question");
    let more = waiters.begin(&resource(), id(1), wants(Some("u"))).expect("another one");
    assert!(more.shared && more.user.is_some() && !waiters.is_wanted(&less));
    assert_eq!(waiters.take(&less), None);
    let waiter = waiters.take(&more).expect("it waits");
    assert_eq!(told(&waiter, found(Some((1, true)), None)), Some((vec![1], 2)));
}

#[test]
fn what_is_owed_is_asked_for_anew_though_it_counted_as_sent() {
    let mut waiters = Waiters::default();
    let first = waiters.begin(&resource(), id(1), wants(Some("u"))).expect("a question");
    waiters.published(&document(None, 7, true), |_| false);
    waiters.published(&document(Some("u"), 7, true), |_| false);
    let second = waiters.begin(&resource(), id(1), reload(false)).expect("another one");
    assert!(second.user.is_some() && !waiters.is_wanted(&first));
    let waiter = waiters.take(&second).expect("it waits");
    let both = found(Some((7, true)), Some((7, true)));
    assert_eq!(told(&waiter, both), Some((vec![7], 1)), "the own one was sent");
}

#[test]
fn an_answer_is_not_taken_for_that_to_the_next_subscription() {
    let mut waiters = Waiters::default();
    let own = Wants { shared: false, ..wants(Some("u")) };
    let before = waiters.begin(&resource(), id(1), own).expect("a question");
    waiters.end(&resource(), id(1));
    assert!(waiters.is_empty() && waiters.resources.is_empty());
    let next = waiters.begin(&resource(), id(1), wants(Some("u"))).expect("a question");
    waiters.published(&document(None, 7, true), |_| false);
    assert_eq!(waiters.take(&before), None);
    let next = waiters.take(&next).expect("it waits");
    assert!(next.wants.shared && next.wants.sent.shared == Some(7));
}
