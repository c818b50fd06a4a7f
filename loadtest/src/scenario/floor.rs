//! `floor`: the same as `fanout`, against the smallest server that can do the work.

use anyhow::Result;

use crate::api::Access;
use crate::args::{CrowdArguments, FloorArguments, LoadArguments};
use crate::crowd::Group;
use crate::ending::Ending;
use crate::floor::{Fanout, Floor, Job, Sending, Source};
use crate::pin::Placement;
use crate::publisher::Plan;
use crate::report::{FanoutReport, Frame};
use crate::scenario::run::{Publisher, Run};
use crate::scenario::{conclude, floor_version};

/// The credential that the floor receives: as long as a node's.
pub(super) const KEY: &str = "ik_0000000000000000000000000000000000000000000000000000000000000000";

/// Runs the scenario, prints the report and returns what is to be said of it.
pub(crate) fn run(arguments: &FloorArguments) -> Result<Ending> {
    let place = Placement::take(arguments.place.server_cpu, arguments.place.client_cpu)?;
    let mut settings = arguments.crowd.settings();
    arguments.load.put_into(&mut settings);
    arguments.place.put_into(&mut settings);
    arguments.sending.put_into(&mut settings);
    settings["turn_max"] = arguments.turn_max.into();
    settings["unanswered_max"] = arguments.unanswered_max.into();
    let frame = Frame::now(settings, floor_version());
    let sending = arguments.sending.sending(arguments.crowd.subscribers, arguments.turn_max);
    let floor = Sender { sending, unanswered_max: arguments.unanswered_max };
    let report = floor.measure(&arguments.crowd, &arguments.load, &place)?;
    let record = report.record(frame, arguments.thresholds.thresholds());
    conclude(&record, &report.table(), &arguments.output)
}

/// The floor under test.
pub(super) struct Sender {
    pub(super) sending: Sending,
    /// Unanswered publications that are allowed at once, if they come over HTTP.
    pub(super) unanswered_max: u64,
}

impl Sender {
    /// Measures one run with a floor process of its own.
    pub(super) fn measure(
        &self,
        crowd: &CrowdArguments,
        load: &LoadArguments,
        place: &Placement,
    ) -> Result<FanoutReport> {
        let schedule = load.schedule(crowd);
        let job = Fanout { api: crowd.api, schedule: schedule.clone(), sending: self.sending };
        let mut floor = Floor::start(Job::Fanout(job))?;
        place.pin_floor(floor.pid())?;
        let script = Access::anonymous(crowd.api).script(&floor.target, Some(&crowd.channel))?;
        let run = Run {
            scenario: "floor",
            crowd: crowd.crowd(vec![Group::alike(&floor.target, script, crowd.subscribers)]),
            schedule,
            warmup: load.warmup,
            seconds: crowd.seconds,
            server_pid: Some(floor.pid()),
        };
        if self.sending.source == Source::Clock {
            return run.measure(Publisher::Floor(&mut floor));
        }
        let access = Access { publisher: Some(KEY.to_owned()), ..Access::anonymous(crowd.api) };
        let plan = Plan {
            target: floor.publishing.clone(),
            access,
            schedule: run.schedule.clone(),
            unanswered_max: self.unanswered_max,
        };
        run.measure(Publisher::Http(&plan))
    }
}
