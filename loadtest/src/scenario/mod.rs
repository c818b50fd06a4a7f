//! The scenarios, one file each, and their output.

pub(crate) mod channels;
pub(crate) mod churn;
pub(crate) mod compare;
mod conduct;
pub(crate) mod diff;
pub(crate) mod documents;
pub(crate) mod fanout;
mod field;
pub(crate) mod floor;
pub(crate) mod idle;
pub(crate) mod publish;
mod run;
mod sample;
pub(crate) mod saturate;
pub(crate) mod slow;
pub(crate) mod soak;
pub(crate) mod storm;
mod stragglers;
pub(crate) mod websocket;

use std::io::Write as _;

use anyhow::Result;
use serde_json::Value;

use crate::api::{Api, Script};
use crate::args::{CrowdArguments, OutputArguments, PlaceArguments, ServerArguments};
use crate::crowd::Group;
use crate::ending::Ending;
use crate::floor::{Floor, Job};
use crate::listener;
use crate::machine::Versions;
use crate::pin::Placement;
use crate::procfs::Usage;
use crate::report::Record;
use crate::target::Target;

/// Returns the clients that follow this script, and the streams beside them, at all nodes.
fn groups(
    server: &ServerArguments,
    crowd: &CrowdArguments,
    script: impl Fn(&Target) -> Result<Script>,
    streams: Option<usize>,
) -> Result<Vec<Group>> {
    let mut groups = Group::spread(&server.urls, crowd.subscribers, script)?;
    if let Some(size) = streams {
        let access = server.access(Api::Events, None);
        let script = |target: &Target| access.script(target, Some(&crowd.channel));
        groups.extend(Group::spread(&server.urls, size, script)?);
    }
    Ok(groups)
}

/// Prints a line. Write errors are ignored: a reader may have closed the pipe, and the exit code
/// still shows the outcome.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints a run and writes it to the files that were asked for.
fn conclude(record: &Record, table: &str, output: &OutputArguments) -> Result<Ending> {
    print(table, &record.result);
    output.save.as_deref().map_or(Ok(()), |path| record.save(path))?;
    output.report.as_deref().map_or(Ok(()), |path| record.write_page(path))?;
    Ok(Ending::from(record))
}

/// Does the same for a run in which neither client nor server can fall behind unless it is `judged`,
/// so that the exit code does not follow a verdict that one did.
fn conclude_at(
    judged: bool,
    record: &Record,
    table: &str,
    output: &OutputArguments,
) -> Result<Ending> {
    let ending = conclude(record, table, output)?;
    let verdict = ending.verdict.filter(|kind| judged || kind.counts_at_full_speed());
    Ok(Ending { verdict, ..ending })
}

/// Returns the version of the floor.
fn floor_version() -> Versions {
    Versions::with(Some(concat!("floor of loadtest ", env!("CARGO_PKG_VERSION")).to_owned()))
}

/// Returns the process to measure: the one that was named, or else the one that listens at the
/// target. If it cannot be found, says so on stderr and returns `None`.
fn server_process(named: Option<u32>, target: &Target) -> Option<u32> {
    named.or_else(|| {
        listener::process_at(target.address)
            .inspect_err(|error| {
                let _ = writeln!(
                    std::io::stderr(),
                    "the server's processor time and memory are not measured: {error:#}"
                );
            })
            .ok()
    })
}

/// Returns the same process, at the processor that it was given; `None` if there are several nodes.
/// This process keeps to its own.
fn placed_process(
    named: Option<u32>,
    targets: &[Target],
    place: &PlaceArguments,
) -> Result<Option<u32>> {
    let place = Placement::take(place.server_cpu, place.client_cpu)?;
    let pid = match targets {
        [target] => server_process(named, target),
        // What one process costs says nothing of deliveries by several.
        _ => None,
    };
    if let Some(pid) = pid {
        Usage::of(pid)?;
        place.pin_node(pid)?;
    }
    Ok(pid)
}

/// Starts a floor at the processor that it was given. This process keeps to its own.
fn placed_floor(job: Job, place: &PlaceArguments) -> Result<Floor> {
    let place = Placement::take(place.server_cpu, place.client_cpu)?;
    let floor = Floor::start(job)?;
    place.pin_floor(floor.pid())?;
    Ok(floor)
}

/// Returns the process to measure, for a scenario that measures nothing without it.
fn required_process(named: Option<u32>, target: &Target) -> Result<u32> {
    named.map_or_else(|| listener::process_at(target.address), Ok)
}

/// Prints the table for people, then the line of JSON for machines.
fn print(table: &str, json: &Value) {
    say(&format!("{table}\n{json}"));
}
