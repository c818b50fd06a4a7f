//! A crowd in several processes: the side of the one that conducts, and the side of the others.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};

use crate::crowd::pulse::{Counts, Dismissal, Pulse};
use crate::crowd::{Crowd, Gathered};
use crate::heard::{Digest, Heard};
use crate::helper::{Helper, News, tell};
use crate::tally::Tally;

/// Between two reports of a process; what it received is known with this delay.
const REPORT_INTERVAL: Duration = Duration::from_millis(5);
/// How long a process that was sent home may take to hand over what it has.
const RESULT_PATIENCE: Duration = Duration::from_secs(30);
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// What a process with clients says.
#[derive(Serialize, Deserialize)]
enum Report {
    /// Its counts have changed.
    Counts(Counts),
    /// Why its first connection failed.
    Failure(String),
    /// What its clients brought home, equal tallies counted together. The last thing it says.
    Result(Digest, Vec<(Tally, usize)>),
}

/// Starts a process per share, lets `conduct` do its work, and adds up what they bring home.
pub(super) fn gather<T>(
    shares: &[Crowd],
    pulse: &Pulse,
    conduct: impl FnOnce() -> Result<T>,
) -> Result<(T, Gathered)> {
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
        let mut all = Gathered { heard: Heard::new(), tallies: Vec::new() };
        for follower in followers {
            let (digest, tallies) = follower.join().expect("it returns its errors")?;
            all.heard.add_digest(digest)?;
            for (tally, count) in tallies {
                all.tallies.extend(std::iter::repeat_n(tally, count));
            }
        }
        Ok((conducted?, all))
    })
}

/// Runs the share of a crowd that another process hands over.
pub(crate) fn serve() -> Result<()> {
    rustix::thread::set_name(c"clients")?;
    let mut job = String::new();
    std::io::stdin().read_line(&mut job)?;
    let crowd: Crowd = serde_json::from_str(&job).context("no job came")?;
    let (sender, orders) = channel();
    // It ends with the process at the latest: nothing waits for it.
    thread::Builder::new().name("orders".to_owned()).spawn(move || {
        let dues = std::io::stdin().lines().map_while(|line| line.ok()?.parse::<u64>().ok());
        // Nobody listens any more once this process is about to end.
        let _ = dues.map(|due_ns| sender.send(due_ns)).find(Result::is_err);
    })?;
    let pulse = Pulse::default();
    let ((), gathered) = crowd.gather(&pulse, || obey(&pulse, &orders))?;
    let mut tallies: HashMap<Tally, usize> = HashMap::new();
    for tally in gathered.tallies {
        *tallies.entry(tally).or_default() += 1;
    }
    tell(&Report::Result(gathered.heard.digest(), tallies.into_iter().collect()))
}

/// Takes in what one process says until its result.
fn follow(mut news: News, pulse: &Pulse) -> Result<(Digest, Vec<(Tally, usize)>)> {
    let mut before = Counts::default();
    loop {
        match news.next().inspect_err(|error| pulse.break_down(error))? {
            Report::Counts(now) => {
                pulse.advance(before, now);
                before = now;
            }
            Report::Failure(failure) => pulse.note_failure(failure),
            Report::Result(digest, tallies) => return Ok((digest, tallies)),
        }
    }
}

/// Waits for the results; processes that keep theirs too long are ended, which ends their news.
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

/// Does what it is told until the orders end, and reports meanwhile.
fn obey(pulse: &Pulse, orders: &Receiver<u64>) -> Result<()> {
    let mut before = Counts::default();
    let mut failed = false;
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
        let now = pulse.counts();
        if now != before {
            before = now;
            tell(&Report::Counts(now)).map_err(|error| anyhow!("nobody listens: {error}"))?;
        }
    }
}
