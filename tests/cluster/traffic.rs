//! Subscriptions and messages, on one server and on three.

use fanfare::background::cluster::line::{Event, Line, Unsent};
use fanfare::background::cluster::protocol::{Publish, Unsendable};
use serde_json::json;

use crate::owner::{PATIENCE, line_to, message, settings, settle, until, up};
use crate::stream::{ask, create_stream};
use crate::support::nats::Nats;

#[tokio::test]
async fn messages_arrive_in_order_with_their_headers() {
    let nats = Nats::one();
    let (mut line, mut other) = (line_to(nats.port()), line_to(nats.port()));
    up(&mut line).await;
    up(&mut other).await;
    line.subscribe("a.*", 7).unwrap();
    line.subscribe("a.b", 8).unwrap();
    settle(&mut line).await;
    for number in 0..1_000_u32 {
        let number = number.to_string();
        let headers = [("Ff-V", "1"), ("Number", &*number)];
        let payload: [&[u8]; 2] = [b"one\r\n", number.as_bytes()];
        let message = Publish { subject: "a.c", headers: &headers, payload: &payload, reply: None };
        other.publish(&message).unwrap();
    }
    let publish = Publish { subject: "a.b", reply: Some("r"), ..Publish::default() };
    other.publish(&publish).unwrap();
    // A turn's commands are written together, at its end.
    assert!(other.waiting() > 1_000 * "HPUB a.c 40 40 NATS/1.0 Ff-V: 1".len());
    settle(&mut other).await;
    assert!(other.waiting() < 100, "an UNSUB");
    for number in 0..1_000_u32 {
        let message = message(&mut line).await;
        assert_eq!((message.sid, message.subject()), (7, &b"a.c"[..]));
        assert_eq!(message.header("Ff-V"), Some(&b"1"[..]));
        assert_eq!(message.header("Number"), Some(number.to_string().as_bytes()));
        assert_eq!(&*message.payload(), format!("one\r\n{number}").as_bytes());
        assert_eq!((message.reply(), message.status()), (None, None));
    }
    let mut both = [message(&mut line).await, message(&mut line).await];
    both.sort_by_key(|message| message.sid);
    assert_eq!(both.each_ref().map(|message| message.sid), [7, 8]);
    assert!(both.iter().all(|message| message.reply() == Some(b"r") && message.head().is_empty()));

    line.unsubscribe(7).unwrap();
    settle(&mut line).await;
    other.publish(&Publish { subject: "a.b", ..Publish::default() }).unwrap();
    settle(&mut other).await;
    assert_eq!(message(&mut line).await.sid, 8, "the other subscription has ended");
}

#[tokio::test]
async fn a_request_that_reaches_no_one_is_answered() {
    let nats = Nats::one();
    let mut line = line_to(nats.port());
    up(&mut line).await;
    line.subscribe("answers", 1).unwrap();
    let request = Publish { subject: "no.one", reply: Some("answers"), ..Publish::default() };
    line.publish(&request).unwrap();
    let answer = message(&mut line).await;
    assert_eq!((answer.status(), answer.payload().len()), (Some(503), 0));
}

#[tokio::test]
async fn what_a_user_may_not_do_is_told_and_the_line_stays() {
    let nats = Nats::with(
        "authorization { default_permissions = { publish: [\"a.>\", \"settle.>\"], \
         subscribe: [\"a.>\", \"settle.>\"] }\nusers = [{ user: u, password: p }] }",
    );
    let mut settings = settings(&[nats.url()]);
    settings.credentials =
        fanfare::background::cluster::credentials::Credentials::User("u".into(), "p".into());
    let mut line = Line::new(settings);
    up(&mut line).await;
    line.subscribe("b", 1).unwrap();
    line.publish(&Publish { subject: "c", ..Publish::default() }).unwrap();
    for words in ["Violation for Subscription to \"b\"", "Violation for Publish to \"c\""] {
        let text = until(&mut line, |event| match event {
            Event::Denied(text) => Some(text.clone()),
            event => panic!("{event:?}"),
        });
        let text = text.await;
        assert!(text.contains(words), "{text}");
    }
    settle(&mut line).await;
}

#[tokio::test]
async fn the_largest_message_passes_and_a_larger_one_is_not_sent() {
    let nats = Nats::one();
    let mut line = line_to(nats.port());
    let most = usize::try_from(up(&mut line).await.info.max_payload).unwrap();
    let payload = vec![b'x'; most + 1];
    line.subscribe("a", 1).unwrap();
    let long = Unsent::TooLong { bytes: most as u64 + 1, most: most as u64 };
    let whole = [&payload[..]];
    let message = Publish { subject: "a", payload: &whole, ..Publish::default() };
    assert_eq!(line.publish(&message), Err(long));
    let headers = [("A", "b")];
    let whole = [&payload[..most]];
    let message = Publish { subject: "a", headers: &headers, payload: &whole, reply: None };
    assert!(matches!(line.publish(&message), Err(Unsent::TooLong { .. })), "headers count");
    for _ in 0..5 {
        let whole = [&payload[..most]];
        line.publish(&Publish { subject: "a", payload: &whole, ..Publish::default() }).unwrap();
    }
    for _ in 0..5 {
        assert_eq!(crate::owner::message(&mut line).await.payload().len(), most);
    }
    let bad = Publish { subject: "a b", ..Publish::default() };
    assert_eq!(line.publish(&bad), Err(Unsent::Invalid(Unsendable::Subject)));
    settle(&mut line).await;
}

#[tokio::test]
async fn a_message_beyond_the_bound_is_discarded_and_the_next_one_read() {
    let nats = Nats::with("max_payload: 8MB");
    let (mut line, mut other) = (line_to(nats.port()), line_to(nats.port()));
    up(&mut line).await;
    up(&mut other).await;
    line.subscribe("a", 5).unwrap();
    settle(&mut line).await;
    let long = vec![b'x'; 3_000_000];
    for payload in [&long[..], b"short"] {
        other
            .publish(&Publish { subject: "a", payload: &[payload], ..Publish::default() })
            .unwrap();
    }
    settle(&mut other).await;
    let event = tokio::time::timeout(PATIENCE, line.next()).await.unwrap();
    assert_eq!(event, Event::Discarded { sid: 5, bytes: 3_000_000 });
    assert_eq!(&*message(&mut line).await.payload(), b"short");
}

#[tokio::test]
async fn what_a_stream_took_comes_back_with_its_place() {
    let nats = Nats::one();
    let mut line = line_to(nats.port());
    up(&mut line).await;
    create_stream(&mut line, 1).await;
    line.subscribe("ff.live.a", 2).unwrap();
    let headers = [("Nats-Msg-Id", "m1"), ("Ff-K", "p")];
    let ack = ask(&mut line, "ff.in.a", &headers, b"one").await;
    assert_eq!(ack, json!({ "stream": "FF", "seq": 1 }));
    let ack = ask(&mut line, "ff.in.a", &[("Nats-Msg-Id", "m1")], b"one").await;
    assert_eq!(ack, json!({ "stream": "FF", "seq": 1, "duplicate": true }));
    ask(&mut line, "ff.in.a", &[("Nats-Msg-Id", "m2")], b"two").await;
    // The live message may come before the answer, which `ask` drops then.
    line.subscribe("ff.live.b", 3).unwrap();
    let message =
        Publish { subject: "ff.in.b", headers: &headers[1..], payload: &[b"x"], reply: None };
    line.publish(&message).unwrap();
    let live = until(&mut line, |event| match event {
        Event::Message(message) if message.sid == 3 => Some(message.clone()),
        _ => None,
    });
    let live = live.await;
    assert_eq!(live.subject(), b"ff.live.b");
    let header = |name: &str| String::from_utf8_lossy(live.header(name).unwrap()).into_owned();
    let names = ["Ff-K", "Nats-Stream", "Nats-Subject", "Nats-Sequence", "Nats-Last-Sequence"];
    assert_eq!(names.map(header), ["p", "FF", "ff.in.b", "3", "0"]);
}
