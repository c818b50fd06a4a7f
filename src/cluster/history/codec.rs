//! The bytes of questions and answers about history.

use std::borrow::Cow;

use bytes::{Buf as _, BufMut as _};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Answer, Filter, Held, Key, Question, Refusal, Share};
use crate::cluster::name::NodeName;
use crate::limits::{CLUSTER_HISTORY_FOUND_MAX, HISTORY_PAGE_MESSAGES_MAX};
use crate::message::{
    Durability, MessageName, Position, Sender, StatsQuery, StoredMessage, StreamPlace,
};

/// The first byte of an answer in JSON.
const TEXT: u8 = b'j';
/// The first byte of an answer with messages.
const MESSAGES: u8 = b'm';

/// Epoch and sequence of a place, name of the node, position.
type KeyText = (u64, u64, String, Position);
/// Epoch and sequence of a place, position, twin, bytes.
type HeldText = (u64, u64, Position, Uuid128, u64);
/// The halves of an id, which JSON readers of all kinds read as numbers.
type Uuid128 = (u64, u64);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum QuestionText {
    Locate(Uuid128),
    Find {
        channel: Option<Uuid128>,
        event: Option<Box<str>>,
        below: Option<KeyText>,
        skip: u64,
        limit: u32,
    },
    Read(Vec<Position>),
    Count(Option<Uuid128>, Option<u64>),
    Clear,
    Has(Uuid128, Box<str>, SenderText, String),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AnswerText {
    Located(Option<HeldText>),
    Found(Vec<HeldText>),
    Counted(u64, u64, u64, Vec<(Box<str>, u64)>, Option<u32>),
    Cleared(u64),
    Has(bool),
    Refused(RefusalText),
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RefusalText {
    Busy,
    TooSlow,
    Failed,
}

/// Whether the sender is a user, and its id.
type SenderText = (bool, Option<Box<str>>);

/// A message without its payload.
#[derive(Serialize, Deserialize)]
struct MessageText<'a> {
    position: Position,
    id: Uuid128,
    #[serde(borrow)]
    event: Cow<'a, str>,
    definition: Uuid128,
    #[serde(borrow)]
    channel: Cow<'a, str>,
    sender: SenderText,
    ws: u32,
    webhooks: u32,
    delivered: u32,
    at: u64,
}

fn place((epoch, seq): (u64, u64)) -> StreamPlace {
    StreamPlace { epoch, seq }
}

fn key_text(key: &Key) -> KeyText {
    let Key { place: StreamPlace { epoch, seq }, node, position } = key;
    (*epoch, *seq, node.to_string(), *position)
}

fn key((epoch, seq, node, position): KeyText) -> Option<Key> {
    Some(Key { place: place((epoch, seq)), node: NodeName::read(&node)?, position })
}

fn held_text(held: &Held) -> HeldText {
    let Held { place: StreamPlace { epoch, seq }, position, twin, bytes } = held;
    (*epoch, *seq, *position, twin.as_u64_pair(), *bytes)
}

fn held((epoch, seq, position, twin, bytes): HeldText) -> Held {
    Held { place: place((epoch, seq)), position, twin: id(twin), bytes }
}

fn sender_text(sender: &Sender) -> SenderText {
    match sender {
        Sender::System => (false, None),
        Sender::User(id) => (true, id.as_deref().map(Into::into)),
    }
}

fn sender((is_user, id): SenderText) -> Sender {
    if is_user { Sender::User(id.map(|id| (*id).into())) } else { Sender::System }
}

fn id((high, low): Uuid128) -> Uuid {
    Uuid::from_u64_pair(high, low)
}

impl Question {
    /// Returns the bytes of the question.
    pub fn encode(&self) -> Vec<u8> {
        let text = match self {
            Self::Locate(id) => QuestionText::Locate(id.as_u64_pair()),
            Self::Find { filter: Filter { channel_id, event_name }, below, skip, limit } => {
                QuestionText::Find {
                    channel: channel_id.map(|id| id.as_u64_pair()),
                    event: event_name.clone(),
                    below: below.as_ref().map(key_text),
                    skip: *skip,
                    limit: *limit,
                }
            }
            Self::Read(positions) => QuestionText::Read(positions.clone()),
            Self::Count(StatsQuery { channel_id, since }) => {
                QuestionText::Count(channel_id.map(|id| id.as_u64_pair()), *since)
            }
            Self::Clear => QuestionText::Clear,
            Self::Has(MessageName { id, channel, sender }, level) => {
                let level = level.name().to_owned();
                let sender = sender_text(sender);
                QuestionText::Has(id.as_u64_pair(), channel.clone(), sender, level)
            }
        };
        serde_json::to_vec(&text).expect("numbers and strings serialize")
    }

    /// Reads a question; `None` if it is not one that this release asks.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        Some(match serde_json::from_slice(bytes).ok()? {
            QuestionText::Locate(named) => Self::Locate(id(named)),
            QuestionText::Find { limit, .. } if limit > CLUSTER_HISTORY_FOUND_MAX => return None,
            QuestionText::Find { channel, event, below, skip, limit } => Self::Find {
                filter: Filter { channel_id: channel.map(id), event_name: event },
                below: match below {
                    Some(below) => Some(key(below)?),
                    None => None,
                },
                skip,
                limit,
            },
            QuestionText::Read(positions) => {
                let is_bounded = positions.len() <= HISTORY_PAGE_MESSAGES_MAX as usize;
                is_bounded.then_some(Self::Read(positions))?
            }
            QuestionText::Count(channel, since) => {
                Self::Count(StatsQuery { channel_id: channel.map(id), since })
            }
            QuestionText::Clear => Self::Clear,
            QuestionText::Has(named, channel, by, level) => {
                let name = MessageName { id: id(named), channel, sender: sender(by) };
                Self::Has(name, Durability::named(&level)?)
            }
        })
    }
}

impl Answer {
    /// Returns the bytes of the answer.
    pub fn encode(&self) -> Vec<u8> {
        let text = match self {
            Self::Located(held) => AnswerText::Located(held.as_ref().map(held_text)),
            Self::Found(all) => AnswerText::Found(all.iter().map(held_text).collect()),
            Self::Read(messages) => return encode_messages(messages),
            Self::Counted(share) => {
                let Share { messages, wh_audience, wh_delivered, events, retention_days } = share;
                let events = events.clone();
                AnswerText::Counted(*messages, *wh_audience, *wh_delivered, events, *retention_days)
            }
            Self::Cleared(count) => AnswerText::Cleared(*count),
            Self::Has(has) => AnswerText::Has(*has),
            Self::Refused(refusal) => AnswerText::Refused(match refusal {
                Refusal::Busy => RefusalText::Busy,
                Refusal::TooSlow => RefusalText::TooSlow,
                Refusal::Failed => RefusalText::Failed,
            }),
        };
        let mut bytes = vec![TEXT];
        serde_json::to_writer(&mut bytes, &text).expect("numbers and strings serialize");
        bytes
    }

    /// Reads an answer; `None` if it is not one that this release gives.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, bytes) = bytes.split_first()?;
        match *kind {
            MESSAGES => return decode_messages(bytes),
            TEXT => {}
            _ => return None,
        }
        Some(match serde_json::from_slice(bytes).ok()? {
            AnswerText::Located(text) => Self::Located(text.map(held)),
            AnswerText::Found(all) => Self::Found(all.into_iter().map(held).collect()),
            AnswerText::Counted(messages, wh_audience, wh_delivered, events, retention_days) => {
                let share = Share { messages, wh_audience, wh_delivered, events, retention_days };
                Self::Counted(share)
            }
            AnswerText::Cleared(count) => Self::Cleared(count),
            AnswerText::Has(has) => Self::Has(has),
            AnswerText::Refused(refusal) => Self::Refused(match refusal {
                RefusalText::Busy => Refusal::Busy,
                RefusalText::TooSlow => Refusal::TooSlow,
                RefusalText::Failed => Refusal::Failed,
            }),
        })
    }
}

/// Payloads are copied as they are, each behind its length, because the thread that reads them must
/// not take long.
fn encode_messages(messages: &[(Position, StoredMessage)]) -> Vec<u8> {
    let payloads: usize = messages.iter().map(|(_, message)| message.payload.len()).sum();
    let mut bytes = Vec::with_capacity(payloads + 512 * messages.len() + 1);
    bytes.push(MESSAGES);
    for (position, message) in messages {
        let text = MessageText {
            position: *position,
            id: message.id.as_u64_pair(),
            event: (&*message.event_name).into(),
            definition: message.channel_id.as_u64_pair(),
            channel: (&*message.channel_name).into(),
            sender: sender_text(&message.sender),
            ws: message.ws_audience,
            webhooks: message.wh_audience,
            delivered: message.wh_delivered,
            at: message.created_at,
        };
        let line = serde_json::to_vec(&text).expect("numbers and strings serialize");
        for part in [&*line, message.payload.as_bytes()] {
            bytes.put_u32(u32::try_from(part.len()).expect("messages are shorter"));
            bytes.put_slice(part);
        }
    }
    bytes
}

fn decode_messages(mut bytes: &[u8]) -> Option<Answer> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let text: MessageText<'_> = serde_json::from_slice(part(&mut bytes)?).ok()?;
        let payload = str::from_utf8(part(&mut bytes)?).ok()?;
        let message = StoredMessage {
            id: id(text.id),
            event_name: text.event.into(),
            channel_id: id(text.definition),
            channel_name: text.channel.into(),
            payload: payload.into(),
            sender: sender(text.sender),
            ws_audience: text.ws,
            wh_audience: text.webhooks,
            wh_delivered: text.delivered,
            created_at: text.at,
        };
        messages.push((text.position, message));
    }
    Some(Answer::Read(messages))
}

/// Takes a part from the front, which its length precedes.
fn part<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = bytes.try_get_u32().ok()? as usize;
    let (part, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node() -> NodeName {
        NodeName::read("n1").unwrap()
    }

    fn number(number: u128) -> Uuid {
        Uuid::from_u128(number << 64 | 7)
    }

    fn message(text: &str, at: u64) -> StoredMessage {
        StoredMessage {
            id: number(1),
            event_name: text.into(),
            channel_id: number(2),
            channel_name: text.into(),
            payload: text.into(),
            sender: Sender::User(Some(text.into())),
            ws_audience: 1,
            wh_audience: 2,
            wh_delivered: u32::MAX,
            created_at: at,
        }
    }

    #[test]
    fn the_bytes_never_change() {
        // All nodes and all versions must agree on them.
        let asked = |question: Question| String::from_utf8(question.encode()).unwrap();
        let place = StreamPlace { epoch: 3, seq: 4 };
        let key = Key { place, node: node(), position: 5 };
        let filter = Filter { channel_id: Some(number(4)), event_name: Some("e".into()) };
        let name = MessageName { id: number(9), channel: "c".into(), sender: Sender::User(None) };
        let count = StatsQuery { channel_id: Some(number(1)), since: Some(2) };
        for (question, text) in [
            (Question::Locate(number(1)), r#"{"locate":[1,7]}"#),
            (
                Question::Find { filter, below: Some(key), skip: 6, limit: 9 },
                r#"{"find":{"channel":[4,7],"event":"e","below":[3,4,"n1",5],"skip":6,"limit":9}}"#,
            ),
            (Question::Read(vec![1, 2]), r#"{"read":[1,2]}"#),
            (Question::Count(count), r#"{"count":[[1,7],2]}"#),
            (Question::Clear, r#""clear""#),
            (
                Question::Has(name, Durability::Synced),
                r#"{"has":[[9,7],"c",[true,null],"synced"]}"#,
            ),
        ] {
            assert_eq!(asked(question), text);
        }
        let given = |answer: Answer| String::from_utf8(answer.encode()).unwrap();
        let held = Held { place, position: 7, twin: number(3), bytes: 8 };
        let events = vec![("e".into(), 3)];
        let (messages, wh_audience, wh_delivered) = (1, 2, 4);
        let retention_days = Some(9);
        let share = Share { messages, wh_audience, wh_delivered, events, retention_days };
        for (answer, text) in [
            (Answer::Located(Some(held)), r#"j{"located":[3,4,7,[3,7],8]}"#),
            (Answer::Found(vec![held]), r#"j{"found":[[3,4,7,[3,7],8]]}"#),
            (Answer::Counted(share), r#"j{"counted":[1,2,4,[["e",3]],9]}"#),
            (Answer::Cleared(5), r#"j{"cleared":5}"#),
            (Answer::Has(true), r#"j{"has":true}"#),
            (Answer::Refused(Refusal::Busy), r#"j{"refused":"busy"}"#),
            (Answer::Refused(Refusal::TooSlow), r#"j{"refused":"too_slow"}"#),
            (Answer::Refused(Refusal::Failed), r#"j{"refused":"failed"}"#),
        ] {
            assert_eq!(given(answer), text);
        }
        let line = concat!(
            r#"{"position":6,"id":[1,7],"event":"m","definition":[2,7],"channel":"m","#,
            r#""sender":[true,"m"],"ws":1,"webhooks":2,"delivered":4294967295,"at":5}"#
        );
        let length = u8::try_from(line.len()).expect("it is short");
        let expected = [b"m\0\0\0", &[length][..], line.as_bytes(), b"\0\0\0\x01m"].concat();
        assert_eq!(Answer::Read(vec![(6, message("m", 5))]).encode(), expected);
    }

    #[test]
    fn questions_are_read_as_they_were_asked() {
        let place = StreamPlace { epoch: 3, seq: u64::MAX };
        let key = Key { place, node: node(), position: i64::MAX };
        let filter =
            Filter { channel_id: Some(number(4)), event_name: Some("\"e\"\u{e9}\n".into()) };
        let channel: Box<str> = "a:b".into();
        let name = |sender| MessageName { id: number(9), channel: channel.clone(), sender };
        for question in [
            Question::Locate(number(u128::from(u64::MAX))),
            Question::Find { filter, below: Some(key), skip: u64::MAX, limit: 9 },
            Question::Find { filter: Filter::default(), below: None, skip: 0, limit: 1 },
            Question::Read(vec![1, i64::MAX]),
            Question::Count(StatsQuery { channel_id: Some(number(1)), since: Some(u64::MAX) }),
            Question::Count(StatsQuery::default()),
            Question::Clear,
            Question::Has(name(Sender::System), Durability::Synced),
            Question::Has(name(Sender::User(None)), Durability::Memory),
            Question::Has(name(Sender::User(Some("u".into()))), Durability::Stored),
        ] {
            assert_eq!(Question::decode(&question.encode()), Some(question));
        }
        let most = HISTORY_PAGE_MESSAGES_MAX as usize;
        let many = Question::Read(vec![1; most + 1]).encode();
        let (filter, limit) = (Filter::default(), CLUSTER_HISTORY_FOUND_MAX + 1);
        let more = Question::Find { filter, below: None, skip: 0, limit }.encode();
        let unknown = br#"{"tell":1}"#;
        for bytes in [&many[..], &more, b"", b"{}", unknown, br#"{"find":{"skip":-1}}"#] {
            assert_eq!(Question::decode(bytes), None);
        }
    }

    #[test]
    fn answers_are_read_as_they_were_given() {
        let place = StreamPlace { epoch: 3, seq: 4 };
        let held = Held { place, position: 7, twin: number(3), bytes: 1_000_000 };
        let events = vec![("a\"".into(), 3), ("".into(), u64::MAX)];
        for answer in [
            Answer::Located(None),
            Answer::Located(Some(held)),
            Answer::Found(Vec::new()),
            Answer::Found(vec![held, held]),
            Answer::Read(Vec::new()),
            Answer::Counted(Share {
                messages: 3,
                wh_audience: 2,
                wh_delivered: 1,
                events,
                retention_days: Some(9),
            }),
            Answer::Cleared(u64::MAX),
            Answer::Has(true),
            Answer::Refused(Refusal::Busy),
            Answer::Refused(Refusal::TooSlow),
            Answer::Refused(Refusal::Failed),
        ] {
            assert_eq!(Answer::decode(&answer.encode()), Some(answer));
        }
        for bytes in [&b""[..], b"x", b"j", b"j{}", b"m\0\0\0\x09a", b"m\xff\xff\xff\xff"] {
            assert_eq!(Answer::decode(bytes), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn messages_are_read_as_they_were_written(
            texts in prop::collection::vec((".{0,20}", any::<u64>()), 0..5),
        ) {
            let messages = texts.iter().zip(0..);
            let messages = messages.map(|((text, at), position)| (position, message(text, *at)));
            let answer = Answer::Read(messages.collect());
            prop_assert_eq!(Answer::decode(&answer.encode()), Some(answer));
        }
    }
}
