//! What can be wrong with a configuration, said so that the operator finds the line.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

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
pub struct ConfigError(Vec<Mistake>);

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

    /// An error, unless there are no mistakes.
    pub(super) fn of(mistakes: Vec<Mistake>) -> Result<(), Self> {
        if mistakes.is_empty() { Ok(()) } else { Err(Self(mistakes)) }
    }

    /// What is wrong, never nothing.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.0
    }
}

impl From<Mistake> for ConfigError {
    fn from(mistake: Mistake) -> Self {
        Self(vec![mistake])
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, mistake) in self.0.iter().enumerate() {
            let end_of_last = if at == 0 { "" } else { "\n" };
            write!(f, "{end_of_last}{}", one_line(&mistake.to_string()))?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// One thing that is wrong. Values of secrets are never part of the text.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Mistake {
    /// A file that cannot be used at all.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The configuration file cannot be read.
    #[error("argument --config: {}: {reason}", path.display())]
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Text that is not TOML.
    #[error("{place}: not valid TOML: {reason}")]
    Syntax {
        /// Where.
        place: Place,
        /// What was expected.
        reason: String,
    },
    /// A key that does not exist.
    #[error("{place}: unknown key `{}`{}", start_of(name), suggest(*nearest))]
    UnknownKey {
        /// Where.
        place: Place,
        /// The key with its sections.
        name: String,
        /// A key that may be meant.
        nearest: Option<&'static str>,
    },
    /// A value where a section is expected.
    #[error("{place}: `{name}` is a section: write `[{name}]` and its keys below it")]
    NotASection {
        /// Where.
        place: Place,
        /// The section.
        name: String,
    },
    /// A `FANFARE_` variable that does not exist.
    #[error("unknown environment variable `{}`{}", start_of(name), suggest(*nearest))]
    UnknownVariable {
        /// Its name.
        name: String,
        /// A variable that may be meant.
        nearest: Option<&'static str>,
    },
    /// A value of the wrong type, form or size.
    #[error("{place}: `{name}` {reason}")]
    Value {
        /// Where.
        place: Place,
        /// The key.
        name: &'static str,
        /// What it must be and is not.
        reason: String,
    },
    /// The conformance entrances have no authentication.
    #[error(
        "argument --conformance: serves without authentication and is refused on {listen}: listen \
         on a loopback address such as 127.0.0.1:7130"
    )]
    Conformance {
        /// The address.
        listen: SocketAddr,
    },
    /// M2 without authentication is for development on one machine.
    #[error(
        "{place}: `m2.require_auth` = false serves M2 without authentication and is refused on \
         {listen}: set `listen` to a loopback address such as 127.0.0.1:7130, or \
         `m2.require_auth` to true"
    )]
    OpenM2 {
        /// Where `m2.require_auth` was given.
        place: Place,
        /// The address.
        listen: SocketAddr,
    },
    /// A file or directory that a key names.
    #[error("{place}: `{name}`: {}: {reason}", path.display())]
    Named {
        /// Where.
        place: Place,
        /// The key.
        name: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl Mistake {
    /// A file or directory that cannot be used.
    pub(super) fn file(path: &Path, reason: impl fmt::Display) -> Self {
        Self::File { path: path.to_owned(), reason: reason.to_string() }
    }
}

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

fn suggest(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}
