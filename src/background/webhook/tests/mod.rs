//! Webhooks against real servers on loopback, which is allowed here unless a test says otherwise.

mod bounds;
mod calls;
mod receiver;
mod refused;
mod retries;

use std::sync::mpsc;
use std::time::Instant;

use uuid::Uuid;

use super::*;
use crate::limits::WEBHOOK_WAITING_BYTES_MAX;
use crate::message::{Content, Sender};
use crate::metrics::Counter;
use receiver::{Answer, Receiver, unused_port};

/// Time for what must happen; generous, because the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(20);
const SECRET: &str = "whsec_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

pub(super) fn call(urls: &[&str]) -> Call {
    call_with("{}", urls)
}

pub(super) fn call_with(payload: &str, urls: &[&str]) -> Call {
    named_call("orders", "INSERT", payload, urls)
}

fn named_call(channel: &str, event: &str, payload: &str, urls: &[&str]) -> Call {
    let sender = Sender::System;
    let content = Content::Message { event: event.into(), payload: payload.into(), sender };
    let publication = Publication::new(Uuid::from_u128(rand::random()), channel.into(), 0, content);
    let definition = ChannelDefinition {
        webhook_urls: Some(urls.iter().map(|url| (*url).to_owned()).collect()),
        ..ChannelDefinition::numbered(rand::random(), channel)
    };
    Call { publication: Arc::new(publication), definition: Arc::new(definition) }
}

/// Returns settings that allow everything, with waits short enough for a test.
pub(super) fn settings() -> Settings {
    Settings {
        secret: SECRET.into(),
        timeout: PATIENCE,
        allow_private: true,
        waiting_bytes: WEBHOOK_WAITING_BYTES_MAX,
        retry: Duration::from_millis(10),
    }
}

/// The thread under test, its counters, and what it reports.
struct Bench {
    webhooks: Webhooks,
    counters: Arc<Counters>,
    told: mpsc::Receiver<Settled>,
}

impl Bench {
    fn new(settings: Settings) -> Self {
        let counters = Arc::<Counters>::default();
        let (tell, told) = mpsc::channel();
        // A test may end before its calls do.
        let tell = move |settled| {
            let _ = tell.send(settled);
        };
        let webhooks = Webhooks::start(settings, counters.clone(), tell).unwrap();
        Self { webhooks, counters, told }
    }

    /// Offers a call and waits for its end. Returns whether it was delivered.
    fn carry(&self, call: Call) -> bool {
        let message = call.publication.id;
        self.webhooks.offer(call);
        let settled = self.settled();
        assert_eq!(settled.message, message);
        settled.delivered
    }

    fn settled(&self) -> Settled {
        self.told.recv_timeout(PATIENCE).expect("a call comes to an end")
    }

    fn attempts(&self) -> u64 {
        self.counters.webhook_attempts.get()
    }

    /// Returns how many calls were delivered, failed, refused and dropped.
    fn outcomes(&self) -> [u64; 4] {
        outcomes(&self.counters)
    }

    /// Stops the thread. Returns its counters and what it reports.
    fn stop(self, within: Duration) -> (Arc<Counters>, mpsc::Receiver<Settled>) {
        self.webhooks.stop(within);
        assert_eq!(self.counters.webhook_waiting.get(), 0, "nothing waits for who is gone");
        (self.counters, self.told)
    }
}

fn outcomes(counters: &Counters) -> [u64; 4] {
    let Counters { webhook_delivered, webhook_failed, webhook_refused, webhook_dropped, .. } =
        counters;
    [webhook_delivered, webhook_failed, webhook_refused, webhook_dropped].map(Counter::get)
}

/// Waits until the condition holds.
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "still not: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
