use proptest::prelude::*;

use super::*;

/// What a server might send, with the number of operations in it.
const SAMPLE: &[u8] = b"INFO {\"version\":\"2.15.1\",\"max_payload\":1048576,\"headers\":true}\r\n\
    +OK\r\nPING\r\nMSG ff.live.a 1 5\r\nhello\r\nmsg ff.live.a 18446744073709551615 _R.1 0\r\n\r\n\
    HMSG ff.live.b 2 14 16\r\nNATS/1.0\r\nA:\r\nhi\r\nHMSG x 3 _R.2 16 16\r\nNATS/1.0 503\r\n\r\n\r\n\
    PONG\r\n-ERR 'Permissions Violation for Publish to \"x\"'\r\n";

/// Feeds bytes in pieces of these lengths and returns everything that was parsed.
fn parse(bytes: &[u8], pieces: impl IntoIterator<Item = usize>) -> (Vec<Op>, Option<Fault>) {
    let (mut parser, mut ops, mut rest) = (Parser::default(), Vec::new(), bytes);
    let mut pieces = pieces.into_iter();
    while !rest.is_empty() {
        let length = pieces.next().unwrap_or(rest.len()).clamp(1, rest.len());
        let piece;
        (piece, rest) = rest.split_at(length);
        parser.space().extend_from_slice(piece);
        loop {
            match parser.parse() {
                Ok(Some(op)) => ops.push(op),
                Ok(None) => break,
                Err(fault) => return (ops, Some(fault)),
            }
        }
    }
    (ops, None)
}

fn whole(bytes: &[u8]) -> (Vec<Op>, Option<Fault>) {
    parse(bytes, [])
}

fn message(bytes: &[u8]) -> Message {
    let (mut ops, fault) = whole(bytes);
    assert_eq!((ops.len(), fault), (1, None));
    match ops.pop() {
        Some(Op::Message(message)) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn all_operations_are_read() {
    let (ops, fault) = whole(SAMPLE);
    assert_eq!(fault, None);
    let Op::Info(info) = &ops[0] else { panic!("{ops:?}") };
    assert_eq!(Version::parse(&info.version), Some(Version(2, 15, 1)));
    assert!(info.headers && !info.jetstream && info.max_payload == 1_048_576);
    assert_eq!(ops[1..3], [Op::Ok, Op::Ping]);
    let messages: Vec<_> = ops[3..7]
        .iter()
        .map(|op| match op {
            Op::Message(message) => message,
            op => panic!("{op:?}"),
        })
        .collect();
    let [plain, empty, headed, answer] = messages[..] else { panic!("{messages:?}") };
    assert_eq!((plain.subject(), plain.sid, plain.reply()), (&b"ff.live.a"[..], 1, None));
    assert_eq!((&*plain.payload(), plain.head(), plain.status()), (&b"hello"[..], &b""[..], None));
    assert_eq!((empty.sid, empty.reply()), (u64::MAX, Some(&b"_R.1"[..])));
    assert!(empty.payload().is_empty());
    assert_eq!((headed.header("A"), headed.header("a")), (Some(&b""[..]), None));
    assert_eq!(&*headed.payload(), b"hi");
    assert_eq!((answer.status(), answer.description()), (Some(503), &b""[..]));
    assert_eq!(answer.reply(), Some(&b"_R.2"[..]));
    let denied = "Permissions Violation for Publish to \"x\"";
    assert_eq!(ops[7..], [Op::Pong, Op::Err(denied.into())]);
}

#[test]
fn headers_of_a_stream_are_found() {
    let head = "NATS/1.0\r\nNats-Msg-Id: m1\r\nFf-V:1\r\nno colon\r\nTime: 14:09:49\r\n\r\n";
    let bytes = format!("HMSG a 1 {} {}\r\n{head}one\r\n", head.len(), head.len() + 3);
    let message = message(bytes.as_bytes());
    assert_eq!(message.header("Nats-Msg-Id"), Some(&b"m1"[..]));
    assert_eq!(message.header("Ff-V"), Some(&b"1"[..]));
    assert_eq!(message.header("Time"), Some(&b"14:09:49"[..]));
    assert_eq!((message.header("no colon"), message.status()), (None, None));
    assert_eq!(message.headers().count(), 3);
    let bytes = b"HMSG a 1 31 31\r\nNATS/1.0 404 Message Not Found\r\n\r\n".as_slice();
    let (ops, fault) = whole(bytes);
    assert_eq!((ops, fault), (vec![], Some(END)), "one byte more than announced");
    let bytes = b"HMSG a 1 34 34\r\nNATS/1.0 404 Message Not Found\r\n\r\n\r\n";
    let message = self::message(bytes);
    assert_eq!(message.status(), Some(404));
    assert_eq!(message.description(), b"Message Not Found");
}

const END: Fault = Fault::Malformed("a message that is longer or shorter than announced");

#[test]
fn violations_are_faults() {
    let cases: [&[u8]; 18] = [
        b"\r\n",
        b"\n",
        b"PING\n",
        b"HELLO\r\n",
        b"INFO\r\n",
        b"INFO {\r\n",
        b"INFO {\"max_payload\":-1}\r\n",
        b"MSG a 1\r\n",
        b"MSG a 1 b c 5\r\n",
        b"MSG a x 5\r\n",
        b"MSG a 1 -5\r\n",
        b"MSG a 1 +5\r\n",
        b"MSG a 1 5x\r\n",
        b"MSG a 18446744073709551616 5\r\n",
        b"MSG a 1 18446744073709551616\r\n",
        b"HMSG a 1 5\r\n",
        b"HMSG a 1 6 5\r\n12345\r\n",
        b"MSG a 1 2\r\nabcd\r\n",
    ];
    for case in cases {
        let (ops, fault) = whole(case);
        assert!(ops.is_empty() && fault.is_some(), "{}", String::from_utf8_lossy(case));
    }
}

#[test]
fn hostile_lengths_are_refused_or_discarded() {
    let line = |bytes: usize| format!("MSG a 7 {bytes}\r\n");
    let (_, fault) = whole(line(NATS_DISCARDED_BYTES_MAX + 1).as_bytes());
    assert_eq!(fault, Some(Fault::LongMessage(NATS_DISCARDED_BYTES_MAX as u64 + 1)));
    let (_, fault) = whole(line(usize::MAX).as_bytes());
    assert_eq!(fault, Some(Fault::LongMessage(u64::MAX)));
    let mut parser = Parser::default();
    parser.space().extend_from_slice(line(NATS_DISCARDED_BYTES_MAX).as_bytes());
    assert_eq!(parser.parse(), Ok(None));
    assert!(parser.space().capacity() <= 2 * NATS_READ_BYTES, "nothing is reserved for it");
    assert!(parser.is_inside());

    let long = NATS_MESSAGE_BYTES_MAX + 1;
    let bytes = [line(long).as_bytes(), &vec![b'x'; long], b"\r\nPING\r\n"].concat();
    let (ops, fault) = parse(&bytes, [1_000; 500]);
    assert_eq!(fault, None);
    assert_eq!(ops, [Op::Discarded { sid: 7, bytes: long as u64 }, Op::Ping]);
    let most = NATS_MESSAGE_BYTES_MAX;
    let bytes = [line(most).as_bytes(), &vec![b'x'; most], b"\r\n"].concat();
    assert_eq!(message(&bytes).payload().len(), most);
}

#[test]
fn lines_are_bounded() {
    let of = |word: &str, length: usize| {
        let line = format!("{word}{}", "x".repeat(length - word.len()));
        format!("{line}\r\n").into_bytes()
    };
    for (word, most) in [("-ERR ", NATS_LINE_BYTES_MAX), ("INFO ", NATS_INFO_BYTES_MAX)] {
        let (long, fault) = (of(word, most + 1), Some(Fault::LongLine(most)));
        assert_eq!(whole(&long), (vec![], fault.clone()));
        assert_eq!(whole(&long[..=most]), (vec![], None), "its end may still come");
        assert_eq!(whole(&long[..most + 2]), (vec![], fault));
    }
    let (ops, _) = whole(&of("-ERR ", NATS_LINE_BYTES_MAX));
    assert_eq!(ops.len(), 1);
}

#[test]
fn a_message_is_a_slice_of_what_was_received() {
    let mut parser = Parser::default();
    parser.space().extend_from_slice(b"MSG a 1 5\r\nhello\r\nMSG b 2 5\r\nthere\r\n");
    let received = parser.space().as_ptr();
    let mut payloads = Vec::new();
    while let Some(Op::Message(message)) = parser.parse().unwrap() {
        payloads.push(message.payload());
    }
    let places = payloads.iter().map(|payload| payload.as_ptr().addr() - received.addr());
    assert_eq!(places.collect::<Vec<_>>(), [11, 29]);
}

#[test]
fn an_idle_parser_holds_one_buffer() {
    let mut parser = Parser::default();
    for _ in 0..100 {
        let bytes = [b"MSG a 1 900000\r\n".as_slice(), &vec![b'x'; 900_000], b"\r\n"].concat();
        for piece in bytes.chunks(NATS_READ_BYTES) {
            parser.space().extend_from_slice(piece);
            while parser.parse().unwrap().is_some() {}
        }
    }
    let held = parser.space().capacity();
    assert!(held < 3 * 900_000, "{held} bytes");
}

#[test]
fn versions_are_compared_by_number() {
    let cases = [
        ("2.11.0", Some(Version(2, 11, 0))),
        ("v2.9.10", Some(Version(2, 9, 10))),
        ("2.12.0-RC.1", Some(Version(2, 12, 0))),
        ("2.11", None),
        ("2.11.0.1", None),
        ("", None),
        ("latest", None),
    ];
    for (text, version) in cases {
        assert_eq!(Version::parse(text), version, "{text}");
    }
    assert!(Version(2, 9, 30) < OLDEST && Version(2, 10, 25) < OLDEST && OLDEST < Version(3, 0, 0));
    assert_eq!(Version(2, 9, 10).to_string(), "2.9.10");
}

fn written(write: impl FnOnce(&mut BytesMut)) -> String {
    let mut out = BytesMut::new();
    write(&mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

fn published(message: &Publish<'_>) -> Result<String, Unsendable> {
    let mut out = BytesMut::new();
    publish(&mut out, message)?;
    Ok(String::from_utf8(out.to_vec()).unwrap())
}

#[test]
fn commands_are_written_as_servers_read_them() {
    assert_eq!(written(|out| subscribe(out, "a.*", 1).unwrap()), "SUB a.* 1\r\n");
    assert_eq!(written(|out| unsubscribe(out, u64::MAX)), "UNSUB 18446744073709551615\r\n");
    let plain = Publish { subject: "a", payload: &[b"he", b"llo"], ..Publish::default() };
    assert_eq!(published(&plain).unwrap(), "PUB a 5\r\nhello\r\n");
    let headers = [("Ff-V", "1"), ("Nats-Msg-Id", "x y")];
    let asking = Publish { reply: Some("_R.1"), headers: &headers, ..plain };
    let block = "NATS/1.0\r\nFf-V: 1\r\nNats-Msg-Id: x y\r\n\r\n";
    let (head, all) = (block.len(), block.len() + 5);
    assert_eq!(asking.bytes(), all);
    assert_eq!(
        published(&asking).unwrap(),
        format!("HPUB a _R.1 {head} {all}\r\n{block}hello\r\n")
    );
}

#[test]
fn a_connect_says_who_the_node_is() {
    let read = |hello: &Connect| {
        let text = written(|out| connect(out, hello));
        let json = text.strip_prefix("CONNECT ").and_then(|text| text.strip_suffix("\r\n"));
        serde_json::from_str::<serde_json::Value>(json.unwrap()).unwrap()
    };
    let plain = read(&Connect { name: "n\r\n1".into(), ..Connect::default() });
    assert_eq!(plain["name"], "n\r\n1");
    assert!(plain["headers"] == true && plain["no_responders"] == true && plain["echo"] == true);
    assert!(["user", "pass", "auth_token", "jwt", "sig"].iter().all(|key| plain[key].is_null()));
    let hello = Connect {
        user: Some(("u".into(), "p\"".into())),
        token: Some("t".into()),
        jwt: Some(("a.b.c".into(), "sig".into())),
        ..Connect::default()
    };
    let all = read(&hello);
    let keys = ["user", "pass", "auth_token", "jwt", "sig"].map(|key| all[key].clone());
    assert_eq!(keys, ["u", "p\"", "t", "a.b.c", "sig"]);
    assert!(!format!("{hello:?}").contains("a.b.c"), "secrets are not shown");
}

#[test]
fn what_would_be_another_command_is_not_written() {
    for subject in ["", "a b", "a\r\nPUB b 0\r\n\r\n", "a\t", "a\u{7f}"] {
        let mut out = BytesMut::new();
        assert_eq!(subscribe(&mut out, subject, 1), Err(Unsendable::Subject));
        let message = Publish { subject, ..Publish::default() };
        assert_eq!(publish(&mut out, &message), Err(Unsendable::Subject));
        let message = Publish { subject: "a", reply: Some(subject), ..Publish::default() };
        assert_eq!(publish(&mut out, &message), Err(Unsendable::Subject));
        assert!(out.is_empty());
    }
    for header in [("", "x"), ("a:b", "x"), ("a b", "x"), ("a\n", "x"), ("a", "x\r\ny: z")] {
        let message = Publish { subject: "a", headers: &[header], ..Publish::default() };
        assert_eq!(published(&message), Err(Unsendable::Header), "{header:?}");
    }
}

/// Bytes that look like a server's, and others.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(SAMPLE.to_vec()),
        proptest::sample::select(vec![
            "MSG a 1 3\r\nabc\r\n",
            "PING\r\n",
            "MSG a 1 ",
            "\r\n",
            "HMSG"
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        (0..2_000_usize).prop_map(|length| {
            [format!("MSG a 1 {length}\r\n").as_bytes(), &vec![b'\n'; length], b"\r\n"].concat()
        }),
        proptest::collection::vec(any::<u8>(), 0..40),
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_split_yields_the_same(
        bytes in stream(),
        pieces in proptest::collection::vec(1_usize..60, 0..400),
    ) {
        prop_assert_eq!(parse(&bytes, pieces), whole(&bytes));
        prop_assert_eq!(parse(&bytes, std::iter::repeat(1)), whole(&bytes));
    }

    #[test]
    fn published_messages_come_back(
        subject in "[a-z.*>$_]{1,40}",
        reply in proptest::option::of("[a-zA-Z.]{1,20}"),
        headers in proptest::collection::vec(("[A-Za-z-]{1,12}", "[!-~]{0,20}"), 0..4),
        payload in proptest::collection::vec(any::<u8>(), 0..3_000),
    ) {
        let pairs: Vec<_> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        let message = Publish {
            subject: &subject,
            reply: reply.as_deref(),
            headers: &pairs,
            payload: &[&payload],
        };
        let mut out = BytesMut::new();
        publish(&mut out, &message).unwrap();
        // A server adds the number of the subscription.
        let (op, rest) = if pairs.is_empty() { ("MSG", &out[3..]) } else { ("HMSG", &out[4..]) };
        let (first, rest) = rest.split_at(1 + subject.len());
        let bytes = [op.as_bytes(), first, b" 9", rest].concat();
        let read = self::message(&bytes);
        prop_assert_eq!((read.sid, read.subject()), (9, subject.as_bytes()));
        prop_assert_eq!(read.reply(), reply.as_ref().map(String::as_bytes));
        prop_assert_eq!(&*read.payload(), &payload[..]);
        let read: Vec<_> = read.headers().collect();
        let sent: Vec<_> = pairs.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
        prop_assert_eq!(read, sent);
    }
}
