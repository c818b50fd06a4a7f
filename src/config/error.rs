//! Mistakes in a configuration, worded so that the operator finds the line.

use std::fmt;
use std::path::PathBuf;

/// Characters of a given text that a message repeats.
const SHOWN_CHARS_MAX: usize = 60;
/// Beginnings of texts that are secrets wherever they stand: our keys, tokens, PEM blocks.
const SECRET_STARTS: [&str; 5] = ["ik_", "anon_", "whsec_", "eyJ", "-----BEGIN"];

/// The source of a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// The default of its key.
    Default,
    /// A line of a file.
    File {
        /// The file as the operator named it.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// An environment variable, which overrides the file.
    Environment {
        /// Its name, such as `FANFARE_LISTEN`.
        variable: &'static str,
    },
    /// An argument of the command line, which overrides file and environment.
    CommandLine {
        /// Its name with its dashes: `--listen`.
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

/// Why there is no valid configuration: all mistakes in the order of their sources, a line each.
/// The operator must change something before a second try, unless a disk failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError(Vec<String>);

impl ConfigError {
    /// The exit code of a program that stops for this error.
    pub const EXIT_CODE: u8 = 2;

    /// Joins the mistakes of several parts into one error; `Ok` if every part is.
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

/// Returns a given text for a message: cut short if it is long, masked if it begins like a secret.
pub(super) fn start_of(text: &str) -> String {
    if SECRET_STARTS.iter().any(|start| text.starts_with(start)) {
        return "[masked]".to_owned();
    }
    let start: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    let cut = if start.len() < text.len() { "…" } else { "" };
    format!("{start}{cut}")
}

/// Returns a text with everything escaped that would leave its line or control a terminal.
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
