//! Raw configuration to validated configuration.
//!
//! The rest of the program never meets an invalid value. What a key is called, what it means, its
//! default and its bounds stand once, in [`KEYS`]; the README's table is made from there. The
//! command line wins over the environment, the environment over the file, the file over defaults.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use tracing::Level;

use crate::message::SlowConsumer;

mod error;
mod keys;
pub mod secrets;
mod sources;

#[cfg(test)]
mod tests;

pub use error::{ConfigError, Mistake, Place};
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
    /// How a log line looks.
    pub log_format: LogFormat,
    /// Over how many milliseconds a node that is told to stop spreads its closes.
    pub drain_ms: u64,
    /// Engine.IO's timing.
    pub engine_io: EngineIo,
    /// Patience with HTTP clients.
    pub http: Http,
    /// How clients may go on after a cut.
    pub recovery: Recovery,
    /// What the node trusts.
    pub auth: Auth,
    /// How webhooks are called.
    pub webhooks: Webhooks,
    /// How Forge Realtime is served.
    pub forge: Forge,
    /// How M2 Realtime is served.
    pub m2: M2,
    /// Serve what other people's test suites need; only ever on a loopback address.
    pub conformance: bool,
    /// Where the values come from that are not defaults, by key.
    places: BTreeMap<&'static str, Place>,
}

/// How a log line looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// For people.
    Text,
    /// A JSON object, for what collects logs.
    Json,
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

/// How clients may go on after their connection was cut.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovery {
    /// For how many milliseconds; 0 for not at all.
    pub window_ms: u64,
    /// Memory of each worker for what they may have missed, in bytes.
    pub log_bytes: usize,
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
    /// Whether clients are closed when their token expires.
    pub close_expired: bool,
}

/// How webhooks are called. A secret that is not given comes from the data directory: see
/// [`secrets::ensure`].
#[derive(Clone, Debug)]
pub struct Webhooks {
    /// What calls are signed with: `whsec_` and 64 hexadecimal digits.
    pub secret: Option<Secret>,
    /// For a webhook to answer, each time that it is called, in milliseconds.
    pub timeout_ms: u64,
    /// Whether addresses that are not public may be called.
    pub allow_private: bool,
}

/// How Forge Realtime is served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Forge {
    /// For how many seconds an event is kept for who subscribes later.
    pub replay_seconds: u32,
    /// For how many milliseconds a subscriber whose connection was lost counts as present.
    pub linger_ms: u64,
    /// Operations a second that one installation may do; 0 for as many as it likes.
    pub rate_limit: u32,
    /// For how many seconds a realtime token is good.
    pub token_lifetime_s: u64,
    /// Whether a subscription ends when its realtime token expires.
    pub enforce_token_expiry: bool,
    /// Longest payload, in bytes of the unescaped string.
    pub payload_bytes: usize,
    /// Whether global channels are closed to a context that says nothing of scopes.
    pub require_scopes: bool,
    /// What becomes of a subscriber that does not keep up.
    pub slow_consumer: SlowConsumer,
    /// Whether the id of a registered invocation is proof enough on any address.
    pub trust_network: bool,
}

/// How M2 Realtime is served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct M2 {
    /// Whether readers must prove who they are; always, where others than this machine may come.
    pub require_auth: bool,
    /// A key that reads, and writes nothing.
    pub api_key: Option<Secret>,
    /// Whether everybody must name a project.
    pub require_project: bool,
    /// Whether subscribers are told of deletions.
    pub notify_deletes: bool,
    /// Resources that one connection may be subscribed to.
    pub subscriptions: usize,
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
    pub listen: Option<OsString>,
    /// Overrides `data_dir`.
    pub data_dir: Option<OsString>,
    /// Overrides `workers`.
    pub workers: Option<OsString>,
    /// Has no other source: nobody should meet this by a forgotten line in a file.
    pub conformance: bool,
}

impl Config {
    /// Puts the configuration together from all its sources. `env` is the whole environment; only
    /// variables that begin with `FANFARE_` are looked at, and each of those must be known.
    ///
    /// # Errors
    /// All mistakes: in the file from top to bottom, then in the environment by name, then on the
    /// command line. What stands in files that values name is not looked at here.
    pub fn load<N, V>(
        arguments: &Arguments,
        env: impl Iterator<Item = (N, V)>,
    ) -> Result<Self, ConfigError>
    where
        N: AsRef<OsStr>,
        V: Into<OsString>,
    {
        let mut config = Self::defaults();
        let mut mistakes = Vec::new();
        if let Some(path) = &arguments.config {
            mistakes.extend(sources::apply_file(&mut config, path));
        }
        mistakes.extend(Environment::collect(env).apply(&mut config));
        mistakes.extend(config.apply_arguments(arguments));
        mistakes.extend(config.exposures());
        ConfigError::of(mistakes)?;
        Ok(config)
    }

    /// The configuration of a node that was told nothing.
    pub fn defaults() -> Self {
        let mut config = Self::blank();
        for key in KEYS {
            if let Some(text) = key.default_text() {
                let raw = Raw::Plain(OsStr::new(&text));
                key.set(&mut config, raw).expect("a test sets every key's default");
            }
        }
        config
    }

    /// The configuration in effect, as TOML with the secrets masked, unset keys as comments, and
    /// behind each value where it comes from.
    pub fn effective(&self) -> String {
        keys::effective(self)
    }

    /// Where the value of this key comes from.
    pub fn place(&self, key: &str) -> Place {
        self.places.get(key).cloned().unwrap_or(Place::Default)
    }

    /// Sets a value and remembers its place; a value that cannot be leaves the one before it.
    fn give(&mut self, key: &'static Key, raw: Raw<'_>, place: Place) -> Result<(), Mistake> {
        match key.set(self, raw) {
            Ok(()) => {
                self.places.insert(key.name, place);
                Ok(())
            }
            Err(reason) => Err(Mistake::Value { place, name: key.name, reason }),
        }
    }

    fn apply_arguments(&mut self, arguments: &Arguments) -> Vec<Mistake> {
        let Arguments { config: _, listen, data_dir, workers, conformance } = arguments;
        let given = [
            ("listen", "--listen", listen),
            ("data_dir", "--data-dir", data_dir),
            ("workers", "--workers", workers),
        ];
        let mut mistakes = Vec::new();
        for (name, flag, value) in given {
            let Some(value) = value else { continue };
            let key = Key::named(name).expect("a test passes every argument");
            let given = self.give(key, Raw::Plain(value), Place::CommandLine { flag });
            mistakes.extend(given.err());
        }
        self.conformance = *conformance;
        mistakes
    }

    /// What must be served on a loopback address only, and is not.
    fn exposures(&self) -> Vec<Mistake> {
        let listen = self.listen;
        let mut mistakes = Vec::new();
        if listen.ip().to_canonical().is_loopback() {
            return mistakes;
        }
        if self.conformance {
            mistakes.push(Mistake::Conformance { listen });
        }
        if !self.m2.require_auth {
            mistakes.push(Mistake::OpenM2 { place: self.place("m2.require_auth"), listen });
        }
        mistakes
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
            log_format: LogFormat::Text,
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
            recovery: Recovery { window_ms: 0, log_bytes: 0 },
            auth: Auth::default(),
            webhooks: Webhooks { secret: None, timeout_ms: 0, allow_private: false },
            forge: Forge {
                replay_seconds: 0,
                linger_ms: 0,
                rate_limit: 0,
                token_lifetime_s: 0,
                enforce_token_expiry: false,
                payload_bytes: 0,
                require_scopes: false,
                slow_consumer: SlowConsumer::Close,
                trust_network: false,
            },
            m2: M2 {
                require_auth: true,
                api_key: None,
                require_project: true,
                notify_deletes: true,
                subscriptions: 0,
            },
            conformance: false,
            places: BTreeMap::new(),
        }
    }
}
