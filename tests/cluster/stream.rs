//! Streams over a line.

use std::time::{Duration, Instant};

use fanfare::background::cluster::line::{Event, Line};
use fanfare::background::cluster::protocol::{Publish, Sid};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::owner::{PATIENCE, settings, until, up};

/// How long a question waits.
const ANSWER_PATIENCE: Duration = Duration::from_secs(3);
/// The subscription for answers.
const ANSWERS: Sid = u64::MAX - 1;

/// Sends a request and returns the JSON of its answer. Returns null if the server itself answers
/// that there is no one to take it, or if there is no answer in time, as from a stream without a
/// majority. Other messages are dropped meanwhile.
pub(crate) async fn ask(
    line: &mut Line,
    subject: &str,
    headers: &[(&str, &str)],
    payload: &[u8],
) -> Value {
    // An answer to an earlier question must not pass for this one's.
    let inbox = format!("_INBOX.{}", rand::random::<u64>());
    line.subscribe(&inbox, ANSWERS).expect("the line takes it");
    let payload = [payload];
    let request = Publish { subject, reply: Some(&inbox), headers, payload: &payload };
    line.publish(&request).expect("the line takes it");
    let answer = until(line, |event| match event {
        Event::Message(message) if message.subject() == inbox.as_bytes() => Some(message.clone()),
        Event::Down(down) => panic!("{down:?}"),
        _ => None,
    });
    let answer = timeout(ANSWER_PATIENCE, answer).await;
    let answer = answer.map(|answer| serde_json::from_slice(&answer.payload()).ok());
    line.unsubscribe(ANSWERS).expect("the line takes it");
    answer.ok().flatten().unwrap_or(Value::Null)
}

/// Creates the stream FF, which publishes what it has taken below `ff.live`.
pub(crate) async fn create_stream(line: &mut Line, replicas: u8) {
    let stream = json!({
        "name": "FF", "subjects": ["ff.in.>"], "storage": "memory", "num_replicas": replicas,
        "max_age": 120_000_000_000_u64, "duplicate_window": 120_000_000_000_u64,
        "republish": { "src": "ff.in.>", "dest": "ff.live.>" },
    });
    create(line, "FF", &stream).await;
}

/// Connects to a server, sends a request and returns the JSON of its answer.
pub(crate) fn request(url: &str, subject: &str, body: &str) -> Value {
    with_line(url, async |line| ask(line, subject, &[], body.as_bytes()).await)
}

/// Connects to a server and does something with the line.
pub(crate) fn with_line<T>(url: &str, work: impl AsyncFnOnce(&mut Line) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let mut line = Line::new(settings(&[url.to_owned()]));
        up(&mut line).await;
        work(&mut line).await
    })
}

/// Creates the streams of a cluster with the prefix `ff`.
pub(crate) fn create_streams(url: &str, replicas: u8) {
    with_line(url, async |line| {
        let order = json!({
            "name": "FF_ORD", "subjects": ["ff.in.>"], "storage": "memory",
            "num_replicas": replicas, "max_age": 130_000_000_000_u64,
            "duplicate_window": 120_000_000_000_u64, "allow_direct": true, "deny_delete": true,
            "discard": "old", "republish": { "src": "ff.in.>", "dest": "ff.live.>" },
        });
        create(line, "FF_ORD", &order).await;
        let claims = json!({
            "name": "FF_INT", "subjects": ["ff.int.>"], "storage": "memory",
            "num_replicas": replicas, "max_msgs_per_subject": 1, "allow_direct": true,
            "allow_msg_ttl": true, "discard": "old",
        });
        create(line, "FF_INT", &claims).await;
    });
}

async fn create(line: &mut Line, name: &str, stream: &Value) {
    let end = Instant::now() + PATIENCE;
    let subject = format!("$JS.API.STREAM.CREATE.{name}");
    loop {
        let created = ask(line, &subject, &[], stream.to_string().as_bytes()).await;
        if created["config"]["name"] == name {
            return;
        }
        assert!(Instant::now() < end, "{created}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
