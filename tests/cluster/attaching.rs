//! Beginning and ceasing to hear channels.

use std::time::Duration;

use fanfare::cluster::events::Published;
use fanfare::message::Channel;

use crate::node::{Heard, Node};
use crate::stream::create_streams;
use crate::support::nats::{Nats, Three};
use crate::support::proxy::{Proxy, Way};
use crate::support::wait_until;

/// Lets a node attach to channels one after the other while another one publishes on all of them.
/// Checks that the node hears all that was published after each attach.
fn attach_in_a_flood(name: &str, publisher: &Node, listener: &Node, channels: usize) {
    const LAST: &str = "last";
    let channels: Vec<_> =
        (0..channels).map(|number| Channel::from(&*format!("{name}:{number}"))).collect();
    for channel in &channels {
        publisher.attach(channel);
    }
    let mut published = vec![0; channels.len()];
    let mut attached = vec![None; channels.len()];
    while attached.iter().any(Option::is_none) {
        let mut tokens = Vec::new();
        for (at, channel) in channels.iter().enumerate() {
            if at < 8 || attached[at - 8].is_some() {
                if published[at] == 5 {
                    listener.subscribe(channel, 1);
                }
                if attached[at].is_none() && listener.attached(channel) > 0 {
                    attached[at] = Some(published[at]);
                }
                tokens.push((at, publisher.publish(channel, &published[at].to_string())));
            }
        }
        for (at, token) in tokens {
            if let Published::Stored { .. } = publisher.outcome(token) {
                published[at] += 1;
            }
        }
    }
    // Fewer at once than may be under way.
    for some in channels.chunks(1_000) {
        let tokens: Vec<_> = some.iter().map(|channel| node.publish(channel, "x")).collect();
        for token in tokens {
            let outcome = node.outcome(token);
            assert!(matches!(outcome, Published::Stored { .. }), "{outcome:?}");
        }
    }
    wait_until("all is heard", || channels.iter().all(|channel| node.count(channel) == 1));
}
