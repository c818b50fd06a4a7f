//! Work on a thread of its own, and the processor time that it costs within a window.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::clock::{nanos, now_ns};
use crate::crowd::Pulse;
use crate::fate::{Answers, Server};
use crate::interrupt;
use crate::meter::Meter;
use crate::posting::{Posted, Span};
use crate::procfs::Memory;
use crate::progress::{Live, Progress};
use crate::report::{Course, Offer, Tick, Work};
use crate::scenario::sample::{SECOND, Sample, Sampler};

/// Time until a span begins, in which other processes with clients receive its times.
const LEAD: Duration = Duration::from_millis(100);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Returns a span that begins soon.
pub(super) fn span(warmup: Duration, seconds: Duration) -> Span {
    let start_ns = now_ns() + nanos(LEAD);
    let measure_from_ns = start_ns + nanos(warmup);
    Span { start_ns, measure_from_ns, end_ns: measure_from_ns + nanos(seconds) }
}

/// What a thread of work has brought.
pub(super) struct Done<T> {
    pub(super) result: T,
    /// The answers that it saw; `None` if the server gives none.
    pub(super) answers: Option<Answers>,
    /// When the last unit came; `None` if that is when the last answer came.
    pub(super) last_ns: Option<u64>,
}

impl Done<Posted> {
    /// Returns a publisher's work.
    pub(super) fn of(posted: Posted) -> Self {
        Self { answers: posted.answers.clone(), result: posted, last_ns: None }
    }
}

/// What is measured, and how it is counted.
pub(super) struct Gauge<'a> {
    /// The scenario's name.
    pub(super) scenario: &'static str,
    pub(super) span: Span,
    /// The name of one unit.
    pub(super) unit: &'static str,
    /// Units that are due in a second; zero if as many as possible are.
    pub(super) offered: f64,
    /// The clients, if units are deliveries. Otherwise the meter counts units.
    pub(super) pulse: Option<&'a Pulse>,
    /// What the work counts.
    pub(super) meter: &'a Meter,
    pub(super) server: Server,
    /// The processes of the clients.
    pub(super) client_pids: Vec<u32>,
    /// Returns an error if the run has become worthless. Called at both ends of the window, too.
    pub(super) check: &'a (dyn Fn() -> Result<()> + Sync),
    /// Set to call the work off.
    pub(super) stop: &'a AtomicBool,
}

impl Gauge<'_> {
    /// Runs `work` on a thread of its own and measures the window of the span, which Ctrl-C ends
    /// early. The course covers all of the work from the start of the window on.
    pub(super) fn measure<T: Send>(
        &self,
        progress: &mut Progress,
        work: impl FnOnce() -> Result<Done<T>> + Send,
    ) -> Result<(T, Work, Course)> {
        let (measured, ticks) = self.sampler().during(|| self.measure_window(progress, work))?;
        let (done, work) = measured?;
        let seconds = work.window.wall_ns as f64 / 1e9;
        let offer = Offer { rate: self.offered, audience: 1.0, seconds };
        let course = Course { unit: self.unit, ticks, interval: SECOND, offer };
        Ok((done, work, course))
    }

    fn sampler(&self) -> Sampler<impl Fn() -> Tick, impl Fn() -> Vec<u32>> {
        let Span { measure_from_ns, end_ns, .. } = self.span;
        Sampler {
            from_ns: measure_from_ns,
            planned: Duration::from_nanos(end_ns - measure_from_ns),
            interval: SECOND,
            server_pid: self.server.pid,
            counts: || {
                let counts = self.meter.counts();
                Tick {
                    delivered: self.count(),
                    sent: Some(counts.begun),
                    refused: counts.refused,
                    connections_lost: self.pulse.map_or(counts.failed, |it| it.lost() as u64),
                    ..Tick::default()
                }
            },
            client_pids: || self.client_pids.clone(),
        }
    }

    /// Returns the units so far.
    fn count(&self) -> u64 {
        self.pulse.map_or_else(|| self.meter.counts().done, Pulse::received)
    }

    fn measure_window<T: Send>(
        &self,
        progress: &mut Progress,
        work: impl FnOnce() -> Result<Done<T>> + Send,
    ) -> Result<(T, Work)> {
        let name = if self.unit == "joins" { "clients" } else { "publisher" };
        let (done, ends) = thread::scope(|scope| {
            let worker = thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, work)?;
            let ends = self.watch(progress, || worker.is_finished());
            if ends.is_err() {
                self.stop.store(true, Ordering::Relaxed);
            }
            while !worker.is_finished() {
                if self.server.has_ended() {
                    self.stop.store(true, Ordering::Relaxed);
                }
                progress.run(|| self.live());
                thread::sleep(LOOK_INTERVAL);
            }
            let done = worker.join().expect("the worker returns its errors");
            anyhow::Ok((done, ends))
        })?;
        let ends = ends?;
        let Done { result, answers, last_ns } = done?;
        let broken = answers.as_ref().and_then(|answers| answers.broken.as_ref());
        let cut = self.server.cut(broken, self.span.measure_from_ns)?;
        let Some((before, end)) = ends else {
            // The worker ended before the window did.
            self.server.ensure_alive()?;
            let why = broken.map_or("the run ended", |broken| broken.text());
            bail!("before the measured window, {why}");
        };
        // What came late counts, and so does the time that it took.
        let answered_ns = answers.as_ref().map(Answers::last_ns);
        let last_ns = last_ns.or(answered_ns).unwrap_or_default().max(end.at_ns());
        let work = Work {
            unit: self.unit,
            memory: self.server.pid.and_then(|pid| Memory::of(pid).ok()),
            interrupted: interrupt::requested(),
            planned: end.since(&before),
            window: self.sample()?.dated(last_ns).since(&before),
            pause_ns: answers.as_ref().map(Answers::pause_ns),
            cut,
            ..Work::default()
        };
        Ok((result, work))
    }

    /// Takes the samples at both ends of the window; `None` if the worker ended before. The end of
    /// the worker or of the server ends the window, too.
    fn watch(
        &self,
        progress: &mut Progress,
        is_over: impl Fn() -> bool,
    ) -> Result<Option<(Sample, Sample)>> {
        match self.wait_until(self.span.measure_from_ns, progress, &is_over)? {
            Wait::Due => {}
            Wait::Over => return Ok(None),
            Wait::Ended => {}
        }
        self.server.ensure_alive()?;
        interrupt::ensure_none()?;
        let before = self.sample()?;
        if self.wait_until(self.span.end_ns, progress, &is_over)? == Wait::Due {
            self.look()?;
        }
        Ok(Some((before, self.sample()?)))
    }

    fn wait_until(
        &self,
        until_ns: u64,
        progress: &mut Progress,
        is_over: impl Fn() -> bool,
    ) -> Result<Wait> {
        loop {
            let now_ns = now_ns();
            if now_ns >= until_ns || interrupt::requested() {
                return Ok(Wait::Due);
            }
            if is_over() {
                return Ok(Wait::Over);
            }
            if self.look()? == Wait::Ended {
                return Ok(Wait::Ended);
            }
            progress.run(|| self.live());
            thread::sleep(LOOK_INTERVAL.min(Duration::from_nanos(until_ns - now_ns)));
        }
    }

    /// Checks the run. A check that fails because the server has just ended is no error.
    fn look(&self) -> Result<Wait> {
        let checked = (self.check)();
        if self.server.has_ended() {
            return Ok(Wait::Ended);
        }
        checked.map(|()| Wait::Due)
    }

    fn live(&self) -> Live<'_> {
        let Span { start_ns, end_ns, .. } = self.span;
        Live {
            scenario: self.scenario,
            elapsed: Duration::from_nanos(now_ns().saturating_sub(start_ns)),
            planned: Duration::from_nanos(end_ns - start_ns),
            counted: Some((self.unit, self.count())),
            lost: self.pulse.map_or(0, Pulse::lost),
            latency: match self.pulse {
                Some(pulse) => pulse.timeline().so_far(),
                None => self.meter.timeline().so_far(),
            },
        }
    }

    fn sample(&self) -> Result<Sample> {
        Sample::take(self.count(), self.server.pid, self.client_pids.iter().copied())
    }
}

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wait {
    /// Its time has come, or Ctrl-C was pressed.
    Due,
    /// The worker has ended.
    Over,
    /// The server has ended.
    Ended,
}
