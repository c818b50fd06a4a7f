use tempfile::TempDir;

use super::*;
use crate::message::Channel;

fn me() -> NodeName {
    NodeName::read("n1").unwrap()
}

fn fresh() -> (TempDir, Copy) {
    let directory = tempfile::tempdir().unwrap();
    let copy = Copy::open(directory.path().join("copy.db")).unwrap();
    (directory, copy)
}

fn key(id: &str, audience: Option<&str>) -> DocumentKey {
    DocumentKey { resource: Channel::resource(id), audience: audience.map(Into::into) }
}

fn change(seq: Seq, id: &str, data: Option<&str>, version: Millis) -> Change {
    let data = data.map(Into::into);
    let document = Document { key: key(id, None), user_id: None, data, version };
    Change::Message(seq, Some(Entry::Document(document)))
}

fn apply(copy: &mut Copy, changes: &[Change]) -> Vec<bool> {
    let applied = copy.apply(changes, &me()).unwrap();
    applied.into_iter().map(|one| one.is_news).collect()
}

fn data(copy: &Copy, id: &str) -> Option<String> {
    copy.document(&key(id, None)).unwrap()?.data.map(|data| data.to_string())
}

#[test]
fn changes_are_applied_once_and_the_place_is_kept() {
    let (directory, mut copy) = fresh();
    apply(&mut copy, &[Change::Began("life".into(), 3)]);
    let news = apply(
        &mut copy,
        &[
            change(1, "a", Some("1"), 10),
            Change::Message(2, Some(Entry::Proof(0))),
            change(3, "a", Some("2"), 11),
            change(3, "a", Some("3"), 12),
            change(4, "b", None, 12),
        ],
    );
    assert_eq!(news, [true, false, true, false, true], "the fourth came twice");
    assert_eq!((data(&copy, "a"), data(&copy, "b")), (Some("2".into()), None));
    drop(copy);
    let copy = Copy::open(directory.path().join("copy.db")).unwrap();
    assert_eq!((&*copy.position().life, copy.position().seq), ("life", 4));
    let standing = |id| copy.before(&key(id, None)).unwrap().standing;
    assert_eq!(standing("a"), Some(Standing { seq: 3, version: 11, is_there: true }));
    assert_eq!(standing("b"), Some(Standing { seq: 4, version: 12, is_there: false }));
    assert_eq!(copy.document(&key("a", Some("u"))).unwrap(), None);
    assert_eq!(copy.documents, copy.documents.recounted(&copy.connection).unwrap());
}

#[test]
fn another_life_of_the_stream_is_told_anew_without_repetition() {
    let (_directory, mut copy) = fresh();
    apply(&mut copy, &[Change::Began("first".into(), 0)]);
    apply(&mut copy, &[change(1, "kept", Some("1"), 10), change(2, "lost", Some("1"), 90)]);
    apply(&mut copy, &[Change::Began("second".into(), 2)]);
    let standing = copy.before(&key("lost", None)).unwrap().standing;
    assert_eq!(standing.map(|one| (one.seq, one.version)), Some((0, 90)), "not known yet");
    let news =
        apply(&mut copy, &[change(1, "kept", Some("1"), 10), change(2, "new", Some("1"), 5)]);
    assert_eq!(news, [false, true]);
    assert_eq!((data(&copy, "kept"), data(&copy, "lost")), (Some("1".into()), None));
    let before = copy.before(&key("lost", None)).unwrap();
    assert_eq!((before.standing, before.forgotten), (None, 90), "a later one is later still");
    assert_eq!(copy.documents, copy.documents.recounted(&copy.connection).unwrap());
    apply(&mut copy, &[Change::Began("third".into(), 0)]);
    assert_eq!(data(&copy, "kept"), None, "an empty stream has nothing");
}

#[test]
fn deleted_documents_are_forgotten_by_the_streams_floor() {
    let (_directory, mut copy) = fresh();
    copy.documents.bound(10, 2);
    apply(&mut copy, &[Change::Began("life".into(), 0)]);
    apply(
        &mut copy,
        &[change(1, "a", None, 30), change(2, "b", None, 20), change(3, "c", Some("1"), 10)],
    );
    assert_eq!(copy.floor(9, &me()).unwrap(), None, "both are remembered");
    apply(&mut copy, &[change(4, "d", None, 15)]);
    let (floor, expected) = copy.floor(2, &me()).unwrap().unwrap();
    assert_eq!((floor.version, floor.up_to, expected), (30, 2, 0), "the fourth is too young");
    let message = Change::Message(5, Some(Entry::Floor(floor.clone())));
    let applied = copy.apply(&[message], &me()).unwrap();
    assert_eq!(applied[0].forgotten, [1, 2]);
    let before = |copy: &Copy, id| copy.before(&key(id, None)).unwrap();
    assert_eq!(before(&copy, "a").standing, None);
    assert_eq!(before(&copy, "a").forgotten, 30);
    assert!(before(&copy, "d").standing.is_some());
    assert_eq!(copy.documents, copy.documents.recounted(&copy.connection).unwrap());
    copy.documents.bound(10, 0);
    let next = copy.floor(4, &me()).unwrap().unwrap();
    let wanted = Floor { version: 30, up_to: 4, node: me() };
    assert_eq!(next, (wanted, 5), "it includes the last one, and follows it");
    let other = Floor { node: NodeName::read("n2").unwrap(), up_to: 9, ..floor };
    let applied = copy.apply(&[Change::Message(6, Some(Entry::Floor(other)))], &me()).unwrap();
    assert!(applied[0].forgotten.is_empty(), "the other node removes it from the stream");
    assert_eq!(before(&copy, "d").standing, None);
}

#[test]
fn a_copy_of_another_release_is_made_anew() {
    let (directory, mut copy) = fresh();
    apply(&mut copy, &[Change::Began("life".into(), 0)]);
    apply(&mut copy, &[change(1, "a", Some("1"), 10)]);
    copy.connection.pragma_update(None, "user_version", 7).unwrap();
    drop(copy);
    let copy = Copy::open(directory.path().join("copy.db")).unwrap();
    assert_eq!((copy.position().seq, data(&copy, "a")), (0, None));
}
