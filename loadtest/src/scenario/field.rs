//! Subscribers of one or many channels, and publications over HTTP on several connections.

use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::args::PostArguments;
use crate::clock::now_ns;
use crate::crowd::{Crowd, Gathered, Group, Pulse, UNDERWAY_MAX};
use crate::descriptors;
use crate::fate::Server;
use crate::heard::Heard;
use crate::meter::Meter;
use crate::posting::{Posted, Posting, Span};
use crate::progress::Progress;
use crate::report::{Across, Losses, Subscribers, Work};
use crate::scenario::conduct::{Done, Gauge, span};
use crate::scenario::stragglers::Stragglers;
use crate::shouting::Shouting;
use crate::slow_consumers;
use crate::stamp::Template;
use crate::tally::{Deliveries, Outcome, Outcomes};
use crate::target::Target;

/// Pause after the last subscribe, in which presence events of the subscribes arrive.
const SETTLE: Duration = Duration::from_millis(500);
/// Time after the last expected delivery in which repeats may still arrive.
const REPEAT_PATIENCE: Duration = Duration::from_millis(200);

/// Subscribers, and what is published for them.
pub(super) struct Field<'a> {
    /// The scenario's name.
    pub(super) scenario: &'static str,
    pub(super) crowd: Crowd,
    pub(super) source: Source<'a>,
    pub(super) post: &'a PostArguments,
    /// The server's process, if known.
    pub(super) pid: Option<u32>,
    /// Number of clients that read each publication.
    pub(super) readers: usize,
    /// The nodes, whose metrics tell how many clients they closed as slow consumers; empty for
    /// another server.
    pub(super) nodes: &'a [Target],
    /// Called every few milliseconds of the measured window and at its end, with the time since its
    /// start and the deliveries so far.
    pub(super) observe: Option<&'a Observe<'a>>,
}

/// Looks at a run.
pub(super) type Observe<'a> = dyn Fn(Duration, u64) -> Result<()> + Sync + 'a;

/// How publications get to the server.
pub(super) enum Source<'a> {
    /// Over HTTP at this server, with the request of each channel.
    Http(&'a Target, Vec<Template>),
    /// Over a WebSocket.
    Socket(Box<Shouting>),
}

/// What a run has brought.
pub(super) struct Harvest {
    pub(super) posted: Posted,
    pub(super) work: Work,
    /// The node of each group that reads, and what its clients received.
    groups: Vec<(Target, Gathered)>,
    losses: Losses,
    /// Clients that do not read and were closed by the server.
    pub(super) closed: usize,
    /// Clients that read and were closed by the server as slow consumers.
    closed_as_slow: usize,
}

/// Returns a crowd of these groups.
pub(super) fn crowd(groups: Vec<Group>, size_per_process: usize) -> Crowd {
    Crowd {
        size: groups.iter().map(|group| group.size).sum(),
        groups,
        first: 0,
        size_per_process: descriptors::available().min(size_per_process).max(1),
        threads: 1,
        connect_rate: None,
        underway_max: UNDERWAY_MAX,
        lazy: Duration::ZERO,
    }
}

impl Field<'_> {
    /// Connects the clients, publishes, and waits for the last deliveries.
    pub(super) fn harvest(self) -> Result<Harvest> {
        let Self { scenario, crowd, source, post, pid, readers, nodes, observe } = self;
        let server = Server { pid, address: crowd.groups[0].target.address };
        let slow_before = slow_consumers::closed(nodes);
        let (pulse, meter) = (Pulse::default(), Meter::default());
        let conduct = || {
            let mut progress = Progress::new();
            pulse.wait_until_ready(crowd.size, &mut progress)?;
            thread::sleep(SETTLE);
            let span = span(post.warmup, post.seconds);
            pulse.measure_from(span.measure_from_ns);
            let gauge = Gauge {
                scenario,
                span,
                unit: "deliveries",
                offered: post.rate.unwrap_or_default() * readers as f64,
                pulse: Some(&pulse),
                meter: &meter,
                server,
                client_pids: pulse.pids().collect(),
                check: &|| {
                    pulse.ensure_whole()?;
                    let after_ns = now_ns().checked_sub(span.measure_from_ns);
                    let observed = observe.zip(after_ns.map(Duration::from_nanos));
                    observed.map_or(Ok(()), |(observe, after)| observe(after, pulse.received()))
                },
                stop: pulse.broken(),
            };
            let run = || {
                let posted = source.publish(post, span, &meter, pulse.broken())?;
                let expected = posted.count(Outcome::Accepted) * readers as u64;
                let last_ns = Some(
                    Stragglers::of(false)
                        .after(posted.answers.as_ref())
                        .wait(&pulse, expected, &server),
                );
                Ok(Done { last_ns, ..Done::of(posted) })
            };
            let measured = gauge.measure(&mut progress, run)?;
            pulse.ensure_whole()?;
            thread::sleep(REPEAT_PATIENCE);
            Ok(measured)
        };
        let ((posted, work, course), groups) = crowd.gather(&pulse, conduct)?;
        let targets = crowd.groups.iter().filter(|group| group.reads).map(|it| it.target.clone());
        // Groups that do not read come last.
        let groups: Vec<_> = targets.zip(groups).collect();
        let lost = |seconds: &[f64]| lost(&posted, &groups, seconds);
        let work = Work { series: course.series(&mut pulse.timeline(), lost), ..work };
        let first = pulse.first_failure().map(str::to_owned);
        let losses = Losses { connections: pulse.lost(), first };
        // A server that has ended or is stuck cannot be asked.
        let slow_after = work.cut.is_none().then(|| slow_consumers::closed(nodes)).flatten();
        let slow = slow_before.zip(slow_after);
        let slow = slow.map_or(0, |(before, after)| after.saturating_sub(before));
        let closed = pulse.closed();
        let closed_as_slow = slow.saturating_sub(closed).min(losses.connections);
        Ok(Harvest { posted, work, groups, losses, closed, closed_as_slow })
    }
}

impl Source<'_> {
    fn publish(
        self,
        post: &PostArguments,
        span: Span,
        meter: &Meter,
        stop: &AtomicBool,
    ) -> Result<Posted> {
        match self {
            Self::Socket(shouting) => shouting.run(span, meter, stop),
            Self::Http(target, templates) => {
                let posting = Posting {
                    target: target.clone(),
                    templates,
                    connections: post.connections,
                    depth: post.depth,
                    rate: post.rate,
                    span,
                };
                posting.run(meter, stop)
            }
        }
    }
}

/// Returns the deliveries that readers lack, by the interval in which they were due. `seconds` are
/// the starts of the intervals.
fn lost(posted: &Posted, groups: &[(Target, Gathered)], seconds: &[f64]) -> Vec<u64> {
    let outcomes: Vec<_> = posted.outcomes.iter().map(|them| Outcomes::new(them)).collect();
    let mut lost = vec![0; seconds.len()];
    for tally in groups.iter().flat_map(|(_, group)| &group.tallies) {
        let channel = tally.channel.unwrap_or_default() as usize;
        let outcomes = &outcomes[channel];
        let starts = posted.starts.at(channel, seconds, outcomes.sent());
        outcomes.add_lost(tally, &starts, false, &mut lost);
    }
    lost
}

impl Harvest {
    /// Returns what the clients that read received on this many channels.
    pub(super) fn subscribers(&self, channels: usize) -> Result<Subscribers> {
        let outcomes = self.posted.outcomes.iter().map(|them| Outcomes::new(them));
        let outcomes: Vec<_> = outcomes.collect();
        let (mut all, mut heard) = (Deliveries::default(), Heard::new());
        let mut nodes = Vec::new();
        for (target, group) in &self.groups {
            let mut deliveries = Deliveries::default();
            for tally in &group.tallies {
                let channel = usize::try_from(tally.channel.unwrap_or_default())?;
                deliveries.add(tally, &outcomes[channel], false);
            }
            all.merge(deliveries);
            heard.latency.add(&group.heard.latency)?;
            heard.frames.add(&group.heard.frames);
            nodes.push((target.authority.as_str(), deliveries, &group.tallies[..]));
        }
        Ok(Subscribers {
            channels,
            clients: nodes.iter().map(|(.., tallies)| tallies.len()).sum(),
            deliveries: all,
            across: Across::of(nodes),
            latency: heard.latency,
            frame_bytes: heard.frames.median(),
            losses: self.losses.clone(),
            closed_as_slow: self.closed_as_slow,
        })
    }
}
