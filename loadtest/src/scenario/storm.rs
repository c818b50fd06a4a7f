//! `reconnect-storm`: all clients are cut at once and come back at once.

use std::thread;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::api::insforge::Definition;
use crate::args::StormArguments;
use crate::clock::{nanos, now_ns};
use crate::ending::Ending;
use crate::fate::{Answers, Server};
use crate::interrupt;
use crate::joins::{Joins, Then};
use crate::machine::Versions;
use crate::meter::{Counts, Meter};
use crate::procfs::Memory;
use crate::progress::Progress;
use crate::report::{Course, Frame, Offer, StormReport, Tick, Work};
use crate::scenario::sample::{Sample, Sampler};
use crate::scenario::{conclude_at, placed_process};
use crate::table::plural;

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
    let pid = placed_process(node.server_pid, &node.urls, &arguments.place)?;
    let frame = Frame::now(arguments.settings(), Versions::of_node(node.url()));
    let options = subscribed.options();
    let _definition = Definition::make(node.url(), &node.channel, &node.api_key, &options)?;
    let access = subscribed.access();
    let script = access.script(node.url(), Some(&node.channel))?;
    let nodes = [(node.url().clone(), script)];
    let mut joins = Joins::new(&nodes)?;
    let mut progress = Progress::new();
    gather(&mut joins, *clients, &mut progress)?;

    let server = Server { pid, address: node.url().address };
    let sample = |joined| Sample::take(joined, pid, [std::process::id()]);
    let before = sample(0)?;
    joins.cut();
    let (cut_ns, meter) = (now_ns(), Meter::default());
    let mut storm =
        Storm { arguments, server, cut_ns, meter: &meter, answers: Answers::new(cut_ns) };
    let work = || storm.run(&mut joins, &mut progress);
    let (stormed, ticks) = sampler(arguments, cut_ns, pid, &meter).during(work)?;
    let all_back_ns = stormed?;
    drop(progress);
    let cut = server.cut(None, cut_ns)?;
    let pause_ns = Some(storm.answers.pause_ns());
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
            planned: window.clone(),
            window,
            memory: pid.and_then(|pid| Memory::of(pid).ok()),
            pause_ns,
            cut,
            interrupted: interrupt::requested(),
            series: course.series(&mut meter.timeline(), |_| Vec::new()),
        },
    };
    let record = report.record(frame, arguments.max_seconds, arguments.max_cpu_us);
    conclude_at(report.is_judged(), &record, &report.table(), &arguments.output)
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
            bail!("after {} one failed: {failure}", plural(joins.present, "client"));
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

/// Clients that were all cut at `cut_ns` and come back.
struct Storm<'a> {
    arguments: &'a StormArguments,
    server: Server,
    cut_ns: u64,
    meter: &'a Meter,
    answers: Answers,
}

impl Storm<'_> {
    /// Has all clients come back. Returns how long that took, in ns; `None` if the time was over,
    /// the server ended, or Ctrl-C came before.
    fn run(&mut self, joins: &mut Joins<'_>, progress: &mut Progress) -> Result<Option<u64>> {
        let Self { arguments, server, cut_ns, meter, .. } = *self;
        let clients = arguments.clients;
        let end_ns = cut_ns + nanos(arguments.patience);
        let mut retry_ns = cut_ns;
        let (mut failed, mut joined) = (0, 0);
        while joins.present < clients {
            let now_ns = now_ns();
            self.answers.note(now_ns, joins.counts.joined > joined, true);
            joined = joins.counts.joined;
            if now_ns > end_ns || interrupt::requested() || server.has_ended() {
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
        let now_ns = now_ns();
        self.answers.note(now_ns, joins.counts.joined > joined, false);
        meter.finish(joins.shown(), &mut joins.recent);
        Ok(Some(now_ns - cut_ns))
    }
}
