//! Messages over long-polling, and what ends a session there.

use std::time::{Duration, Instant};

use super::calm;
use crate::session::{Endpoint, MOMENT, SEPARATOR};
use crate::support::Node;
use crate::tcp::{PATIENCE, Tcp, call, request};

/// Longest payload that a client may post (`maxPayload` in the open packet).
const PAYLOAD_BYTES_MAX: usize = 1_000_000;
/// Longest answer to a poll, if it has more than one packet.
const POLL_BYTES_MAX: usize = 1_000_000;

#[test]
fn payloads_are_echoed() {
    let session = calm().open_polling();
    let payloads = [
        "4hello",
        "4",
        "4µ日本🎺",
        "4test1\x1e4test2\x1e4test3",
        "4hello\x1ebAQIDBA==",
        "b",
        "b/+7dzA==\x1e4text after binary",
    ];
    for payload in payloads {
        session.post_ok(payload);
        let response = session.poll();
        assert_eq!((response.status, response.text()), (200, payload));
        assert_eq!(response.header("content-type"), Some("text/plain; charset=UTF-8"));
        assert_eq!(response.header("cache-control"), Some("no-store"));
    }
}

#[test]
fn a_post_is_answered_in_html() {
    let response = calm().open_polling().post("4hello");
    assert_eq!((response.status, response.text()), (200, "ok"));
    assert_eq!(response.header("content-type"), Some("text/html"));
    assert_eq!(response.header("cache-control"), Some("no-store"));
}

#[test]
fn what_waits_goes_out_in_one_payload() {
    let session = calm().open_polling();
    for at in 0..3 {
        session.post_ok(&format!("4message {at}"));
    }
    assert_eq!(session.poll().text(), "4message 0\x1e4message 1\x1e4message 2");
}

#[test]
fn a_poll_is_answered_with_16_packets_at_most_and_the_next_has_the_rest() {
    let session = calm().open_polling();
    let messages: Vec<_> = (0..37).map(|at| format!("4message {at}")).collect();
    let payloads: Vec<_> = messages.chunks(10).map(|some| some.join("\x1e")).collect();
    payloads.iter().for_each(|payload| session.post_ok(payload));
    let polled: Vec<_> = (0..3).map(|_| session.poll().text().to_owned()).collect();
    let packets: Vec<Vec<_>> =
        polled.iter().map(|payload| payload.split(SEPARATOR).collect()).collect();
    assert_eq!(packets.iter().map(Vec::len).collect::<Vec<_>>(), [16, 16, 5]);
    assert_eq!(packets.concat(), messages, "nothing is lost or in another order");
    session.assert_echoes("4and goes on");
}

#[test]
fn a_poll_is_answered_with_a_megabyte_at_most_unless_one_packet_has_more() {
    let session = calm().open_polling();
    // Binary messages are base64 in a payload, which makes them longer by a third.
    let encoded = format!("b{}", "AAAA".repeat(100_000));
    for _ in 0..5 {
        session.post_ok(&encoded);
    }
    let halves: Vec<_> =
        (0..2).map(|half| format!("4{half}{}", "x".repeat(POLL_BYTES_MAX / 2))).collect();
    halves.iter().for_each(|half| session.post_ok(half));
    let longest = format!("b{}", "AAAA".repeat(249_999));
    session.post_ok(&longest);
    let mut all = Vec::new();
    for count in [2, 2, 2, 1, 1] {
        let response = session.poll();
        let packets: Vec<_> = response.text().split(SEPARATOR).map(str::to_owned).collect();
        assert_eq!(packets.len(), count, "after {} packets", all.len());
        assert!(response.text().len() <= POLL_BYTES_MAX);
        all.extend(packets);
    }
    let sent = [vec![encoded; 5], halves, vec![longest]].concat();
    assert!(all == sent, "nothing is lost or in another order");
}

#[test]
fn an_upgrade_takes_along_what_no_poll_has_fetched() {
    let session = calm().open_polling();
    let messages: Vec<_> = (0..40).map(|at| format!("4message {at}")).collect();
    session.post_ok(&messages.join("\x1e"));
    let polled = session.poll();
    let mut peer = session.second_socket();
    peer.say("5");
    let mut heard: Vec<_> = polled.text().split(SEPARATOR).map(str::to_owned).collect();
    assert_eq!(heard.len(), 16);
    while heard.len() < messages.len() {
        heard.push(peer.hear().text());
    }
    assert_eq!(heard, messages);
}

#[test]
fn a_waiting_poll_is_answered_by_the_next_message() {
    let session = calm().open_polling();
    let mut poll = session.start_poll();
    assert!(poll.is_silent_for(MOMENT), "there is nothing to say yet");
    session.post_ok("4hello");
    assert_eq!(poll.response().text(), "4hello");
}

#[test]
fn requests_of_one_connection_are_answered_in_order() {
    let session = calm().open_polling();
    let mut tcp = Tcp::connect(calm().addr);
    let pair = |payload| [session.post_of(payload), session.get()].concat();
    tcp.send([pair("4one"), pair("4two")].concat());
    for echo in ["4one", "4two"] {
        assert_eq!(tcp.response().text(), "ok");
        assert_eq!(tcp.response().text(), echo);
    }
    tcp.send(pair("4three"));
    assert_eq!((tcp.response().text(), tcp.response().text()), ("ok", "4three"));
}

#[test]
fn packets_that_are_none_close_the_session() {
    let cases = [
        "abc",
        "",
        "4good\x1eabc",
        "4good\x1e",
        "7",
        "9",
        // Only the server may send pings.
        "2",
        "2probe",
    ];
    for payload in cases {
        println!("{payload:?}");
        let session = calm().open_polling();
        session.post_refused(payload);
        session.assert_closed();
    }
}

#[test]
fn base64_that_is_none_closes_the_session() {
    for payload in ["b!!!!", "bAQIDB", "bAQ=IDBA=", "bAQID BA="] {
        println!("{payload:?}");
        let session = calm().open_polling();
        session.post_refused(payload);
        session.assert_closed();
    }
}

#[test]
fn a_payload_that_is_no_text_closes_the_session() {
    let session = calm().open_polling();
    let line = format!("POST {} HTTP/1.1", session.target("polling"));
    let mut tcp = Tcp::connect(calm().addr);
    tcp.send(request(&[&line], b"4\xed\xa0\x80"));
    if let Some(response) = tcp.try_response("POST", PATIENCE) {
        assert_eq!(response.status, 400);
    }
    session.assert_closed();
}

#[test]
fn stray_pongs_and_noops_are_ignored() {
    let session = calm().open_polling();
    session.post_ok("3");
    session.post_ok("6");
    session.post_ok("3\x1e6");
    session.assert_echoes("4still here");
}

#[test]
fn a_second_poll_closes_the_session() {
    let session = calm().open_polling();
    let mut first = session.start_poll();
    assert!(first.is_silent_for(MOMENT));
    let second = session.poll();
    assert!(matches!(second.status, 400 | 500), "{second:?}");
    let first = first.response();
    assert_eq!((first.status, first.text()), (200, "1"));
    session.assert_closed();
}

#[test]
fn a_poll_that_is_given_up_closes_the_session() {
    let session = calm().open_polling();
    let poll = session.start_poll();
    std::thread::sleep(MOMENT);
    drop(poll);
    session.wait_until_closed();
}

#[test]
fn polls_that_are_given_up_leave_nothing_behind() {
    let node = Node::with(|command| {
        command.arg("--conformance");
    });
    let endpoint = Endpoint { addr: ([127, 0, 0, 1], node.port()).into(), path: "/engine.io/" };
    let polls: Vec<Tcp> = (0..200).map(|_| endpoint.open_polling().start_poll()).collect();
    let since = Instant::now();
    while node.metric("fanfare_acceptor_queue_depth") < 200 {
        assert!(since.elapsed() < PATIENCE, "the polls wait");
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(polls);
    for gauge in ["fanfare_acceptor_queue_depth", "fanfare_connections"] {
        while node.metric(gauge) > 0 {
            assert!(since.elapsed() < 2 * PATIENCE, "{gauge} stays at {}", node.metric(gauge));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_second_post_is_refused_or_waits_its_turn() {
    let session = calm().open_polling();
    let whole = session.post_of("4from the first");
    let (start, rest) = whole.split_at(whole.len() - 5);
    let mut first = Tcp::connect(calm().addr);
    first.send(start);
    std::thread::sleep(MOMENT);
    let second = session.post("4from the second");
    first.send(rest);
    // A node that handles a POST only when it is complete never has two at once.
    if second.status == 200 {
        assert_eq!(first.response().text(), "ok");
        assert_eq!(session.packets_to(2), ["4from the second", "4from the first"]);
    } else {
        assert!(matches!(second.status, 400 | 500), "{second:?}");
        drop(first);
        session.assert_closed();
    }
}

#[test]
fn a_storm_of_posts_loses_nothing_that_was_accepted() {
    let session = calm().open_polling();
    let accepted: Vec<_> = std::thread::scope(|scope| {
        let post = |at: usize| {
            let session = &session;
            scope.spawn(move || (session.post(&format!("4{at:02}")).status == 200).then_some(at))
        };
        let posts: Vec<_> = (0..16).map(post).collect();
        posts.into_iter().filter_map(|post| post.join().expect("no panic")).collect()
    });
    // A POST is only refused because of an overlap, which also ends the session.
    if accepted.len() < 16 {
        return session.assert_closed();
    }
    let mut echoes = session.packets_to(16);
    echoes.sort();
    assert_eq!(echoes, (0..16).map(|at| format!("4{at:02}")).collect::<Vec<_>>());
}

#[test]
fn payloads_have_a_bound() {
    let session = calm().open_polling();
    let longest = format!("4{}", "x".repeat(PAYLOAD_BYTES_MAX - 1));
    session.assert_echoes(&longest);
    let mut tcp = Tcp::connect(calm().addr);
    tcp.send(session.post_of(&format!("{longest}x")));
    assert_eq!(tcp.response().status, 413);
}

#[test]
fn a_chunked_payload_has_the_same_bound() {
    let session = calm().open_polling();
    let line = format!("POST {} HTTP/1.1\r\nHost: node\r\n", session.target("polling"));
    let head = format!("{line}Transfer-Encoding: chunked\r\n\r\n");
    let mut tcp = Tcp::connect(calm().addr);
    tcp.send(format!("{head}4\r\n4hel\r\n2\r\nlo\r\n0\r\n\r\n"));
    assert_eq!(tcp.response().text(), "ok");
    assert_eq!(session.packets(), ["4hello"]);
    let mut tcp = Tcp::connect(calm().addr);
    tcp.send(head);
    let chunk = format!("10000\r\n{}\r\n", "4".repeat(0x10000));
    for _ in 0..=PAYLOAD_BYTES_MAX / 0x10000 {
        tcp.send(&chunk);
    }
    assert_eq!(tcp.response().status, 413);
}

#[test]
fn a_client_closes_its_session() {
    let session = calm().open_polling();
    let mut poll = session.start_poll();
    assert!(poll.is_silent_for(MOMENT));
    session.post_ok("1");
    let released = poll.response();
    assert_eq!((released.status, released.text()), (200, "6"));
    session.assert_closed();
    assert_eq!(session.post("4hello").status, 400);
}

#[test]
fn other_methods_are_refused() {
    let session = calm().open_polling();
    for method in ["PUT", "DELETE", "PATCH"] {
        let line = format!("{method} {} HTTP/1.1", session.target("polling"));
        let status = call(calm().addr, &[&line], "").status;
        assert!(matches!(status, 400 | 405), "{method} is answered {status}");
    }
}
