//! The one table of configuration keys.

use std::ffi::OsStr;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;

use toml::de::DeValue;
use tracing::Level;

use super::error::{one_line, start_of};
use super::{Config, LogFormat, Secret, secrets};
use crate::limits::{
    FORGE_LINGER_MS_MAX, FORGE_PAYLOAD_BYTES_MAX, FORGE_PAYLOAD_BYTES_MIN, FORGE_RATE_LIMIT,
    JWT_SECRET_BYTES_MIN, M2_API_KEY_BYTES_MIN, MAILBOX_PUBLICATIONS_MAX, RATE_LIMIT_MAX,
    RECOVERY_LOG_BYTES_MAX, RECOVERY_LOG_BYTES_MIN, RECOVERY_WINDOW_MS_MAX, REPLAY_SECONDS_MAX,
    SUBSCRIPTIONS_PER_CONNECTION_MAX, WORKERS_MAX,
};
use crate::message::SlowConsumer;

/// An hour: longer timeouts than that are mistakes, or meant to be none.
const TIMEOUT_MS_MAX: u64 = 3_600_000;
/// Short enough for a test suite, long enough not to be a busy loop.
const TIMEOUT_MS_MIN: u64 = 50;
/// As many acceptors as make sense on the largest machine in sight.
const ACCEPTOR_THREADS_MAX: u64 = 64;
/// Shortest and longest time for which realtime tokens of Forge can be made good, in seconds: as
/// short as it can be told, and a day.
const TOKEN_LIFETIME_S_MIN: u64 = 1;
/// See [`TOKEN_LIFETIME_S_MIN`].
const TOKEN_LIFETIME_S_MAX: u64 = 86_400;
/// Hexadecimal digits after the prefix of an API key or anon key (contract section 1.1), and of the
/// secret of webhooks.
const KEY_DIGITS: usize = 64;

const LEVELS: [Level; 5] = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
const FORMATS: [LogFormat; 2] = [LogFormat::Text, LogFormat::Json];
/// Events of Forge must not be conflated, so there is no third way.
const SLOW_CONSUMERS: [SlowConsumer; 2] = [SlowConsumer::Close, SlowConsumer::DropOldest];

/// One configuration key.
#[derive(Debug)]
pub struct Key {
    /// Its name in the file, with its section: `http.idle_timeout_ms`.
    pub name: &'static str,
    /// Its environment variable.
    pub env: &'static str,
    /// What it decides, for people.
    pub meaning: &'static str,
    default: DefaultValue,
    kind: Kind,
    /// The value as TOML; `None` where it is not set.
    show: fn(&Config) -> Option<String>,
}

/// Every key, in the order in which people should read them.
pub static KEYS: &[Key] = &[
    Key {
        name: "listen",
        env: "FANFARE_LISTEN",
        meaning: "Address and port for all APIs.",
        default: DefaultValue::Text("127.0.0.1:7130"),
        kind: Kind::Address(|config, address| config.listen = address),
        show: |config| Some(quoted(&config.listen)),
    },
    Key {
        name: "data_dir",
        env: "FANFARE_DATA_DIR",
        meaning: "Directory of the store and of `keys.toml`; made at first start.",
        default: DefaultValue::Text("./fanfare-data"),
        kind: Kind::Path(|config, path| config.data_dir = path),
        show: |config| Some(quoted(&config.data_dir.display())),
    },
    Key {
        name: "workers",
        env: "FANFARE_WORKERS",
        meaning: "Worker threads.",
        default: DefaultValue::Cores,
        kind: Kind::Number {
            min: 1,
            max: WORKERS_MAX as u64,
            set: |config, number| config.workers = number as usize,
        },
        show: |config| Some(config.workers.to_string()),
    },
    Key {
        name: "acceptor_threads",
        env: "FANFARE_ACCEPTOR_THREADS",
        meaning: "Threads of their own for accepting and HTTP; 0: the workers do it.",
        default: DefaultValue::Text("0"),
        kind: Kind::Number {
            min: 0,
            max: ACCEPTOR_THREADS_MAX,
            set: |config, number| config.acceptor_threads = number as usize,
        },
        show: |config| Some(config.acceptor_threads.to_string()),
    },
    Key {
        name: "mailbox_publications",
        env: "FANFARE_MAILBOX_PUBLICATIONS",
        meaning: "Publications that may wait for one worker; beyond it publishes are refused.",
        default: DefaultValue::Text("4096"),
        kind: Kind::Number {
            min: 1,
            max: MAILBOX_PUBLICATIONS_MAX as u64,
            set: |config, number| config.mailbox_publications = number as usize,
        },
        show: |config| Some(config.mailbox_publications.to_string()),
    },
    Key {
        name: "pin_threads",
        env: "FANFARE_PIN_THREADS",
        meaning: "Keep each worker on a core of its own.",
        default: DefaultValue::Text("true"),
        kind: Kind::Switch(|config, on| config.pin_threads = on),
        show: |config| Some(config.pin_threads.to_string()),
    },
    Key {
        name: "log",
        env: "FANFARE_LOG",
        meaning: "What is logged, to standard error.",
        default: DefaultValue::Text("info"),
        kind: Kind::Choice {
            names: &["error", "warn", "info", "debug", "trace"],
            set: |config, at| config.log = LEVELS[at],
        },
        show: |config| Some(quoted(&config.log.as_str().to_ascii_lowercase())),
    },
    Key {
        name: "log_format",
        env: "FANFARE_LOG_FORMAT",
        meaning: "Lines for people, or a JSON object each.",
        default: DefaultValue::Text("text"),
        kind: Kind::Choice {
            names: &["text", "json"],
            set: |config, at| config.log_format = FORMATS[at],
        },
        show: |config| Some(quoted(&format!("{:?}", config.log_format).to_ascii_lowercase())),
    },
    Key {
        name: "drain_ms",
        env: "FANFARE_DRAIN_MS",
        meaning: "Time over which a node that is told to stop spreads the closes of its connections.",
        default: DefaultValue::Text("10000"),
        kind: Kind::Number {
            min: 0,
            max: TIMEOUT_MS_MAX,
            set: |config, number| config.drain_ms = number,
        },
        show: |config| Some(config.drain_ms.to_string()),
    },
    Key {
        name: "engine_io.ping_interval_ms",
        env: "FANFARE_ENGINE_IO_PING_INTERVAL_MS",
        meaning: "Time between a pong and the next ping.",
        default: DefaultValue::Text("25000"),
        kind: Kind::timeout(|config, ms| config.engine_io.ping_interval_ms = ms),
        show: |config| Some(config.engine_io.ping_interval_ms.to_string()),
    },
    Key {
        name: "engine_io.ping_timeout_ms",
        env: "FANFARE_ENGINE_IO_PING_TIMEOUT_MS",
        meaning: "Time for the pong, before the connection counts as lost.",
        default: DefaultValue::Text("20000"),
        kind: Kind::timeout(|config, ms| config.engine_io.ping_timeout_ms = ms),
        show: |config| Some(config.engine_io.ping_timeout_ms.to_string()),
    },
    Key {
        name: "engine_io.connect_timeout_ms",
        env: "FANFARE_ENGINE_IO_CONNECT_TIMEOUT_MS",
        meaning: "Time for the Socket.IO CONNECT packet.",
        default: DefaultValue::Text("45000"),
        kind: Kind::timeout(|config, ms| config.engine_io.connect_timeout_ms = ms),
        show: |config| Some(config.engine_io.connect_timeout_ms.to_string()),
    },
    Key {
        name: "engine_io.upgrade_timeout_ms",
        env: "FANFARE_ENGINE_IO_UPGRADE_TIMEOUT_MS",
        meaning: "Time for a probed WebSocket to take over from long-polling.",
        default: DefaultValue::Text("10000"),
        kind: Kind::timeout(|config, ms| config.engine_io.upgrade_timeout_ms = ms),
        show: |config| Some(config.engine_io.upgrade_timeout_ms.to_string()),
    },
    Key {
        name: "http.head_timeout_ms",
        env: "FANFARE_HTTP_HEAD_TIMEOUT_MS",
        meaning: "Time for a request's head.",
        default: DefaultValue::Text("10000"),
        kind: Kind::timeout(|config, ms| config.http.head_timeout_ms = ms),
        show: |config| Some(config.http.head_timeout_ms.to_string()),
    },
    Key {
        name: "http.body_timeout_ms",
        env: "FANFARE_HTTP_BODY_TIMEOUT_MS",
        meaning: "Time for a request's body.",
        default: DefaultValue::Text("30000"),
        kind: Kind::timeout(|config, ms| config.http.body_timeout_ms = ms),
        show: |config| Some(config.http.body_timeout_ms.to_string()),
    },
    Key {
        name: "http.idle_timeout_ms",
        env: "FANFARE_HTTP_IDLE_TIMEOUT_MS",
        meaning: "Time between two requests on one connection.",
        default: DefaultValue::Text("75000"),
        kind: Kind::timeout(|config, ms| config.http.idle_timeout_ms = ms),
        show: |config| Some(config.http.idle_timeout_ms.to_string()),
    },
    Key {
        name: "http.write_timeout_ms",
        env: "FANFARE_HTTP_WRITE_TIMEOUT_MS",
        meaning: "Time for a client to take any part of a response.",
        default: DefaultValue::Text("30000"),
        kind: Kind::timeout(|config, ms| config.http.write_timeout_ms = ms),
        show: |config| Some(config.http.write_timeout_ms.to_string()),
    },
    Key {
        name: "recovery.window_ms",
        env: "FANFARE_RECOVERY_WINDOW_MS",
        meaning: "For how long a client may go on where it was after its connection was cut, in \
                  milliseconds; 0 for never.",
        default: DefaultValue::Text("0"),
        kind: Kind::Number {
            min: 0,
            max: RECOVERY_WINDOW_MS_MAX,
            set: |config, ms| config.recovery.window_ms = ms,
        },
        show: |config| Some(config.recovery.window_ms.to_string()),
    },
    Key {
        name: "recovery.log_bytes",
        env: "FANFARE_RECOVERY_LOG_BYTES",
        meaning: "Memory of each worker for what such clients may have missed.",
        default: DefaultValue::Text("67108864"),
        kind: Kind::Number {
            min: RECOVERY_LOG_BYTES_MIN,
            max: RECOVERY_LOG_BYTES_MAX,
            // On every platform that the node runs on.
            set: |config, bytes| config.recovery.log_bytes = bytes as usize,
        },
        show: |config| Some(config.recovery.log_bytes.to_string()),
    },
    Key {
        name: "auth.api_key",
        env: "FANFARE_API_KEY",
        meaning: "Key of backends and administrators.",
        default: DefaultValue::Generated,
        kind: Kind::Secret {
            form: Form::Key("ik_"),
            set: |config, secret| config.auth.api_key = Some(secret),
        },
        show: |config| config.auth.api_key.as_ref().map(masked),
    },
    Key {
        name: "auth.anon_key",
        env: "FANFARE_ANON_KEY",
        meaning: "Key of clients that have no user.",
        default: DefaultValue::Generated,
        kind: Kind::Secret {
            form: Form::Key("anon_"),
            set: |config, secret| config.auth.anon_key = Some(secret),
        },
        show: |config| config.auth.anon_key.as_ref().map(masked),
    },
    Key {
        name: "auth.jwt_secret",
        env: "FANFARE_JWT_SECRET",
        meaning: "Secret of HS256 tokens.",
        default: DefaultValue::Generated,
        kind: Kind::Secret {
            form: Form::JwtSecret,
            set: |config, secret| config.auth.jwt_secret = Some(secret),
        },
        show: |config| config.auth.jwt_secret.as_ref().map(masked),
    },
    Key {
        name: "auth.public_keys_file",
        env: "FANFARE_PUBLIC_KEYS_FILE",
        meaning: "PEM file with public keys of token issuers (RS256, ES256, EdDSA).",
        default: DefaultValue::Unset,
        kind: Kind::Path(|config, path| config.auth.public_keys_file = Some(path)),
        show: |config| config.auth.public_keys_file.as_ref().map(|path| quoted(&path.display())),
    },
    Key {
        name: "auth.jwks_file",
        env: "FANFARE_JWKS_FILE",
        meaning: "JWK set with public keys of token issuers (RS256, ES256, EdDSA).",
        default: DefaultValue::Unset,
        kind: Kind::Path(|config, path| config.auth.jwks_file = Some(path)),
        show: |config| config.auth.jwks_file.as_ref().map(|path| quoted(&path.display())),
    },
    Key {
        name: "auth.close_expired",
        env: "FANFARE_CLOSE_EXPIRED",
        meaning: "Whether a client is closed when its token expires, unless it has given a newer \
                  one by then.",
        default: DefaultValue::Text("false"),
        kind: Kind::Switch(|config, close| config.auth.close_expired = close),
        show: |config| Some(config.auth.close_expired.to_string()),
    },
    Key {
        name: "webhooks.secret",
        env: "FANFARE_WEBHOOKS_SECRET",
        meaning: "Secret that webhook calls are signed with.",
        default: DefaultValue::Generated,
        kind: Kind::Secret {
            form: Form::Key("whsec_"),
            set: |config, secret| config.webhooks.secret = Some(secret),
        },
        show: |config| config.webhooks.secret.as_ref().map(masked),
    },
    Key {
        name: "webhooks.timeout_ms",
        env: "FANFARE_WEBHOOKS_TIMEOUT_MS",
        meaning: "Time for a webhook to answer, each time that it is called.",
        default: DefaultValue::Text("10000"),
        kind: Kind::timeout(|config, ms| config.webhooks.timeout_ms = ms),
        show: |config| Some(config.webhooks.timeout_ms.to_string()),
    },
    Key {
        name: "webhooks.allow_private",
        env: "FANFARE_WEBHOOKS_ALLOW_PRIVATE",
        meaning: "Call webhooks on loopback, private and other addresses that are not public, too.",
        default: DefaultValue::Text("false"),
        kind: Kind::Switch(|config, on| config.webhooks.allow_private = on),
        show: |config| Some(config.webhooks.allow_private.to_string()),
    },
    Key {
        name: "forge.replay_seconds",
        env: "FANFARE_FORGE_REPLAY_SECONDS",
        meaning: "For how many seconds an event of Forge is kept for who subscribes later; 0 for \
                  not at all.",
        default: DefaultValue::Text("60"),
        kind: Kind::Number {
            min: 0,
            max: REPLAY_SECONDS_MAX as u64,
            // Within bounds that fit.
            set: |config, seconds| config.forge.replay_seconds = seconds as u32,
        },
        show: |config| Some(config.forge.replay_seconds.to_string()),
    },
    Key {
        name: "forge.linger_ms",
        env: "FANFARE_FORGE_LINGER_MS",
        meaning: "For how long a Forge subscriber whose connection was lost still counts as \
                  present, so that events are answered with an id and kept for its return.",
        default: DefaultValue::Text("0"),
        kind: Kind::Number {
            min: 0,
            max: FORGE_LINGER_MS_MAX,
            set: |config, ms| config.forge.linger_ms = ms,
        },
        show: |config| Some(config.forge.linger_ms.to_string()),
    },
    Key {
        name: "forge.rate_limit",
        env: "FANFARE_FORGE_RATE_LIMIT",
        meaning: "Operations a second (subscribe, publish and sign together) that one Forge \
                  installation may do; `forge` for the 50 of Forge itself.",
        default: DefaultValue::Text("off"),
        kind: Kind::Rate(|config, rate| config.forge.rate_limit = rate),
        show: |config| match config.forge.rate_limit {
            0 => Some(quoted(&RATE_OFF)),
            rate => Some(rate.to_string()),
        },
    },
    Key {
        name: "forge.token_lifetime_s",
        env: "FANFARE_FORGE_TOKEN_LIFETIME_S",
        meaning: "For how many seconds a realtime token of Forge is good.",
        default: DefaultValue::Text("3600"),
        kind: Kind::Number {
            min: TOKEN_LIFETIME_S_MIN,
            max: TOKEN_LIFETIME_S_MAX,
            set: |config, seconds| config.forge.token_lifetime_s = seconds,
        },
        show: |config| Some(config.forge.token_lifetime_s.to_string()),
    },
    Key {
        name: "forge.enforce_token_expiry",
        env: "FANFARE_FORGE_ENFORCE_TOKEN_EXPIRY",
        meaning: "Whether a Forge subscription ends when its realtime token expires, rather than \
                  being checked when it is made.",
        default: DefaultValue::Text("false"),
        kind: Kind::Switch(|config, on| config.forge.enforce_token_expiry = on),
        show: |config| Some(config.forge.enforce_token_expiry.to_string()),
    },
    Key {
        name: "forge.payload_bytes",
        env: "FANFARE_FORGE_PAYLOAD_BYTES",
        meaning: "Longest payload of a Forge event, in bytes of the unescaped string.",
        default: DefaultValue::Text("262144"),
        kind: Kind::Number {
            min: FORGE_PAYLOAD_BYTES_MIN as u64,
            max: FORGE_PAYLOAD_BYTES_MAX as u64,
            set: |config, bytes| config.forge.payload_bytes = bytes as usize,
        },
        show: |config| Some(config.forge.payload_bytes.to_string()),
    },
    Key {
        name: "forge.require_scopes",
        env: "FANFARE_FORGE_REQUIRE_SCOPES",
        meaning: "Whether a context token must name the scope \
                  `read:app-global-channel:realtime` for global channels of Forge, rather than \
                  only if it names scopes at all.",
        default: DefaultValue::Text("false"),
        kind: Kind::Switch(|config, on| config.forge.require_scopes = on),
        show: |config| Some(config.forge.require_scopes.to_string()),
    },
    Key {
        name: "forge.slow_consumer",
        env: "FANFARE_FORGE_SLOW_CONSUMER",
        meaning: "What becomes of a Forge subscriber whose outbox is full: it is closed, or loses \
                  its oldest events and is told so.",
        default: DefaultValue::Text("close"),
        kind: Kind::Choice {
            names: &["close", "drop_oldest"],
            set: |config, at| config.forge.slow_consumer = SLOW_CONSUMERS[at],
        },
        show: |config| Some(quoted(&config.forge.slow_consumer.name())),
    },
    Key {
        name: "forge.trust_network",
        env: "FANFARE_FORGE_TRUST_NETWORK",
        meaning: "Take the id of a registered invocation for proof enough also where the node \
                  listens on an address that is not loopback.",
        default: DefaultValue::Text("false"),
        kind: Kind::Switch(|config, on| config.forge.trust_network = on),
        show: |config| Some(config.forge.trust_network.to_string()),
    },
    Key {
        name: "m2.require_auth",
        env: "FANFARE_M2_REQUIRE_AUTH",
        meaning: "Whether readers of M2 must prove who they are; where they need not, `listen` \
                  must be a loopback address.",
        default: DefaultValue::Text("true"),
        kind: Kind::Switch(|config, on| config.m2.require_auth = on),
        show: |config| Some(config.m2.require_auth.to_string()),
    },
    Key {
        name: "m2.api_key",
        env: "FANFARE_M2_API_KEY",
        meaning: "Key of services that read M2's documents, of every organization, and write none.",
        default: DefaultValue::Unset,
        kind: Kind::Secret {
            form: Form::Word,
            set: |config, secret| config.m2.api_key = Some(secret),
        },
        show: |config| config.m2.api_key.as_ref().map(masked),
    },
    Key {
        name: "m2.require_project",
        env: "FANFARE_M2_REQUIRE_PROJECT",
        meaning: "Whether clients and writers of M2 must name a project besides the organization.",
        default: DefaultValue::Text("true"),
        kind: Kind::Switch(|config, on| config.m2.require_project = on),
        show: |config| Some(config.m2.require_project.to_string()),
    },
    Key {
        name: "m2.notify_deletes",
        env: "FANFARE_M2_NOTIFY_DELETES",
        meaning: "Whether subscribers of M2 are told when a document is deleted.",
        default: DefaultValue::Text("true"),
        kind: Kind::Switch(|config, on| config.m2.notify_deletes = on),
        show: |config| Some(config.m2.notify_deletes.to_string()),
    },
    Key {
        name: "m2.subscriptions",
        env: "FANFARE_M2_SUBSCRIPTIONS",
        meaning: "Resources that one connection of M2 may be subscribed to.",
        default: DefaultValue::Text("1000"),
        kind: Kind::Number {
            min: 1,
            max: SUBSCRIPTIONS_PER_CONNECTION_MAX as u64,
            set: |config, number| config.m2.subscriptions = number as usize,
        },
        show: |config| Some(config.m2.subscriptions.to_string()),
    },
];

/// The README's table: one row for each key.
pub fn markdown_table() -> String {
    let mut table = "| key | environment | default | meaning |\n|---|---|---|---|\n".to_owned();
    for Key { name, env, meaning, default, kind, .. } in KEYS {
        let default = match default {
            DefaultValue::Text(text) => format!("`{text}`"),
            DefaultValue::Cores => "one per core".to_owned(),
            DefaultValue::Generated => "made at first start".to_owned(),
            DefaultValue::Unset => "none".to_owned(),
        };
        let expected = kind.expected();
        table += &format!("| `{name}` | `{env}` | {default} | {meaning} Must be {expected}. |\n");
    }
    table
}

/// See [`Config::effective`].
pub(super) fn effective(config: &Config) -> String {
    let mut text = String::new();
    if config.conformance {
        text += "# --conformance: no authentication, for test suites only\n";
    }
    let mut current = "";
    for key in KEYS {
        let (section, name) = key.name.split_once('.').unwrap_or(("", key.name));
        if section != current {
            text += &format!("\n[{section}]\n");
            current = section;
        }
        text += &match ((key.show)(config), &key.default) {
            (Some(value), _) => {
                let place = one_line(&config.place(key.name).to_string());
                format!("{name} = {value}  # {place}\n")
            }
            (None, DefaultValue::Generated) => {
                let file = one_line(&secrets::path(&config.data_dir).to_string_lossy());
                format!("# {name} is kept in {file}, made at first start\n")
            }
            (None, _) => format!("# {name} is not set\n"),
        };
    }
    text
}

/// A value as its source gives it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Raw<'a> {
    /// The environment and the command line know nothing but text, and not even that for sure.
    Plain(&'a OsStr),
    /// A file's values have types.
    Toml(&'a DeValue<'a>),
}

impl Key {
    /// The key of this name.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// The default as text, where the key has one.
    pub(super) fn default_text(&self) -> Option<String> {
        match self.default {
            DefaultValue::Text(text) => Some(text.to_owned()),
            DefaultValue::Cores => {
                let cores = std::thread::available_parallelism().map_or(1, usize::from);
                Some(cores.min(WORKERS_MAX).to_string())
            }
            DefaultValue::Generated | DefaultValue::Unset => None,
        }
    }

    /// Validates a value and puts it in its place, or says what it must be and is not.
    pub(super) fn set(&self, config: &mut Config, raw: Raw<'_>) -> Result<(), String> {
        self.kind.set(config, raw).ok_or_else(|| {
            let expected = self.kind.expected();
            match self.kind {
                Kind::Secret { .. } => format!("must be {expected}"),
                _ => format!("must be {expected}, not {}", raw.shown()),
            }
        })
    }
}

/// How a rate says that there is no limit.
const RATE_OFF: &str = "off";
/// How it says that Forge's own holds.
const RATE_FORGE: &str = "forge";

#[derive(Debug)]
enum DefaultValue {
    Text(&'static str),
    /// As many as there are cores.
    Cores,
    /// Made at first start and kept in the data directory.
    Generated,
    Unset,
}

#[derive(Debug)]
enum Kind {
    Address(fn(&mut Config, SocketAddr)),
    Path(fn(&mut Config, PathBuf)),
    Number {
        min: u64,
        max: u64,
        set: fn(&mut Config, u64),
    },
    Switch(fn(&mut Config, bool)),
    /// So many a second, by number or by name; 0 for no limit.
    Rate(fn(&mut Config, u32)),
    /// `set` is given the place of the chosen name.
    Choice {
        names: &'static [&'static str],
        set: fn(&mut Config, usize),
    },
    Secret {
        form: Form,
        set: fn(&mut Config, Secret),
    },
}

impl Kind {
    const fn timeout(set: fn(&mut Config, u64)) -> Self {
        Self::Number { min: TIMEOUT_MS_MIN, max: TIMEOUT_MS_MAX, set }
    }

    /// `None` where the value is of the wrong type, form or size.
    fn set(&self, config: &mut Config, raw: Raw<'_>) -> Option<()> {
        match self {
            Self::Address(set) => set(config, raw.text()?.parse().ok()?),
            Self::Path(set) => set(config, raw.path()?),
            Self::Number { min, max, set } => {
                set(config, raw.number().filter(|number| (min..=max).contains(&number))?);
            }
            Self::Switch(set) => set(config, raw.switch()?),
            Self::Rate(set) => set(config, raw.rate()?),
            Self::Choice { names, set } => {
                let given = raw.text()?;
                set(config, names.iter().position(|name| *name == given)?);
            }
            Self::Secret { form, set } => {
                set(config, raw.text().filter(|text| form.fits(text))?.into());
            }
        }
        Some(())
    }

    fn expected(&self) -> String {
        match self {
            Self::Address(_) => "an IP address and port, such as `127.0.0.1:7130`".to_owned(),
            Self::Path(_) => "a path".to_owned(),
            Self::Number { min, max, .. } => format!("a whole number from {min} to {max}"),
            Self::Switch(_) => "`true` or `false`".to_owned(),
            Self::Rate(_) => {
                format!("`{RATE_OFF}`, `{RATE_FORGE}` or a whole number from 1 to {RATE_LIMIT_MAX}")
            }
            Self::Choice { names, .. } => {
                let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
                let (last, others) = names.split_last().expect("a choice has names");
                format!("{} or {last}", others.join(", "))
            }
            Self::Secret { form, .. } => form.expected(),
        }
    }
}

/// What a secret looks like.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// This prefix and [`KEY_DIGITS`] hexadecimal digits.
    Key(&'static str),
    /// Any text that is long enough for HS256.
    JwtSecret,
    /// What a header can hold as it stands, long enough not to be guessed.
    Word,
}

impl Form {
    pub(super) fn fits(self, text: &str) -> bool {
        match self {
            Self::Key(prefix) => text.strip_prefix(prefix).is_some_and(|digits| {
                digits.len() == KEY_DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
            }),
            Self::JwtSecret => text.len() >= JWT_SECRET_BYTES_MIN,
            Self::Word => {
                text.len() >= M2_API_KEY_BYTES_MIN && text.bytes().all(|b| b.is_ascii_graphic())
            }
        }
    }

    pub(super) fn expected(self) -> String {
        match self {
            Self::Key(prefix) => format!("`{prefix}` and {KEY_DIGITS} hexadecimal digits"),
            Self::JwtSecret => format!("a text of at least {JWT_SECRET_BYTES_MIN} bytes"),
            Self::Word => {
                format!("at least {M2_API_KEY_BYTES_MIN} printable ASCII characters without blanks")
            }
        }
    }
}

impl<'a> Raw<'a> {
    fn text(self) -> Option<&'a str> {
        match self {
            Self::Plain(text) => text.to_str(),
            Self::Toml(value) => value.as_str(),
        }
    }

    /// What goes over several lines is the content of a file where its path should stand.
    fn path(self) -> Option<PathBuf> {
        let path = match self {
            Self::Plain(path) => path,
            Self::Toml(value) => OsStr::new(value.as_str()?),
        };
        let bytes = path.as_encoded_bytes();
        let is_path = !bytes.is_empty() && !bytes.iter().any(u8::is_ascii_control);
        is_path.then(|| path.into())
    }

    fn number(self) -> Option<u64> {
        match self {
            Self::Toml(value) => {
                let number = value.as_integer()?;
                u64::from_str_radix(number.as_str(), number.radix()).ok()
            }
            Self::Plain(_) => self.text()?.parse().ok(),
        }
    }

    fn switch(self) -> Option<bool> {
        match self {
            Self::Toml(value) => value.as_bool(),
            Self::Plain(_) => self.text()?.parse().ok(),
        }
    }

    fn rate(self) -> Option<u32> {
        match self.text() {
            Some(RATE_OFF) => Some(0),
            Some(RATE_FORGE) => Some(FORGE_RATE_LIMIT),
            _ => {
                let rate = u32::try_from(self.number()?).ok()?;
                (1..=RATE_LIMIT_MAX).contains(&rate).then_some(rate)
            }
        }
    }

    /// For people: what was given, cut short if it is long.
    fn shown(self) -> String {
        match self {
            Self::Plain(text) => format!("\"{}\"", start_of(&text.to_string_lossy())),
            Self::Toml(DeValue::String(text)) => format!("\"{}\"", start_of(text)),
            Self::Toml(DeValue::Integer(number)) => start_of(&number.to_string()),
            Self::Toml(DeValue::Float(number)) => start_of(&number.to_string()),
            Self::Toml(DeValue::Boolean(switch)) => switch.to_string(),
            Self::Toml(value) => format!("a value of type {}", value.type_str()),
        }
    }
}

fn quoted(value: &dyn Display) -> String {
    toml::Value::String(value.to_string()).to_string()
}

fn masked(_: &Secret) -> String {
    quoted(&"[masked]")
}
