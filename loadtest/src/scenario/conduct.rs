//! Work on a thread of its own, and the processor time that it costs within a window.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::clock::{nanos, now_ns};
use crate::crowd::Pulse;
use crate::interrupt;
use crate::meter::Meter;
use crate::posting::Span;
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
    pub(super) server_pid: Option<u32>,
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
        work: impl FnOnce() -> Result<T> + Send,
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
            server_pid: self.server_pid,
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
        work: impl FnOnce() -> Result<T> + Send,
    ) -> Result<(T, Work)> {
        let name = if self.unit == "joins" { "clients" } else { "publisher" };
        let (done, window) = thread::scope(|scope| {
            let worker = thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, work)?;
            let watched = self.watch(progress, || worker.is_finished());
            if watched.is_err() {
                self.stop.store(true, Ordering::Relaxed);
            }
            while !worker.is_finished() {
                thread::sleep(LOOK_INTERVAL);
            }
            let done = worker.join().expect("the worker returns its errors");
            anyhow::Ok((done, watched))
        })?;
        let work = Work {
            unit: self.unit,
            memory: self.server_pid.map(Memory::of).transpose()?,
            interrupted: interrupt::requested(),
            window: match window {
                Ok(Some((before, after))) => after.since(&before),
                // The worker ended before the window did: its error says why.
                Ok(None) => return Err(done.err().unwrap_or_else(|| anyhow::anyhow!("too short"))),
                Err(error) => return Err(error),
            },
            ..Work::default()
        };
        Ok((done?, work))
    }

    /// Takes the samples at both ends of the window; `None` if the worker ended before.
    fn watch(
        &self,
        progress: &mut Progress,
        is_over: impl Fn() -> bool,
    ) -> Result<Option<(Sample, Sample)>> {
        let Span { start_ns, measure_from_ns, end_ns } = self.span;
        let mut wait_until = |until_ns: u64| -> Result<bool> {
            loop {
                let now_ns = now_ns();
                if now_ns >= until_ns || interrupt::requested() {
                    return Ok(true);
                }
                if is_over() {
                    return Ok(false);
                }
                (self.check)()?;
                progress.run(|| Live {
                    scenario: self.scenario,
                    elapsed: Duration::from_nanos(now_ns.saturating_sub(start_ns)),
                    planned: Duration::from_nanos(end_ns - start_ns),
                    counted: Some((self.unit, self.count())),
                    lost: self.pulse.map_or(0, Pulse::lost),
                    latency: match self.pulse {
                        Some(pulse) => pulse.timeline().so_far(),
                        None => self.meter.timeline().so_far(),
                    },
                });
                thread::sleep(LOOK_INTERVAL.min(Duration::from_nanos(until_ns - now_ns)));
            }
        };
        if !wait_until(measure_from_ns)? {
            return Ok(None);
        }
        interrupt::ensure_none()?;
        (self.check)()?;
        let before = self.sample()?;
        if !wait_until(end_ns)? {
            return Ok(None);
        }
        (self.check)()?;
        Ok(Some((before, self.sample()?)))
    }

    fn sample(&self) -> Result<Sample> {
        Sample::take(self.count(), self.server_pid, self.client_pids.iter().copied())
    }
}
