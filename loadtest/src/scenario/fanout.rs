//! `fanout`: publications at a fixed rate on one channel, heard by many.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::args::FanoutArguments;
use crate::clock::{nanos, now_ns};
use crate::crowd::{Gathered, Pulse};
use crate::procfs::{Memory, Usage};
use crate::progress::Progress;
use crate::publisher::{Plan, Published, publish};
use crate::report::{Asked, FanoutReport, Losses, Publications, Thresholds, Window};
use crate::scenario::{ensure_channel, print};
use crate::tally::{Deliveries, Outcomes};

/// Quiet time after the last subscribe, for the presence events of the crowd's arrival.
const SETTLE: Duration = Duration::from_millis(500);
/// Time from the decision to start until the first publication is due.
const LEAD: Duration = Duration::from_millis(20);
/// How long stragglers are waited for after the last publication was due.
const STRAGGLER_PATIENCE: Duration = Duration::from_secs(10);
/// Time after the last expected delivery in which repeats may still show.
const REPEAT_PATIENCE: Duration = Duration::from_millis(200);
/// Between two looks at the publisher, which needs none: they only cost processor time.
const PUBLISHER_INTERVAL: Duration = Duration::from_millis(50);
const STRAGGLER_INTERVAL: Duration = Duration::from_millis(5);

/// Runs it, prints the report and returns what is wrong with it.
pub(crate) fn run(arguments: &FanoutArguments) -> Result<Vec<String>> {
    let common = &arguments.common;
    if let Some(pid) = arguments.server_pid {
        Usage::of(pid)?;
    }
    ensure_channel(common, &arguments.api_key)?;
    let pulse = Pulse::default();
    let conductor = Conductor { arguments, plan: plan(arguments), pulse: &pulse };
    let crowd = common.crowd(true, Some(&arguments.api_key));
    let (conducted, gathered) = crowd.gather(&pulse, || conductor.conduct())?;
    let report = report(arguments, conducted, gathered);
    print(&report.table(), &report.json());
    let thresholds = Thresholds {
        p99_ms: arguments.max_p99_ms,
        cpu_us_per_delivery: arguments.max_cpu_us_per_delivery,
    };
    Ok(report.faults(thresholds))
}

fn plan(arguments: &FanoutArguments) -> Plan {
    let common = &arguments.common;
    let seconds = (arguments.warmup + common.seconds).as_secs_f64();
    Plan {
        target: common.url.clone(),
        api_key: arguments.api_key.clone(),
        channel: common.channel.clone(),
        event: arguments.event.clone(),
        payload_bytes: arguments.payload_bytes,
        rate: arguments.rate,
        // Both factors are bounded by the arguments, far below where a float loses whole numbers.
        publications: ((seconds * arguments.rate).round() as u64).max(1),
        unanswered_max: arguments.unanswered_max,
    }
}

struct Conductor<'a> {
    arguments: &'a FanoutArguments,
    plan: Plan,
    pulse: &'a Pulse,
}

/// What the conductor saw while the crowd listened.
struct Conducted {
    published: Published,
    window: Window,
    memory: Option<Memory>,
    losses: Losses,
}

impl Conductor<'_> {
    fn conduct(&self) -> Result<Conducted> {
        let mut progress = Progress::new();
        let subscribers = self.arguments.common.subscribers;
        self.pulse.wait_until_ready(subscribers, &mut progress)?;
        thread::sleep(SETTLE);

        let start_ns = now_ns() + nanos(LEAD);
        let measure_from_ns = start_ns + nanos(self.arguments.warmup);
        self.pulse.measure_from(measure_from_ns);
        let (published, before) = self.publish(start_ns, measure_from_ns, &mut progress)?;

        let last_due_ns = self.plan.due_ns(start_ns, self.plan.publications - 1);
        let last_ns = self.await_stragglers(&published, last_due_ns + nanos(STRAGGLER_PATIENCE));
        let after = Sample { at_ns: last_ns, ..self.sample()? };
        let window = after.since(&before);
        thread::sleep(REPEAT_PATIENCE);
        Ok(Conducted {
            published,
            window,
            memory: self.arguments.server_pid.map(Memory::of).transpose()?,
            losses: Losses {
                connections: self.pulse.lost(),
                first: self.pulse.first_failure().map(str::to_owned),
            },
        })
    }

    /// Publishes everything; returns also what had been used when the measured window began.
    fn publish(
        &self,
        start_ns: u64,
        measure_from_ns: u64,
        progress: &mut Progress,
    ) -> Result<(Published, Sample)> {
        let sent = AtomicU64::new(0);
        thread::scope(|scope| {
            let publisher = thread::Builder::new()
                .name("publisher".to_owned())
                .spawn_scoped(scope, || publish(&self.plan, start_ns, &sent))?;
            let warmup_ns = measure_from_ns.saturating_sub(now_ns());
            thread::sleep(Duration::from_nanos(warmup_ns));
            let before = self.sample()?;
            while !publisher.is_finished() {
                progress.show(|| {
                    let (sent, received) = (sent.load(Ordering::Relaxed), self.pulse.received());
                    format!(
                        "publishing: {sent} of {}, {received} delivered",
                        self.plan.publications
                    )
                });
                thread::sleep(PUBLISHER_INTERVAL);
            }
            let published = publisher.join().expect("the publisher returns its errors")?;
            Ok((published, before))
        })
    }

    /// Waits until everything has arrived or `until_ns`; says when the last delivery was seen.
    fn await_stragglers(&self, published: &Published, until_ns: u64) -> u64 {
        let accepted = Outcomes::new(&published.outcomes).accepted();
        let expected = accepted * self.arguments.common.subscribers as u64;
        let mut received = self.pulse.received();
        let mut last_ns = now_ns();
        while received < expected && now_ns() < until_ns {
            thread::sleep(STRAGGLER_INTERVAL);
            let received_now = self.pulse.received();
            if received_now > received {
                (received, last_ns) = (received_now, now_ns());
            }
        }
        last_ns
    }

    fn sample(&self) -> Result<Sample> {
        Ok(Sample {
            at_ns: now_ns(),
            received: self.pulse.received(),
            server: self.arguments.server_pid.map(Usage::of).transpose()?,
            client: Usage::of(std::process::id())?,
        })
    }
}

/// Counters at one moment.
struct Sample {
    at_ns: u64,
    received: u64,
    server: Option<Usage>,
    client: Usage,
}

impl Sample {
    fn since(&self, before: &Self) -> Window {
        let server = self.server.as_ref().zip(before.server.as_ref());
        Window {
            wall_ns: self.at_ns - before.at_ns,
            deliveries: self.received - before.received,
            server: server.map(|(after, before)| after.since(before)),
            client: self.client.since(&before.client),
        }
    }
}

fn report(arguments: &FanoutArguments, run: Conducted, gathered: Gathered) -> FanoutReport {
    let outcomes = Outcomes::new(&run.published.outcomes);
    let mut deliveries = Deliveries::default();
    for tally in &gathered.tallies {
        deliveries.add(tally, &outcomes);
    }
    let (sent, accepted, refused) = (outcomes.sent(), outcomes.accepted(), outcomes.refused());
    FanoutReport {
        asked: Asked {
            channel: arguments.common.channel.clone(),
            subscribers: arguments.common.subscribers,
            rate: arguments.rate,
            payload_bytes: arguments.payload_bytes,
            seconds: arguments.common.seconds.as_secs_f64(),
        },
        publications: Publications {
            sent,
            accepted,
            refused,
            unanswered: sent - accepted - refused,
            late_ns_max: run.published.late_ns_max,
        },
        deliveries,
        latency: gathered.heard.latency,
        window: run.window,
        memory: run.memory,
        losses: run.losses,
        errors: gathered.heard.errors,
    }
}
