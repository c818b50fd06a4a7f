//! `compare`: runs of a node and of the floor in turn, under the same load.

use std::thread;

use anyhow::Result;

use crate::args::{CompareArguments, TURN_MAX};
use crate::ending::Ending;
use crate::interrupt;
use crate::machine::Versions;
use crate::pin::Placement;
use crate::procfs::Usage;
use crate::report::{Asked, CompareReport, Frame, Pair, Run, verdict_text};
use crate::scenario::fanout::Node;
use crate::scenario::floor::Sender;
use crate::scenario::{conclude, floor_version, required_process, say};

/// Measures all pairs, prints the report and returns what is to be said of it. Ctrl-C leaves out the
/// pair that it cuts short.
pub(crate) fn run(arguments: &CompareArguments) -> Result<Ending> {
    let processors = (arguments.place.server_cpu, arguments.place.client_cpu);
    let place = Placement::take(processors.0, processors.1)?;
    let pid = required_process(arguments.server_pid, arguments.server.url())?;
    Usage::of(pid)?;
    place.pin_node(pid)?;
    let frame = Frame::now(arguments.settings(), Versions::of_node(arguments.server.url()));
    let asked = asked(arguments);
    say(&CompareReport::head(&asked, arguments.pairs));
    let mut pairs = Vec::new();
    for number in 0..arguments.pairs {
        if number > 0 {
            thread::sleep(arguments.settle);
        }
        // The order alternates, because the first run of a pair may find the machine in another
        // state than the second.
        let pair = measure(arguments, pid, &place, number % 2 == 0);
        if interrupt::requested() && !pairs.is_empty() {
            break;
        }
        interrupt::ensure_none()?;
        let pair = pair?;
        say(&pair.line(number + 1));
        pairs.push(pair);
    }
    let interrupted = interrupt::requested();
    let report = CompareReport { asked, processors, pairs, interrupted };
    let limits = (arguments.thresholds.thresholds(), arguments.max_ratio);
    let record = report.record(frame, &floor_version(), limits.0, limits.1);
    let table = report.table() + &verdict_text(&record.verdict);
    conclude(&record, &table, &arguments.output)
}

fn measure(
    arguments: &CompareArguments,
    pid: u32,
    place: &Placement,
    node_first: bool,
) -> Result<Pair> {
    let CompareArguments { server, publish, crowd, load, .. } = arguments;
    let node = Node { server, publish, pid: Some(pid) };
    let sending = arguments.sending.sending(crowd.subscribers, TURN_MAX);
    let floor = Sender { sending, unanswered_max: publish.unanswered_max };
    let node = || Run::start(|| node.measure(crowd, None, load));
    let floor = || Run::start(|| floor.measure(crowd, load, place));
    let pause = || thread::sleep(arguments.settle);
    let (node, floor) = if node_first {
        let node = node()?;
        pause();
        (node, floor()?)
    } else {
        let floor = floor()?;
        pause();
        (node()?, floor)
    };
    Ok(Pair { node_first, node, floor })
}

fn asked(arguments: &CompareArguments) -> Asked {
    let CompareArguments { crowd, load, .. } = arguments;
    Asked {
        api: crowd.api,
        channel: crowd.channel.clone(),
        subscribers: crowd.subscribers,
        streams: 0,
        rate: load.rate,
        payload_bytes: load.payload_bytes,
        seconds: crowd.seconds.as_secs_f64(),
    }
}
