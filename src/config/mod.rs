//! Raw configuration to validated configuration.
//!
//! The rest of the program never meets an invalid value. What a key is called, what it means, its
//! default and its bounds stand once, in [`KEYS`]; the README's table is made from there. The
//! command line wins over the environment, the environment over the file, the file over defaults.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use tracing::Level;

mod error;
mod keys;
pub mod secrets;
mod sources;

#[cfg(test)]
mod tests;

pub use error::{ConfigError, Place};
pub use keys::{KEYS, Key, markdown_table};

use keys::Raw;
use sources::Environment;

/// Everything that an operator may decide, valid as it stands.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the node listens.
    pub listen: SocketAddr,
    /// Where it keeps its data and its secrets.
    pub data_dir: PathBuf,
    /// Worker threads, 1 to [`WORKERS_MAX`](crate::limits::WORKERS_MAX).
    pub workers: usize,
    /// Acceptor threads; 0 means that the workers accept.
    pub acceptor_threads: usize,
    /// Publications that may wait for one worker.
    pub mailbox_publications: usize,
    /// Whether each worker stays on one core.
    pub pin_threads: bool,
    /// What is logged.
    pub log: Level,
    /// Over how many milliseconds a node that is told to stop spreads its closes.
    pub drain_ms: u64,
    /// Engine.IO's timing.
    pub engine_io: EngineIo,
    /// Patience with HTTP clients.
    pub http: Http,
    /// What the node trusts.
    pub auth: Auth,
    /// Serve what other people's test suites need; only ever on a loopback address.
    pub conformance: bool,
}

/// Engine.IO's timing (protocol 4), in milliseconds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EngineIo {
    /// Between a pong and the next ping.
    pub ping_interval_ms: u64,
    /// For the pong to arrive, before the connection counts as lost.
    pub ping_timeout_ms: u64,
    /// For the CONNECT packet to arrive.
    pub connect_timeout_ms: u64,
    /// For a probed WebSocket to take over from long-polling.
    pub upgrade_timeout_ms: u64,
}

/// Patience with HTTP clients, in milliseconds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Http {
    /// For a request's head to be complete.
    pub head_timeout_ms: u64,
    /// For a request's body to be complete.
    pub body_timeout_ms: u64,
    /// Between two requests on one connection.
    pub idle_timeout_ms: u64,
    /// For the client to take any part of a response.
    pub write_timeout_ms: u64,
}

/// What the node trusts. Keys and secret that are not given come from the data directory: see
/// [`secrets::ensure`].
#[derive(Clone, Debug, Default)]
pub struct Auth {
    /// `ik_` and 64 hexadecimal digits.
    pub api_key: Option<Secret>,
    /// `anon_` and 64 hexadecimal digits.
    pub anon_key: Option<Secret>,
    /// Of HS256 tokens.
    pub jwt_secret: Option<Secret>,
    /// PEM blocks of token issuers' public keys.
    pub public_keys_file: Option<PathBuf>,
    /// A JWK set of token issuers' public keys.
    pub jwks_file: Option<PathBuf>,
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// The text itself, for whoever must compare or show it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[masked]")
    }
}

/// What the command line says about configuration.
#[derive(Clone, Debug, Default)]
pub struct Arguments {
    /// The file to read; no file is read without it.
    pub config: Option<PathBuf>,
    /// Overrides `listen`.
    pub listen: Option<String>,
    /// Overrides `data_dir`.
    pub data_dir: Option<PathBuf>,
    /// Overrides `workers`.
    pub workers: Option<usize>,
    /// Has no other source: nobody should meet this by a forgotten line in a file.
    pub conformance: bool,
}

impl Config {
    /// Puts the configuration together from all its sources. `env` is the whole environment; only
    /// variables that begin with `FANFARE_` are looked at, and each of those must be known. The
    /// first error found is returned: in the file from top to bottom, then in the environment by
    /// name, then on the command line.
    pub fn load(
        arguments: &Arguments,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut config = Self::defaults();
        if let Some(path) = &arguments.config {
            sources::apply_file(&mut config, path)?;
        }
        Environment::collect(env).apply(&mut config)?;
        config.apply_arguments(arguments)?;
        Ok(config)
    }

    /// The configuration of a node that was told nothing.
    pub fn defaults() -> Self {
        let mut config = Self::blank();
        for key in KEYS {
            if let Some(text) = key.default_text() {
                key.set(&mut config, Raw::Text(&text)).expect("a test sets every key's default");
            }
        }
        config
    }

    /// The configuration in effect, as TOML with the secrets masked and unset keys as comments.
    pub fn effective(&self) -> String {
        keys::effective(self)
    }

    fn apply_arguments(&mut self, arguments: &Arguments) -> Result<(), ConfigError> {
        let Arguments { config: _, listen, data_dir, workers, conformance } = arguments;
        if let Some(listen) = listen {
            self.set_argument("listen", "--listen", Raw::Text(listen))?;
        }
        if let Some(data_dir) = data_dir {
            self.set_argument("data_dir", "--data-dir", Raw::Path(data_dir))?;
        }
        if let Some(workers) = workers {
            self.set_argument("workers", "--workers", Raw::Text(&workers.to_string()))?;
        }
        self.conformance = *conformance;
        if self.conformance && !self.listen.ip().to_canonical().is_loopback() {
            return Err(ConfigError::Conformance { listen: self.listen });
        }
        Ok(())
    }

    fn set_argument(
        &mut self,
        name: &'static str,
        flag: &'static str,
        raw: Raw<'_>,
    ) -> Result<(), ConfigError> {
        let key = Key::named(name).expect("a test passes every argument");
        key.set(self, raw).map_err(|reason| ConfigError::Value {
            place: Place::CommandLine { flag },
            name: key.name,
            reason,
        })
    }

    /// Before the defaults, which replace every value that has one.
    fn blank() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            data_dir: PathBuf::new(),
            workers: 0,
            acceptor_threads: 0,
            mailbox_publications: 4_096,
            pin_threads: false,
            log: Level::ERROR,
            drain_ms: 0,
            engine_io: EngineIo {
                ping_interval_ms: 0,
                ping_timeout_ms: 0,
                connect_timeout_ms: 0,
                upgrade_timeout_ms: 0,
            },
            http: Http {
                head_timeout_ms: 0,
                body_timeout_ms: 0,
                idle_timeout_ms: 0,
                write_timeout_ms: 0,
            },
            auth: Auth::default(),
            conformance: false,
        }
    }
}
