//! `idle`: connections that do nothing but answer heartbeats, and what each costs the server.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::args::IdleArguments;
use crate::crowd::Pulse;
use crate::procfs::Memory;
use crate::progress::Progress;
use crate::report::{IdleReport, Losses};
use crate::scenario::{ensure_channel, print};

const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Runs it, prints the report and returns what is wrong with it.
pub(crate) fn run(arguments: &IdleArguments) -> Result<Vec<String>> {
    let common = &arguments.common;
    // The first request is answered before memory is read, so that it counts to nobody.
    if let (true, Some(api_key)) = (arguments.subscribe, &arguments.api_key) {
        ensure_channel(common, api_key)?;
    }
    let before = Memory::of(arguments.server_pid)?;
    let pulse = Pulse::default();
    let hold = || hold(arguments, &pulse);
    let crowd = common.crowd(arguments.subscribe, arguments.api_key.as_deref());
    let (held, gathered) = crowd.gather(&pulse, hold)?;
    let report = IdleReport {
        connections: common.subscribers,
        subscribed: arguments.subscribe,
        seconds: common.seconds.as_secs_f64(),
        before,
        connected: held.connected,
        after: held.after,
        pings: gathered.heard.pings,
        losses: held.losses,
    };
    print(&report.table(), &report.json());
    Ok(report.faults())
}

struct Held {
    connected: Memory,
    after: Memory,
    losses: Losses,
}

fn hold(arguments: &IdleArguments, pulse: &Pulse) -> Result<Held> {
    let mut progress = Progress::new();
    let common = &arguments.common;
    pulse.wait_until_ready(common.subscribers, &mut progress)?;
    let connected = Memory::of(arguments.server_pid)?;
    let start = Instant::now();
    while start.elapsed() < common.seconds {
        progress.show(|| {
            let (seconds, lost) = (start.elapsed().as_secs(), pulse.lost());
            format!("idle for {seconds} of {:?}, {lost} lost", common.seconds)
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
