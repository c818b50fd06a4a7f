//! What happens to nodes and their brokers during a round.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::process::Signal;
use serde_json::json;

use super::super::fleet::health;
use super::client::{Client, Kind, Said};
use super::publishers::Caller;
use super::scene::Scene;
use super::site::{Stranger, wait_until};
use super::watch::Watch;
use crate::histories::Answer;
use crate::support::Node;

/// The number of a node that must not serve.
const STRANGER: u64 = 9;
/// The stream of publications.
const STREAM: &str = "FF_ORD";

/// Every byte between nodes and broker takes 300 ms. Everything is served, more slowly.
pub(super) fn slow(scene: &mut Scene<'_>) {
    scene.begin();
    scene.site.delay(Duration::from_millis(300));
    scene.hold(3_000);
    scene.site.delay(Duration::ZERO);
    scene.end();
}

/// Every byte takes so long that no publication is answered in time.
pub(super) fn too_slow(scene: &mut Scene<'_>) {
    scene.begin();
    scene.site.delay(Duration::from_millis(1_500));
    scene.is_said_by(&[1, 2, 3]);
    scene.hold(5_000);
    scene.site.delay(Duration::ZERO);
    scene.end();
}

/// The broker is killed and starts again with its streams.
pub(super) fn gone(scene: &mut Scene<'_>) {
    restart(scene, true);
}

/// The broker is killed and starts again without its streams.
pub(super) fn emptied(scene: &mut Scene<'_>) {
    scene.papers.are_lost();
    restart(scene, false);
}

fn restart(scene: &mut Scene<'_>, keep_data: bool) {
    scene.begin();
    scene.site.nats().kill();
    scene.is_said_by(&[1, 2, 3]);
    scene.hold(2_500);
    scene.site.nats().start_again(keep_data);
    scene.end();
}

/// The broker stands still.
pub(super) fn frozen(scene: &mut Scene<'_>) {
    scene.begin();
    scene.site.nats().freeze();
    scene.is_said_by(&[1, 2, 3]);
    scene.hold(5_000);
    scene.site.nats().thaw();
    scene.end();
}

/// The broker that leads the stream of publications is killed, and starts again when the nodes
/// serve without it.
pub(super) fn leaderless(scene: &mut Scene<'_>) {
    let leader = leader(scene);
    scene.begin();
    scene.site.three().servers[leader].kill();
    scene.is_served_by(&[1, 2, 3]);
    scene.site.three().servers[leader].start_again(true);
    scene.end();
    wait_until("all brokers have caught up", || scene.site.three().are_healthy());
}

/// A broker, and the only node that uses it, are cut off from the others. In every other round the
/// broker leads the stream of publications.
pub(super) fn minority(scene: &mut Scene<'_>) {
    let leader = leader(scene);
    let at = if scene.round.is_multiple_of(2) { leader } else { (leader + 1) % 3 };
    let node = at as u64 + 1;
    let others: Vec<_> = (1..=3).filter(|one| *one != node).collect();
    scene.record.cut.insert(node);
    scene.log.away(node);
    scene.begin();
    scene.site.three().isolate(at, true);
    let mark = scene.log.mark();
    scene.is_said_by(&[node]);
    scene.is_served_by(&others);
    scene.hold(8_000);
    let answers = scene.log.answers(mark, node);
    scene.end();
    scene.site.three().isolate(at, false);
    scene.comes_back(node);
    let has_refused = answers.contains(&Answer::Refused);
    let has_accepted =
        answers.iter().any(|answer| matches!(answer, Answer::Stored { .. } | Answer::NotHeard));
    assert!(has_refused && !has_accepted, "the node that was cut off answered {answers:?}");
}

/// A node is killed and starts again. In every other round of many, it is away for so long that
/// the others end its claims.
pub(super) fn killed(scene: &mut Scene<'_>) {
    let at = scene.round % 3;
    let node = at as u64 + 1;
    scene.record.dead.insert(node);
    let gone = scene.log.ending(node);
    scene.begin();
    scene.site.nodes[at].kill();
    gone.into_iter().for_each(|subscriber| scene.log.left(subscriber));
    let is_long = scene.rounds > 1 && !scene.round.is_multiple_of(2);
    scene.hold(if is_long { 12_000 } else { 1_000 });
    let port = scene.site.nodes[at].port();
    scene.site.nodes[at].start_again(port);
    scene.log.back(node);
    scene.end();
}

/// A node is stopped for 30 seconds, or for 5 if there is one round.
pub(super) fn stopped(scene: &mut Scene<'_>) {
    let at = scene.round % 3;
    let node = at as u64 + 1;
    scene.record.dead.insert(node);
    scene.log.away(node);
    scene.begin();
    scene.site.nodes[at].signal(Signal::STOP);
    let is_long = scene.rounds > 1;
    scene.hold(if is_long { 30_000 } else { 5_000 });
    scene.end();
    scene.site.nodes[at].signal(Signal::CONT);
    if is_long {
        scene.comes_back(node);
    } else {
        // The others have not taken it for dead.
        scene.log.back(node);
    }
}

/// A second node has the name of one that runs.
pub(super) fn namesake(scene: &mut Scene<'_>) {
    scene.begin();
    let stranger = Stranger::start(scene.site, "n1", None, &[]);
    serves_nothing(scene, &stranger.node, "the name n1 is in use by another node");
    drop(stranger);
    scene.end();
}

/// A node is stopped for so long that another one takes its name, and goes on beside it until the
/// other one is killed.
pub(super) fn displaced(scene: &mut Scene<'_>) {
    const WHY: &str = "another node has taken the name n1";
    scene.record.dead.insert(1);
    scene.log.away(1);
    scene.begin();
    scene.site.nodes[0].signal(Signal::STOP);
    scene.hold(12_000);
    let stranger = Stranger::start(scene.site, "n1", None, &[]);
    wait_until("the other node serves", || health(&stranger.node) == (200, json!("ok")));
    let first = &scene.site.nodes[0];
    first.signal(Signal::CONT);
    let begin = Instant::now();
    let says = || first.request("GET", "/api/health", &[], b"").text().contains(WHY);
    wait_until("the node says that it must yield", says);
    scene.record.said = Some(begin.elapsed());
    let mark = scene.log.mark();
    wait_until("it is asked", || scene.log.answers(mark, 1).len() > 20);
    let answers = scene.log.answers(mark, 1);
    assert!(answers.iter().all(|answer| *answer == Answer::Refused), "{answers:?}");
    drop(stranger);
    scene.end();
    scene.comes_back(1);
}

/// Nodes of other clusters use the prefix: one that remembers another cluster, and one with another
/// secret.
pub(super) fn strangers(scene: &mut Scene<'_>) {
    const OTHER: &str = "00112233445566778899aabbccddeeff";
    const SECRET: &str = "another secret, which no other node of this cluster has";
    scene.begin();
    let stranger = Stranger::start(scene.site, "m1", Some(OTHER), &[]);
    serves_nothing(scene, &stranger.node, "another cluster uses the prefix ff");
    drop(stranger);
    let stranger = Stranger::start(scene.site, "m2", None, &[("FANFARE_JWT_SECRET", SECRET)]);
    serves_nothing(scene, &stranger.node, "auth.jwt_secret differs");
    drop(stranger);
    scene.end();
}

/// The clocks of two nodes step, so that they are 8 minutes apart.
pub(super) fn clocks(scene: &mut Scene<'_>) {
    scene.begin();
    for (at, seconds) in [(0, 240), (1, -240)] {
        scene.site.clocks[at].shift(seconds);
        let health = scene.site.nodes[at].request("GET", "/api/health", &[], b"").json();
        let wall: Timestamp = health["timestamp"].as_str().expect("a time").parse().expect("one");
        let off = wall.as_second() - Timestamp::now().as_second();
        assert!(off.abs_diff(seconds) < 30, "the clock of n{} is off by {off} s", at + 1);
    }
    scene.hold(3_000);
    scene.site.clocks.iter().for_each(|clock| clock.shift(0));
    scene.end();
}

fn leader(scene: &mut Scene<'_>) -> usize {
    let three = scene.site.three();
    wait_until("the stream has a leader", || three.leader(STREAM).is_some());
    three.leader(STREAM).expect("it had one a moment ago")
}

/// Checks that a node accepts no publication and no subscriber, and says why.
fn serves_nothing(scene: &mut Scene<'_>, node: &Node, why: &str) {
    let begin = Instant::now();
    let said = Watch::new(STRANGER, node.port()).until_said(Duration::from_secs(10));
    let said = said.expect("it says so");
    scene.record.said = scene.record.said.max(Some(said));
    let definition = json!({ "pattern": "orders", "presence": "off" });
    let (status, body) = node.admin("POST", "/api/realtime/channels", &definition);
    assert_eq!((status, &body["error"]), (503, &json!("BACKPLANE_UNAVAILABLE")));
    let mut client = Client::connect(node.port(), Kind::Socket).expect("it takes connections");
    client.join("orders");
    let mut caller = Caller::new(STRANGER, node.port());
    let mut is_refused = false;
    wait_until("the subscribe is refused", || {
        let published = caller.publish(scene.log, 0).map(|(_, answer)| answer);
        assert_eq!(published, Some(Answer::Refused));
        match client.look() {
            Said::Refused => is_refused = true,
            Said::Nothing => {}
            _ => panic!("it serves a subscriber"),
        }
        is_refused && begin.elapsed() > Duration::from_secs(4)
    });
    let health = node.request("GET", "/api/health", &[], b"");
    assert!(health.status == 503 && health.text().contains(why), "{}", health.text());
}
