//! How a run ended, and the exit code for it.

use std::process::ExitCode;

use crate::interrupt;
use crate::report::{Kind, Record};

/// The exit codes besides 0 for a good run and 2 for wrong usage.
const FAILED: u8 = 1;
/// The client fell behind, or the server was kept from its processor.
const OF_THE_MACHINE: u8 = 3;
const SERVER_FELL_BEHIND: u8 = 4;
/// 128 and the number of SIGINT, as shells show it.
const INTERRUPTED: u8 = 130;

/// What is to be said of a run, besides its report.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Ending {
    /// Errors and broken promises.
    pub(crate) faults: Vec<String>,
    /// Thresholds that were exceeded.
    pub(crate) exceeded: Vec<String>,
    /// `None` if the scenario gives no verdict.
    pub(crate) verdict: Option<Kind>,
    pub(crate) interrupted: bool,
}

impl From<Vec<String>> for Ending {
    fn from(faults: Vec<String>) -> Self {
        Self { faults, interrupted: interrupt::requested(), ..Self::default() }
    }
}

impl From<&Record> for Ending {
    fn from(record: &Record) -> Self {
        Self {
            faults: record.defects.clone(),
            exceeded: record.exceeded.clone(),
            verdict: Some(record.verdict.kind),
            interrupted: record.interrupted,
        }
    }
}

impl Ending {
    /// Returns the lines for standard error.
    pub(crate) fn lines(&self) -> Vec<String> {
        let faults = self.faults.iter().chain(&self.exceeded);
        let mut lines: Vec<_> = faults.map(|fault| format!("failed: {fault}")).collect();
        if self.interrupted {
            lines.push("interrupted: the figures are those up to Ctrl-C".to_owned());
        }
        lines
    }

    /// Returns the exit code. A fault counts more than a verdict, and a threshold counts only if the
    /// figures are the server's.
    fn number(&self) -> u8 {
        if !self.faults.is_empty() {
            FAILED
        } else if self.interrupted {
            INTERRUPTED
        } else if self.verdict.is_some_and(Kind::is_of_the_machine) {
            OF_THE_MACHINE
        } else if !self.exceeded.is_empty() {
            FAILED
        } else if self.verdict == Some(Kind::ServerFellBehind) {
            SERVER_FELL_BEHIND
        } else {
            0
        }
    }

    /// Returns the exit code.
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(self.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_rules_that_applies_is_the_exit_code() {
        let ending = |faults: usize, exceeded: usize, verdict, interrupted| Ending {
            faults: vec![String::new(); faults],
            exceeded: vec![String::new(); exceeded],
            verdict,
            interrupted,
        };
        use Kind::{ClientFellBehind, ServerFellBehind, Valid};
        for (ending, code) in [
            (ending(0, 0, None, false), 0),
            (ending(0, 0, Some(Valid), false), 0),
            (ending(1, 0, Some(ClientFellBehind), true), 1),
            (ending(0, 1, Some(Valid), true), 130),
            (ending(0, 1, Some(ClientFellBehind), false), 3),
            (ending(0, 1, Some(Kind::ServerStarved), false), 3),
            (ending(1, 0, Some(Kind::ServerEnded), false), 1),
            (ending(0, 1, Some(ServerFellBehind), false), 1),
            (ending(0, 0, Some(ServerFellBehind), false), 4),
        ] {
            assert_eq!(ending.number(), code, "{ending:?}");
        }
        let lines = ending(1, 1, None, true).lines();
        assert_eq!(lines.len(), 3);
        assert!(lines[2].starts_with("interrupted: "));
    }
}
