//! One line on stderr that says how far the run is.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

/// How often the line is renewed on a terminal.
const TERMINAL_INTERVAL: Duration = Duration::from_millis(200);
/// How often a line is added where there is no terminal.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// The line and when it was last shown.
pub(crate) struct Progress {
    terminal: bool,
    shown: Option<Instant>,
}

impl Progress {
    /// Nothing shown yet.
    pub(crate) fn new() -> Self {
        Self { terminal: stderr().is_terminal(), shown: None }
    }

    /// Shows the line when it is time to. It is only for people, so it may fail to be written.
    pub(crate) fn show(&mut self, line: impl FnOnce() -> String) {
        let interval = if self.terminal { TERMINAL_INTERVAL } else { LOG_INTERVAL };
        if self.shown.is_some_and(|shown| shown.elapsed() < interval) {
            return;
        }
        self.shown = Some(Instant::now());
        let _ = if self.terminal {
            write!(stderr(), "\r\x1b[K{}", line())
        } else {
            writeln!(stderr(), "{}", line())
        };
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal && self.shown.is_some() {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}
