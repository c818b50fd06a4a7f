//! A crowd in several processes: the conducting process and its helpers.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};

use crate::crowd::pulse::{Counts, Dismissal, Pulse};
use crate::crowd::{Crowd, Gathered};
use crate::heard::Digest;
use crate::helper::{Helper, News, tell};
use crate::tally::Tally;
use crate::timeline::TimelineDigest;

/// Time between two reports of a process. Its counts are known with this delay.
const REPORT_INTERVAL: Duration = Duration::from_millis(5);
/// How long a process may take to send its results after it was told to end.
const RESULT_PATIENCE: Duration = Duration::from_secs(30);
const LOOK_INTERVAL: Duration = Duration::from_millis(2);
/// Time between two reports of latencies.
const LATENCY_INTERVAL: Duration = Duration::from_millis(500);

/// A message from a process that holds clients.
#[derive(Serialize, Deserialize)]
enum Report {
    /// The counts have changed.
    Counts(Counts),
    /// The latencies since the last such report.
    Latencies(TimelineDigest),
    /// The error of its first failed connection.
    Failure(String),
    /// The results of each group of its clients. This is the last message.
    Result(Vec<Summary>),
}

/// The results of one group: what its clients received, and each distinct tally with its number of
/// clients.
type Summary = (Digest, Vec<(Tally, usize)>);

/// Starts a process per share, runs `conduct`, and adds up the results.
pub(super) fn gather<T>(
    shares: &[Crowd],
    pulse: &Pulse,
    conduct: impl FnOnce() -> Result<T>,
) -> Result<(T, Vec<Gathered>)> {
    let mut helpers = Vec::new();
    let mut ways = Vec::new();
    let mut back = Vec::new();
    for (number, share) in shares.iter().enumerate() {
        let role = format!("client process {number}");
        let (helper, orders, news) = Helper::start(&role, "clients", share)?;
        helpers.push(helper);
        ways.push(orders);
        back.push(news);
    }
    pulse.joined_by(helpers.iter().map(Helper::pid).collect(), ways);
    thread::scope(|scope| {
        let dismissal = Dismissal(pulse);
        let followers: Vec<_> = back
            .into_iter()
            .map(|news| {
                let builder = thread::Builder::new().name("news".to_owned());
                builder.spawn_scoped(scope, move || follow(news, pulse))
            })
            .collect::<Result<_, _>>()?;
        let conducted = conduct();
        drop(dismissal);
        await_all(&followers, &mut helpers);
        let mut all = shares.first().map(Crowd::nothing_gathered).unwrap_or_default();
        for follower in followers {
            let summaries = follower.join().expect("it returns its errors")?;
            for (group, (digest, tallies)) in all.iter_mut().zip(summaries) {
                group.heard.add_digest(digest)?;
                for (tally, count) in tallies {
                    group.tallies.extend(std::iter::repeat_n(tally, count));
                }
            }
        }
        Ok((conducted?, all))
    })
}

/// Runs the share of a crowd that the parent process sends.
pub(crate) fn serve() -> Result<()> {
    rustix::thread::set_name(c"clients")?;
    let mut job = String::new();
    std::io::stdin().read_line(&mut job)?;
    let crowd: Crowd = serde_json::from_str(&job).context("no valid job on stdin")?;
    let (sender, orders) = channel();
    // This thread ends with the process at the latest, so it is not joined.
    thread::Builder::new().name("orders".to_owned()).spawn(move || {
        let dues = std::io::stdin().lines().map_while(|line| line.ok()?.parse::<u64>().ok());
        // The receiver is gone when this process is about to end.
        let _ = dues.map(|due_ns| sender.send(due_ns)).find(Result::is_err);
    })?;
    let pulse = Pulse::default();
    let ((), gathered) = crowd.gather(&pulse, || obey(&pulse, &orders))?;
    tell_latencies(&pulse)?;
    tell(&Report::Result(gathered.into_iter().map(summary).collect()))
}

fn summary(group: Gathered) -> Summary {
    let mut tallies: HashMap<Tally, usize> = HashMap::new();
    for tally in group.tallies {
        *tallies.entry(tally).or_default() += 1;
    }
    (group.heard.digest(), tallies.into_iter().collect())
}

/// Takes in the reports of one process until its result.
fn follow(mut news: News, pulse: &Pulse) -> Result<Vec<Summary>> {
    let mut before = Counts::default();
    loop {
        match news.next().inspect_err(|error| pulse.break_down(error))? {
            Report::Counts(now) => {
                pulse.advance(before, now);
                before = now;
            }
            Report::Latencies(digest) => pulse.timeline().add_digest(digest),
            Report::Failure(failure) => pulse.note_failure(failure),
            Report::Result(summaries) => return Ok(summaries),
        }
    }
}

/// Waits for the results. Kills all processes if one takes too long, which ends their reports.
fn await_all<T>(followers: &[ScopedJoinHandle<'_, T>], helpers: &mut [Helper]) {
    let start = Instant::now();
    while !followers.iter().all(ScopedJoinHandle::is_finished) {
        if start.elapsed() > RESULT_PATIENCE {
            helpers.iter_mut().for_each(Helper::kill);
            return;
        }
        thread::sleep(LOOK_INTERVAL);
    }
}

/// Applies orders until they end, and reports changes meanwhile.
fn obey(pulse: &Pulse, orders: &Receiver<u64>) -> Result<()> {
    let mut before = Counts::default();
    let mut failed = false;
    let mut told = Instant::now();
    loop {
        match orders.recv_timeout(REPORT_INTERVAL) {
            Ok(due_ns) => pulse.measure_from(due_ns),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        if let (false, Some(failure)) = (failed, pulse.first_failure()) {
            failed = true;
            tell(&Report::Failure(failure.to_owned()))?;
        }
        if told.elapsed() > LATENCY_INTERVAL {
            told = Instant::now();
            tell_latencies(pulse)?;
        }
        let now = pulse.counts();
        if now != before {
            before = now;
            tell(&Report::Counts(now))
                .map_err(|error| anyhow!("cannot report to the parent process: {error}"))?;
        }
    }
}

fn tell_latencies(pulse: &Pulse) -> Result<()> {
    let digest = pulse.timeline().take_digest();
    if digest.is_empty() { Ok(()) } else { tell(&Report::Latencies(digest)) }
}
