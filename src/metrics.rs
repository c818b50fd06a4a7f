//! Plain counters, one set per thread, added up when somebody asks.
//!
//! A thread only ever writes its own set, so a count is a load and a store: no locked instruction
//! and no cache line that moves between cores.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A count with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning thread may call it.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Takes `n` off, for what comes and goes. Only the owning thread may call it.
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(n), Ordering::Relaxed);
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($field:ident: $kind:literal $name:literal $help:literal;)*) => {
        /// One thread's counts.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct Counters {
            $(#[doc = $help] pub $field: Counter,)*
        }

        impl Counters {
            /// Name with labels, type, meaning and value of every count, in the order of listing.
            fn list(&self) -> Vec<(&'static str, &'static str, &'static str, u64)> {
                vec![$(($name, $kind, $help, self.$field.get()),)*]
            }
        }
    };
}

counters! {
    websockets: "gauge" "fanfare_connections{transport=\"websocket\"}"
        "Connections open at the moment.";
    pollings: "gauge" "fanfare_connections{transport=\"polling\"}"
        "Connections open at the moment.";
    subscriptions: "gauge" "fanfare_subscriptions"
        "Subscriptions at the moment.";
    http_connections: "gauge" "fanfare_http_connections"
        "HTTP connections open at the moment.";
    http_requests: "counter" "fanfare_http_requests_total"
        "HTTP requests answered or handed over.";
    http_refused: "counter" "fanfare_http_malformed_total"
        "HTTP requests that broke the protocol or its limits.";
    http_timeouts: "counter" "fanfare_http_timeouts_total"
        "HTTP connections closed because the client was too slow.";
    accept_pauses: "counter" "fanfare_accept_pauses_total"
        "Times that accepting stopped for want of descriptors or room.";
    publications: "counter" "fanfare_publications_total"
        "Publications accepted.";
    publications_refused: "counter" "fanfare_refusals_total{reason=\"overloaded\"}"
        "Commands refused, by reason.";
    commands_refused: "counter" "fanfare_refusals_total{reason=\"command\"}"
        "Commands refused, by reason.";
    store_refused: "counter" "fanfare_refusals_total{reason=\"store_queue\"}"
        "Commands refused, by reason.";
    deliveries: "counter" "fanfare_deliveries_total"
        "Publications put into a subscriber's outbox.";
    announcements: "counter" "fanfare_presence_announcements_total"
        "Presence events put into a subscriber's outbox.";
    announcements_suppressed: "counter" "fanfare_presence_suppressed_total"
        "Joins and leaves not announced because too many are present.";
    frames_sent: "counter" "fanfare_frames_sent_total"
        "Frames that the kernel took whole.";
    frames_dropped: "counter" "fanfare_frames_dropped_total"
        "Frames that waited in an outbox when its connection closed.";
    bytes_sent: "counter" "fanfare_bytes_sent_total"
        "Bytes that the kernel took from connections' outboxes.";
    sends: "counter" "fanfare_sends_total"
        "Send calls for connections' outboxes.";
    turns: "counter" "fanfare_turns_total"
        "Turns of the workers.";
    slow_consumers: "counter" "fanfare_closed_total{reason=\"slow_consumer\"}"
        "Connections that the node closed, by reason.";
    ping_timeouts: "counter" "fanfare_closed_total{reason=\"ping_timeout\"}"
        "Connections that the node closed, by reason.";
    violations: "counter" "fanfare_closed_total{reason=\"protocol\"}"
        "Connections that the node closed, by reason.";
    connect_timeouts: "counter" "fanfare_closed_total{reason=\"connect_timeout\"}"
        "Connections that the node closed, by reason.";
    leaves_postponed: "counter" "fanfare_leaves_postponed_total"
        "Leaves that had to wait for room in a mailbox.";
}

/// Every thread's counts.
#[derive(Debug, Default)]
pub struct Metrics {
    threads: Vec<Arc<Counters>>,
}

impl Metrics {
    /// Sets for so many threads.
    pub fn new(threads: usize) -> Self {
        Self { threads: (0..threads).map(|_| Arc::default()).collect() }
    }

    /// A thread's own set.
    pub fn thread(&self, index: usize) -> Arc<Counters> {
        self.threads[index].clone()
    }

    /// All counts, and the `gauges` given, in the Prometheus text format.
    pub fn render(&self, gauges: &[(&'static str, &'static str, u64)]) -> String {
        let mut sums: Vec<(&str, &str, &str, u64)> = Counters::default().list();
        for thread in &self.threads {
            for (sum, one) in sums.iter_mut().zip(thread.list()) {
                // Threads count ups and downs apart; together they are right.
                sum.3 = sum.3.wrapping_add(one.3);
            }
        }
        sums.extend(gauges.iter().map(|(name, help, value)| (*name, "gauge", *help, *value)));
        let mut out = String::with_capacity(4_096);
        let mut family = "";
        for (name, kind, help, value) in sums {
            let this = name.split('{').next().unwrap_or(name);
            if this != family {
                family = this;
                let _ = write!(out, "# HELP {family} {help}\n# TYPE {family} {kind}\n");
            }
            let _ = writeln!(out, "{name} {value}");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_add_up_and_a_family_has_one_heading() {
        let metrics = Metrics::new(2);
        metrics.thread(0).websockets.add(5);
        metrics.thread(1).websockets.sub(2);
        metrics.thread(1).pollings.add(1);
        let text = metrics.render(&[("fanfare_channels", "Channels.", 7)]);
        assert!(text.contains("fanfare_connections{transport=\"websocket\"} 3\n"));
        assert!(text.contains("fanfare_connections{transport=\"polling\"} 1\n"));
        assert!(text.ends_with("fanfare_channels 7\n"));
        assert_eq!(text.matches("# TYPE fanfare_connections gauge").count(), 1);
    }
}
