#![doc = include_str!("README.md")]
//!
//! # The code
//!
//! This module turns raw configuration into a validated [`Config`]. The rest of the program never
//! meets an invalid value. The name of a key, its meaning, type, default and bounds stand once, in
//! `keys.rs`. [`Config`], [`KEYS`] and the table above are made from that.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub mod address;
pub mod client_files;
pub mod cluster;
mod entries;
mod error;
mod fingerprints;
mod keys;
pub mod listen;
mod machine;
pub mod origins;
pub mod proxies;
pub mod public_keys;
mod reload;
pub mod secrets;
mod service_links;
mod sources;
pub mod tls_files;
mod value;

#[cfg(test)]
mod tests;

use crate::message::Millis;

pub use error::{ConfigError, Place};
pub use fingerprints::{Effective, Fingerprints};
pub use keys::{
    Admin, Auth, Cluster, Config, Cors, EngineIo, Forge, Http, Io, KEYS, Key, Limits, M2, Memory,
    Postgres, Proxy, Recovery, Tls, WebSocket, Webhooks, markdown_table,
};
pub use reload::{RELOADED, Reloaded};
pub use value::Mode;

use sources::Environment;
use value::Raw;

/// The format of log lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// A line of text for people.
    Text,
    /// A JSON object in a line, for programs that collect logs.
    Json,
}

/// How workers send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IoBackend {
    /// In batches if the kernel permits it, otherwise by plain system calls.
    Auto,
    /// In batches through io_uring; without it the node does not start.
    Ring,
    /// By a system call for each connection.
    Direct,
}

/// Whether messages to clients on WebSocket may be compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    /// Never.
    Off,
    /// If the client offers it.
    On,
}

/// Where the streams of a cluster are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Storage {
    /// In the memory of the NATS servers.
    Memory,
    /// On their disks.
    File,
}

/// What becomes of long-polling requests that reach another node than that of their session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Polling {
    /// They are refused.
    Refuse,
    /// They are passed on to that node.
    Pass,
}

/// Who keeps rows of a database in history, and calls webhooks for them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// This node, as for any other publication.
    Fanfare,
    /// The InsForge that has made the database.
    Insforge,
}

/// Whether a cluster's connections use TLS.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum TlsWish {
    /// If the server's URL says `tls`, or the server requires it.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

impl Recovery {
    /// Returns whether sessions can be resumed after their connection was cut.
    pub fn is_on(&self) -> bool {
        self.window_ms > 0
    }
}

impl Forge {
    /// Returns for how many milliseconds a subscriber counts as present after its connection was
    /// lost. It is never longer than events are kept, because the subscriber must find them when it
    /// returns.
    pub fn linger(&self) -> Millis {
        self.linger_ms.min(u64::from(self.replay_seconds) * 1_000)
    }
}

/// What lets others than the programs of this machine reach the node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exposure {
    /// It listens on this address, which is not loopback.
    Listens(SocketAddr),
}

/// A secret text, which `Debug` masks.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Returns the text itself, for code that must compare or show it.
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

/// Settings from the command line.
#[derive(Clone, Debug, Default)]
pub struct Arguments {
    /// The file to read; without it no file is read.
    pub config: Option<PathBuf>,
    /// The value of `--listen`, which overrides other sources; `None` if it is absent.
    pub listen: Option<OsString>,
    /// The value of `--data-dir`; `None` if it is absent.
    pub data_dir: Option<OsString>,
    /// The value of `--workers`; `None` if it is absent.
    pub workers: Option<OsString>,
    /// Serves third-party test suites without authentication. It has no other source, because a
    /// forgotten line in a file must not turn it on.
    pub conformance: bool,
}

impl Config {
    /// Loads the configuration from all its sources. `env` is the whole environment. Variables that
    /// begin with `FANFARE_` are read, and each must be known, except those that Kubernetes or
    /// Docker makes for a Service or a link of such a name.
    ///
    /// # Errors
    /// All mistakes: in the file from top to bottom, then in the environment by name, then on the
    /// command line. The content of files that values name is not checked here.
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
        mistakes.extend(config.place_twice());
        mistakes.extend(config.exposures());
        mistakes.extend(config.proxy_mistake());
        ConfigError::of(mistakes)?;
        Ok(config)
    }

    /// Returns whether registered invocations of Forge are served to callers without a credential
    /// of their own.
    pub fn trusts_callers(&self) -> bool {
        self.forge.trust_network.unwrap_or_else(|| self.exposure().is_none())
    }

    /// Returns the leniencies in effect, each with the setting that turns it off.
    pub fn leniencies(&self) -> Vec<&'static str> {
        let all = [
            (self.conformance, "no authentication at all, for test suites only (--conformance)"),
            (
                self.trusts_callers(),
                "registered Forge invocations need no credential (forge.trust_network)",
            ),
            (!self.m2.require_auth, "M2 readers need no credential (m2.require_auth = false)"),
        ];
        all.into_iter().filter_map(|(is_on, text)| is_on.then_some(text)).collect()
    }

    /// Returns the source of this key's value.
    pub fn place(&self, key: &str) -> Place {
        self.places.get(key).cloned().unwrap_or(Place::Default)
    }

    /// Returns the error of a file or directory that a key names.
    fn path_error(&self, key: &'static str, path: &Path, reason: String) -> ConfigError {
        format!("{}: `{key}`: {}: {reason}", self.place(key), path.display()).into()
    }

    /// Sets a value and remembers its source. If the value is invalid, the one before it stays.
    fn give(&mut self, key: &'static Key, raw: Raw<'_>, place: Place) -> Result<(), String> {
        match key.set(self, raw) {
            Ok(()) => {
                self.places.insert(key.name, place);
                Ok(())
            }
            Err(reason) => Err(format!("{place}: `{}` {reason}", key.name)),
        }
    }

    fn apply_arguments(&mut self, arguments: &Arguments) -> Vec<String> {
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

    /// Returns the mistake of a configuration that wants PROXY headers and names no proxies.
    fn proxy_mistake(&self) -> Option<String> {
        let is_mistaken = self.proxy.protocol && self.proxy.trusted.is_none();
        is_mistaken.then(|| {
            let place = self.place("proxy.protocol");
            format!("{place}: `proxy.protocol` = true needs `proxy.trusted`: the proxies meant")
        })
    }

    /// Returns the mistakes of a configuration that serves others without authentication.
    fn exposures(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        let Some(Exposure::Listens(listen)) = self.exposure() else { return mistakes };
        if self.conformance {
            mistakes.push(format!(
                "argument --conformance: serves without authentication and is refused on \
                 {listen}: listen on a loopback address such as 127.0.0.1:7130"
            ));
        }
        if !self.m2.require_auth {
            let place = self.place("m2.require_auth");
            mistakes.push(format!(
                "{place}: `m2.require_auth` = false serves M2 without authentication and is \
                 refused on {listen}: set `listen` to a loopback address such as 127.0.0.1:7130, \
                 or `m2.require_auth` to true"
            ));
        }
        mistakes
    }
}
