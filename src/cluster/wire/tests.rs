use proptest::prelude::*;

use super::*;
use crate::message::{Member, MemberId, News, NodeLife, Taking, Tidings};

fn origin() -> Origin {
    Origin { node: NodeName::read("n1").unwrap(), incarnation: Incarnation(7) }
}

/// Returns the headers of a stored message as the reader of the line passes them.
fn pairs(headers: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let lines = headers.split_terminator("\r\n").map(|line| line.split_once(": ").unwrap());
    lines.map(|(name, value)| (name.into(), value.into())).collect()
}

fn read(headers: &[(Vec<u8>, Vec<u8>)], body: &[u8], hash: Option<ChannelHash>) -> Option<Message> {
    let headers = headers.iter().map(|(name, value)| (&name[..], &value[..]));
    Message::decode(headers, &Bytes::copy_from_slice(body), hash)
}

const PLACE: &str = "Nats-Sequence: 12\r\nNats-Last-Sequence: 3\r\n\
                     Nats-Time-Stamp: 2026-11-29T14:02:03.25Z\r\n";

fn publication(channel: Channel, content: Content) -> Body {
    Body::Publication(Published { channel, id: Uuid::from_u128(5), at: 9, content })
}

fn event(payload: &str) -> Content {
    Content::Event { payload: payload.into() }
}

/// Returns the headers of a message that [`origin`] sends, each with its line end.
fn headers(body: &Body, ask: Option<&str>, trace: Option<&str>) -> String {
    let from = origin().to_string();
    let pairs = body.headers(&from, ask, trace);
    pairs.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect()
}

/// Encodes a body, lets `change` alter headers and body, and reads it on the channel `t`.
fn altered(change: impl FnOnce(&mut String, &mut Vec<u8>)) -> Option<Message> {
    let channel = Channel::topic("t");
    let hash = ChannelHash::of(&channel);
    let body = publication(channel, event("\"x\""));
    let mut headers = PLACE.to_owned() + &headers(&body, None, None);
    let mut bytes = body.encode().unwrap();
    change(&mut headers, &mut bytes);
    read(&pairs(&headers), &bytes, Some(hash))
}

#[test]
fn the_bytes_of_form_1_never_change() {
    let content = Content::Message {
        event: "e".into(),
        payload: "{}".into(),
        sender: Sender::User(Some("u".into())),
    };
    let body = publication("a\r\nb".into(), content);
    let line = r#"{"space":"c","name":"a\r\nb","id":"00000000-0000-0000-0000-000000000005","at":9,"event":"e","sender":["user","u"]}"#;
    assert_eq!(String::from_utf8(body.encode().unwrap()).unwrap(), format!("{line}\n{{}}"));
    let headers = headers(&body, Some("ff.n.n1.c.1"), Some("00-ab"));
    let expected = "Ff-V: 1\r\nFf-K: p\r\nFf-From: n1.0000000000000007\r\n\
                    Ff-Ask: ff.n.n1.c.1\r\nFf-Tp: 00-ab\r\n";
    assert_eq!(headers, expected);
    assert_eq!(FORM_TEXT, FORM.to_string());
    let anchor = Body::Anchor(Anchor { nonce: 255, number: 2 });
    let text = format!(r#"{{"nonce":"{:032x}","number":2}}"#, 255);
    assert_eq!(String::from_utf8(anchor.encode().unwrap()).unwrap(), text);
    let claim = Claim { incarnation: Incarnation(7), listens: true };
    assert_eq!(claim.encode(), "0000000000000007 L");
    let beat = Beat { number: 1, versions: (3, 4), ..Beat::default() };
    let text = r#"{"number":1,"registered":0,"heard":0,"claims_epoch":0,"attached":0,"draining":false,"versions":[3,4]}"#;
    assert_eq!(String::from_utf8(Body::Beat(beat).encode().unwrap()).unwrap(), text);
}

#[test]
fn what_a_later_release_adds_to_a_heartbeat_is_ignored() {
    let beat = Beat { number: 1, versions: (3, 4), ..Beat::default() };
    let body = Body::Beat(beat.clone());
    let headers = PLACE.to_owned() + &headers(&body, None, None);
    let text = String::from_utf8(body.encode().unwrap()).unwrap();
    let more = text.replacen('{', "{\"later\":[1],", 1);
    let message = read(&pairs(&headers), more.as_bytes(), None).unwrap();
    assert_eq!(message.body, Ok(Body::Beat(beat)));
    // A heartbeat in another form still names a node that is alive.
    let message = read(&pairs(&headers.replace("Ff-V: 1", "Ff-V: 2")), b"?", None).unwrap();
    assert_eq!((message.body, message.from), (Err(Skip::Version), Some(origin())));
}

#[test]
fn the_bytes_between_nodes_of_version_2_never_change() {
    assert_eq!(VERSIONS, (2, 2), "another version has other bytes");
    let channel = ChannelHash::of(&Channel::from("a"));
    let ask = Ask { channel, seq: 8, epoch: 9 };
    assert_eq!(ask.encode(), format!(r#"{{"hash":"{channel}","seq":8,"epoch":9}}"#));
    let audience = Audience { websocket: 1, polling: 2, sse: 3 };
    let text = r#"{"node":"n1","incarnation":"0000000000000007","seq":8,"ws":1,"poll":2,"sse":3}"#;
    assert_eq!(Counted { from: origin(), seq: 8, audience }.encode(), text);
    assert_eq!(AskMembers(channel).encode(), format!(r#"{{"members":"{channel}"}}"#));
    let absent = r#"{"absent":"n1.0000000000000007"}"#;
    assert_eq!(AskMembers::absent(&origin()), absent);
    let bytes = |news| String::from_utf8(told(news).encode(None).unwrap()).unwrap();
    let all = r#""members":[["u","ada\n",3],["c","BwcHBwcHBwcHBwcHBwcH",3]]"#;
    let begin = r#"{"name":"room \"1\"\n","number":4294967303,"id":"00000000-0000-0000-0000-000000000005","at":9,"digest":18446744073709551615,"#;
    assert_eq!(bytes(News::Joined(members())), format!("{begin}{all}}}"));
    let list = News::List { part: 1, parts: 3, members: members() };
    assert_eq!(bytes(list), format!("{begin}{all},\"part\":[1,3]}}"));
    let gone = News::Gone(NodeLife { node: "n2".into(), start: 0xab });
    assert_eq!(bytes(gone), format!("{begin}\"gone\":\"n2.00000000000000ab\"}}"));
    let taking = Taking { channel: "a".into(), rate: 100, count: 3 };
    let took = Took { from: origin(), takings: vec![taking] }.encode().unwrap();
    let text = r#"{"from":"n1.0000000000000007","took":[["c","a",100,3]]}"#;
    assert_eq!(String::from_utf8(took).unwrap(), text);
}

#[test]
fn a_header_cannot_be_smuggled_in() {
    let body = publication("a".into(), event("\"\""));
    let headers = headers(&body, Some("x\r\nFf-K: e"), Some("a b"));
    assert_eq!(pairs(&headers).len(), 3);
}

#[test]
fn later_forms_and_unknown_kinds_are_skipped_in_their_place() {
    let body = |from: &str, to: &str| {
        let message = altered(|headers, _| *headers = headers.replace(from, to)).unwrap();
        assert_eq!((message.stamp.seq, message.stamp.last), (12, 3));
        message.body
    };
    assert!(body("Ff-V: 1", "Ff-V: 1").is_ok());
    assert_eq!(body("Ff-V: 1", "Ff-V: 2"), Err(Skip::Version));
    assert_eq!(body("Ff-K: p", "Ff-K: z"), Err(Skip::Kind));
    assert!(body("Ff-V: 1", "Ff-V: 1\r\nFf-New: x").is_ok(), "an unknown header is ignored");
    for (from, to) in [
        ("Ff-V: 1", "Ff-V: 0"),
        ("Ff-V: 1", "Ff-V: +1"),
        ("Ff-V: 1\r\n", ""),
        ("Ff-K: p\r\n", ""),
        ("Ff-K: p", "Ff-K: e"),
        ("Ff-K: p", "Ff-K: h"),
        ("n1.0", "N1.0"),
        ("Ff-From: n1.", "Ff-From: n1"),
    ] {
        assert!(matches!(body(from, to), Err(Skip::Malformed(_))), "{to}");
    }
}

#[test]
fn a_message_without_a_place_is_not_read() {
    for (from, to) in [
        ("Nats-Sequence: 12\r\n", ""),
        ("Nats-Sequence: 12", "Nats-Sequence: 012"),
        ("Nats-Sequence: 12", "Nats-Sequence: 3"),
        ("Nats-Last-Sequence: 3", "Nats-Last-Sequence: -3"),
        ("2026-11-29T14:02:03.25Z", "yesterday"),
        ("Nats-Sequence: 12", "Nats-Sequence: 12\r\nNats-Sequence: 13"),
    ] {
        assert_eq!(altered(|headers, _| *headers = headers.replace(from, to)), None, "{to}");
    }
}

#[test]
fn bodies_are_read_strictly() {
    let body = |from: &str, to: &str| {
        let replace = |_: &mut String, body: &mut Vec<u8>| {
            *body = String::from_utf8(body.clone()).unwrap().replace(from, to).into_bytes();
        };
        altered(replace).unwrap().body
    };
    assert!(body("{", "{\"new\":1,").is_ok(), "an unknown member is ignored");
    for (from, to) in [
        ("\n", ""),
        ("\"t\",\"name\"", "\"c\",\"name\""),
        ("\"t\",\"name\"", "\"x\",\"name\""),
        ("\"name\":\"t\"", "\"name\":\"u\""),
        ("00000000-0000", "000000000000"),
        ("\"at\":9", "\"at\":-9"),
        ("}\n", ",\"event\":\"e\"}\n"),
    ] {
        assert!(matches!(body(from, to), Err(Skip::Malformed(_))), "{to}");
    }
    let not_text = altered(|_, body| body.push(0xff)).unwrap();
    assert_eq!(not_text.body, Err(Skip::Malformed("payload is not UTF-8")));
}

#[test]
fn bounds_hold_on_both_sides() {
    let payload = |bytes| publication("a".into(), event(&"x".repeat(bytes))).encode();
    assert_eq!(payload(MESSAGE_BYTES_MAX + 1), None);
    assert!(payload(MESSAGE_BYTES_MAX).is_some_and(|bytes| bytes.len() <= BODY_BYTES_MAX));
    let long = altered(|_, body| body.resize(BODY_BYTES_MAX + 1, b'x')).unwrap();
    assert_eq!(long.body, Err(Skip::Malformed("too long")));
    let long = altered(|_, body| body.resize(body.len() + MESSAGE_BYTES_MAX, b'x')).unwrap();
    assert_eq!(long.body, Err(Skip::Malformed("payload too long")));
    let sender = Sender::User(Some("\u{1}".repeat(LINE_BYTES_MAX / 6).into()));
    let content = Content::Message { event: "e".into(), payload: "1".into(), sender };
    assert_eq!(publication("a".into(), content).encode(), None);
    let many = altered(|headers, _| headers.push_str(&"X: y\r\n".repeat(HEADERS_MAX)));
    assert_eq!(many, None);
    // The longest that a node accepts from clients: a token's subject has at most 12 KiB.
    let sender = Sender::User(Some("é".repeat(6 * 1024).into()));
    let event = "\u{1}".repeat(EVENT_BYTES_MAX).into();
    let content = Content::Message { event, payload: "1".into(), sender };
    let name = "\u{1}".repeat(CHANNEL_BYTES_MAX);
    assert!(publication((&*name).into(), content).encode().is_some());
}

#[test]
fn nodes_agree_on_the_lowest_common_version() {
    assert_eq!(common_version([].into_iter()), Some(2));
    assert_eq!(common_version([(1, 4), (2, 2)].into_iter()), Some(2));
    assert_eq!(common_version([(3, 4)].into_iter()), None);
    assert_eq!(common_version([(1, 1)].into_iter()), None);
}

#[test]
fn a_total_that_does_not_fit_is_refused() {
    let body =
        r#"{"node":"n","incarnation":"0000000000000001","seq":1,"ws":4294967295,"poll":1,"sse":0}"#;
    assert_eq!(Counted::decode(body.as_bytes()), None);
}

fn contents() -> impl Strategy<Value = (Channel, Content)> {
    let sender = prop_oneof![
        Just(Sender::System),
        proptest::option::of(".{0,20}").prop_map(|id| Sender::User(id.map(Into::into))),
    ];
    let message =
        (".{0,40}", ".{0,40}", ".{0,200}", sender).prop_map(|(name, event, payload, sender)| {
            let (event, payload) = (event.into(), payload.into());
            (Channel::from(&*name), Content::Message { event, payload, sender })
        });
    let event = (".{0,40}", ".{0,200}").prop_map(|(id, text)| (Channel::topic(&id), event(&text)));
    prop_oneof![message, event]
}

proptest! {
    #[test]
    fn publications_are_read_back((channel, content) in contents(), id: u128, at: u64) {
        let hash = ChannelHash::of(&channel);
        let published = Published { channel, id: Uuid::from_u128(id), at, content };
        let body = Body::Publication(published);
        let headers = PLACE.to_owned() + &headers(&body, Some("ff.x"), None);
        let message = read(&pairs(&headers), &body.encode().unwrap(), Some(hash)).unwrap();
        prop_assert_eq!(message.body, Ok(body));
        prop_assert_eq!(message.stamp, Stamp { seq: 12, last: 3, at: 1_795_960_923_250 });
        prop_assert_eq!(message.from, Some(origin()));
        prop_assert_eq!(message.ask.as_deref(), Some("ff.x"));
    }

    #[test]
    fn the_cluster_s_own_messages_are_read_back(
        numbers: [u64; 5], nonce: u128, draining: bool, counts: [u16; 3], listens: bool
    ) {
        let [number, registered, heard, claims_epoch, attached] = numbers;
        let versions = VERSIONS;
        let beat =
            Beat { number, registered, heard, claims_epoch, attached, draining, versions };
        for body in [Body::Beat(beat), Body::Anchor(Anchor { nonce, number })] {
            let headers = PLACE.to_owned() + &headers(&body, None, None);
            let message = read(&pairs(&headers), &body.encode().unwrap(), None).unwrap();
            prop_assert_eq!(message.body, Ok(body));
        }
        let claim = Claim { incarnation: Incarnation(number), listens };
        prop_assert_eq!(Claim::decode(claim.encode().as_bytes()), Some(claim));
        let ask = Ask { channel: ChannelHash::of(&Channel::from("a")), seq: heard, epoch: number };
        prop_assert_eq!(Ask::decode(ask.encode().as_bytes()), Some(ask));
        let [websocket, polling, sse] = counts.map(u32::from);
        let audience = Audience { websocket, polling, sse };
        let counted = Counted { from: origin(), seq: heard, audience };
        prop_assert_eq!(Counted::decode(counted.encode().as_bytes()), Some(counted));
    }

    #[test]
    fn no_bytes_make_it_panic(
        kind in "[pheq]",
        version in 0..3_u8,
        name in proptest::collection::vec(any::<u8>(), 0..20),
        body in proptest::collection::vec(any::<u8>(), 0..300),
        text in r#"[{}\[\]":,a-z0-9\n]{0,80}"#,
    ) {
        let hash = ChannelHash::of(&Channel::topic("t"));
        let headers = format!("{PLACE}Ff-V: {version}\r\nFf-K: {kind}\r\n");
        let mut headers = pairs(&headers);
        headers.push((b"Ff-From".to_vec(), name.clone()));
        for body in [&body[..], text.as_bytes()] {
            read(&headers, body, Some(hash));
            read(&headers, body, None);
            Claim::decode(body);
            Ask::decode(body);
            Counted::decode(body);
            crate::cluster::ack::Ack::read(None, body, "S");
        }
        read(&[(name, body)], b"", None);
    }
}

fn told(news: News) -> Told {
    let digest = Some(u64::MAX);
    let tidings = Tidings { number: 1 << 32 | 7, id: Uuid::from_u128(5), at: 9, digest, news };
    Told { channel: Channel::from("room \"1\"\n"), tidings }
}

fn members() -> Vec<Member> {
    let ids = [MemberId::user("ada\n"), MemberId::Connection([7; 15])];
    ids.map(|id| Member { id, joined_at: 3 }).to_vec()
}

#[test]
fn tidings_are_read_as_they_were_written() {
    let life = NodeLife { node: "n2".into(), start: 0xab };
    for (kind, news) in [
        ("j", News::Joined(members())),
        ("l", News::Left(members())),
        ("m", News::List { part: 1, parts: 3, members: members() }),
        ("g", News::Gone(life)),
    ] {
        let body = Body::Tidings(told(news));
        let headers = headers(&body, None, None) + PLACE;
        assert!(headers.contains(&format!("Ff-K: {kind}\r\n")), "{headers}");
        let hash = Some(ChannelHash::of(&told(News::Joined(Vec::new())).channel));
        let message = read(&pairs(&headers), &body.encode().unwrap(), hash).unwrap();
        assert_eq!(message.body, Ok(body.clone()));
        let other = Some(ChannelHash::of(&"other".into()));
        let message = read(&pairs(&headers), &body.encode().unwrap(), other).unwrap();
        assert!(matches!(message.body, Err(Skip::Malformed(_))));
    }
}

#[test]
fn questions_for_members_and_their_answers_are_read_as_they_were_written() {
    let told = told(News::List { part: 0, parts: 1, members: members() });
    let question = AskMembers(ChannelHash::of(&told.channel));
    assert_eq!(AskMembers::decode(question.encode().as_bytes()), Some(question));
    assert_eq!(Ask::decode(question.encode().as_bytes()), None);
    let answer = told.encode(Some(&origin())).unwrap();
    assert_eq!(AskMembers::is_absent(&answer), None);
    assert_eq!(Told::answer(&answer), Some((origin(), told.clone())));
    assert_eq!(Told::answer(&told.encode(None).unwrap()), None);
    let absent = AskMembers::absent(&origin());
    assert_eq!(AskMembers::is_absent(absent.as_bytes()), Some(origin()));
    assert_eq!(Told::answer(absent.as_bytes()), None);
}
