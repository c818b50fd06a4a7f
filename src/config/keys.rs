//! The one table of configuration keys: [`Config`], its sections, and [`KEYS`] are made from it.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use tracing::Level;

use super::address::Address;
use super::error::one_line;
use super::listen::{Listen, Passed};
use super::origins::Origins;
use super::proxies::Proxies;
use super::value::{Form, Mode, Raw, Value};
use super::{
    Compression, IoBackend, LogFormat, Owner, Place, Polling, Secret, Storage, TlsWish, machine,
    secrets,
};
use crate::limits::{
    CHANNEL_BYTES_MAX, MESSAGE_BYTES_MAX, NODE_NAME_BYTES_MAX, PREFIX_BYTES_MAX,
    REPLAY_SECONDS_MAX, SUBSCRIPTIONS_PER_CONNECTION_MAX, WORKERS_MAX,
};
use crate::message::SlowConsumer;

/// Bounds of timeouts, in milliseconds. The least is short enough for a test suite and too long for
/// a busy loop. More than an hour is a mistake, or meant as no timeout at all.
const TIMEOUT: Form = Form::Number(50..=3_600_000);
const REPLAY_SECONDS: Form = Form::Number(0..=REPLAY_SECONDS_MAX as u64);
/// Bounds of rates of clients, a second; 0 for no limit.
const PER_SECOND: Form = Form::Number(0..=1_000_000);
/// Bounds of the bytes that a cluster's stream keeps.
const STREAM_BYTES: RangeInclusive<u64> = 64 * 1024 * 1024..=1024 * 1024 * 1024 * 1024;
/// Longest payload of Forge that can be configured, in bytes.
const PAYLOAD_BYTES_MAX: u64 = 900_000;

/// Least memory for clients that can be configured, in bytes: the parts for queues and windows then
/// hold a few of the longest messages.
const MEMORY_BYTES_MIN: u64 = 32 * 1024 * 1024;

const _: () = assert!(PAYLOAD_BYTES_MAX < MESSAGE_BYTES_MAX as u64, "the envelope has room");

/// Creates the structs, their defaults and the keys from lines of
///
/// ```text
/// /// The meaning, for people.
/// name: type = default, form;
/// ```
///
/// A default is a text as in the environment, or a [`DefaultValue`]. A section's text begins the
/// names of its environment variables; the key's name in capitals follows.
macro_rules! configuration {
    (
        $(#[doc = $all:literal])+
        $All:ident, $all_env:literal {
            $(
                $(#[doc = $top_line:literal])+
                $top:ident: $top_type:ty = $top_default:tt, $top_form:expr;
            )+
        }
        $(
            $(#[doc = $about:literal])+
            $(#[derive($derive:ident)])?
            $section:ident: $Section:ident, $env:literal {
                $(
                    $(#[doc = $line:literal])+
                    $key:ident: $type:ty = $default:tt, $form:expr;
                )+
            }
        )+
    ) => {
        $(#[doc = $all])+
        #[derive(Clone, Debug)]
        pub struct $All {
            $(
                $(#[doc = $top_line])+
                pub $top: $top_type,
            )+
            $(
                $(#[doc = $about])+
                pub $section: $Section,
            )+
            /// Whether the node serves what third-party test suites need, without authentication;
            /// on a loopback address only.
            pub conformance: bool,
            /// The places of sockets that were passed to the process, which stand in for others.
            pub(super) passed: Passed,
            /// The sources of the values that are not defaults, by key.
            pub(super) places: BTreeMap<&'static str, Place>,
        }

        $(
            $(#[doc = $about])+
            #[derive(Clone, PartialEq, Eq, Debug)]
            $(#[derive($derive)])?
            pub struct $Section {
                $(
                    $(#[doc = $line])+
                    pub $key: $type,
                )+
            }
        )+

        impl $All {
            /// Returns the configuration in which every key has its default.
            pub fn defaults() -> Self {
                Self {
                    $($top: default_value!($top_default).value(&$top_form),)+
                    $($section: $Section {
                        $($key: default_value!($default).value(&$form),)+
                    },)+
                    conformance: false,
                    passed: Passed::default(),
                    places: BTreeMap::new(),
                }
            }
        }

        /// Every key, in the order of the README's table.
        pub static KEYS: &[Key] = &[
            $(key! {
                stringify!($top), concat!($all_env, stringify!($top)),
                concat!($($top_line),+), $top_default, $top_form, $top
            },)+
            $($(key! {
                concat!(stringify!($section), ".", stringify!($key)),
                concat!($env, stringify!($key)),
                concat!($($line),+), $default, $form, $section.$key
            },)+)+
        ];
    };
}

macro_rules! key {
    ($name:expr, $env:expr, $meaning:expr, $default:tt, $form:expr, $($field:ident).+) => {
        Key {
            name: $name,
            env: {
                const CAPITALS: [u8; $env.len()] = capitals($env);
                match str::from_utf8(&CAPITALS) {
                    Ok(name) => name,
                    Err(_) => panic!("capitals are ASCII"),
                }
            },
            meaning: $meaning.trim_ascii(),
            default: default_value!($default),
            form: $form,
            set: |config, raw, form| {
                config.$($field).+ = Value::read(raw, form)?;
                Some(())
            },
            show: |config, form| config.$($field).+.show(form),
            differs: |one, other| one.$($field).+ != other.$($field).+,
            copy: |to, from| to.$($field).+ = from.$($field).+.clone(),
        }
    };
}

macro_rules! default_value {
    ($text:literal) => {
        DefaultValue::Text($text)
    };
    ($other:ident) => {
        DefaultValue::$other
    };
}

const fn capitals<const LENGTH: usize>(name: &str) -> [u8; LENGTH] {
    let mut bytes = *name.as_bytes().first_chunk().expect("the length is the name's");
    bytes.make_ascii_uppercase();
    bytes
}

configuration! {
    /// All settings of a node, validated.
    Config, "FANFARE_" {
        /// Where all APIs are served: one place or several. `[::]` stands for IPv4, too.
        listen: Vec<Listen> = "127.0.0.1:7130", Form::Listens;
        /// Permissions of unix sockets, in octal.
        listen_mode: Mode = "660", Form::Mode;
        /// Directory of the store and of `keys.toml`; made at first start.
        data_dir: PathBuf = "./fanfare-data", Form::Path;
        /// Worker threads.
        workers: usize = Cores, Form::Number(1..=WORKERS_MAX as u64);
        /// Threads that only accept connections and serve HTTP; with 0 the workers do it.
        acceptor_threads: usize = "0", Form::Number(0..=64);
        /// Publications that may wait for one worker; beyond it publishes are refused.
        mailbox_publications: usize = "4096", Form::Number(1..=65_536);
        /// Keep each worker on a core of its own.
        pin_threads: bool = "true", Form::Switch;
        /// Least severe level that is logged, to standard error.
        log: Level = "info", Form::Choice(&["error", "warn", "info", "debug", "trace"]);
        /// Format of log lines: text for people, or a JSON object each.
        log_format: LogFormat = "text", Form::Choice(&["text", "json"]);
        /// Time for which a node that is told to stop still serves new clients while its health
        /// says that it drains, so that load balancers notice; then it drains.
        drain_delay_ms: u64 = "0", Form::Number(0..=3_600_000);
        /// Time over which a node that stops closes its connections.
        drain_ms: u64 = "10000", Form::Number(0..=3_600_000);
    }

    /// Listeners of administration.
    admin: Admin, "FANFARE_ADMIN_" {
        /// Where administration is served, besides all else: one place or several. The places in
        /// `listen` then answer 404 to it. If not set, they serve it.
        listen: Option<Vec<Listen>> = Unset, Form::Listens;
    }

    /// TLS of clients, for all of `listen` and `admin.listen` but unix sockets.
    tls: Tls, "FANFARE_TLS_" {
        /// PEM files with certificates, each with those of its issuers behind it. A client receives
        /// the first one that has the name that it asks for, or else the first of all. Their
        /// contents are read again when they change. If not set, clients do not encrypt.
        cert_file: Option<Vec<PathBuf>> = Unset, Form::Paths;
        /// PEM files with their private keys, in the same order.
        key_file: Option<Vec<PathBuf>> = Unset, Form::Paths;
        /// PEM file with the authorities of back ends' certificates. If set, the API key and the
        /// tokens of administrators, writers and services count only if the client has shown a
        /// certificate of one of these authorities, or has come directly to a unix socket of
        /// administration.
        client_ca_file: Option<PathBuf> = Unset, Form::Path;
    }

    /// Engine.IO (protocol 4): its timing, in milliseconds, and the client that pages may load.
    engine_io: EngineIo, "FANFARE_ENGINE_IO_" {
        /// Time between a pong and the next ping.
        ping_interval_ms: u64 = "25000", TIMEOUT;
        /// Time for the pong, before the connection counts as lost.
        ping_timeout_ms: u64 = "20000", TIMEOUT;
        /// Time for the Socket.IO CONNECT packet.
        connect_timeout_ms: u64 = "45000", TIMEOUT;
        /// Time for a probed WebSocket to take over from long-polling.
        upgrade_timeout_ms: u64 = "10000", TIMEOUT;
        /// Folder with the Socket.IO client's files (`dist` of the npm package `socket.io-client`),
        /// which are served below `/socket.io/`; read at start.
        client_dir: Option<PathBuf> = Unset, Form::Path;
    }

    /// Timeouts of HTTP clients, in milliseconds.
    http: Http, "FANFARE_HTTP_" {
        /// Time for a request's head.
        head_timeout_ms: u64 = "10000", TIMEOUT;
        /// Time for a request's body.
        body_timeout_ms: u64 = "30000", TIMEOUT;
        /// Time between two requests on one connection.
        idle_timeout_ms: u64 = "75000", TIMEOUT;
        /// Time for a client to take a whole response.
        write_timeout_ms: u64 = "30000", TIMEOUT;
    }

    /// Pages of other origins (CORS).
    cors: Cors, "FANFARE_CORS_" {
        /// Origins whose pages may use the node; requests of others are refused. Those that are
        /// listed by name may also send credentials of their browser. If not set, pages of every
        /// origin may do both.
        allowed_origins: Option<Origins> = Unset, Form::Origins;
    }

    /// Proxies in front of the node.
    proxy: Proxy, "FANFARE_PROXY_" {
        /// Addresses and networks of proxies whose `X-Forwarded-For` and `Forwarded` name the
        /// client; `unix` stands for those on unix sockets. Sent by others, these headers count for
        /// nothing.
        trusted: Option<Proxies> = Unset, Form::Networks;
        /// Whether each connection from these proxies begins with a header of the PROXY protocol
        /// (version 1 or 2), which names the client. Then it is required from them, and refused
        /// from others.
        protocol: bool = "false", Form::Switch;
    }

    /// Limits of what clients may take of the node.
    #[derive(Copy)]
    limits: Limits, "FANFARE_LIMITS_" {
        /// HTTP connections and sessions that the node may have at once; 0 for as many as it has
        /// descriptors and memory for.
        connections: usize = "0", Form::Number(0..=100_000_000);
        /// Connections that one address (IPv6: one network of 64 bits) may have at once; 0 for no
        /// limit. This machine has none.
        connections_per_address: u32 = "0", Form::Number(0..=1_000_000);
        /// Sessions that may begin in a second, on all transports together; 0 for no limit.
        handshakes_per_second: u32 = "0", PER_SECOND;
        /// Requests without a credential that are served in a second for one address (IPv6: one
        /// network of 64 bits); 0 for no limit. This machine has none.
        requests_per_second_per_address: u32 = "0", PER_SECOND;
        /// TLS handshakes that one address (IPv6: one network of 64 bits) may begin in a second; 0
        /// for no limit. This machine has none.
        tls_handshakes_per_second_per_address: u32 = "0", PER_SECOND;
        /// Long-polling sessions of Socket.IO that the node may have at once; 0 for 65536 for each
        /// worker, which none exceeds.
        polling_sessions: u64 = "0", Form::Number(0..=100_000_000);
        /// Channels, topics or resources that one connection may be subscribed to.
        subscriptions_per_connection: usize = "4096",
            Form::Number(1..=SUBSCRIPTIONS_PER_CONNECTION_MAX as u64);
        /// Longest name of a channel, or id of a resource, that clients and publishers may use, in
        /// bytes. Forge's channels have at most 255 in any case.
        channel_bytes: usize = "512", Form::Number(1..=CHANNEL_BYTES_MAX as u64);
        /// Longest payload of a publication or data of a document, in bytes.
        payload_bytes: usize = "1000000", Form::Number(1..=MESSAGE_BYTES_MAX as u64);
        /// Publications that one WebSocket or session on long-polling may send in a second, unless
        /// its client is an administrator; 0 for no limit.
        publishes_per_second_per_connection: u32 = "0", PER_SECOND;
    }

    /// WebSockets of all interfaces.
    #[derive(Copy)]
    websocket: WebSocket, "FANFARE_WEBSOCKET_" {
        /// Compress messages for clients that offer it (permessage-deflate). Each publication is
        /// compressed once, for all such clients.
        compression: Compression = "off", Form::Choice(&["off", "on"]);
        /// Length of a message, in bytes, from which on it is compressed.
        compression_bytes: usize = "1024", Form::Number(1..=1 << 30);
    }

    /// How workers send to their clients.
    #[derive(Copy)]
    io: Io, "FANFARE_IO_" {
        /// `ring` sends a turn's frames in batches through io_uring, `direct` by a system call for
        /// each connection; `auto` takes the ring if the kernel permits it.
        backend: IoBackend = "auto", Form::Choice(&["auto", "ring", "direct"]);
        /// Length of a frame, in bytes, from which on the kernel is to send it without copying it,
        /// if it goes to four clients or more at once; 0 for never. Over loopback that costs more.
        zerocopy_bytes: usize = "0", Form::Number(0..=1 << 30);
    }

    /// The memory that clients may make the node hold.
    #[derive(Copy)]
    memory: Memory, "FANFARE_MEMORY_" {
        /// Memory for all clients together, in bytes. As it fills up, connections that do not take
        /// what they are sent may hold less, and those that hold the most are closed.
        client_bytes: usize = HalfMemory, Form::Number(MEMORY_BYTES_MIN..=1 << 50);
    }

    /// Resumption of sessions and streams whose connection was cut.
    #[derive(Copy)]
    recovery: Recovery, "FANFARE_RECOVERY_" {
        /// Time for which a session or a stream can be resumed after its connection was cut, in
        /// milliseconds; 0 for never.
        window_ms: u64 = "0", Form::Number(0..=3_600_000);
        /// Memory of each worker for publications that sessions may have missed, in bytes. Those of
        /// streams have as much for the whole node.
        log_bytes: usize = "67108864", Form::Number(1024 * 1024..=64 * 1024 * 1024 * 1024);
    }

    /// Keys that the node trusts, and its secret. Those that are not given come from the data
    /// directory: see [`secrets::ensure`].
    auth: Auth, "FANFARE_" {
        /// Key of back ends and administrators.
        api_key: Option<Secret> = Generated, Form::Key("ik_");
        /// Key of InsForge clients without a user.
        anon_key: Option<Secret> = Generated, Form::Key("anon_");
        /// API keys that count as well, while callers change from them to the present one.
        previous_api_keys: Option<Vec<Secret>> = Unset, Form::Keys("ik_");
        /// Anon keys that count as well, because released apps have them.
        previous_anon_keys: Option<Vec<Secret>> = Unset, Form::Keys("anon_");
        /// Secret of HS256 tokens.
        jwt_secret: Option<Secret> = Generated, Form::JwtSecret;
        /// Values of `iss`, of which users' and administrators' tokens must have one. If not set,
        /// their `iss` does not count.
        issuers: Option<Vec<String>> = Unset, Form::Texts;
        /// Values of `aud`, of which the same tokens must have one. If not set, it does not count.
        audiences: Option<Vec<String>> = Unset, Form::Texts;
        /// PEM file with public keys of token issuers (RS256, ES256, EdDSA).
        public_keys_file: Option<PathBuf> = Unset, Form::Path;
        /// JWK set with public keys of token issuers (RS256, ES256, EdDSA).
        jwks_file: Option<PathBuf> = Unset, Form::Path;
        /// Address of a JWK set with public keys of a token issuer. It is fetched at start, every
        /// few minutes, and when a token names a key that is not in it. If that fails, the keys
        /// before it stay.
        jwks_url: Option<String> = Unset, Form::KeySetUrl;
        /// Whether a client is closed when its token expires, unless it has sent a newer one.
        close_expired: bool = "false", Form::Switch;
    }

    /// How webhooks are called. A secret that is not given comes from the data directory: see
    /// [`secrets::ensure`].
    webhooks: Webhooks, "FANFARE_WEBHOOKS_" {
        /// Secret that webhook calls are signed with.
        secret: Option<Secret> = Generated, Form::Key("whsec_");
        /// Time for a webhook to answer, for each attempt.
        timeout_ms: u64 = "10000", TIMEOUT;
        /// Whether webhooks are called also on loopback, private and other addresses that are not
        /// public.
        allow_private: bool = "false", Form::Switch;
    }

    /// How Forge Realtime is served.
    #[derive(Copy)]
    forge: Forge, "FANFARE_FORGE_" {
        /// For how many seconds an event is kept for later subscribers; 0 keeps none.
        replay_seconds: u32 = "60", REPLAY_SECONDS;
        /// For how long a subscriber whose connection was lost counts as present, so that events
        /// are answered with an id and kept for it; never longer than `forge.replay_seconds`.
        linger_ms: u64 = "0", Form::Number(0..=600_000);
        /// Operations per second (subscribe, publish and sign together) of one installation;
        /// `forge` stands for the 50 of Forge itself.
        rate_limit: u32 = "off", Form::Rate;
        /// Lifetime of the realtime tokens that the node signs.
        token_lifetime_s: u64 = "3600", Form::Number(1..=86_400);
        /// Whether a subscription ends when its realtime token expires. Otherwise the token is
        /// checked only when the client subscribes.
        enforce_token_expiry: bool = "false", Form::Switch;
        /// Longest payload of an event, in bytes of the unescaped string.
        payload_bytes: usize = "262144", Form::Number(1_024..=PAYLOAD_BYTES_MAX);
        /// Whether a context token must name the scope `read:app-global-channel:realtime` to
        /// subscribe to global channels. Otherwise this holds only for tokens with `scopes`.
        require_scopes: bool = "false", Form::Switch;
        /// What happens to a subscriber whose outbox is full: it is closed, or it loses its oldest
        /// events and receives a notice.
        slow_consumer: SlowConsumer = "close", Form::Choice(&["close", "drop_oldest"]);
        /// Whether the id of a registered invocation needs no credential of the caller. If not set,
        /// it needs none as long as others cannot reach the node. Requests that a proxy has passed
        /// on always need one.
        trust_network: Option<bool> = Unset, Form::Switch;
    }

    /// How M2 Realtime is served.
    m2: M2, "FANFARE_M2_" {
        /// Whether readers must authenticate. If not, `listen` must be a loopback address. Requests
        /// that a proxy has passed on always must.
        require_auth: bool = "true", Form::Switch;
        /// Key of services that read documents of every organization and write none.
        api_key: Option<Secret> = Unset, Form::Word;
        /// Whether clients and writers must name a project besides the organization.
        require_project: bool = "true", Form::Switch;
        /// Whether subscribers receive deletions.
        notify_deletes: bool = "true", Form::Switch;
        /// Resources that one connection may be subscribed to.
        subscriptions: usize = "1000", Form::Number(1..=SUBSCRIPTIONS_PER_CONNECTION_MAX as u64);
    }

    /// The cluster that the node belongs to, on NATS JetStream.
    cluster: Cluster, "FANFARE_CLUSTER_" {
        /// NATS servers (2.11 or newer, with JetStream) that the nodes of the cluster share. If not
        /// set, there is no cluster, and the other keys of this section have no effect.
        nats: Option<Vec<Address>> = Unset, Form::Urls;
        /// Name of the node, which no other node of the cluster may have. If not set, it is made
        /// of the host's name and a number that is kept in the data directory.
        node: Option<String> = Unset, Form::Name(NODE_NAME_BYTES_MAX);
        /// Prefix of the cluster's subjects and streams. Clusters on the same servers need
        /// different ones.
        prefix: String = "ff", Form::Name(PREFIX_BYTES_MAX);
        /// Servers that have a copy of each stream.
        replicas: usize = "1", Form::OneOf(&[1, 3, 5]);
        /// Where the servers keep the streams. That of documents is always in files.
        storage: Storage = "memory", Form::Choice(&["memory", "file"]);
        /// Bytes of publications that the stream keeps. The oldest go first, even if a client could
        /// still ask for them.
        stream_bytes: u64 = "1073741824", Form::Number(STREAM_BYTES);
        /// User of NATS, with `cluster.password`.
        user: Option<String> = Unset, Form::Text;
        /// Password of that user.
        password: Option<Secret> = Unset, Form::Password;
        /// Token of NATS, instead of a user.
        token: Option<Secret> = Unset, Form::Password;
        /// Credentials file of NATS (`.creds`), instead of a user or a token.
        credentials_file: Option<PathBuf> = Unset, Form::Path;
        /// Whether connections to NATS use TLS; `auto` does if the URL begins with `tls://` or the
        /// server requires it.
        tls: TlsWish = "auto", Form::Choice(&["auto", "on", "off"]);
        /// PEM file with the authorities that NATS servers may have their certificates from. If not
        /// set, those of the system count.
        tls_ca_file: Option<PathBuf> = Unset, Form::Path;
        /// PEM file with the node's certificate for NATS.
        tls_cert_file: Option<PathBuf> = Unset, Form::Path;
        /// PEM file with the private key of that certificate.
        tls_key_file: Option<PathBuf> = Unset, Form::Path;
        /// Whether the network to NATS is private. Otherwise servers beyond loopback need
        /// credentials and TLS.
        private_network: bool = "false", Form::Switch;
        /// Time for the stream to acknowledge a publication, before it counts as unknown.
        publish_timeout_ms: u64 = "1000", Form::Number(50..=10_000);
        /// Time for the nodes to count a publication's audience.
        audience_ms: u64 = "50", Form::Number(1..=1_000);
        /// What becomes of long-polling requests of Socket.IO that reach another node than that of
        /// their session: they are refused, or passed on to that node. Set the same on all nodes.
        polling: Polling = "refuse", Form::Choice(&["refuse", "pass"]);
    }

    /// A PostgreSQL database whose rows are events.
    postgres: Postgres, "FANFARE_POSTGRES_" {
        /// URL of the database (PostgreSQL 13 or newer), with user and password. If not set, the
        /// node uses no PostgreSQL. The connection is encrypted and the server's certificate is
        /// verified, unless the server is on this machine or the URL says `sslmode=disable`.
        url: Option<Secret> = Unset, Form::Database;
        /// Who keeps the rows in history and calls webhooks for them: `fanfare`, or the `insforge`
        /// that has made the database. Then the node only delivers them to its subscribers.
        owner: Owner = "fanfare", Form::Choice(&["fanfare", "insforge"]);
        /// PEM file with the authorities that the database may have its certificate from. If not
        /// set, those of the system count.
        tls_ca_file: Option<PathBuf> = Unset, Form::Path;
    }
}

/// A configuration key with its bounds, default and setter.
#[derive(Debug)]
pub struct Key {
    /// Its name in the file, with its section: `http.idle_timeout_ms`.
    pub name: &'static str,
    /// Its environment variable: `FANFARE_HTTP_IDLE_TIMEOUT_MS`.
    pub env: &'static str,
    /// Its effect, as the README's table says it.
    pub meaning: &'static str,
    default: DefaultValue,
    form: Form,
    set: fn(&mut Config, Raw<'_>, &Form) -> Option<()>,
    /// Returns the value as TOML; `None` if it is not set.
    show: fn(&Config, &Form) -> Option<String>,
    /// Returns whether two configurations have different values.
    differs: fn(&Config, &Config) -> bool,
    /// Copies the value to the first configuration from the second.
    copy: fn(&mut Config, &Config),
}

impl Key {
    /// Returns the key of this name; `None` if there is no such key.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// Returns whether two configurations have different values.
    pub(super) fn differs(&self, one: &Config, other: &Config) -> bool {
        (self.differs)(one, other)
    }

    /// Copies the value and its source from another configuration.
    pub(super) fn copy(&self, to: &mut Config, from: &Config) {
        (self.copy)(to, from);
        match from.places.get(self.name) {
            Some(place) => to.places.insert(self.name, place.clone()),
            None => to.places.remove(self.name),
        };
    }

    /// Returns the characters that its values begin with; empty if they may begin with any.
    pub(super) fn prefix(&self) -> &'static str {
        if let Form::Key(prefix) = self.form { prefix } else { "" }
    }

    /// Returns whether its values are secret.
    pub(super) fn is_secret(&self) -> bool {
        self.form.is_secret()
    }

    /// Returns the value as TOML; empty if it is not set.
    pub(super) fn shown(&self, config: &Config) -> String {
        (self.show)(config, &self.form).unwrap_or_default()
    }

    /// Returns the form of its values.
    #[cfg(test)]
    pub(super) fn form(&self) -> &Form {
        &self.form
    }

    /// Validates and sets a value. The error says what the value must be and, unless it is secret,
    /// what it is.
    pub(super) fn set(&self, config: &mut Config, raw: Raw<'_>) -> Result<(), String> {
        (self.set)(config, raw, &self.form).ok_or_else(|| {
            let expected = self.form.expected();
            if self.form.is_hidden() {
                format!("must be {expected}")
            } else if let Some(why) = self.form.mistake(raw) {
                format!("must be {expected}: {why}")
            } else {
                format!("must be {expected}, not {}", raw.shown())
            }
        })
    }
}

#[derive(Debug)]
enum DefaultValue {
    Text(&'static str),
    /// The number of cores, at most [`WORKERS_MAX`].
    Cores,
    /// Half of the memory that the machine, or the process' control group, has; at least
    /// [`MEMORY_BYTES_MIN`].
    HalfMemory,
    /// Made at first start and kept in the data directory.
    Generated,
    Unset,
}

impl DefaultValue {
    fn value<T: Value>(&self, form: &Form) -> T {
        let read = |text: &str| T::read(Raw::Plain(text.as_ref()), form);
        let value = match self {
            Self::Text(text) => read(text),
            Self::Cores => {
                let cores = std::thread::available_parallelism().map_or(1, usize::from);
                read(&cores.min(WORKERS_MAX).to_string())
            }
            Self::HalfMemory => {
                read(&(machine::memory_bytes() / 2).max(MEMORY_BYTES_MIN).to_string())
            }
            Self::Generated | Self::Unset => T::unset(),
        };
        value.expect("a test makes every default")
    }
}

/// Returns the table of `src/config/README.md`: one row for each key.
pub fn markdown_table() -> String {
    let mut table = "| key | environment | default | must be | meaning |\n".to_owned();
    table += "|---|---|---|---|---|\n";
    for Key { name, env, meaning, default, form, .. } in KEYS {
        let default = match default {
            DefaultValue::Text(text) => format!("`{text}`"),
            DefaultValue::Cores => "one per core".to_owned(),
            DefaultValue::HalfMemory => {
                "half of the memory of the machine or the container".to_owned()
            }
            DefaultValue::Generated => "made at first start".to_owned(),
            DefaultValue::Unset => "none".to_owned(),
        };
        let expected = form.expected();
        table += &format!("| `{name}` | `{env}` | {default} | {expected} | {meaning} |\n");
    }
    table
}

impl Config {
    /// Returns the configuration in effect as TOML, with secrets masked, unset keys as comments,
    /// and the source of each value behind it.
    pub fn effective(&self) -> String {
        let mut text = String::new();
        if self.conformance {
            text += "# --conformance: no authentication, for test suites only\n";
        }
        let mut current = "";
        for key in KEYS {
            let (section, name) = key.name.split_once('.').unwrap_or(("", key.name));
            if section != current {
                text += &format!("\n[{section}]\n");
                current = section;
            }
            text += &match ((key.show)(self, &key.form), &key.default) {
                (Some(value), _) => {
                    let place = one_line(&self.place(key.name).to_string());
                    format!("{name} = {value}  # {place}\n")
                }
                (None, DefaultValue::Generated) if self.is_clustered() => {
                    format!("# {name} is in keys.toml, or else derived from auth.jwt_secret\n")
                }
                (None, DefaultValue::Generated) => {
                    let file = one_line(&secrets::path(&self.data_dir).to_string_lossy());
                    format!("# {name} is kept in {file}, made at first start\n")
                }
                (None, _) => format!("# {name} is not set\n"),
            };
        }
        text
    }
}
