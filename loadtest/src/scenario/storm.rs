//! `reconnect-storm`: all clients are cut at once and come back at once.

use std::thread;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::api::insforge::Definition;
use crate::args::StormArguments;
use crate::clock::{nanos, now_ns};
use crate::ending::Ending;
use crate::interrupt;
use crate::joins::{Joins, Then};
use crate::machine::Versions;
use crate::meter::{Counts, Meter};
use crate::procfs::Memory;
use crate::progress::Progress;
use crate::report::{Course, Frame, Offer, StormReport, Tick, Work};
use crate::scenario::sample::{Sample, Sampler};
use crate::scenario::{conclude_at, placed_process};

/// Joins at once before the cut.
const UNDERWAY_BEFORE: usize = 128;
/// How long the clients may take to join before the cut while none succeeds.
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);
/// Pause between the last join and the cut.
const SETTLE: Duration = Duration::from_millis(500);
/// Time between two samples. A storm of a thousand clients may be over within a second.
const INTERVAL: Duration = Duration::from_millis(100);
/// Pause before a client whose join failed tries again.
const RETRY: Duration = Duration::from_millis(100);

/// Measures a node, prints the report and returns what is to be said of it.
pub(crate) fn run(arguments: &StormArguments) -> Result<Ending> {
    let StormArguments { subscribed, clients, .. } = arguments;
    let node = &subscribed.node;
    let pid = placed_process(node.server_pid, &node.url, &arguments.place)?;
    let frame = Frame::now(arguments.settings(), Versions::of_node(&node.url));
    let options = subscribed.options();
    let _definition = Definition::make(&node.url, &node.channel, &node.api_key, &options)?;
    let access = subscribed.access();
    let script = access.script(&node.url, Some(&node.channel))?;
    let mut joins = Joins::new(&node.url, &script)?;
    let mut progress = Progress::new();
    gather(&mut joins, *clients, &mut progress)?;

    let sample = |joined| Sample::take(joined, pid, [std::process::id()]);
    let before = sample(0)?;
    joins.cut();
    let (cut_ns, meter) = (now_ns(), Meter::default());
    let work = || storm(arguments, cut_ns, &mut joins, &meter, &mut progress);
    let (stormed, ticks) = sampler(arguments, cut_ns, pid, &meter).during(work)?;
    let all_back_ns = stormed?;
    drop(progress);
    let window = sample(joins.counts.joined)?.since(&before);
    let offer = Offer { seconds: window.wall_ns as f64 / 1e9, ..Offer::default() };
    let course = Course { unit: "joins", ticks, interval: INTERVAL, offer };
    let report = StormReport {
        clients: *clients,
        underway_max: arguments.underway(),
        all_back_ns,
        back: joins.present,
        counts: joins.counts,
        work: Work {
            unit: "joins",
            window,
            memory: pid.map(Memory::of).transpose()?,
            interrupted: interrupt::requested(),
            series: course.series(&mut meter.timeline(), |_| Vec::new()),
        },
    };
    let record = report.record(frame, arguments.max_seconds, arguments.max_cpu_us);
    conclude_at(false, &record, &report.table(), &arguments.output)
}

/// Connects all clients.
fn gather(joins: &mut Joins<'_>, clients: usize, progress: &mut Progress) -> Result<()> {
    let (mut before, mut since_ns) = (0, now_ns());
    while joins.present < clients {
        while joins.underway < UNDERWAY_BEFORE && joins.present + joins.underway < clients {
            joins.begin(0, Then::Stay);
        }
        interrupt::ensure_none()?;
        joins.turn(Duration::MAX, u64::MAX)?;
        progress.show(|| format!("connecting: {} of {clients} ready", joins.present));
        if let Some(failure) = &joins.counts.first_failure {
            bail!("after {} clients one failed: {failure}", joins.present);
        }
        if joins.present > before {
            (before, since_ns) = (joins.present, now_ns());
        }
        let stuck = now_ns() - since_ns > nanos(CONNECT_PATIENCE);
        ensure!(!stuck, "only {before} of {clients} are ready, and no more in the last 30 s");
    }
    thread::sleep(SETTLE);
    joins.forget();
    Ok(())
}

fn sampler(
    arguments: &StormArguments,
    from_ns: u64,
    server_pid: Option<u32>,
    meter: &Meter,
) -> Sampler<impl Fn() -> Tick, impl Fn() -> Vec<u32>> {
    let counts = || {
        let Counts { begun, done, failed, .. } = meter.counts();
        Tick { delivered: done, sent: Some(begun), connections_lost: failed, ..Tick::default() }
    };
    Sampler {
        from_ns,
        planned: arguments.patience,
        interval: INTERVAL,
        server_pid,
        counts,
        client_pids: || vec![std::process::id()],
    }
}

/// Has all clients come back that were cut at `cut_ns`. Returns how long that took, in ns; `None` if
/// the time was over or Ctrl-C came before.
fn storm(
    arguments: &StormArguments,
    cut_ns: u64,
    joins: &mut Joins<'_>,
    meter: &Meter,
    progress: &mut Progress,
) -> Result<Option<u64>> {
    let clients = arguments.clients;
    let end_ns = cut_ns + nanos(arguments.patience);
    let mut retry_ns = cut_ns;
    let mut failed = 0;
    while joins.present < clients {
        let now_ns = now_ns();
        if now_ns > end_ns || interrupt::requested() {
            meter.finish(joins.shown(), &mut joins.recent);
            return Ok(None);
        }
        if joins.counts.failed > failed {
            failed = joins.counts.failed;
            retry_ns = now_ns + nanos(RETRY);
        }
        while now_ns >= retry_ns
            && joins.underway < arguments.underway()
            && joins.present + joins.underway < clients
            && joins.counts.failed == failed
        {
            joins.begin(cut_ns, Then::Stay);
        }
        joins.turn(RETRY, cut_ns)?;
        meter.show(joins.shown(), &mut joins.recent);
        progress.show(|| format!("reconnecting: {} of {clients} are back", joins.present));
    }
    let all_back_ns = now_ns() - cut_ns;
    meter.finish(joins.shown(), &mut joins.recent);
    Ok(Some(all_back_ns))
}
