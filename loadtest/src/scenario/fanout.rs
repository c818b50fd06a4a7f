//! `fanout`: publications at a fixed rate on one channel of a node with many subscribers.

use anyhow::Result;
use serde_json::Value;

use crate::args::{
    CrowdArguments, FanoutArguments, LoadArguments, PublishArguments, ServerArguments,
};
use crate::ending::Ending;
use crate::machine::Versions;
use crate::publisher::Plan;
use crate::report::{FanoutReport, Frame};
use crate::scenario::run::{Publisher, Run};
use crate::scenario::{conclude, groups, placed_process};
use crate::target::Target;

/// Runs the scenario, prints the report and returns what is to be said of it.
pub(crate) fn run(arguments: &FanoutArguments) -> Result<Ending> {
    let pid = placed_process(arguments.server_pid, &arguments.server.urls, &arguments.place)?;
    let frame = Frame::now(settings(arguments), Versions::of_node(arguments.server.url()));
    let node = Node { server: &arguments.server, publish: &arguments.publish, pid };
    let report = node.measure(&arguments.crowd, arguments.streams, &arguments.load)?;
    let record = report.record(frame, arguments.thresholds.thresholds());
    conclude(&record, &report.table(), &arguments.output)
}

fn settings(arguments: &FanoutArguments) -> Value {
    let mut settings = arguments.crowd.settings();
    arguments.load.put_into(&mut settings);
    arguments.place.put_into(&mut settings);
    arguments.server.put_into(&mut settings);
    settings["streams"] = arguments.streams.unwrap_or_default().into();
    settings["unanswered_max"] = arguments.publish.unanswered_max.into();
    settings
}

/// The node under test.
pub(super) struct Node<'a> {
    /// Its address and the credentials of clients.
    pub(super) server: &'a ServerArguments,
    /// The credentials of publishers.
    pub(super) publish: &'a PublishArguments,
    /// Its process id, if known.
    pub(super) pid: Option<u32>,
}

impl Node<'_> {
    /// Measures one run, with this many streams beside the crowd.
    pub(super) fn measure(
        &self,
        crowd: &CrowdArguments,
        streams: Option<usize>,
        load: &LoadArguments,
    ) -> Result<FanoutReport> {
        let Self { server, publish, pid } = self;
        let access = publish.access(server, crowd.api);
        let prepare = |target| access.prepare(target, &crowd.channel);
        let _definitions: Vec<_> = server.urls.iter().map(prepare).collect::<Result<_>>()?;
        let script = |target: &Target| access.script(target, Some(&crowd.channel));
        let groups = groups(server, crowd, script, streams)?;
        let plan = Plan {
            target: server.url().clone(),
            access: access.clone(),
            schedule: load.schedule(crowd),
            unanswered_max: publish.unanswered_max,
        };
        let run = Run {
            scenario: "fanout",
            crowd: crowd.crowd(groups),
            schedule: plan.schedule.clone(),
            warmup: load.warmup,
            seconds: crowd.seconds,
            server_pid: *pid,
        };
        run.measure(Publisher::Http(&plan))
    }
}
