//! A measured run: subscribers, a publisher, and the cost of the deliveries.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::clock::{nanos, now_ns};
use crate::crowd::{Crowd, Gathered, Group, Pulse};
use crate::floor::Floor;
use crate::heard::Heard;
use crate::procfs::Memory;
use crate::progress::Progress;
use crate::publisher::{Plan, Published, Schedule, publish};
use crate::report::{Asked, Audience, Costs, FanoutReport, Losses, Publications, Window};
use crate::scenario::sample::Sample;
use crate::tally::{Deliveries, Outcomes};

/// Pause after the last subscribe, in which presence events of the subscribes arrive.
const SETTLE: Duration = Duration::from_millis(500);
/// Time from the decision to start until the first publication is due. Within it, all processes
/// with clients receive the start of the measured window.
const LEAD: Duration = Duration::from_millis(100);
/// How long to wait for late deliveries after the last publication was due and sent.
const STRAGGLER_PATIENCE: Duration = Duration::from_secs(10);
/// The same for APIs that deliver states: how long it must be quiet. The number of deliveries is
/// not known in advance, because a state may replace earlier ones.
const STATES_PATIENCE: Duration = Duration::from_secs(1);
/// Time after the last expected delivery in which repeats may still arrive.
const REPEAT_PATIENCE: Duration = Duration::from_millis(200);
/// Time between two checks whether the publisher is done, which only cost processor time.
const PUBLISHER_INTERVAL: Duration = Duration::from_millis(50);
const STRAGGLER_INTERVAL: Duration = Duration::from_millis(5);

/// Parameters of a run.
pub(super) struct Run {
    /// The command's name, as the report shows it.
    pub(super) scenario: &'static str,
    pub(super) crowd: Crowd,
    /// Content and timing of the publications.
    pub(super) schedule: Schedule,
    /// Time of publishing before the measured window.
    pub(super) warmup: Duration,
    /// Length of the measured window.
    pub(super) seconds: Duration,
    /// The process to measure, if known.
    pub(super) server_pid: Option<u32>,
}

/// The publisher of a run.
pub(super) enum Publisher<'a> {
    /// This process publishes to a node.
    Http(&'a Plan),
    /// The floor's own process publishes to its clients.
    Floor(&'a mut Floor),
}

impl Run {
    /// Runs it and returns the report.
    pub(super) fn measure(&self, publisher: Publisher<'_>) -> Result<FanoutReport> {
        let pulse = Pulse::default();
        let conductor = Conductor { run: self, pulse: &pulse };
        let (conducted, gathered) = self.crowd.gather(&pulse, || conductor.conduct(publisher))?;
        self.report(conducted, gathered)
    }

    fn report(&self, conducted: Conducted, gathered: Vec<Gathered>) -> Result<FanoutReport> {
        let outcomes = Outcomes::new(&conducted.published.outcomes);
        let mut deliveries = Deliveries::default();
        let mut heard = Heard::new();
        let mut audiences = Vec::new();
        for (group, gathered) in self.crowd.groups.iter().zip(gathered) {
            let audience = audience(group, &gathered, &outcomes);
            deliveries.merge(audience.deliveries);
            audiences.push(audience);
            heard.add(gathered.heard)?;
        }
        if audiences.len() == 1 {
            audiences.clear();
        }
        let (sent, accepted, refused) = (outcomes.sent(), outcomes.accepted(), outcomes.refused());
        Ok(FanoutReport {
            scenario: self.scenario,
            asked: Asked {
                api: self.crowd.groups[0].script.api,
                channel: self.schedule.channel.clone(),
                subscribers: self.crowd.groups[0].size,
                streams: self.crowd.groups[1..].iter().map(|group| group.size).sum(),
                rate: self.schedule.rate,
                payload_bytes: self.schedule.payload_bytes,
                seconds: self.seconds.as_secs_f64(),
            },
            publications: Publications {
                sent,
                accepted,
                refused,
                unanswered: sent - accepted - refused,
                late_ns_max: conducted.published.late_ns_max,
            },
            deliveries,
            audiences,
            latency: heard.latency,
            costs: Costs {
                frames: heard.frames,
                window: conducted.window,
                client_processes: conducted.client_processes,
            },
            memory: conducted.memory,
            losses: conducted.losses,
            errors: heard.errors,
        })
    }

    /// Whether clients receive states.
    fn tells_states(&self) -> bool {
        self.crowd.groups.iter().any(|group| group.script.api.tells_states())
    }
}

fn audience(group: &Group, gathered: &Gathered, outcomes: &Outcomes) -> Audience {
    let api = group.script.api;
    let mut deliveries = Deliveries::default();
    for tally in &gathered.tallies {
        deliveries.add(tally, outcomes, api.tells_states());
    }
    let Heard { latency, frames, errors, .. } = &gathered.heard;
    Audience {
        api,
        clients: group.size,
        deliveries,
        latency: latency.clone(),
        frames: frames.clone(),
        errors: errors.1,
    }
}

impl Publisher<'_> {
    fn publish(self, start_ns: u64, pulse: &Pulse) -> Result<Published> {
        match self {
            Self::Http(plan) => publish(plan, start_ns, pulse.broken()),
            Self::Floor(floor) => floor.publish(start_ns),
        }
    }

    /// Returns the process to kill if the run is aborted while it publishes; `None` if this process
    /// does.
    fn own_pid(&self) -> Option<u32> {
        match self {
            Self::Http(_) => None,
            Self::Floor(floor) => Some(floor.pid()),
        }
    }
}

struct Conductor<'a> {
    run: &'a Run,
    pulse: &'a Pulse,
}

/// The measurements of a run, without those of the clients.
struct Conducted {
    published: Published,
    window: Window,
    client_processes: usize,
    memory: Option<Memory>,
    losses: Losses,
}

impl Conductor<'_> {
    fn conduct(&self, publisher: Publisher<'_>) -> Result<Conducted> {
        let mut progress = Progress::new();
        self.pulse.wait_until_ready(self.run.crowd.size, &mut progress)?;
        thread::sleep(SETTLE);

        let start_ns = now_ns() + nanos(LEAD);
        let measure_from_ns = start_ns + nanos(self.run.warmup);
        self.pulse.measure_from(measure_from_ns);
        let (published, before) =
            self.publish(publisher, start_ns, measure_from_ns, &mut progress)?;

        let schedule = &self.run.schedule;
        let last_due_ns = schedule.due_ns(start_ns, schedule.publications - 1);
        let until_ns = last_due_ns.max(now_ns()) + nanos(STRAGGLER_PATIENCE);
        let last_ns = self.await_stragglers(&published, until_ns);
        let after = self.sample()?.dated(last_ns);
        let window = after.since(&before);
        thread::sleep(REPEAT_PATIENCE);
        Ok(Conducted {
            published,
            window,
            client_processes: self.pulse.pids().count(),
            memory: self.run.server_pid.map(Memory::of).transpose()?,
            losses: Losses {
                connections: self.pulse.lost(),
                first: self.pulse.first_failure().map(str::to_owned),
            },
        })
    }

    /// Publishes everything. Returns the outcome and a sample from the start of the measured
    /// window.
    fn publish(
        &self,
        publisher: Publisher<'_>,
        start_ns: u64,
        measure_from_ns: u64,
        progress: &mut Progress,
    ) -> Result<(Published, Sample)> {
        let own_pid = publisher.own_pid();
        thread::scope(|scope| {
            let publisher = thread::Builder::new()
                .name("publisher".to_owned())
                .spawn_scoped(scope, || publisher.publish(start_ns, self.pulse))?;
            let warmup_ns = measure_from_ns.saturating_sub(now_ns());
            thread::sleep(Duration::from_nanos(warmup_ns));
            let before = self.sample();
            while !publisher.is_finished() {
                // The run is worthless, so nothing of it is waited for.
                if before.is_err() || self.pulse.ensure_whole().is_err() {
                    self.pulse.broken().store(true, Ordering::Relaxed);
                    own_pid.map_or(Ok(()), end)?;
                }
                progress.show(|| self.progress_line(start_ns));
                thread::sleep(PUBLISHER_INTERVAL);
            }
            let published = publisher.join().expect("the publisher returns its errors");
            self.pulse.ensure_whole()?;
            let before = before?;
            Ok((published?, before))
        })
    }

    fn progress_line(&self, start_ns: u64) -> String {
        let elapsed = Duration::from_nanos(now_ns().saturating_sub(start_ns)).as_secs();
        let all = (self.run.warmup + self.run.seconds).as_secs_f64();
        let (received, lost) = (self.pulse.received(), self.pulse.lost());
        let scenario = self.run.scenario;
        format!("{scenario}: second {elapsed} of {all:.0}, {received} delivered, {lost} lost")
    }

    /// Waits until everything has arrived, but not longer than until `until_ns`. Returns when the
    /// last delivery was seen.
    fn await_stragglers(&self, published: &Published, until_ns: u64) -> u64 {
        let accepted = Outcomes::new(&published.outcomes).accepted();
        let expected = accepted * self.run.crowd.size as u64;
        let states = self.run.tells_states();
        let patience_ns = if states { nanos(STATES_PATIENCE) } else { u64::MAX };
        let mut received = self.pulse.received();
        let mut last_ns = now_ns();
        while received < expected && now_ns() < until_ns && self.pulse.ensure_whole().is_ok() {
            if now_ns() - last_ns > patience_ns {
                break;
            }
            thread::sleep(STRAGGLER_INTERVAL);
            let received_now = self.pulse.received();
            if received_now > received {
                (received, last_ns) = (received_now, now_ns());
            }
        }
        last_ns
    }

    fn sample(&self) -> Result<Sample> {
        Sample::take(self.pulse.received(), self.run.server_pid, self.pulse.pids())
    }
}

fn end(pid: u32) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("not a process id")?;
    Ok(kill_process(pid, Signal::KILL)?)
}
