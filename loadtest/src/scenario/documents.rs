//! `documents`: many documents are written at a fixed rate, and each client watches some of them.

use std::slice::from_ref;
use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::api::m2::{self, Caller};
use crate::args::DocumentsArguments;
use crate::clock::{nanos, now_ns};
use crate::documents::{Audience, Plan, Seen, Signals, Verdict, Writes, write};
use crate::ending::Ending;
use crate::fate::{Cut, Server};
use crate::interrupt;
use crate::machine::Versions;
use crate::procfs::Memory;
use crate::progress::{Live, Progress};
use crate::report::{
    Costs, Course, DocumentsAsked, DocumentsReport, Evidence, Frame, Load, Losses, Measured, Offer,
    Steps, Tick, Verdict as RunVerdict, Window, quantile,
};
use crate::scenario::sample::{SECOND, Sample, Sampler};
use crate::scenario::{conclude, placed_process};

/// Pause before memory is read, so that what a server holds only for a moment does not count.
const SETTLE: Duration = Duration::from_secs(1);
/// Time from the decision to start until the first write is due.
const LEAD: Duration = Duration::from_millis(100);
/// How long it must be quiet after the last answer, and how long to wait for that at most. The
/// number of updates is not known in advance, because states are conflated.
const QUIET: Duration = Duration::from_secs(1);
const STRAGGLER_PATIENCE: Duration = Duration::from_secs(30);
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// Time between two checks whether the writer is done, which only cost processor time.
const WRITER_INTERVAL: Duration = Duration::from_millis(50);

/// Runs the scenario, prints the report and returns what is to be said of it.
pub(crate) fn run(arguments: &DocumentsArguments) -> Result<Ending> {
    let pid = placed_process(arguments.server_pid, from_ref(&arguments.url), &arguments.place)?;
    let frame = Frame::now(arguments.settings(), Versions::of_node(&arguments.url));
    let since_ns = now_ns();
    m2::ensure_ready(&arguments.url)?;
    let audience = audience(arguments)?;
    let plan = plan(arguments);
    let signals = Signals::new();
    let server = Server { pid, address: arguments.url.address };
    let conductor = Conductor { arguments, pid, server, plan: &plan, signals: &signals };
    let (conducted, seen) = thread::scope(|scope| {
        let dismissal = signals.dismissal();
        let builder = thread::Builder::new().name("clients".to_owned());
        let clients = builder.spawn_scoped(scope, || audience.attend(&signals, since_ns))?;
        let conducted = conductor.conduct();
        drop(dismissal);
        let seen = clients.join().expect("the clients' thread returns its errors");
        anyhow::Ok((conducted?, seen?))
    })?;
    let report = report(arguments, conducted, seen, &signals);
    let record = report.record(frame, arguments.thresholds.thresholds());
    conclude(&record, &report.table(), &arguments.output)
}

fn audience(arguments: &DocumentsArguments) -> Result<Audience> {
    let DocumentsArguments { url, reader, watchers, .. } = arguments;
    let caller = Caller { scope: &reader.m2_scope, credential: reader.m2_token.as_deref() };
    Ok(Audience {
        target: url.clone(),
        upgrade: caller.upgrade(url, watchers.browser)?,
        field: watchers.field(),
        size: watchers.clients,
        slow: watchers.slow,
        lazy: watchers.lazy(),
    })
}

fn plan(arguments: &DocumentsArguments) -> Plan {
    Plan {
        target: arguments.url.clone(),
        scope: arguments.reader.m2_scope.clone(),
        writer: arguments.m2_writer.clone(),
        field: arguments.watchers.field(),
        payload_bytes: arguments.writing.payload_bytes,
        rate: arguments.writing.rate,
        writes: arguments.writes(),
        connections: arguments.writers,
        unanswered_max: arguments.unanswered_max,
    }
}

fn report(
    arguments: &DocumentsArguments,
    conducted: Conducted,
    seen: Seen,
    signals: &Signals,
) -> DocumentsReport {
    let DocumentsArguments { watchers, writing, .. } = arguments;
    let field = watchers.field();
    let verdict = Verdict::of(field, &conducted.writes, &seen);
    let subscriptions = watchers.clients as f64 * f64::from(field.subscriptions);
    let offer = Offer {
        rate: writing.rate,
        audience: subscriptions / f64::from(field.resources),
        seconds: conducted.seconds,
    };
    let ticks = conducted.ticks.clone();
    let course = Course { unit: "deliveries", ticks, interval: SECOND, offer };
    let series = course.series(&mut signals.timeline(), |_| Vec::new());
    let evidence = Evidence {
        latency_p99_ns: quantile(&seen.heard.latency, 0.99),
        growth: series.growth(),
        lazy: watchers.lazy(),
        ..evidence(&conducted, &verdict)
    };
    let measured = Measured {
        cut: conducted.cut.clone(),
        seconds: conducted.seconds,
        interrupted: interrupt::requested(),
        verdict: RunVerdict::of(&evidence),
        series,
        joined: None,
    };
    DocumentsReport {
        asked: DocumentsAsked {
            field,
            clients: watchers.clients,
            slow: watchers.slow,
            browser: watchers.browser,
            rate: writing.rate,
            payload_bytes: writing.payload_bytes,
            seconds: writing.seconds.as_secs_f64(),
            write_early: writing.write_early,
        },
        measured,
        subscribing_ns: conducted.subscribing_ns,
        verdict,
        writes: conducted.writes,
        counts: seen.counts,
        latency: seen.heard.latency,
        costs: Costs { frames: seen.heard.frames, window: conducted.window, client_processes: 1 },
        memory: conducted.memory,
        losses: conducted.losses,
        errors: seen.heard.errors,
    }
}

/// Returns what the verdict on the run depends on, latencies left out.
fn evidence<'a>(conducted: &'a Conducted, verdict: &Verdict) -> Evidence<'a> {
    let Conducted { window, writes, ticks, seconds, .. } = conducted;
    let end_ns = nanos(Duration::from_secs_f64(*seconds));
    let end = ticks.iter().find(|tick| tick.at_ns >= end_ns).or(ticks.last());
    let arrived = end.map_or(verdict.received, |end| end.delivered);
    Evidence {
        seconds: *seconds,
        offered: verdict.expected as f64,
        settled: arrived + verdict.lost + verdict.conflated,
        lateness: Some(&writes.lateness),
        client: Load::busiest(&window.client, "clients", window.cpu_wall_ns),
        publisher: Load::busiest(&window.client, "writer", window.cpu_wall_ns),
        server: window
            .server
            .as_ref()
            .and_then(|usage| Load::busiest(usage, "", window.cpu_wall_ns)),
        starved: window
            .server
            .as_ref()
            .and_then(|usage| Load::most_kept(usage, window.cpu_wall_ns)),
        pause_ns: Some(writes.answers.pause_ns()),
        passed_s: window.wall_ns as f64 / 1e9,
        cut: conducted.cut.as_ref(),
        refused: writes.failures.get(&503).copied().unwrap_or_default(),
        ..Evidence::default()
    }
}

struct Conductor<'a> {
    arguments: &'a DocumentsArguments,
    pid: Option<u32>,
    server: Server,
    plan: &'a Plan,
    signals: &'a Signals,
}

/// Results of the conductor.
struct Conducted {
    subscribing_ns: u64,
    writes: Writes,
    window: Window,
    memory: Option<Steps>,
    losses: Losses,
    ticks: Vec<Tick>,
    /// Length of the measured window as it was, in s.
    seconds: f64,
    /// How the server cut the run short.
    cut: Option<Cut>,
}

/// Results up to the moment when all clients had subscribed.
struct Gathered {
    subscribing_ns: u64,
    memory: Option<Memory>,
}

/// Results of the writing.
struct Writing {
    gathered: Gathered,
    writes: Writes,
    /// The counters at the start of the measured window.
    begin: Sample,
    /// When the measured window began and writing ended.
    from_ns: u64,
    ended_ns: u64,
}

impl Conductor<'_> {
    fn conduct(&self) -> Result<Conducted> {
        let mut progress = Progress::new();
        let before = self.memory()?;
        self.signals.await_connected(self.arguments.watchers.clients, &mut progress)?;
        thread::sleep(SETTLE);
        let connected = self.memory()?;
        let early = self.arguments.writing.write_early;
        let gathered = (!early).then(|| self.gather(&mut progress)).transpose()?;
        let mut ticks = Vec::new();
        let writing = self.write(gathered, &mut ticks, &mut progress)?;
        let Writing { gathered, writes, begin, from_ns, ended_ns } = writing;
        let planned = self.arguments.writing.seconds;
        let cut = self.server.cut(writes.answers.broken.as_ref(), from_ns)?;
        let seconds = if cut.is_some() || interrupt::requested() {
            Duration::from_nanos(ended_ns.saturating_sub(from_ns)).min(planned)
        } else {
            planned
        };
        self.signals.slow(false);
        let last_ns = self.await_stragglers(&mut progress);
        let window = self.sample()?.dated(last_ns).since(&begin);
        let steps = before.zip(connected).zip(gathered.memory);
        // A server that has ended has none.
        let after = self.pid.and_then(|pid| Memory::of(pid).ok());
        Ok(Conducted {
            subscribing_ns: gathered.subscribing_ns,
            writes,
            window,
            memory: steps.map(|((before, connected), subscribed)| Steps {
                before,
                connected,
                subscribed,
                after,
            }),
            losses: Losses {
                connections: self.signals.lost(),
                first: self.signals.first_failure().map(str::to_owned),
            },
            ticks,
            seconds: seconds.as_secs_f64(),
            cut,
        })
    }

    /// Has all clients subscribe and reads the server's memory afterwards.
    fn gather(&self, progress: &mut Progress) -> Result<Gathered> {
        let start_ns = now_ns();
        self.signals.subscribe(self.arguments.watchers.clients, progress)?;
        let subscribing_ns = now_ns() - start_ns;
        thread::sleep(SETTLE);
        Ok(Gathered { subscribing_ns, memory: self.memory()? })
    }

    /// Writes everything. If the clients have not subscribed yet, they subscribe meanwhile.
    fn write(
        &self,
        gathered: Option<Gathered>,
        ticks: &mut Vec<Tick>,
        progress: &mut Progress,
    ) -> Result<Writing> {
        let start_ns = now_ns() + nanos(LEAD);
        if gathered.is_some() {
            self.signals.measure_from(start_ns + nanos(self.arguments.writing.warmup));
        }
        thread::scope(|scope| {
            let writer = thread::Builder::new()
                .name("writer".to_owned())
                .spawn_scoped(scope, || write(self.plan, start_ns, self.signals))?;
            let gathered = self.await_window(gathered, start_ns, progress);
            let begin = gathered.is_ok().then(interrupt::ensure_none);
            let begin = begin.unwrap_or(Ok(())).and_then(|()| self.server.ensure_alive());
            let begin = begin.and_then(|()| self.sample());
            let from_ns = now_ns();
            if gathered.is_err() || begin.is_err() {
                // The run is worthless, so nothing of it is waited for.
                self.signals.dismiss();
            }
            ((), *ticks) = self.sampler(from_ns).during(|| {
                while !writer.is_finished() {
                    progress.run(|| self.live(start_ns));
                    thread::sleep(WRITER_INTERVAL);
                }
            })?;
            let ended_ns = now_ns();
            let writes = writer.join().expect("the writer returns its errors");
            let (gathered, begin) = (gathered?, begin?);
            Ok(Writing { gathered, writes: writes?, begin, from_ns, ended_ns })
        })
    }

    /// Waits until the measured window begins. Has clients subscribe first if they have not yet.
    fn await_window(
        &self,
        gathered: Option<Gathered>,
        start_ns: u64,
        progress: &mut Progress,
    ) -> Result<Gathered> {
        let gathered = if let Some(gathered) = gathered {
            let measure_from_ns = start_ns + nanos(self.arguments.writing.warmup);
            while now_ns() < measure_from_ns && !interrupt::requested() {
                let left = Duration::from_nanos(measure_from_ns.saturating_sub(now_ns()));
                progress.run(|| self.live(start_ns));
                thread::sleep(left.min(WRITER_INTERVAL));
            }
            gathered
        } else {
            let gathered = self.gather(progress)?;
            self.signals.measure_from(now_ns());
            gathered
        };
        self.signals.slow(true);
        Ok(gathered)
    }

    fn live(&self, start_ns: u64) -> Live<'_> {
        Live {
            scenario: "documents",
            elapsed: Duration::from_nanos(now_ns().saturating_sub(start_ns)),
            planned: Duration::from_secs_f64(self.plan.writes as f64 / self.plan.rate),
            counted: Some(("deliveries", self.signals.received())),
            lost: self.signals.lost(),
            latency: self.signals.timeline().so_far(),
        }
    }

    fn sampler(&self, from_ns: u64) -> Sampler<impl Fn() -> Tick, impl Fn() -> Vec<u32>> {
        Sampler {
            from_ns,
            planned: self.arguments.writing.seconds,
            interval: SECOND,
            server_pid: self.pid,
            counts: || Tick {
                delivered: self.signals.received(),
                connections_lost: self.signals.lost() as u64,
                ..Tick::default()
            },
            client_pids: || vec![std::process::id()],
        }
    }

    /// Waits until nothing has arrived for `QUIET`. Returns when the last delivery was seen.
    fn await_stragglers(&self, progress: &mut Progress) -> u64 {
        let start_ns = now_ns();
        let mut received = self.signals.received();
        let mut last_ns = start_ns;
        while now_ns() - last_ns < nanos(QUIET) && now_ns() - start_ns < nanos(STRAGGLER_PATIENCE) {
            thread::sleep(LOOK_INTERVAL);
            let received_now = self.signals.received();
            progress.show(|| format!("documents: {received_now} delivered, and still coming"));
            if received_now > received {
                (received, last_ns) = (received_now, now_ns());
            }
        }
        last_ns
    }

    fn sample(&self) -> Result<Sample> {
        let clients = [std::process::id()];
        Sample::take(self.signals.received(), self.pid, clients)
    }

    fn memory(&self) -> Result<Option<Memory>> {
        self.pid.map(Memory::of).transpose()
    }
}
