//! `slow`: a share of the clients does not read; the others must lose nothing by that.

use anyhow::Result;

use crate::api::insforge::Definition;
use crate::args::SlowArguments;
use crate::crowd::Group;
use crate::ending::Ending;
use crate::machine::Versions;
use crate::procfs::Memory;
use crate::publisher::Schedule;
use crate::report::{Frame, PublishReport, SlowReport};
use crate::scenario::field::{Field, Source, crowd};
use crate::scenario::publish::publications;
use crate::scenario::{conclude_at, placed_process};

/// Measures a node, prints the report and returns what is to be said of it.
pub(crate) fn run(arguments: &SlowArguments) -> Result<Ending> {
    let SlowArguments { subscribed, .. } = arguments;
    let node = &subscribed.node;
    let post = &arguments.post.in_order();
    let pid = placed_process(node.server_pid, &node.urls, &arguments.place)?;
    let frame = Frame::now(arguments.settings(), Versions::of_node(node.url()));
    let options = arguments.options();
    let _definition = Definition::make(node.url(), &node.channel, &node.api_key, &options)?;
    let before = pid.map(Memory::of).transpose()?;
    let access = subscribed.access();
    let script = access.script(node.url(), Some(&node.channel))?;
    let readers = Group::alike(node.url(), script.clone(), arguments.readers());
    let slow = Group { reads: false, ..Group::alike(node.url(), script, arguments.slow) };
    let schedule = Schedule { channel: node.channel.clone(), ..post.schedule() };
    let field = Field {
        scenario: "slow",
        crowd: crowd(vec![readers, slow], usize::MAX),
        source: Source::Http(node.url(), vec![access.request(node.url(), &schedule)?]),
        post,
        pid,
        readers: arguments.readers(),
        nodes: &subscribed.node.urls,
        observe: None,
    };
    let harvest = field.harvest()?;
    let report = SlowReport {
        slow: arguments.slow,
        closed: harvest.closed,
        before,
        readers: PublishReport {
            scenario: "slow",
            asked: post.asked(),
            publications: publications(&harvest.posted),
            subscribers: Some(harvest.subscribers(1)?),
            answers: harvest.posted.latency,
            work: harvest.work,
        },
    };
    let record = report.record(frame, post.max_p99_ms, post.max_cpu_us);
    conclude_at(report.readers.is_judged(), &record, &report.table(), &arguments.output)
}
