//! `idle`: connections that only answer heartbeats, and what each costs the server.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::args::IdleArguments;
use crate::crowd::Pulse;
use crate::procfs::Memory;
use crate::progress::Progress;
use crate::report::{IdleReport, Losses};
use crate::scenario::{groups, print};

const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Runs the scenario, prints the report and returns the faults.
pub(crate) fn run(arguments: &IdleArguments) -> Result<Vec<String>> {
    let (server, common) = (&arguments.server, &arguments.crowd);
    // A first request is answered before memory is read, so that its memory counts for no
    // connection.
    let access = server.access(common.api, arguments.api_key.as_deref());
    let channel = arguments.subscribe.then_some(common.channel.as_str());
    let prepared = channel.map(|channel| access.prepare(&server.url, channel)).transpose()?;
    let _definition = prepared.flatten();
    let before = Memory::of(arguments.server_pid)?;
    let pulse = Pulse::default();
    let script = access.script(&server.url, channel)?;
    let groups = groups(server, common, script, arguments.streams)?;
    let crowd = common.crowd(&server.url, groups);
    let hold = || hold(arguments, crowd.size, &pulse);
    let (held, gathered) = crowd.gather(&pulse, hold)?;
    let report = IdleReport {
        api: common.api,
        connections: crowd.size,
        streams: arguments.streams.unwrap_or(0),
        subscribed: arguments.subscribe,
        seconds: common.seconds.as_secs_f64(),
        before,
        connected: held.connected,
        after: held.after,
        client_processes: pulse.pids().count(),
        pings: gathered.iter().map(|group| group.heard.pings).sum(),
        losses: held.losses,
    };
    print(&report.table(), &report.json());
    Ok(report.faults(arguments.max_bytes_per_connection))
}

struct Held {
    connected: Memory,
    after: Memory,
    losses: Losses,
}

fn hold(arguments: &IdleArguments, size: usize, pulse: &Pulse) -> Result<Held> {
    let mut progress = Progress::new();
    let common = &arguments.crowd;
    pulse.wait_until_ready(size, &mut progress)?;
    let connected = Memory::of(arguments.server_pid)?;
    let start = Instant::now();
    while start.elapsed() < common.seconds {
        pulse.ensure_whole()?;
        progress.show(|| {
            let (seconds, lost) = (start.elapsed().as_secs(), pulse.lost());
            format!("idle for {seconds} of {} s, {lost} lost", common.seconds.as_secs_f64())
        });
        thread::sleep(LOOK_INTERVAL.min(common.seconds));
    }
    Ok(Held {
        connected,
        after: Memory::of(arguments.server_pid)?,
        losses: Losses {
            connections: pulse.lost(),
            first: pulse.first_failure().map(str::to_owned),
        },
    })
}
