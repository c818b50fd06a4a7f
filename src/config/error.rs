//! What can be wrong with a configuration, said so that the operator finds the line.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Where a value was given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
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
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment { variable } => write!(f, "environment variable {variable}"),
            Self::CommandLine { flag } => write!(f, "argument {flag}"),
        }
    }
}

/// Why there is no valid configuration. The operator's fault in every case but a disk's, and not
/// worth a second try without a change. Values of secrets are never part of the text.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that cannot be used at all.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
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
    #[error("{place}: unknown key `{name}`{}", suggest(*nearest))]
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
    #[error("unknown environment variable `{name}`{}", suggest(*nearest))]
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
        "--conformance serves without authentication and is refused on {listen}: listen on a \
             loopback address such as 127.0.0.1:7130"
    )]
    Conformance {
        /// The address.
        listen: SocketAddr,
    },
    /// A file that a key names.
    #[error("`{name}`: {}: {reason}", path.display())]
    NamedFile {
        /// The key.
        name: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl ConfigError {
    /// The exit code of a program that stops for this.
    pub const EXIT_CODE: u8 = 2;

    /// A file or directory that cannot be used.
    pub(super) fn file(path: &Path, reason: impl fmt::Display) -> Self {
        Self::File { path: path.to_owned(), reason: reason.to_string() }
    }
}

fn suggest(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}
