//! Clients that others wrote: curl, and a browser's `EventSource`.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use serde_json::json;

use super::keep;
use crate::cases::cases;
use crate::support::{ANON_KEY, Node, wait_until};

mod browser {
    use super::*;

    cases! { "events_browser.mjs", Node::start, &[], [
        a_page_hears_its_channels,
        a_page_continues_after_a_cut,
        a_page_is_refused,
    ] }
}

#[test]
fn curl_hears_a_channel_line_by_line() {
    let node = Node::start();
    keep(&node, "orders", 60);
    let url = format!("{}/api/realtime/events?channel=orders&token={ANON_KEY}", node.url());
    let mut curl = Command::new("curl")
        .args(["--silent", "--no-buffer", "--max-time", "60", &url])
        .stdout(Stdio::piped())
        .spawn()
        .expect("curl is installed");
    wait_until("curl is subscribed", || node.metric("fanfare_subscriptions") == 1);
    node.publish("orders", "status", &json!({ "id": 7 }));
    let lines = BufReader::new(curl.stdout.take().expect("it is a pipe")).lines();
    let lines = lines.map(|line| line.expect("curl writes text"));
    let heard: Vec<_> = lines.skip_while(|line| line != "event: status").take(3).collect();
    curl.kill().expect("curl still runs");
    curl.wait().expect("it was killed");
    assert!(heard[1].starts_with("id: "), "{heard:?}");
    assert!(heard[2].starts_with(r#"data: {"channel":"orders","messageId":""#), "{heard:?}");
    assert!(heard[2].ends_with(r#""payload":{"id":7}}"#), "{heard:?}");
}
