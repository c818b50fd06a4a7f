//! Samples of counters, processor time and memory: at the ends of the measured window, and second
//! by second within it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use anyhow::Result;

use crate::clock::{nanos, now_ns};
use crate::procfs::{Usage, has_ended, rss_bytes};
use crate::report::{Tick, Window, close, joined};
use crate::timeline::INTERVALS_MAX;

/// Counters at one moment.
pub(super) struct Sample {
    at_ns: u64,
    taken_ns: u64,
    received: u64,
    server: Option<Usage>,
    client: Usage,
}

/// Returns the processor time of a server; `None` if it has ended.
fn usage(pid: u32) -> Result<Option<Usage>> {
    let usage = Usage::of(pid);
    if has_ended(pid) { Ok(None) } else { usage.map(Some) }
}

impl Sample {
    /// Reads the processor time now and stores it with this number of deliveries. That of a server
    /// that has ended is unknown.
    pub(super) fn take(
        received: u64,
        server_pid: Option<u32>,
        client_pids: impl IntoIterator<Item = u32>,
    ) -> Result<Self> {
        let taken_ns = now_ns();
        Ok(Self {
            at_ns: taken_ns,
            taken_ns,
            received,
            server: server_pid.map(usage).transpose()?.flatten(),
            client: Usage::of_all(client_pids)?,
        })
    }

    /// Returns when the sample was taken, in ns.
    pub(super) fn at_ns(&self) -> u64 {
        self.at_ns
    }

    /// Changes the time of the sample to that of the last delivery.
    pub(super) fn dated(self, at_ns: u64) -> Self {
        Self { at_ns, ..self }
    }

    /// Returns the differences to the sample `before`.
    pub(super) fn since(&self, before: &Self) -> Window {
        let server = self.server.as_ref().zip(before.server.as_ref());
        Window {
            wall_ns: self.at_ns.saturating_sub(before.at_ns),
            cpu_wall_ns: self.taken_ns.saturating_sub(before.taken_ns),
            deliveries: self.received.saturating_sub(before.received),
            server: server.map(|(after, before)| after.since(before)),
            client: self.client.since(&before.client),
        }
    }
}

/// The usual time between two samples.
pub(super) const SECOND: Duration = Duration::from_secs(1);

/// A thread that samples a run at regular times. It reads some twenty small files each time.
pub(super) struct Sampler<C, P> {
    /// Start of the measured window.
    pub(super) from_ns: u64,
    /// Its length.
    pub(super) planned: Duration,
    /// Time between two samples; a run of many intervals has longer ones.
    pub(super) interval: Duration,
    pub(super) server_pid: Option<u32>,
    /// Returns the counters of the run: deliveries, publications, refusals and lost connections.
    pub(super) counts: C,
    /// Returns the processes that hold clients.
    pub(super) client_pids: P,
}

/// Ends a sampler.
#[derive(Default)]
struct Bell {
    rung: AtomicBool,
    sleeper: Mutex<Option<Thread>>,
}

/// Rings a bell when it is dropped, even by a panic: otherwise the sampler would be waited for
/// forever.
struct Ringing<'a>(&'a Bell);

impl Drop for Ringing<'_> {
    fn drop(&mut self) {
        self.0.rung.store(true, Ordering::Release);
        if let Ok(Some(sleeper)) = self.0.sleeper.lock().as_deref() {
            sleeper.unpark();
        }
    }
}

impl Bell {
    /// Sleeps until `until_ns`. Returns true if the bell has rung.
    fn sleep(&self, until_ns: u64) -> bool {
        loop {
            let left_ns = until_ns.saturating_sub(now_ns());
            if self.rung.load(Ordering::Acquire) || left_ns == 0 {
                return self.rung.load(Ordering::Acquire);
            }
            thread::park_timeout(Duration::from_nanos(left_ns));
        }
    }
}

impl<C: Fn() -> Tick + Sync, P: Fn() -> Vec<u32> + Sync> Sampler<C, P> {
    /// Runs `work`, and samples until it is done or the server ends.
    pub(super) fn during<T>(&self, work: impl FnOnce() -> T) -> Result<(T, Vec<Tick>)> {
        let bell = Bell::default();
        thread::scope(|scope| {
            let builder = thread::Builder::new().name("sampler".to_owned());
            let ticks = builder.spawn_scoped(scope, || self.run(&bell))?;
            let ringing = Ringing(&bell);
            let done = work();
            drop(ringing);
            Ok((done, ticks.join().expect("the sampler does not panic")))
        })
    }

    fn run(&self, bell: &Bell) -> Vec<Tick> {
        let mut ticks = Vec::new();
        // The end of the server shows in the run itself, with a better error.
        let _ = self.sample(bell, &mut ticks);
        ticks
    }

    fn sample(&self, bell: &Bell, ticks: &mut Vec<Tick>) -> Result<()> {
        if let Ok(mut sleeper) = bell.sleeper.lock() {
            *sleeper = Some(thread::current());
        }
        let mut interval_ns = nanos(self.interval);
        if bell.sleep(self.from_ns) {
            return Ok(());
        }
        let mut before = self.usages()?;
        ticks.push(self.tick(&before, &before));
        let end_ns = self.from_ns + nanos(self.planned);
        let mut number = 1;
        loop {
            let last_ns = ticks.last().map_or(0, |tick: &Tick| tick.at_ns);
            number = next_number(number, last_ns, interval_ns);
            let regular_ns = self.from_ns + number * interval_ns;
            let last_ns = self.from_ns + last_ns;
            // One more tick lies at the end of the window, where its backlog is measured.
            let is_end = last_ns < end_ns && end_ns < regular_ns;
            let done = bell.sleep(if is_end { end_ns } else { regular_ns });
            number += u64::from(!is_end);
            let now = self.usages()?;
            let tick = self.tick(&before, &now);
            before = now;
            if done || is_end {
                close(ticks, tick, Duration::from_nanos(interval_ns));
                if done {
                    return Ok(());
                }
                continue;
            }
            ticks.push(tick);
            if number > INTERVALS_MAX {
                fold(ticks);
                interval_ns *= 2;
                number = number.div_ceil(2);
            }
        }
    }

    fn usages(&self) -> Result<(Option<Usage>, Usage)> {
        let server = self.server_pid.map(Usage::of).transpose()?;
        Ok((server, Usage::of_all((self.client_pids)())?))
    }

    fn tick(&self, before: &(Option<Usage>, Usage), now: &(Option<Usage>, Usage)) -> Tick {
        let server = now.0.as_ref().zip(before.0.as_ref());
        Tick {
            at_ns: now_ns().saturating_sub(self.from_ns),
            server_cpu_ns: server.map(|(now, before)| now.since(before).process.total_ns()),
            client_cpu_ns: now.1.since(&before.1).process.total_ns(),
            rss_bytes: self.server_pid.and_then(rss_bytes),
            ..(self.counts)()
        }
    }
}

/// Returns the number of the next regular tick: not one that was missed, nor one so near that the
/// rates of the time between would be those of a moment.
fn next_number(number: u64, last_ns: u64, interval_ns: u64) -> u64 {
    number.max((last_ns + interval_ns / 4).div_ceil(interval_ns))
}

/// Makes one tick of two, so that a long run has no more than a short one.
fn fold(ticks: &mut Vec<Tick>) {
    let all = std::mem::take(ticks);
    let (first, rest) = all.split_at(all.len().min(1));
    ticks.extend(first);
    ticks.extend(rest.chunks(2).map(|pair| match pair {
        [one, other] => joined(*one, *other),
        _ => pair[0],
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sampler_ticks_at_the_end_of_the_window_and_when_it_is_ended() {
        let own = std::process::id();
        let sampler = Sampler {
            from_ns: now_ns(),
            planned: Duration::from_millis(300),
            interval: SECOND,
            server_pid: Some(own),
            counts: Tick::default,
            client_pids: || vec![own],
        };
        let work = || thread::sleep(Duration::from_millis(700));
        let ((), ticks) = sampler.during(work).unwrap();
        let at = |number: usize| ticks[number].at_ns / 1_000_000;
        assert_eq!(ticks.len(), 3, "{ticks:?}");
        assert!(at(0) < 300 && (300..700).contains(&at(1)) && at(2) >= 700, "{ticks:?}");
        assert!(ticks[2].rss_bytes > Some(100_000));
    }

    #[test]
    fn ticks_that_were_missed_are_left_out() {
        let next = |number, last_ns| next_number(number, last_ns, 1_000);
        assert_eq!((next(1, 2), next(3, 2_004), next(3, 2_740)), (1, 3, 3));
        assert_eq!((next(3, 2_760), next(3, 3_500), next(3, 9_999)), (4, 4, 11));
    }

    #[test]
    fn two_ticks_become_one_with_the_time_of_both() {
        let tick = |at_ns| Tick { at_ns, client_cpu_ns: at_ns, ..Tick::default() };
        let mut ticks: Vec<_> = (0..=5).map(tick).collect();
        fold(&mut ticks);
        let times: Vec<_> = ticks.iter().map(|tick| (tick.at_ns, tick.client_cpu_ns)).collect();
        assert_eq!(times, [(0, 0), (2, 3), (4, 7), (5, 5)]);
    }
}
