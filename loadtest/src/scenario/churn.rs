//! `churn` and `floor-join`: clients that connect, subscribe and leave.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::api::{Access, Api, Script};
use crate::args::{ChurnArguments, ChurnLoad, FloorJoinArguments, OutputArguments};
use crate::clock::{nanos, now_ns};
use crate::ending::Ending;
use crate::fate::{ANSWER_PATIENCE, Answers, Broken, Server, rest_patience};
use crate::floor::Job;
use crate::interrupt;
use crate::joins::{JoinCounts, Joins, Then};
use crate::machine::Versions;
use crate::meter::Meter;
use crate::posting::Span;
use crate::progress::Progress;
use crate::report::{ChurnReport, Frame, Work};
use crate::scenario::conduct::{Done, Gauge, span};
use crate::scenario::{conclude_at, floor_version, placed_floor, placed_process};
use crate::table::plural;
use crate::target::Target;

/// How long the joins that are due or under way at the end may take.
const LAST_PATIENCE: Duration = Duration::from_secs(10);
/// Members that join at once before the measured time.
const MEMBERS_UNDERWAY: usize = 64;

/// Measures a node, prints the report and returns what is to be said of it.
pub(crate) fn run(arguments: &ChurnArguments) -> Result<Ending> {
    let ChurnArguments { subscribed, load, .. } = arguments;
    let node = &subscribed.node;
    let pid = placed_process(node.server_pid, &node.urls, &arguments.place)?;
    let mut settings = load.settings();
    subscribed.put_into(&mut settings);
    arguments.place.put_into(&mut settings);
    let frame = Frame::now(settings, Versions::of_node(node.url()));
    let options = subscribed.options();
    let _definitions = node.define(&node.channel, &options)?;
    let access = subscribed.access();
    let place =
        |target: &Target| anyhow::Ok((target.clone(), access.script(target, Some(&node.channel))?));
    let nodes = node.urls.iter().map(place).collect::<Result<Vec<_>>>()?;
    let churn = Churn { nodes: &nodes, load };
    finish(&churn.measure("churn", pid)?, frame, load, &arguments.output)
}

/// Measures the floor, prints the report and returns what is to be said of it.
pub(crate) fn run_floor(arguments: &FloorJoinArguments) -> Result<Ending> {
    let load = &arguments.load;
    let floor = placed_floor(Job::Join, &arguments.place)?;
    let script = Access::anonymous(Api::InsForge).script(&floor.target, Some("load"))?;
    let nodes = [(floor.target.clone(), script)];
    let churn = Churn { nodes: &nodes, load };
    let mut settings = load.settings();
    arguments.place.put_into(&mut settings);
    let frame = Frame::now(settings, floor_version());
    let report = churn.measure("floor-join", Some(floor.pid()))?;
    finish(&report, frame, load, &arguments.output)
}

fn finish(
    report: &ChurnReport,
    frame: Frame,
    load: &ChurnLoad,
    output: &OutputArguments,
) -> Result<Ending> {
    let record = report.record(frame, load.max_p99_ms, load.max_cpu_us);
    conclude_at(report.is_judged(), &record, &report.table(), output)
}

/// The servers, what each client does there, and how many.
struct Churn<'a> {
    nodes: &'a [(Target, Script)],
    load: &'a ChurnLoad,
}

impl Churn<'_> {
    fn measure(&self, scenario: &'static str, pid: Option<u32>) -> Result<ChurnReport> {
        let load = self.load;
        let mut joins = Joins::new(self.nodes)?;
        self.gather_members(&mut joins)?;
        let (meter, stop) = (Meter::default(), AtomicBool::new(false));
        let gauge = Gauge {
            scenario,
            span: span(load.warmup, load.seconds),
            unit: "joins",
            offered: load.rate.unwrap_or_default(),
            pulse: None,
            meter: &meter,
            server: Server { pid, address: self.nodes[0].0.address },
            client_pids: vec![std::process::id()],
            check: &|| Ok(()),
            stop: &stop,
        };
        let span = gauge.span;
        let run = || self.churn(joins, span, &meter, &stop);
        let (counts, work, course) = gauge.measure(&mut Progress::new(), run)?;
        let series = course.series(&mut meter.timeline(), |_| Vec::new());
        Ok(ChurnReport {
            scenario,
            rate: load.rate,
            underway_max: load.underway,
            members: load.members,
            seconds: load.seconds.as_secs_f64(),
            nodes: self.nodes.iter().map(|(target, _)| target.authority.clone()).collect(),
            counts,
            work: Work { series, ..work },
        })
    }

    /// Connects the members, which stay during the run.
    fn gather_members(&self, joins: &mut Joins<'_>) -> Result<()> {
        while joins.present < self.load.members {
            while joins.underway < MEMBERS_UNDERWAY
                && joins.present + joins.underway < self.load.members
            {
                joins.begin(0, Then::Stay);
            }
            interrupt::ensure_none()?;
            joins.turn(Duration::MAX, u64::MAX)?;
            if let Some(failure) = &joins.counts.first_failure {
                bail!("after {} one failed: {failure}", plural(joins.present, "member"));
            }
        }
        joins.forget();
        Ok(())
    }

    fn churn(
        &self,
        mut joins: Joins<'_>,
        mut span: Span,
        meter: &Meter,
        stop: &AtomicBool,
    ) -> Result<Done<JoinCounts>> {
        let mut begun = 0_u64;
        let mut joined = 0;
        let mut answers = Answers::new(span.measure_from_ns);
        loop {
            span.end_if_interrupted();
            let Span { start_ns, measure_from_ns, end_ns } = span;
            let now_ns = now_ns();
            answers.note(now_ns, joins.counts.joined > joined, joins.underway > 0);
            joined = joins.counts.joined;
            if answers.silent_for(now_ns, ANSWER_PATIENCE) {
                let count = plural(joins.underway, "join");
                let seconds = ANSWER_PATIENCE.as_secs();
                let silence = format!("for {seconds} s none of {count} under way succeeded");
                answers.broken = Some(Broken::Silence(silence));
            }
            let next_ns = |begun: u64| match self.load.rate {
                Some(rate) => start_ns + nanos(Duration::from_secs_f64(begun as f64 / rate)),
                None => now_ns.max(start_ns),
            };
            while joins.underway < self.load.underway {
                let due_ns = next_ns(begun);
                if due_ns > now_ns || due_ns >= end_ns {
                    break;
                }
                joins.begin(due_ns, Then::Leave);
                answers.note(now_ns, false, true);
                begun += 1;
            }
            let over = now_ns >= end_ns && joins.underway == 0;
            let patience = if interrupt::requested() { rest_patience() } else { LAST_PATIENCE };
            let given_up = now_ns > end_ns + nanos(patience);
            let broken = answers.broken.is_some() || stop.load(Ordering::Relaxed);
            if over || given_up || broken {
                let due = self.load.rate.map_or(begun, |rate| {
                    (Duration::from_nanos(now_ns.min(end_ns).saturating_sub(start_ns))
                        .as_secs_f64()
                        * rate) as u64
                });
                joins.give_up(due.saturating_sub(begun));
                meter.finish(joins.shown(), &mut joins.recent);
                return Ok(Done { result: joins.counts, answers: Some(answers), last_ns: None });
            }
            let full = joins.underway >= self.load.underway;
            let until_ns = if full { end_ns } else { next_ns(begun).min(end_ns) };
            joins.turn(
                Duration::from_nanos(until_ns.saturating_sub(now_ns).max(1)),
                measure_from_ns,
            )?;
            meter.show(joins.shown(), &mut joins.recent);
        }
    }
}
