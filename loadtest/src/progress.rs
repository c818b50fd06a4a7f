//! One line on stderr that shows the progress of the run.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

/// How often the line is replaced on a terminal.
const TERMINAL_INTERVAL: Duration = Duration::from_millis(200);
/// How often a line is added if stderr is not a terminal.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// The kind of output and the time of the last line.
pub(crate) struct Progress {
    terminal: bool,
    shown: Option<Instant>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { terminal: stderr().is_terminal(), shown: None }
    }

    /// Shows the line if the interval has passed. Write errors are ignored, because nothing depends
    /// on it.
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
