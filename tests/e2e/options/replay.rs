//! `replaySeconds`: publications from before a subscribe.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Client, Told, define, ids_and_gaps, publish, redefine, settled};
use crate::order::Ending;
use crate::socket::Socket;
use crate::support::{Node, user_token, wait_until};

const CHANNEL: &str = "news:all";
const SDK_SUBSCRIBE: &str = "realtime:subscribe";

fn start(seconds: u32) -> (Node, String) {
    let node = Node::with(|command| {
        command.args(["--workers", "2"]);
    });
    let id =
        define(&node, &json!({ "pattern": "news:*", "replaySeconds": seconds, "presence": "off" }));
    (node, id)
}

fn ids(told: &[Told]) -> Vec<Uuid> {
    let (ids, gaps) = ids_and_gaps(told);
    assert!(gaps.is_empty(), "{gaps:?}");
    ids
}

#[test]
fn who_comes_later_hears_what_was_before_and_then_what_comes() {
    let (node, id) = start(600);
    let token = user_token("ada");
    let early: Vec<Uuid> =
        (0..3).map(|number| publish(&node, CHANNEL, "tick", &json!(number))).collect();
    // In a cluster, NATS keeps what no node has heard.
    assert_eq!(node.metric("fanfare_channels"), 0);
    assert_eq!(node.metric("fanfare_channels_kept"), u64::from(!node.is_three()));

    let mut first = Client::connect(&node, &token);
    first.subscribe(CHANNEL);
    assert_eq!(ids(&first.hear()), early, "behind the acknowledgement, in order");
    first.subscribe(CHANNEL);
    let again = first.ask(SDK_SUBSCRIBE, &json!({ "channel": CHANNEL }));
    assert_eq!(again["ok"], true);
    assert!(first.hear().is_empty(), "whoever is subscribed already hears nothing twice");

    let live = publish(&node, CHANNEL, "tick", &json!(3));
    first.listen();
    assert_eq!(ids(&first.hear()), [live]);
    first.unsubscribe(CHANNEL);

    // The channel has no subscriber now, but keeps its window, for both encodings and transports.
    let all = [&early[..], &[live]].concat();
    let mut second = Client::new(Socket::connect_polling(node.port(), &token));
    second.ask(SDK_SUBSCRIBE, &json!({ "channel": CHANNEL }));
    let heard = second.hear();
    assert_eq!(ids(&heard), all);
    let (_, argument) = heard[0].event().expect("a publication").parts();
    assert_eq!(argument["meta"]["channel"], format!("realtime:{CHANNEL}"));
    let sums = settled(&node);
    assert_eq!(sums.plain("fanfare_replayed_total"), 3.0 + 4.0);
    assert_eq!(sums.plain("fanfare_deliveries_matched_total"), 3.0 + 4.0 + 1.0);
    assert_eq!(sums.plain("fanfare_deliveries_total"), 3.0 + 4.0 + 1.0);

    redefine(&node, &id, &json!({ "replaySeconds": 0 }));
    let mut third = Client::connect(&node, &token);
    third.subscribe(CHANNEL);
    assert!(third.hear().is_empty(), "the channel keeps nothing any more");
    publish(&node, CHANNEL, "tick", &json!(4));
    assert_eq!(node.metric("fanfare_replay_bytes"), 0);
}

#[test]
fn what_is_too_old_is_gone() {
    let (node, _) = start(3);
    let mut client = Client::connect(&node, &user_token("ada"));
    publish(&node, CHANNEL, "tick", &json!(0));
    assert!(node.metric("fanfare_replay_bytes") > 0);
    thread::sleep(Duration::from_millis(3_050));
    client.subscribe(CHANNEL);
    assert!(client.hear().is_empty());
    client.unsubscribe(CHANNEL);
    wait_until("it is let go of", || {
        node.metric("fanfare_replay_bytes") == 0 && node.metric("fanfare_channels_kept") == 0
    });
    assert_eq!(node.metric("fanfare_replay_evicted_total"), 0);
}

#[test]
fn where_replay_ends_what_is_live_begins() {
    const PUBLICATIONS: u64 = 600;
    const JOINERS: usize = 12;
    let (node, _) = start(600);
    let (token, is_over) = (user_token("ada"), AtomicBool::new(false));
    let number = |told: &Told| {
        let (_, argument) = told.event().expect("no gap").parts();
        argument["payload"].as_u64().expect("a number")
    };
    let join = || {
        let mut client = Client::connect(&node, &token);
        let mut stays: Vec<Vec<u64>> = Vec::new();
        while !is_over.load(Ordering::Relaxed) {
            client.subscribe(CHANNEL);
            client.unsubscribe(CHANNEL);
            stays.push(std::mem::take(&mut client.heard).iter().map(number).collect());
        }
        client.subscribe(CHANNEL);
        stays.push(client.hear().iter().map(number).collect());
        stays
    };
    let stays: Vec<Vec<u64>> = thread::scope(|scope| {
        let joiners: Vec<_> = (0..JOINERS).map(|_| scope.spawn(join)).collect();
        let ending = Ending(&is_over);
        for number in 0..PUBLICATIONS {
            publish(&node, CHANNEL, "tick", &json!(number));
        }
        drop(ending);
        joiners.into_iter().flat_map(|one| one.join().expect("it does not fail")).collect()
    });
    for stay in &stays {
        assert!(stay.windows(2).all(|pair| pair[0] + 1 == pair[1]), "one by one: {stay:?}");
        let (Some(first), Some(last)) = (stay.first(), stay.last()) else { continue };
        assert!(*first == 0 || last - first >= 255, "all that is kept: {first} to {last}");
    }
    let whole = stays.iter().filter(|stay| stay.last() == Some(&(PUBLICATIONS - 1)));
    assert!(whole.count() >= JOINERS, "who comes last hears the last");
    assert!(stays.len() > 2 * JOINERS, "{} stays", stays.len());
    settled(&node);
}

#[test]
fn a_replay_for_which_there_is_no_room_is_cut_and_says_so() {
    const CHANNELS: usize = 10;
    const EACH: u64 = 8;
    let (node, _) = start(600);
    let fill = "x".repeat(120_000);
    let mut published: Vec<Vec<Uuid>> = Vec::new();
    for channel in 0..CHANNELS {
        let name = format!("news:{channel}");
        let payload = |number: u64| json!({ "number": number, "fill": fill });
        published.push(
            (0..EACH).map(|number| publish(&node, &name, "tick", &payload(number))).collect(),
        );
    }
    // All of it is queued at once, because a client on long-polling decides when to fetch.
    let mut client = Client::new(Socket::connect_polling(node.port(), &user_token("ada")));
    let argument = |channel| json!({ "channel": format!("news:{channel}") });
    for channel in 0..CHANNELS {
        client.socket.ask(crate::socket::SUBSCRIBE, &argument(channel));
    }
    client.socket.flush();
    let mut told: Vec<Vec<Told>> = Vec::new();
    while told.len() < CHANNELS || client.heard.len() < told.len() {
        match client.socket.hear() {
            crate::socket::Heard::Ack(_, answer) => {
                assert_eq!(answer["ok"], Value::Bool(true));
                told.push(std::mem::take(&mut client.heard));
            }
            heard => client.note(heard),
        }
        if told.len() == CHANNELS {
            told.push(client.hear());
            break;
        }
    }
    let mut cut = 0;
    for (channel, (told, all)) in told[1..].iter().zip(&published).enumerate() {
        let (ids, gaps) = ids_and_gaps(told);
        assert!(all.ends_with(&ids), "the newest, in order");
        let lost = EACH - ids.len() as u64;
        assert_eq!(gaps.get(&format!("news:{channel}")).copied().unwrap_or_default(), lost);
        if lost > 0 {
            assert!(matches!(told[0], Told::Gap(..)), "it is told first");
            cut += lost;
        }
    }
    assert!(cut > 0, "not all of it has room");
    let sums = settled(&node);
    let dropped = sums.value("fanfare_deliveries_dropped_total", &[("reason", "replay")]);
    assert_eq!(dropped, cut as f64);
    assert_eq!(sums.plain("fanfare_replayed_total"), (CHANNELS as u64 * EACH - cut) as f64);
}
