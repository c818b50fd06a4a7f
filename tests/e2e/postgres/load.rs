//! Many writers while the connection is cut again and again, checked row by row.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::events::stream::Stream;
use crate::support::postgres::{Postgres, url};
use crate::support::proxy::Proxy;
use crate::support::wait_until;

use super::{hear, installed, listen, node_of, wait_until_capturing};

const WRITERS: u32 = 100;
const CUT_EVERY: Duration = Duration::from_secs(5);
const COMMANDS: &str = "\\set n :n + 1\n\
    SELECT realtime.publish('load', 'tick', jsonb_build_object('w', :client_id, 'n', :n, \
    'at', extract(epoch FROM clock_timestamp())));\n";

/// What a subscriber has heard.
#[derive(Default)]
struct Heard {
    ids: HashSet<String>,
    /// The last number of each writer.
    last: HashMap<u64, u64>,
    repeated: usize,
    out_of_order: usize,
    /// Seconds from the statement to the subscriber.
    latencies: Vec<f64>,
}

impl Heard {
    fn hear(&mut self, stream: &mut Stream, count: usize) {
        while self.ids.len() < count {
            let data = hear(stream).data;
            let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later");
            let id = data["messageId"].as_str().expect("it has an id").to_owned();
            if !self.ids.insert(id) {
                self.repeated += 1;
                continue;
            }
            let payload = &data["payload"];
            let (writer, number) = (payload["w"].as_u64(), payload["n"].as_u64());
            let (writer, number) = writer.zip(number).expect("it names its writer");
            let last = self.last.insert(writer, number);
            self.out_of_order += usize::from(last.is_some_and(|last| last >= number));
            let at = payload["at"].as_f64().expect("it has a time");
            self.latencies.push(now.as_secs_f64() - at);
        }
    }

    /// Returns the latency that this part of the rows did not exceed, in milliseconds.
    fn percentile(&mut self, part: f64) -> f64 {
        self.latencies.sort_by(f64::total_cmp);
        let place = (self.latencies.len() as f64 * part) as usize;
        self.latencies[place.min(self.latencies.len() - 1)] * 1e3
    }
}

fn count(postgres: &Postgres) -> usize {
    postgres.sql("SELECT count(*) FROM realtime.messages").parse().expect("it is a number")
}

#[test]
#[ignore = "takes a minute and all processors: tests/run long"]
fn a_hundred_writers_are_heard_row_by_row_while_the_connection_is_cut() {
    let (rate, seconds) =
        (setting("FANFARE_TEST_RATE", 5_000), setting("FANFARE_TEST_SECONDS", 30));
    let mut postgres = installed();
    let proxy = Proxy::to(postgres.port());
    let node = node_of(url(proxy.port()), &["load"]);
    wait_until_capturing(&node);
    let mut stream = listen(&node, &["load"]);
    let is_over = AtomicBool::new(false);
    let mut heard = Heard::default();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                thread::sleep(CUT_EVERY);
                proxy.cut();
            }
        });
        let (sender, receiver) = std::sync::mpsc::channel();
        let (heard, stream) = (&mut heard, &mut stream);
        scope.spawn(move || {
            for all in receiver {
                heard.hear(stream, all);
            }
        });
        for round in 0..2 {
            // A subscriber of its own begins to read before the writers have ended.
            sender.send(round * 1_000 + 1).expect("it reads");
            let from = u32::try_from(round).expect("it is small") * 10_000_000;
            thread::scope(|scope| {
                let writers =
                    scope.spawn(|| postgres.write(COMMANDS, WRITERS, (rate, seconds), from));
                while !writers.is_finished() {
                    sender.send(count(&postgres)).expect("it reads");
                    thread::sleep(Duration::from_millis(500));
                }
            });
            sender.send(count(&postgres)).expect("it reads");
            if round == 0 {
                postgres.kill();
                postgres.start_again();
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let all = count(&postgres);
    let (middle, most) = (heard.percentile(0.5), heard.percentile(0.99));
    println!(
        "{all} rows, {} repeated, {} out of order; p50 {middle:.1} ms, p99 {most:.1} ms; \
         {} notified, {} connects",
        heard.repeated,
        heard.out_of_order,
        node.metric("fanfare_postgres_rows_total"),
        node.metric("fanfare_postgres_connects_total"),
    );
    assert_eq!((heard.ids.len(), heard.repeated, heard.out_of_order), (all, 0, 0));
    let ids = postgres.sql("SELECT id FROM realtime.messages");
    assert!(ids.lines().all(|id| heard.ids.contains(id)), "every row is heard");
    wait_until("every row is marked", || {
        postgres.sql("SELECT count(*) FROM realtime.messages WHERE dispatched_at IS NULL") == "0"
    });
}

/// Returns a number of the environment, for a run by hand.
fn setting(name: &str, default: u32) -> u32 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
