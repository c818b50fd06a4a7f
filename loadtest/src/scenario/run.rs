//! A measured run: subscribers, a publisher, and the cost of the deliveries.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::api::Api;
use crate::clock::{nanos, now_ns};
use crate::crowd::{Crowd, Gathered, Group, Pulse};
use crate::fate::{Answers, Broken, Cut, Server};
use crate::floor::Floor;
use crate::heard::Heard;
use crate::interrupt;
use crate::procfs::{Memory, Usage, rss_bytes};
use crate::progress::{Live, Progress};
use crate::publisher::{Pace, Plan, Published, Schedule, publish};
use crate::report::{
    Across, Asked, Audience, Costs, Course, Evidence, FanoutReport, Load, Losses, Measured, Offer,
    Publications, Series, Tick, Verdict, Window, quantile,
};
use crate::scenario::sample::{SECOND, Sample, Sampler};
use crate::scenario::stragglers::Stragglers;
use crate::tally::{Deliveries, Outcome, Outcomes};

/// Pause after the last subscribe, in which presence events of the subscribes arrive.
const SETTLE: Duration = Duration::from_millis(500);
/// Time from the decision to start until the first publication is due. Within it, all processes
/// with clients receive the start of the measured window.
const LEAD: Duration = Duration::from_millis(100);
/// Time after the last expected delivery in which repeats may still arrive.
const REPEAT_PATIENCE: Duration = Duration::from_millis(200);
/// Time between two checks whether the publisher is done, which only cost processor time.
const PUBLISHER_INTERVAL: Duration = Duration::from_millis(50);

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
        let conductor = Conductor {
            run: self,
            pulse: &pulse,
            server: Server { pid: self.server_pid, address: self.crowd.groups[0].target.address },
            counts_sent: matches!(publisher, Publisher::Http(_)),
        };
        let before = self.server_pid.and_then(rss_bytes);
        let (conducted, gathered) = self.crowd.gather(&pulse, || conductor.conduct(publisher))?;
        self.report(before, conducted, gathered, &pulse)
    }

    fn report(
        &self,
        memory_before: Option<u64>,
        conducted: Conducted,
        gathered: Vec<Gathered>,
        pulse: &Pulse,
    ) -> Result<FanoutReport> {
        let outcomes = Outcomes::new(&conducted.published.outcomes);
        let series = self.series(&conducted, &gathered, &outcomes, pulse);
        let Received { deliveries, heard, audiences, across } =
            self.received(gathered, &outcomes)?;
        let (sent, accepted, refused) = (outcomes.sent(), outcomes.accepted(), outcomes.refused());
        let evidence = Evidence {
            latency_p99_ns: quantile(&heard.latency, 0.99),
            growth: series.growth(),
            ..self.evidence(&conducted, &outcomes, &deliveries)
        };
        let mut verdict = Verdict::of(&evidence);
        verdict.evidence.extend(across.iter().flat_map(Across::sentences));
        let measured = Measured {
            seconds: conducted.seconds,
            interrupted: conducted.interrupted,
            cut: conducted.cut.clone(),
            verdict,
            series,
            joined: memory_before.zip(conducted.memory_joined),
        };
        Ok(FanoutReport {
            scenario: self.scenario,
            asked: Asked {
                api: self.api(),
                channel: self.schedule.channel.clone(),
                subscribers: self.size_of(|api| api == self.api()),
                streams: self.size_of(|api| api != self.api()),
                rate: self.schedule.rate,
                payload_bytes: self.schedule.payload_bytes,
                seconds: self.seconds.as_secs_f64(),
            },
            measured,
            publications: Publications {
                sent,
                accepted,
                refused,
                unanswered: sent - accepted - refused,
                late_ns_max: conducted.published.late_ns_max,
            },
            deliveries,
            audiences,
            across,
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

    /// Adds up what the groups received.
    fn received(&self, gathered: Vec<Gathered>, outcomes: &Outcomes) -> Result<Received> {
        let mut deliveries = Deliveries::default();
        let mut heard = Heard::new();
        let mut audiences: Vec<Audience> = Vec::new();
        let mut nodes = Vec::new();
        for (group, gathered) in self.crowd.groups.iter().zip(gathered) {
            let audience = audience(group, &gathered, outcomes);
            deliveries.merge(audience.deliveries);
            heard.add(gathered.heard)?;
            nodes.push((&group.target.authority, audience.deliveries, gathered.tallies));
            match audiences.iter_mut().find(|it| it.api == audience.api) {
                Some(same) => same.add(audience)?,
                None => audiences.push(audience),
            }
        }
        if audiences.len() == 1 {
            audiences.clear();
        }
        let nodes = nodes.iter().map(|(name, all, tallies)| (name.as_str(), *all, &tallies[..]));
        Ok(Received { deliveries, heard, audiences, across: Across::of(nodes) })
    }

    /// Returns the API of the clients, without the streams beside them.
    fn api(&self) -> Api {
        self.crowd.groups[0].script.api
    }

    /// Returns the number of clients of some APIs.
    fn size_of(&self, is_wanted: impl Fn(Api) -> bool) -> usize {
        let groups = self.crowd.groups.iter().filter(|group| is_wanted(group.script.api));
        groups.map(|group| group.size).sum()
    }

    fn offer(&self, seconds: f64) -> Offer {
        Offer { rate: self.schedule.rate, audience: self.crowd.size as f64, seconds }
    }

    fn series(
        &self,
        conducted: &Conducted,
        gathered: &[Gathered],
        outcomes: &Outcomes,
        pulse: &Pulse,
    ) -> Series {
        let start = |second: &f64| {
            let after_s = self.warmup.as_secs_f64() + second;
            ((after_s * self.schedule.rate).ceil() as u64).min(outcomes.sent())
        };
        let lost = |seconds: &[f64]| {
            let starts: Vec<_> = seconds.iter().map(start).chain([outcomes.sent()]).collect();
            let mut lost = vec![0; seconds.len()];
            let states = self.tells_states();
            for tally in gathered.iter().flat_map(|group| &group.tallies) {
                outcomes.add_lost(tally, &starts, states, &mut lost);
            }
            lost
        };
        let course = Course {
            unit: "deliveries",
            ticks: conducted.ticks.clone(),
            interval: SECOND,
            offer: self.offer(conducted.seconds),
        };
        course.series(&mut pulse.timeline(), lost)
    }

    /// Returns what the verdict depends on, latencies left out.
    fn evidence<'a>(
        &self,
        conducted: &'a Conducted,
        outcomes: &Outcomes,
        deliveries: &Deliveries,
    ) -> Evidence<'a> {
        let Conducted { window, seconds, .. } = conducted;
        let busiest = |usage: &Usage, name| Load::busiest(usage, name, window.cpu_wall_ns);
        let Offer { rate, audience, .. } = self.offer(*seconds);
        let end_ns = nanos(Duration::from_secs_f64(*seconds));
        let ticks = &conducted.ticks;
        let end = ticks.iter().find(|tick| tick.at_ns >= end_ns).or(ticks.last());
        let arrived =
            ticks.first().zip(end).map_or(0, |(first, end)| end.delivered - first.delivered);
        let never = (outcomes.sent() - outcomes.accepted()) * self.crowd.size as u64;
        Evidence {
            seconds: *seconds,
            offered: rate * audience * seconds,
            settled: arrived + deliveries.lost + deliveries.conflated + never,
            lateness: conducted.pace.lateness(),
            client: busiest(&window.client, "clients"),
            publisher: conducted.pace.busy().map(|busy| Load::of("publisher", *busy)),
            server: window.server.as_ref().and_then(|usage| busiest(usage, "")),
            starved: window
                .server
                .as_ref()
                .and_then(|usage| Load::most_kept(usage, window.cpu_wall_ns)),
            pause_ns: conducted.published.answers.as_ref().map(Answers::pause_ns),
            passed_s: window.wall_ns as f64 / 1e9,
            cut: conducted.cut.as_ref(),
            lazy: self.crowd.lazy,
            refused: outcomes.refused(),
            ..Evidence::default()
        }
    }

    /// Whether clients receive states.
    fn tells_states(&self) -> bool {
        self.crowd.groups.iter().any(|group| group.script.api.tells_states())
    }
}

/// What all groups received, and the same by API and by node if there are several.
struct Received {
    deliveries: Deliveries,
    heard: Heard,
    audiences: Vec<Audience>,
    across: Option<Across>,
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
    fn publish(self, start_ns: u64, pulse: &Pulse, pace: &Pace) -> Result<Published> {
        match self {
            Self::Http(plan) => publish(plan, start_ns, pulse.broken(), pace),
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
    server: Server,
    /// Whether the publisher tells how much it has sent.
    counts_sent: bool,
}

/// The measurements of a run, without those of the clients.
struct Conducted {
    published: Published,
    window: Window,
    client_processes: usize,
    memory: Option<Memory>,
    /// The server's resident memory with all clients, in bytes.
    memory_joined: Option<u64>,
    losses: Losses,
    pace: Pace,
    ticks: Vec<Tick>,
    /// Length of the measured window as it was, in s.
    seconds: f64,
    interrupted: bool,
    cut: Option<Cut>,
}

/// The publications and what came of them.
struct Written {
    published: Published,
    window: Window,
    /// When Ctrl-C or the server ended the run, if one did.
    ended_ns: Option<u64>,
    /// The losses before a floor was ended.
    losses: Option<Losses>,
    cut: Option<Cut>,
}

/// The publications, and a sample from the start of the measured window.
struct Writing {
    published: Published,
    before: Sample,
    ended: Option<Ended>,
    cut: Option<Cut>,
}

/// An end by Ctrl-C or by the server.
struct Ended {
    at_ns: u64,
    /// Losses and a sample from before a floor was ended.
    floor: Option<(Losses, Sample)>,
}

impl Conductor<'_> {
    fn conduct(&self, publisher: Publisher<'_>) -> Result<Conducted> {
        let mut progress = Progress::new();
        self.pulse.wait_until_ready(self.run.crowd.size, &mut progress)?;
        thread::sleep(SETTLE);
        let memory_joined = self.run.server_pid.and_then(rss_bytes);

        let start_ns = now_ns() + nanos(LEAD);
        let measure_from_ns = start_ns + nanos(self.run.warmup);
        self.pulse.measure_from(measure_from_ns);
        let pace = Pace::new(measure_from_ns);
        let (written, ticks) = self
            .sampler(measure_from_ns, &pace)
            .during(|| self.publish_and_await(publisher, start_ns, &pace, &mut progress))?;
        let Written { published, window, ended_ns, losses, cut } = written?;
        thread::sleep(REPEAT_PATIENCE);
        let losses = losses.unwrap_or_else(|| self.losses());
        let seconds = match ended_ns {
            None => self.run.seconds,
            Some(ended_ns) => Duration::from_nanos(ended_ns.saturating_sub(measure_from_ns)),
        };
        Ok(Conducted {
            published,
            window,
            client_processes: self.pulse.pids().count(),
            // A server that has ended has none.
            memory: self.run.server_pid.and_then(|pid| Memory::of(pid).ok()),
            memory_joined,
            losses,
            pace,
            ticks,
            seconds: seconds.min(self.run.seconds).as_secs_f64(),
            interrupted: ended_ns.is_some() && cut.is_none(),
            cut,
        })
    }

    fn sampler<'a>(
        &'a self,
        from_ns: u64,
        pace: &'a Pace,
    ) -> Sampler<impl Fn() -> Tick + 'a, impl Fn() -> Vec<u32> + 'a> {
        Sampler {
            from_ns,
            planned: self.run.seconds,
            interval: SECOND,
            server_pid: self.run.server_pid,
            counts: || Tick {
                delivered: self.pulse.received(),
                sent: self.counts_sent.then(|| pace.sent()),
                refused: pace.refused(),
                connections_lost: self.pulse.lost() as u64,
                ..Tick::default()
            },
            client_pids: || self.pulse.pids().collect(),
        }
    }

    /// Publishes everything and waits for the deliveries.
    fn publish_and_await(
        &self,
        publisher: Publisher<'_>,
        start_ns: u64,
        pace: &Pace,
        progress: &mut Progress,
    ) -> Result<Written> {
        let writing = self.publish(publisher, start_ns, pace, progress)?;
        let Writing { published, before, ended, cut } = writing;
        if let Some(Ended { at_ns, floor: Some((losses, after)) }) = ended {
            let window = after.since(&before);
            let (ended_ns, losses) = (Some(at_ns), Some(losses));
            return Ok(Written { published, window, ended_ns, losses, cut });
        }
        // All are due and sent by now, however late, or Ctrl-C has ended the publishing.
        let accepted = Outcomes::new(&published.outcomes).accepted();
        let expected = accepted * self.run.crowd.size as u64;
        let stragglers = Stragglers::of(self.run.tells_states());
        let stragglers = stragglers.after(published.answers.as_ref());
        let last_ns = stragglers.wait(self.pulse, expected, &self.server);
        let after = self.sample()?.dated(last_ns);
        let ended_ns = ended.map(|ended| ended.at_ns);
        Ok(Written { published, window: after.since(&before), ended_ns, losses: None, cut })
    }

    /// Publishes everything. Returns the outcome and a sample from the start of the measured
    /// window.
    fn publish(
        &self,
        publisher: Publisher<'_>,
        start_ns: u64,
        pace: &Pace,
        progress: &mut Progress,
    ) -> Result<Writing> {
        let own_pid = publisher.own_pid();
        let measure_from_ns = pace.measure_from_ns();
        thread::scope(|scope| {
            let publisher = thread::Builder::new()
                .name("publisher".to_owned())
                .spawn_scoped(scope, || publisher.publish(start_ns, self.pulse, pace))?;
            while now_ns() < measure_from_ns && !interrupt::requested() && !self.server.has_ended()
            {
                let left = Duration::from_nanos(measure_from_ns.saturating_sub(now_ns()));
                progress.run(|| self.live(start_ns));
                thread::sleep(left.min(PUBLISHER_INTERVAL));
            }
            let before = interrupt::ensure_none()
                .and_then(|()| self.server.ensure_alive())
                .and_then(|()| self.sample());
            let mut ended: Option<Ended> = None;
            while !publisher.is_finished() {
                // The run is worthless, so nothing of it is waited for.
                if before.is_err() || self.pulse.ensure_whole().is_err() {
                    self.pulse.broken().store(true, Ordering::Relaxed);
                    own_pid.map_or(Ok(()), end)?;
                } else if ended.is_none() && self.server.has_ended() {
                    self.pulse.broken().store(true, Ordering::Relaxed);
                    ended = Some(Ended { at_ns: now_ns(), floor: None });
                } else if interrupt::requested() && ended.is_none() {
                    ended = Some(self.end_early(own_pid)?);
                }
                progress.run(|| self.live(start_ns));
                thread::sleep(PUBLISHER_INTERVAL);
            }
            let published = publisher.join().expect("the publisher returns its errors");
            self.pulse.ensure_whole()?;
            let before = before?;
            let is_ended_floor = ended.as_ref().is_some_and(|ended| ended.floor.is_some());
            let published = match published {
                Err(_) if is_ended_floor => self.published_by_floor(),
                Err(error) if own_pid.is_some() => Published {
                    answers: Some(Answers::broken(Broken::Connection(format!("{error:#}")))),
                    ..self.published_by_floor()
                },
                published => published?,
            };
            let broken = published.answers.as_ref().and_then(|answers| answers.broken.as_ref());
            let cut = match is_ended_floor {
                true => None,
                false => self.server.cut(broken, measure_from_ns)?,
            };
            // A publisher over HTTP may see Ctrl-C, or the end of the server, before this thread.
            let all = self.run.schedule.publications;
            if ended.is_none() && (published.outcomes.len() as u64) < all {
                ended = Some(Ended { at_ns: now_ns(), floor: None });
            }
            Ok(Writing { published, before, ended, cut })
        })
    }

    /// Ends publishing at Ctrl-C. A publisher over HTTP ends by itself.
    fn end_early(&self, own_pid: Option<u32>) -> Result<Ended> {
        let at_ns = now_ns();
        let floor = own_pid.map(|pid| {
            let before = (self.losses(), self.sample()?);
            end(pid)?;
            anyhow::Ok(before)
        });
        Ok(Ended { at_ns, floor: floor.transpose()? })
    }

    /// Returns the publications of a floor that was ended: those that reached each client.
    fn published_by_floor(&self) -> Published {
        let reached = self.pulse.received() / self.run.crowd.size as u64;
        let outcomes = usize::try_from(reached).unwrap_or_default();
        Published { outcomes: vec![Outcome::Accepted; outcomes], late_ns_max: 0, answers: None }
    }

    fn losses(&self) -> Losses {
        Losses {
            connections: self.pulse.lost(),
            first: self.pulse.first_failure().map(str::to_owned),
        }
    }

    fn live(&self, start_ns: u64) -> Live<'_> {
        Live {
            scenario: self.run.scenario,
            elapsed: Duration::from_nanos(now_ns().saturating_sub(start_ns)),
            planned: self.run.warmup + self.run.seconds,
            counted: Some(("deliveries", self.pulse.received())),
            lost: self.pulse.lost(),
            latency: self.pulse.timeline().so_far(),
        }
    }

    fn sample(&self) -> Result<Sample> {
        Sample::take(self.pulse.received(), self.run.server_pid, self.pulse.pids())
    }
}

fn end(pid: u32) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("not a process id")?;
    Ok(kill_process(pid, Signal::KILL)?)
}
