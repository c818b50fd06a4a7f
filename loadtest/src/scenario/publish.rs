//! `publish` and `floor-publish`: publications over HTTP to a channel without
//! subscribers.

use std::sync::atomic::AtomicBool;

use anyhow::Result;

use crate::api::insforge::{Definition, Options};
use crate::api::{Access, Api};
use crate::args::{FloorPublishArguments, OutputArguments, PostArguments, PublishOnlyArguments};
use crate::ending::Ending;
use crate::fate::Server;
use crate::floor::Job;
use crate::machine::Versions;
use crate::meter::Meter;
use crate::posting::{Posted, Posting};
use crate::progress::Progress;
use crate::publisher::Schedule;
use crate::report::{Frame, Publications, PublishReport, Work};
use crate::scenario::conduct::{Done, Gauge, span};
use crate::scenario::floor::KEY;
use crate::scenario::{conclude_at, floor_version, placed_floor, placed_process};
use crate::tally::Outcome;
use crate::target::Target;

/// Publishes at a node, prints the report and returns what is to be said of it.
pub(crate) fn run(arguments: &PublishOnlyArguments) -> Result<Ending> {
    let PublishOnlyArguments { node, post, .. } = arguments;
    let pid = placed_process(node.server_pid, &node.urls, &arguments.place)?;
    let mut settings = post.settings();
    node.put_into(&mut settings);
    arguments.place.put_into(&mut settings);
    let frame = Frame::now(settings, Versions::of_node(node.url()));
    let options = Options { ephemeral: node.ephemeral, ..Options::default() };
    let _definition = Definition::make(node.url(), &node.channel, &node.api_key, &options)?;
    let desk = Desk { scenario: "publish", target: node.url(), pid, post };
    let report = desk.measure(&node.channel, &node.api_key)?;
    finish(&report, frame, post, &arguments.output)
}

/// Publishes at the floor, prints the report and returns what is to be said of it.
pub(crate) fn run_floor(arguments: &FloorPublishArguments) -> Result<Ending> {
    let floor = placed_floor(Job::Publish, &arguments.place)?;
    let (target, post) = (&floor.publishing, &arguments.post);
    let desk = Desk { scenario: "floor-publish", target, pid: Some(floor.pid()), post };
    let mut settings = post.settings();
    arguments.place.put_into(&mut settings);
    let frame = Frame::now(settings, floor_version());
    let report = desk.measure("load:publish", KEY)?;
    finish(&report, frame, post, &arguments.output)
}

/// Prints and saves the run. Returns what is to be said of it.
pub(super) fn finish(
    report: &PublishReport,
    frame: Frame,
    post: &PostArguments,
    output: &OutputArguments,
) -> Result<Ending> {
    let record = report.record(frame, post.max_p99_ms, post.max_cpu_us);
    conclude_at(report.is_judged(), &record, &report.table(), output)
}

/// A server, and how to publish there.
struct Desk<'a> {
    scenario: &'static str,
    target: &'a Target,
    pid: Option<u32>,
    post: &'a PostArguments,
}

impl Desk<'_> {
    fn measure(&self, channel: &str, api_key: &str) -> Result<PublishReport> {
        let Self { scenario, target, pid, post } = *self;
        let access =
            Access { publisher: Some(api_key.to_owned()), ..Access::anonymous(Api::InsForge) };
        let schedule = Schedule { channel: channel.to_owned(), ..post.schedule() };
        let span = span(post.warmup, post.seconds);
        let posting = Posting {
            target: target.clone(),
            templates: vec![access.request(target, &schedule)?],
            connections: post.connections,
            depth: post.depth,
            rate: post.rate,
            span,
        };
        let (meter, stop) = (Meter::default(), AtomicBool::new(false));
        let gauge = Gauge {
            scenario,
            span,
            unit: "publications",
            offered: post.rate.unwrap_or_default(),
            pulse: None,
            meter: &meter,
            server: Server { pid, address: target.address },
            client_pids: vec![std::process::id()],
            check: &|| Ok(()),
            stop: &stop,
        };
        let mut progress = Progress::new();
        let work = || Ok(Done::of(posting.run(&meter, &stop)?));
        let (posted, work, course) = gauge.measure(&mut progress, work)?;
        drop(progress);
        let series = course.series(&mut meter.timeline(), |_| Vec::new());
        Ok(PublishReport {
            scenario,
            asked: post.asked(),
            publications: publications(&posted),
            answers: posted.latency,
            subscribers: None,
            work: Work { series, ..work },
        })
    }
}

/// Returns the counts of what was published.
pub(super) fn publications(posted: &Posted) -> Publications {
    let [accepted, refused, unanswered] =
        [Outcome::Accepted, Outcome::Refused, Outcome::Unanswered].map(|it| posted.count(it));
    Publications {
        sent: accepted + refused + unanswered,
        accepted,
        refused,
        unanswered,
        late_ns_max: posted.late_ns_max,
    }
}
