//! Streams over a line.

use std::time::{Duration, Instant};

use fanfare::background::cluster::line::{Event, Line};
use fanfare::background::cluster::protocol::{Publish, Sid};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::owner::{PATIENCE, until};

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
    })
    .to_string();
    let end = Instant::now() + PATIENCE;
    loop {
        let created = ask(line, "$JS.API.STREAM.CREATE.FF", &[], stream.as_bytes()).await;
        if created["config"]["name"] == "FF" {
            return;
        }
        assert!(Instant::now() < end, "{created}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
