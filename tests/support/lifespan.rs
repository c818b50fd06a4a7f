//! A limit for tests that would wait for ever: their node ends, and they fail with it.

use std::process::Child;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The variable with another limit in seconds.
const LIFESPAN: &str = "FANFARE_TEST_LIFESPAN";
/// Ten times what the longest test of `tests/run` takes.
const SECONDS: u64 = 1_200;

/// Kills a process that lives for longer than any test needs it, unless it is dropped before.
pub(super) struct Lifespan {
    _lives: Sender<()>,
}

impl Lifespan {
    pub(super) fn of(child: &Child) -> Self {
        // Not by its number, which another process may have by then.
        let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty());
        let process = process.expect("this process has not waited for its child");
        let seconds = std::env::var(LIFESPAN).ok().and_then(|text| text.parse().ok());
        let seconds = seconds.unwrap_or(SECONDS);
        let test = thread::current().name().unwrap_or_default().to_owned();
        let (lives, ended) = mpsc::channel::<()>();
        thread::spawn(move || {
            let ended = ended.recv_timeout(Duration::from_secs(seconds));
            if ended == Err(RecvTimeoutError::Timeout) {
                eprintln!("--- a node of {test} is killed, because it has lived for {seconds} s");
                // It fails only if the process has ended.
                let _ = pidfd_send_signal(process, Signal::KILL);
            }
        });
        Self { _lives: lives }
    }
}
