//! `fanout`: publications at a fixed rate on one channel of a node with many subscribers.

use anyhow::Result;

use crate::args::{
    CrowdArguments, FanoutArguments, LoadArguments, PublishArguments, ServerArguments,
};
use crate::pin::Placement;
use crate::procfs::Usage;
use crate::publisher::Plan;
use crate::report::{FanoutReport, Thresholds};
use crate::scenario::run::{Publisher, Run};
use crate::scenario::{groups, print};

/// Runs the scenario, prints the report and returns the faults.
pub(crate) fn run(arguments: &FanoutArguments) -> Result<Vec<String>> {
    let place = Placement::take(arguments.place.server_cpu, arguments.place.client_cpu)?;
    if let Some(pid) = arguments.server_pid {
        Usage::of(pid)?;
        place.pin_node(pid)?;
    }
    let node =
        Node { server: &arguments.server, publish: &arguments.publish, pid: arguments.server_pid };
    let report = node.measure(&arguments.crowd, arguments.streams, &arguments.load)?;
    print(&report.table(), &report.json());
    Ok(report.faults(Thresholds {
        p99_ms: arguments.max_p99_ms,
        cpu_us_per_delivery: arguments.max_cpu_us_per_delivery,
    }))
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
        let _definition = access.prepare(&server.url, &crowd.channel)?;
        let script = access.script(&server.url, Some(&crowd.channel))?;
        let plan = Plan {
            target: server.url.clone(),
            access,
            schedule: load.schedule(crowd),
            unanswered_max: publish.unanswered_max,
        };
        let run = Run {
            scenario: "fanout",
            crowd: crowd.crowd(&server.url, groups(server, crowd, script, streams)?),
            schedule: plan.schedule.clone(),
            warmup: load.warmup,
            seconds: crowd.seconds,
            server_pid: *pid,
        };
        run.measure(Publisher::Http(&plan))
    }
}
