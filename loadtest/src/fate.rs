//! What becomes of the server during a run: whether it answers, and whether it is still there.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::clock::{nanos, now_ns};
use crate::interrupt;
use crate::procfs::has_ended;

/// After this time without an answer to anything, the server counts as stuck.
pub(crate) const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
/// How long the last answers are waited for when nothing more is sent.
pub(crate) const REST_PATIENCE: Duration = Duration::from_secs(5);
/// The same after Ctrl-C.
const INTERRUPTED_PATIENCE: Duration = Duration::from_millis(700);
/// A process closes its sockets a little before it has ended.
const END_PATIENCE: Duration = Duration::from_secs(1);
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// The server of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Server {
    /// Its process, if known.
    pub(crate) pid: Option<u32>,
    pub(crate) address: SocketAddr,
}

/// Why a publisher could not go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Broken {
    /// A connection failed or was closed.
    Connection(String),
    /// No answer came for long.
    Silence(String),
}

/// How the server cut a run short.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Cut {
    /// It ended this many seconds after the start of the measured window.
    Ended(f64),
    /// It stopped answering, as the text says.
    Stuck(String),
}

/// The answers of the server over time, as one thread sees them.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    /// Start of the measured window. Pauses before it do not count.
    from_ns: u64,
    /// The later of two times: of the last answer, and of the last moment with nothing to wait for.
    since_ns: u64,
    last_ns: u64,
    waiting: bool,
    pause_ns: u64,
    pub(crate) broken: Option<Broken>,
}

/// Returns how long the last answers are waited for when nothing more is sent.
pub(crate) fn rest_patience() -> Duration {
    if interrupt::requested() { INTERRUPTED_PATIENCE } else { REST_PATIENCE }
}

impl Server {
    /// Returns whether its process has ended; false if the process is unknown.
    pub(crate) fn has_ended(&self) -> bool {
        self.pid.is_some_and(has_ended)
    }

    /// Returns how the server cut a run short that a publisher has ended like this; `None` if it did
    /// not. Returns an error if a connection failed although the server is there.
    pub(crate) fn cut(&self, broken: Option<&Broken>, measure_from_ns: u64) -> Result<Option<Cut>> {
        let is_closed = matches!(broken, Some(Broken::Connection(_)));
        match (self.end(is_closed, measure_from_ns), broken) {
            (None, Some(Broken::Silence(what))) => Ok(Some(Cut::Stuck(what.clone()))),
            (None, Some(Broken::Connection(what))) => bail!("{what}"),
            (ended, _) => Ok(ended),
        }
    }

    /// Returns that the server has ended, if it has. Waits a little for that if it has closed
    /// connections.
    pub(crate) fn end(&self, has_closed: bool, measure_from_ns: u64) -> Option<Cut> {
        let after_s = now_ns().saturating_sub(measure_from_ns) as f64 / 1e9;
        (self.has_ended() || (has_closed && self.ends())).then_some(Cut::Ended(after_s))
    }

    /// Returns an error if it has ended although nothing is measured yet.
    pub(crate) fn ensure_alive(&self) -> Result<()> {
        ensure!(!self.has_ended(), "the server ended before the measured window began");
        Ok(())
    }

    /// Waits a little for the end of a server that has closed a connection.
    fn ends(&self) -> bool {
        let start = Instant::now();
        while start.elapsed() < END_PATIENCE {
            let refused = || {
                let dialled = TcpStream::connect_timeout(&self.address, END_PATIENCE);
                dialled.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
            };
            if self.has_ended() || (self.pid.is_none() && refused()) {
                return true;
            }
            thread::sleep(LOOK_INTERVAL);
        }
        false
    }
}

impl Broken {
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Connection(text) | Self::Silence(text) => text,
        }
    }
}

impl Cut {
    /// Returns what happened, as a part of a sentence.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Ended(after_s) => {
                format!("the server ended {after_s:.1} s after the start of the measured window")
            }
            Self::Stuck(what) => format!("the server stopped answering: {what}"),
        }
    }
}

impl Answers {
    /// Returns those of a publisher that broke.
    pub(crate) fn broken(broken: Broken) -> Self {
        Self { broken: Some(broken), ..Self::new(0) }
    }

    /// Returns those before the first.
    pub(crate) fn new(from_ns: u64) -> Self {
        let now_ns = now_ns();
        let (since_ns, last_ns) = (now_ns, now_ns);
        Self { from_ns, since_ns, last_ns, waiting: false, pause_ns: 0, broken: None }
    }

    /// Has pauses count from here on.
    pub(crate) fn measure_from(&mut self, from_ns: u64) {
        self.from_ns = from_ns;
    }

    /// Notes whether an answer has come since the last call, and whether one is waited for.
    pub(crate) fn note(&mut self, now_ns: u64, answered: bool, waiting: bool) {
        if self.waiting {
            let silent_ns = now_ns.saturating_sub(self.since_ns.max(self.from_ns));
            self.pause_ns = self.pause_ns.max(silent_ns);
        }
        if answered {
            self.last_ns = now_ns;
        }
        if answered || !self.waiting {
            self.since_ns = now_ns;
        }
        self.waiting = waiting;
    }

    /// Returns when the last answer came; the time of creation before the first.
    pub(crate) fn last_ns(&self) -> u64 {
        self.last_ns
    }

    /// Returns the longest time in which an answer was waited for and none came, in ns.
    pub(crate) fn pause_ns(&self) -> u64 {
        self.pause_ns
    }

    /// Returns whether an answer has been waited for longer than `patience`.
    pub(crate) fn silent_for(&self, now_ns: u64, patience: Duration) -> bool {
        self.waiting && now_ns.saturating_sub(self.since_ns) > nanos(patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_pause_is_the_longest_wait_without_any_answer_in_the_window() {
        let mut answers = Answers::new(10 * SECOND);
        let mut note = |second: u64, answered, waiting| {
            answers.note(second * SECOND, answered, waiting);
            answers.pause_ns() / SECOND
        };
        assert_eq!(note(1, false, true), 0);
        assert_eq!(note(9, true, true), 0, "before the window");
        assert_eq!(note(12, true, true), 2, "from its start");
        assert_eq!(note(13, true, false), 2);
        assert_eq!(note(50, false, true), 2, "nothing was waited for");
        assert_eq!(note(53, false, true), 3, "it lasts");
        assert_eq!(note(54, true, false), 4);
        assert_eq!(answers.last_ns(), 54 * SECOND);
        assert!(!answers.silent_for(99 * SECOND, ANSWER_PATIENCE));
        answers.note(55 * SECOND, false, true);
        assert!(!answers.silent_for(65 * SECOND, ANSWER_PATIENCE));
        assert!(answers.silent_for(66 * SECOND, ANSWER_PATIENCE));
    }

    #[test]
    fn a_closed_connection_is_the_end_of_a_server_that_is_gone() {
        let mut child = std::process::Command::new("sleep").arg("20").spawn().unwrap();
        let address = "127.0.0.1:1".parse().unwrap();
        let known = Server { pid: Some(child.id()), address };
        let closed = Some(Broken::Connection("closed".to_owned()));
        let silent = Some(Broken::Silence("nothing came".to_owned()));
        assert_eq!(known.cut(closed.as_ref(), 0).unwrap_err().to_string(), "closed");
        assert_eq!(known.cut(silent.as_ref(), 0).unwrap(), Some(Cut::Stuck("nothing came".into())));
        assert_eq!(known.cut(None, 0).unwrap(), None);
        child.kill().unwrap();
        // Its parent has not read its exit code, so that it is still a zombie.
        for broken in [closed.as_ref(), silent.as_ref()] {
            let is_ended = |cut| matches!(cut, Some(Cut::Ended(_)));
            while !known.has_ended() {}
            assert!(is_ended(known.cut(broken, 0).unwrap()));
            let unknown = Server { pid: None, address };
            let cut = unknown.cut(broken, 0).unwrap();
            assert_eq!(is_ended(cut), broken == closed.as_ref(), "nothing listens there");
        }
        child.wait().unwrap();
        assert!(known.has_ended());
    }
}
