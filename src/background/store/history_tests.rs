//! History, as the store that writes it and the reader see it together.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use tempfile::TempDir;
use uuid::Uuid;

use super::{Fault, Reader, Store, StoreError};
use crate::cluster::history::{Below, Filter};
use crate::limits::HISTORY_PAGE_BYTES_MAX;
use crate::message::{
    Attempt, Audience, ChannelDefinition, Content, Member, MemberId, MessageId, MessageName,
    MessageQuery, Millis, Publication, Record, Sender, Stats, StatsQuery, StoredMessage,
    StreamPlace,
};

/// A store with its reader, and all that should be in it, the oldest first.
struct Archive {
    directory: TempDir,
    store: Store,
    reader: Reader,
    expected: Vec<StoredMessage>,
    appended: u128,
}

impl Archive {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (store, reader) = open(&directory);
        Self { directory, store, reader, expected: Vec::new(), appended: 0 }
    }

    fn reopen(&mut self) {
        (self.store, self.reader) = open(&self.directory);
    }

    /// Appends a batch of messages: definition, event and time of each.
    fn append(&mut self, batch: impl IntoIterator<Item = (u128, &'static str, Millis)>) {
        let records: Vec<Record> = batch
            .into_iter()
            .map(|(definition, event, at)| {
                self.appended += 1;
                record(self.appended, definition, event, at)
            })
            .collect();
        self.store.append(&records, false).unwrap();
        self.expected.extend(records.iter().map(stored));
    }

    /// Appends messages of one kind until a segment is complete.
    fn append_many(&mut self, count: usize, definition: u128, event: &'static str, at: Millis) {
        self.append((0..count).map(|_| (definition, event, at)));
    }

    fn count_delivered(&mut self, counts: &[(MessageId, u32)]) {
        self.store.count_delivered(counts).unwrap();
        for (id, count) in counts {
            let found = self.expected.iter_mut().find(|message| message.id == *id);
            if let Some(message) = found {
                message.wh_delivered += count;
            }
        }
    }

    /// Removes this many of the oldest messages.
    fn clear_oldest(&mut self, count: usize) {
        let up_to = self.store.newest();
        let removed = self.store.clear_step(up_to, u32::try_from(count).unwrap()).unwrap();
        assert_eq!(removed as usize, count.min(self.expected.len()));
        self.expected.drain(..removed as usize);
    }

    fn retain(&mut self, before: Millis, rows_max: u32) {
        let old = self.expected.iter().filter(|message| message.created_at < before).count();
        let mut removed = 0;
        loop {
            let step = self.store.retain_step(before, rows_max).unwrap();
            assert!(step <= rows_max.into());
            removed += step;
            if step == 0 {
                break;
            }
        }
        assert_eq!(removed as usize, old);
        self.expected.retain(|message| message.created_at >= before);
    }

    /// Returns what a query should find, by looking at every message.
    fn matching(&self, query: &MessageQuery) -> Vec<StoredMessage> {
        let newest_first = self.expected.iter().rev();
        let mut passed_cursor = query.before.is_none();
        let older = newest_first.filter(|message| {
            let is_older = passed_cursor;
            passed_cursor |= Some(message.id) == query.before;
            is_older
        });
        let matching = older.filter(|message| {
            query.channel_id.is_none_or(|id| message.channel_id == id)
                && query.event_name.as_deref().is_none_or(|name| &*message.event_name == name)
        });
        matching.skip(query.offset as usize).take(query.limit as usize).cloned().collect()
    }

    fn counted(&self, query: StatsQuery) -> Stats {
        let mut stats = Stats::default();
        let mut events: BTreeMap<&str, u64> = BTreeMap::new();
        for message in &self.expected {
            if query.channel_id.is_some_and(|id| message.channel_id != id)
                || query.since.is_some_and(|since| message.created_at < since)
            {
                continue;
            }
            stats.messages += 1;
            stats.wh_audience += u64::from(message.wh_audience);
            stats.wh_delivered += u64::from(message.wh_delivered);
            *events.entry(&message.event_name).or_default() += 1;
        }
        let mut events: Vec<_> = events.into_iter().map(|(name, n)| (name.into(), n)).collect();
        events.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        events.truncate(10);
        stats.top_events = events;
        stats
    }

    fn check(&mut self, query: &MessageQuery) {
        assert_eq!(self.reader.messages(query).unwrap(), self.matching(query), "{query:?}");
    }

    fn check_stats(&mut self, query: StatsQuery) {
        assert_eq!(self.reader.stats(query).unwrap(), self.counted(query), "{query:?}");
    }

    /// Checks every filter, with some offsets and with pages by cursor to the end.
    fn check_all(&mut self) {
        for definition in [None, Some(1), Some(2), Some(9)] {
            for event in [None, Some("a"), Some("b"), Some("none")] {
                let mut query = MessageQuery {
                    channel_id: definition.map(Uuid::from_u128),
                    event_name: event.map(Into::into),
                    ..all(1_000)
                };
                for offset in [0, 100, 5_000, 60_000] {
                    self.check(&MessageQuery { offset, limit: 50, ..query.clone() });
                }
                let everything = self.matching(&MessageQuery { limit: u32::MAX, ..query.clone() });
                for expected in everything.chunks(1_000) {
                    let page = self.reader.messages(&query).unwrap();
                    assert!(page == expected, "{query:?}");
                    query.before = page.last().map(|last| last.id);
                }
                if query.before.is_some() {
                    assert_eq!(self.reader.messages(&query).unwrap(), []);
                }
            }
            for since in [None, Some(0), Some(1), Some(1_500), Some(2_000), Some(9_999)] {
                self.check_stats(StatsQuery { channel_id: definition.map(Uuid::from_u128), since });
            }
        }
    }
}

fn open(directory: &TempDir) -> (Store, Reader) {
    let path = directory.path().join("fanfare.db");
    (Store::open(&path).unwrap(), Reader::open(&path).unwrap())
}

fn all(limit: u32) -> MessageQuery {
    MessageQuery { channel_id: None, event_name: None, limit, offset: 0, before: None }
}

fn record(number: u128, definition: u128, event: &str, at: Millis) -> Record {
    let sender = match number % 3 {
        0 => Sender::System,
        1 => Sender::User(None),
        _ => Sender::User(Some("ü".into())),
    };
    let content = Content::Message {
        event: event.into(),
        payload: format!("{{\"n\": {number} , \"é\":1.50}}").into(),
        sender,
    };
    let channel = format!("c:{number}").as_str().into();
    let publication = Publication::new(Uuid::from_u128(number), channel, at, content);
    let audience = Audience { websocket: 2, polling: 1, ..Audience::default() };
    Record::new(Arc::new(publication), Arc::new(defined(definition)), audience)
}

/// Returns a definition with as many webhooks as its number says.
fn defined(number: u128) -> ChannelDefinition {
    ChannelDefinition {
        webhook_urls: Some(vec!["http://w".into(); usize::try_from(number).unwrap()]),
        ..ChannelDefinition::numbered(number, "c:*")
    }
}

/// Returns a record as history should hold it.
fn stored(record: &Record) -> StoredMessage {
    let publication = &*record.publication;
    let Content::Message { event, payload, sender } = &publication.content else {
        panic!("only messages are appended here");
    };
    StoredMessage {
        id: publication.id,
        event_name: event.clone(),
        channel_id: record.definition.id,
        channel_name: publication.channel.as_str().into(),
        payload: (&**payload).into(),
        sender: sender.clone(),
        ws_audience: 3,
        wh_audience: u32::try_from(record.definition.id.as_u128()).unwrap(),
        wh_delivered: 0,
        created_at: publication.at,
    }
}

#[test]
fn messages_are_kept_as_they_were_published() {
    let mut archive = Archive::new();
    archive.append([(1, "a", 5), (2, "b", 5), (1, "", 4)]);
    archive.check_all();
    archive.count_delivered(&[(Uuid::from_u128(2), 2), (Uuid::from_u128(77), 1)]);
    archive.check_all();
    archive.reopen();
    archive.append([(1, "a", 6)]);
    archive.check_all();
}

#[test]
fn complete_segments_answer_as_rows_do() {
    let mut archive = Archive::new();
    // Segments with messages of one kind and of several, and sixteen of them, so that there is one
    // of the next level.
    archive.append_many(9_000, 1, "a", 1_000);
    archive.append(
        (0..9_000)
            .map(|n| (1 + n % 2, if n % 3 == 0 { "a" } else { "b" }, 1_400 + n as Millis / 50)),
    );
    archive.append_many(200, 9, "b", 1_600);
    archive.append_many(48_000, 2, "b", 2_000);
    archive.check_all();
    archive.reopen();
    archive.append_many(10, 1, "b", 2_001);
    archive.check_all();
    let some = [1, 5_000, 12_345, 66_000, 66_205].map(|n| (Uuid::from_u128(n), 1));
    archive.count_delivered(&some);
    archive.clear_oldest(1_000);
    archive.clear_oldest(12_000);
    archive.check_all();
    archive.clear_oldest(100_000);
    archive.check_all();
    archive.reopen();
    archive.append_many(5_000, 1, "a", 3_000);
    archive.check_all();
}

#[test]
fn retention_finds_old_messages_wherever_they_are() {
    let mut archive = Archive::new();
    archive.append_many(5_000, 1, "a", 5_000);
    // The clock was set back for a while.
    archive.append_many(5_000, 1, "b", 1_000);
    archive.append((0..5_000).map(|n| (2, "a", if n % 2 == 0 { 1_500 } else { 2_500 })));
    archive.append_many(10, 1, "b", 900);
    for before in [500, 1_001, 2_000, 3_000, 6_000] {
        archive.retain(before, 700);
        archive.check_all();
    }
    assert!(archive.expected.is_empty());
}

#[test]
fn a_cursor_holds_while_messages_come_and_go() {
    let mut archive = Archive::new();
    archive.append_many(6_000, 1, "a", 1_000);
    let first = archive.reader.messages(&all(100)).unwrap();
    archive.append_many(3_000, 2, "b", 2_000);
    archive.clear_oldest(500);
    let second = MessageQuery { before: Some(first[99].id), ..all(1_000) };
    archive.check(&second);
    assert_eq!(archive.reader.messages(&second).unwrap()[0].id.as_u128(), 5_900);
}

#[test]
fn a_cursor_that_is_no_message_is_refused() {
    let mut archive = Archive::new();
    archive.append([(1, "a", 5)]);
    let query = MessageQuery { before: Some(Uuid::from_u128(7)), ..all(1) };
    let refused = archive.reader.messages(&query).unwrap_err();
    assert!(matches!(refused, StoreError::UnknownMessage { id } if id.as_u128() == 7));
    assert_eq!(refused.fault(), Fault::Caller);
}

#[test]
fn a_page_is_bounded_in_bytes() {
    let mut archive = Archive::new();
    let long: Vec<Record> = (0..40)
        .map(|number| {
            let mut record = record(number, 1, "a", 5);
            let content = Content::Message {
                event: "a".into(),
                payload: "1".repeat(HISTORY_PAGE_BYTES_MAX / 39).into(),
                sender: Sender::System,
            };
            let id = Uuid::from_u128(number);
            record.publication = Arc::new(Publication::new(id, "c".into(), 5, content));
            record
        })
        .collect();
    archive.store.append(&long, false).unwrap();
    assert_eq!(archive.reader.messages(&all(39)).unwrap().len(), 39);
    let refused = archive.reader.messages(&all(40)).unwrap_err();
    assert!(matches!(refused, StoreError::PageTooLong), "{refused}");
}

#[test]
fn a_question_that_takes_too_long_is_given_up() {
    let mut archive = Archive::new();
    archive.append_many(9_000, 1, "a", 1_000);
    archive.reader.give_up_at_once();
    let refused = archive.reader.messages(&MessageQuery { offset: 8_000, ..all(1) }).unwrap_err();
    assert!(matches!(refused, StoreError::TooSlow), "{refused}");
    let refused = archive.reader.stats(StatsQuery::default()).unwrap_err();
    assert!(matches!(refused, StoreError::TooSlow), "{refused}");
}

#[test]
fn a_batch_is_appended_whole_or_not_at_all() {
    let mut archive = Archive::new();
    archive.append_many(4_090, 1, "a", 1_000);
    // The position of its last message is taken.
    let file = rusqlite::Connection::open(archive.directory.path().join("fanfare.db")).unwrap();
    let last = archive.store.newest() + 100;
    let take = "INSERT INTO messages VALUES (?1, x'00', 0, x'00', '', 0, 0, 0, '', NULL, '', '')";
    file.execute(take, [last]).unwrap();
    let batch: Vec<Record> = (5_000..5_100).map(|n| record(n, 1, "b", 1_000)).collect();
    archive.store.append(&batch, true).unwrap_err();
    file.execute("DELETE FROM messages WHERE position = ?1", [last]).unwrap();
    archive.check_all();
    archive.append_many(100, 2, "a", 1_001);
    archive.check_all();
    archive.reopen();
    archive.check_all();
}

#[test]
fn a_message_that_is_published_again_is_kept_once() {
    let mut archive = Archive::new();
    archive.append_many(3, 1, "a", 5);
    // The second one is published again, later, together with a new one.
    let batch = [record(2, 1, "a", 9), record(10, 1, "b", 9), record(10, 1, "b", 9)];
    assert_eq!(archive.store.append(&batch, true).unwrap(), [true, false, true]);
    archive.expected.push(stored(&batch[1]));
    archive.check_all();
    // Another message under an id that is taken is kept under a new one.
    let other = record(2, 1, "c", 10);
    for known in [false, true] {
        let appended = archive.store.append(std::slice::from_ref(&other), true).unwrap();
        assert_eq!(appended, [known]);
    }
    let kept = archive.reader.messages(&all(1)).unwrap().remove(0);
    assert_ne!(kept.id, other.publication.id);
    archive.expected.push(StoredMessage { id: kept.id, ..stored(&other) });
    archive.check_all();
}

#[test]
fn what_is_no_message_has_no_place_in_history() {
    let mut archive = Archive::new();
    let member = Member { id: MemberId::Connection([0; 15]), joined_at: 0 };
    let mut joined = record(1, 1, "a", 5);
    let content = Content::Joined(Arc::new(member), None);
    let publication = Publication::new(Uuid::from_u128(1), "c".into(), 5, content);
    joined.publication = Arc::new(publication);
    archive.store.append(&[joined], false).unwrap();
    assert_eq!(archive.store.newest(), 0);
    archive.append([(1, "a", 5)]);
    archive.check_all();
}

#[test]
fn only_what_there_was_at_the_start_is_cleared() {
    let mut archive = Archive::new();
    archive.append_many(3, 1, "a", 5);
    let newest = archive.store.newest();
    archive.append_many(2, 1, "b", 6);
    assert_eq!(archive.store.clear_step(newest, 2).unwrap(), 2);
    assert_eq!(archive.store.clear_step(newest, 2).unwrap(), 1);
    assert_eq!(archive.store.clear_step(newest, 2).unwrap(), 0);
    archive.expected.drain(..3);
    archive.check_all();
}

#[test]
fn retention_is_kept() {
    let mut archive = Archive::new();
    assert_eq!(archive.store.retention().unwrap(), None);
    archive.store.set_retention(Some(30)).unwrap();
    archive.reopen();
    assert_eq!(archive.store.retention().unwrap(), Some(30));
    assert_eq!(archive.reader.stats(StatsQuery::default()).unwrap().retention_days, Some(30));
    archive.store.set_retention(None).unwrap();
    assert_eq!(archive.store.retention().unwrap(), None);
}

#[test]
fn a_reader_sees_one_state_and_holds_nobody_up() {
    let mut archive = Archive::new();
    archive.append_many(10, 1, "a", 5);
    let (store, expected) = (&mut archive.store, archive.expected.clone());
    let seen = archive.reader.during(|| {
        store.append(&[record(100, 1, "a", 6)], true).unwrap();
        store.clear_step(5, 5).unwrap();
    });
    assert_eq!(seen, expected.into_iter().rev().collect::<Vec<_>>());
    assert_eq!(archive.reader.messages(&all(100)).unwrap().len(), 6);
}

#[derive(Clone, Debug)]
enum Step {
    Append(usize, u128, &'static str, Millis),
    Delivered(Vec<u128>),
    Clear(usize),
    Retain(Millis),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let event = prop::sample::select(vec!["a", "b", "c", "d"]);
    prop_oneof![
        6 => (1..6_000usize, 1..4u128, event, 0..3_000u64)
            .prop_map(|(count, definition, event, at)| Step::Append(count, definition, event, at)),
        2 => prop::collection::vec(1..30_000u128, 1..200).prop_map(Step::Delivered),
        2 => (1..4_000usize).prop_map(Step::Clear),
        1 => (0..2_000u64).prop_map(Step::Retain),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn whatever_happens_is_counted_exactly(
        steps in prop::collection::vec(step(), 1..14),
        sinces in prop::collection::vec(0..3_000u64, 3),
        offsets in prop::collection::vec(0..20_000u64, 3),
    ) {
        let mut archive = Archive::new();
        for step in steps {
            match step {
                Step::Append(count, definition, event, at) => {
                    archive.append((0..count).map(|n| {
                        let definition = 1 + (definition + n as u128 / 100) % 3;
                        (definition, event, at + n as Millis / 9)
                    }));
                }
                Step::Delivered(ids) => {
                    let counts: Vec<_> =
                        ids.into_iter().map(|id| (Uuid::from_u128(id), 1)).collect();
                    archive.count_delivered(&counts);
                }
                Step::Clear(count) => archive.clear_oldest(count),
                Step::Retain(before) => archive.retain(before, 1_000),
                Step::Reopen => archive.reopen(),
            }
            for since in sinces.iter().copied().map(Some).chain([None]) {
                for channel_id in [None, Some(Uuid::from_u128(2))] {
                    archive.check_stats(StatsQuery { channel_id, since });
                }
            }
            for offset in &offsets {
                for (channel_id, event_name) in
                    [(None, None), (Some(1), None), (None, Some("b")), (Some(2), Some("c"))]
                {
                    archive.check(&MessageQuery {
                        channel_id: channel_id.map(Uuid::from_u128),
                        event_name: event_name.map(Into::into),
                        offset: *offset,
                        ..all(30)
                    });
                }
            }
        }
    }
}

/// Appends messages with these numbers and places in the stream.
fn append_at(archive: &mut Archive, messages: &[(u128, Option<u64>)]) {
    let records = messages.iter().map(|(number, seq)| Record {
        place: seq.map(|seq| StreamPlace { epoch: 1 + seq / 1_000, seq: seq % 1_000 }),
        ..record(*number, 1, "a", 1)
    });
    let records: Vec<_> = records.collect();
    archive.store.append(&records, false).unwrap();
}

/// Returns the numbers of the messages before a place, the newest first.
fn before(archive: &mut Archive, epoch: u64, seq: u64) -> Vec<u128> {
    let below = Below::Place(StreamPlace { epoch, seq });
    let found = archive.reader.find(&Filter::default(), below, 0, 1_000).unwrap();
    let positions: Vec<_> = found.iter().map(|held| held.position).collect();
    let read = archive.reader.read(&positions).unwrap();
    read.iter().map(|(_, message)| message.id.as_u128()).collect()
}

/// Returns the place of every message, the oldest first.
fn places(archive: &mut Archive) -> Vec<(u64, u64)> {
    let found = archive.reader.find(&Filter::default(), Below::End, 0, 1_000).unwrap();
    found.iter().rev().map(|held| (held.place.epoch, held.place.seq)).collect()
}

#[test]
fn places_rise_with_positions() {
    let mut archive = Archive::new();
    append_at(&mut archive, &[(1, None), (2, None), (3, Some(5)), (4, None), (5, Some(9))]);
    assert_eq!(places(&mut archive), [(0, 0), (0, 0), (1, 5), (1, 5), (1, 9)]);
    // One that comes late, and one of the next epoch.
    append_at(&mut archive, &[(6, Some(7)), (7, Some(1_003)), (8, Some(800))]);
    archive.reopen();
    append_at(&mut archive, &[(9, Some(1_002)), (10, Some(1_004))]);
    let all = [(0, 0), (0, 0), (1, 5), (1, 5), (1, 9), (1, 9), (2, 3), (2, 3), (2, 3), (2, 4)];
    assert_eq!(places(&mut archive), all);
    assert_eq!(before(&mut archive, 0, 0), []);
    assert_eq!(before(&mut archive, 0, 1), [2, 1]);
    assert_eq!(before(&mut archive, 1, 5), [2, 1]);
    assert_eq!(before(&mut archive, 1, 6), [4, 3, 2, 1]);
    assert_eq!(before(&mut archive, 2, 0), [6, 5, 4, 3, 2, 1]);
    assert_eq!(before(&mut archive, 2, 4), [9, 8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(before(&mut archive, 9, 9).len(), 10);
    // The place of the oldest one outlives those before it.
    archive.store.clear_step(archive.store.newest(), 5).unwrap();
    assert_eq!(places(&mut archive), all[5..]);
    archive.store.clear_step(archive.store.newest(), 100).unwrap();
    archive.reopen();
    append_at(&mut archive, &[(11, Some(5)), (12, Some(1_005))]);
    assert_eq!(places(&mut archive), [(2, 4), (2, 5)]);
}

#[test]
fn messages_without_a_stream_have_no_places() {
    let mut archive = Archive::new();
    archive.append_many(10, 1, "a", 1);
    archive.clear_oldest(5);
    let count = "SELECT count(*) FROM places";
    let places: i64 = archive.store.connection.query_row(count, [], |row| row.get(0)).unwrap();
    assert_eq!(places, 0);
    assert_eq!(before(&mut archive, 0, 1).len(), 5);
}

proptest! {
    #[test]
    fn every_place_is_found_again(
        steps in prop::collection::vec(prop::option::of(1..4u64), 1..40),
        at in 0..100u64,
    ) {
        let mut archive = Archive::new();
        let mut seq = 0;
        let messages: Vec<_> = steps.iter().zip(1..).map(|(step, number)| {
            seq += step.unwrap_or(0);
            (number, step.map(|_| seq))
        }).collect();
        append_at(&mut archive, &messages);
        let mut last = 0;
        let expected = messages.iter().filter(|(_, seq)| {
            last = seq.unwrap_or(last);
            last < at
        });
        let mut expected: Vec<_> = expected.map(|(number, _)| *number).collect();
        expected.reverse();
        if at > 0 {
            prop_assert_eq!(before(&mut archive, 1, at), expected);
        }
    }
}

#[test]
fn a_repetition_that_the_stream_has_recognized_is_kept_once() {
    let mut archive = Archive::new();
    append_at(&mut archive, &[(1, Some(1))]);
    let again = |payload: &str, attempt| {
        let mut again = record(1, 1, "b", 2);
        let publication = again.publication;
        let Content::Message { sender, .. } = &publication.content else { panic!("a message") };
        let content =
            Content::Message { event: "b".into(), payload: payload.into(), sender: sender.clone() };
        let (id, channel) = (publication.id, publication.channel.clone());
        again.publication = Arc::new(Publication::new(id, channel, 2, content));
        Record { attempt, ..again }
    };
    let name = MessageName::of(&again("2", Attempt::First).publication).unwrap();
    assert!(archive.store.has(&name).unwrap());
    let elsewhere = MessageName { channel: "d".into(), ..name.clone() };
    assert!(!archive.store.has(&elsewhere).unwrap());
    for attempt in [Attempt::Repeated, Attempt::Checked] {
        assert_eq!(archive.store.append(&[again("2", attempt)], false).unwrap(), [true]);
    }
    assert_eq!(archive.store.append(&[again("3", Attempt::First)], false).unwrap(), [false]);
    archive.store.sync().unwrap();
    let all = archive.reader.messages(&all(10)).unwrap();
    assert_eq!(all.iter().map(|one| &*one.payload).collect::<Vec<_>>()[..1], ["3"]);
    assert_eq!(all.len(), 2);
}
