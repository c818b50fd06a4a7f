//! `idle`: connections that only answer heartbeats, and what each costs the server.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::args::IdleArguments;
use crate::crowd::Pulse;
use crate::procfs::Memory;
use crate::progress::Progress;
use crate::report::{IdleReport, Losses};
use crate::scenario::print;

const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Runs the scenario, prints the report and returns the faults.
pub(crate) fn run(arguments: &IdleArguments) -> Result<Vec<String>> {
    let (server, common) = (&arguments.server, &arguments.crowd);
    // A first request is answered before memory is read, so that its memory counts for no
    // connection.
    let access = server.access(common.api, arguments.api_key.as_deref());
    let channel = arguments.subscribe.then_some(common.channel.as_str());
    channel.map_or(Ok(()), |channel| access.prepare(&server.url, channel))?;
    let before = Memory::of(arguments.server_pid)?;
    let pulse = Pulse::default();
    let hold = || hold(arguments, &pulse);
    let crowd = common.crowd(&server.url, access.script(&server.url, channel)?);
    let (held, gathered) = crowd.gather(&pulse, hold)?;
    let report = IdleReport {
        api: common.api,
        connections: common.subscribers,
        subscribed: arguments.subscribe,
        seconds: common.seconds.as_secs_f64(),
        before,
        connected: held.connected,
        after: held.after,
        client_processes: pulse.pids().count(),
        pings: gathered.heard.pings,
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

fn hold(arguments: &IdleArguments, pulse: &Pulse) -> Result<Held> {
    let mut progress = Progress::new();
    let common = &arguments.crowd;
    pulse.wait_until_ready(common.subscribers, &mut progress)?;
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
