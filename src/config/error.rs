//! What can be wrong with a configuration, said so that the operator finds the line.

use std::fmt;
use std::path::PathBuf;

/// Characters of somebody's text that a message repeats.
const SHOWN_CHARS_MAX: usize = 60;
/// How texts begin that are secrets wherever they stand: our keys, tokens, PEM blocks.
const SECRET_STARTS: [&str; 5] = ["ik_", "anon_", "whsec_", "eyJ", "-----BEGIN"];

/// Where a value was given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// Nowhere.
    Default,
    /// A line of a file.
    File {
        /// The file as the operator named it.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// An environment variable.
    Environment {
        /// Its name.
        variable: &'static str,
    },
    /// An argument.
    CommandLine {
        /// Its name.
        flag: &'static str,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment { variable } => write!(f, "environment variable {variable}"),
            Self::CommandLine { flag } => write!(f, "argument {flag}"),
        }
    }
}

/// Why there is no valid configuration: all that is wrong, in the order in which it was given, a
/// line each. The operator's fault in every case but a disk's, and not worth a second try without
/// a change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError(Vec<String>);

impl ConfigError {
    /// The exit code of a program that stops for this.
    pub const EXIT_CODE: u8 = 2;

    /// Good where everything is, and otherwise all that is not.
    ///
    /// # Errors
    /// The mistakes of all parts.
    pub fn all(parts: impl IntoIterator<Item = Result<(), Self>>) -> Result<(), Self> {
        Self::of(parts.into_iter().filter_map(Result::err).flat_map(|error| error.0).collect())
    }

    /// Returns an error, unless there are no mistakes. Their texts must not hold values of secrets.
    pub(super) fn of(mistakes: Vec<String>) -> Result<(), Self> {
        if mistakes.is_empty() { Ok(()) } else { Err(Self(mistakes)) }
    }
}

impl From<String> for ConfigError {
    fn from(mistake: String) -> Self {
        Self(vec![mistake])
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, mistake) in self.0.iter().enumerate() {
            let end_of_last = if at == 0 { "" } else { "\n" };
            write!(f, "{end_of_last}{}", one_line(mistake))?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// What somebody wrote, cut short if it is long.
pub(super) fn start_of(text: &str) -> String {
    if SECRET_STARTS.iter().any(|start| text.starts_with(start)) {
        return "[masked]".to_owned();
    }
    let start: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    let cut = if start.len() < text.len() { "…" } else { "" };
    format!("{start}{cut}")
}

/// A text with everything escaped that would leave its line or play with a terminal.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\'' | '"' | '\\' => line.push(c),
            _ => line.extend(c.escape_debug()),
        }
    }
    line
}
