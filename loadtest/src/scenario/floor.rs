//! `floor`: the same as `fanout`, against the smallest server that can do the work.

use anyhow::Result;

use crate::api::Access;
use crate::args::{CrowdArguments, FloorArguments, LoadArguments};
use crate::crowd::Group;
use crate::floor::Floor;
use crate::pin::Placement;
use crate::report::{FanoutReport, Thresholds};
use crate::scenario::print;
use crate::scenario::run::{Publisher, Run};

/// Runs the scenario, prints the report and returns the faults.
pub(crate) fn run(arguments: &FloorArguments) -> Result<Vec<String>> {
    let place = Placement::take(arguments.place.server_cpu, arguments.place.client_cpu)?;
    let report = measure(&arguments.crowd, &arguments.load, &place)?;
    print(&report.table(), &report.json());
    Ok(report.faults(Thresholds {
        p99_ms: arguments.max_p99_ms,
        cpu_us_per_delivery: arguments.max_cpu_us_per_delivery,
    }))
}

/// Measures one run with a floor process of its own.
pub(super) fn measure(
    crowd: &CrowdArguments,
    load: &LoadArguments,
    place: &Placement,
) -> Result<FanoutReport> {
    let schedule = load.schedule(crowd);
    let mut floor = Floor::start(crowd.api, schedule.clone())?;
    place.pin_floor(floor.pid())?;
    let script = Access::anonymous(crowd.api).script(&floor.target, Some(&crowd.channel))?;
    let run = Run {
        scenario: "floor",
        crowd: crowd.crowd(&floor.target, vec![Group { script, size: crowd.subscribers }]),
        schedule,
        warmup: load.warmup,
        seconds: crowd.seconds,
        server_pid: Some(floor.pid()),
    };
    run.measure(Publisher::Floor(&mut floor))
}
