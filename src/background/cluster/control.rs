//! The streams of a cluster and its register: calls of NATS that are rare and not on a
//! publication's way. They go over a connection of a client library, so that they never wait behind
//! publications.

mod streams;

use std::time::Duration;

use async_nats::jetstream::{self, ErrorCode, kv, stream};
use async_nats::{Auth, AuthError, Client, ConnectError, ConnectErrorKind, ConnectOptions};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::credentials::{Credentials, Tls, Wish};
use super::line;
use super::protocol::{Connect, Info};
use crate::cluster::name::{Prefix, Stream};
use crate::config::{Config, Storage};
use crate::limits::{
    ADMIN_BUCKET_BYTES_MAX, ADMIN_ENTRY_BYTES_MAX, NATS_CALL_MS, NATS_CONNECT_MS,
    NATS_CONTROL_COMMANDS_MAX, NATS_CONTROL_MESSAGES_MAX, REGISTER_BYTES_MAX,
    REGISTER_ENTRY_BYTES_MAX, REGISTER_MARKER_MS,
};

/// What the streams of a cluster are to be, and how the node connects to their servers.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The servers, and what the node shows them.
    pub line: line::Settings,
    /// The prefix of subjects and streams.
    pub prefix: Prefix,
    /// Servers that have a copy of each stream.
    pub replicas: usize,
    /// Where the servers keep the streams.
    pub storage: Storage,
    /// Bytes that the stream of publications keeps.
    pub stream_bytes: u64,
}

impl Settings {
    /// Returns the configured settings. `name` is the node's, for the servers' lists of
    /// connections. Returns `None` if no cluster is configured.
    pub fn of(config: &Config, name: &str) -> Option<Self> {
        let cluster = &config.cluster;
        let line = line::Settings {
            servers: cluster.nats.clone()?,
            credentials: Credentials::of(cluster),
            tls: Tls::of(cluster),
            name: format!("fanfare {name}"),
        };
        Some(Self {
            line,
            prefix: Prefix::read(&cluster.prefix)?,
            replicas: cluster.replicas,
            storage: cluster.storage,
            stream_bytes: cluster.stream_bytes,
        })
    }
}

/// Why NATS did not do what a cluster needs. The texts are for the operator.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ControlError {
    /// No server takes the connection.
    #[error("no NATS server can be used ({servers}): {problem}")]
    Unreachable {
        /// The servers' URLs.
        servers: String,
        /// What the last of them said.
        problem: String,
    },
    /// There was no answer in time. What was asked for may happen nevertheless.
    #[error("NATS did not answer within {} s: {what}", NATS_CALL_MS / 1_000)]
    Silent {
        /// What was asked for.
        what: String,
    },
    /// NATS refused, or answered something that cannot be read.
    #[error("{what}: {problem}{advice}")]
    Refused {
        /// What was asked for.
        what: String,
        /// NATS' own words.
        problem: String,
        /// What the operator can do, from a semicolon on; empty if nothing is known.
        advice: &'static str,
    },
    /// A server cannot be used as it is configured.
    #[error("NATS at {url} {problem}")]
    Server {
        /// The server as it is configured.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A stream is not as the node needs it.
    #[error("the stream {stream} {problem}")]
    Stream {
        /// Its name.
        stream: String,
        /// What is wrong with it, and what to do.
        problem: String,
    },
}

/// An answer of JetStream's API.
#[derive(Deserialize)]
#[serde(untagged)]
enum Answer<T> {
    Refused { error: ApiError },
    Taken(T),
}

/// An error of JetStream's API.
#[derive(Deserialize)]
struct ApiError {
    #[serde(default)]
    err_code: ErrorCode,
    #[serde(default)]
    description: String,
}

/// A connection for control.
#[derive(Clone, Debug)]
pub struct Control {
    settings: Settings,
    client: Client,
    context: jetstream::Context,
}

impl Control {
    /// Connects to one of the servers. The connection is made again whenever it ends.
    ///
    /// # Errors
    /// If credentials or certificates cannot be used, or no server takes the connection.
    pub async fn connect(settings: Settings) -> Result<Self, ControlError> {
        Self::connect_with(settings, |options| options).await
    }

    /// Connects as [`Control::connect`] does. Requests are answered on subjects below `inbox`,
    /// because nodes answer each other, and need not be allowed to publish on those of all clients.
    ///
    /// # Errors
    /// Those of [`Control::connect`].
    pub(super) async fn connect_with_inbox(
        settings: Settings,
        inbox: String,
    ) -> Result<Self, ControlError> {
        Self::connect_with(settings, |options| options.custom_inbox_prefix(inbox)).await
    }

    async fn connect_with(
        settings: Settings,
        more: impl FnOnce(ConnectOptions) -> ConnectOptions,
    ) -> Result<Self, ControlError> {
        let servers: Vec<_> = settings.line.servers.iter().map(ToString::to_string).collect();
        let unreachable =
            |problem: String| ControlError::Unreachable { servers: servers.join(", "), problem };
        refuse_tls(&settings.line).await?;
        let options = more(options(&settings.line).map_err(unreachable)?);
        let addresses: Result<Vec<async_nats::ServerAddr>, _> =
            servers.iter().map(|url| url.parse()).collect();
        let addresses = addresses.map_err(|error| unreachable(error.to_string()))?;
        let client = options.connect(addresses).await;
        let client = client.map_err(|error| unreachable(connect_problem(&error)))?;
        let mut context = jetstream::new(client.clone());
        context.set_timeout(Duration::from_millis(NATS_CALL_MS));
        Ok(Self { settings, client, context })
    }

    /// Returns the settings that the connection was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns the connection, for subscriptions and consumers.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Returns the connection's calls of JetStream.
    pub fn context(&self) -> &jetstream::Context {
        &self.context
    }

    /// Creates the streams that are missing, and checks those that exist. The stream of
    /// publications keeps at least what clients may ask for within `window`. Returns what the
    /// operator should know of streams that are larger or safer than configured.
    ///
    /// # Errors
    /// If a stream cannot be created, is of another cluster or program, or is weaker than
    /// configured.
    pub async fn prepare(&self, window: Duration) -> Result<Vec<String>, ControlError> {
        let mut notes = Vec::new();
        let settings = &self.settings;
        for wanted in [
            streams::wanted(settings, Stream::Order, window),
            streams::wanted(settings, Stream::Claims, window),
            streams::documents(settings),
            streams::invocations(settings),
            streams::shared_sessions(settings),
        ] {
            let found = self.stream(&wanted).await?;
            notes.extend(streams::check(&wanted, &found)?);
        }
        self.keep(window).await?;
        Ok(notes)
    }

    /// Makes the stream of publications keep what clients may ask for within `window`. It never
    /// keeps less than before, because another node may need it. Two nodes that raise it at once
    /// may undo each other's change, so that this is to be called again after a while.
    ///
    /// # Errors
    /// If NATS does not answer or refuses.
    pub async fn keep(&self, window: Duration) -> Result<(), ControlError> {
        let wanted = streams::wanted(&self.settings, Stream::Order, window);
        let Some(found) = self.info(&wanted.name).await? else {
            let problem = "is gone, because it was deleted or its servers have lost it".to_owned();
            return Err(ControlError::Stream { stream: wanted.name, problem });
        };
        if found.config.max_age.is_zero() || found.config.max_age >= wanted.max_age {
            return Ok(());
        }
        let raised = stream::Config { max_age: wanted.max_age, ..found.config };
        let what = format!("raise the age of the stream {}", wanted.name);
        let subject = format!("STREAM.UPDATE.{}", wanted.name);
        let _: stream::Info = self.call(&what, &subject, &raised).await?;
        Ok(())
    }

    /// Returns a stream's description; `None` if there is no such stream.
    ///
    /// # Errors
    /// If NATS does not answer or refuses.
    pub async fn info(&self, stream: &str) -> Result<Option<stream::Info>, ControlError> {
        let what = format!("look at the stream {stream}");
        match self.ask(&what, &format!("STREAM.INFO.{stream}"), &()).await? {
            Ok(info) => Ok(Some(info)),
            Err(error) if error.err_code == ErrorCode::STREAM_NOT_FOUND => Ok(None),
            Err(error) => Err(refused(what, &error)),
        }
    }

    /// Returns the register, and creates it if it is missing.
    ///
    /// # Errors
    /// If NATS does not answer or refuses.
    pub async fn register(&self) -> Result<kv::Store, ControlError> {
        self.bucket(kv::Config {
            bucket: self.settings.prefix.register(),
            description: "nodes of a cluster of Fanfare".to_owned(),
            max_value_size: REGISTER_ENTRY_BYTES_MAX,
            max_bytes: REGISTER_BYTES_MAX,
            limit_markers: Some(Duration::from_millis(REGISTER_MARKER_MS)),
            ..kv::Config::default()
        })
        .await
    }

    /// Returns the bucket that has what administrators set for all nodes, and creates it if it is
    /// missing.
    ///
    /// # Errors
    /// If NATS does not answer or refuses.
    pub async fn administration(&self) -> Result<kv::Store, ControlError> {
        self.bucket(kv::Config {
            bucket: self.settings.prefix.administration(),
            description: "what administrators set for all nodes of a cluster of Fanfare".to_owned(),
            max_value_size: i32::try_from(ADMIN_ENTRY_BYTES_MAX).unwrap_or(i32::MAX),
            max_bytes: ADMIN_BUCKET_BYTES_MAX,
            ..kv::Config::default()
        })
        .await
    }

    /// Returns the bucket that has the invocations of all nodes, and creates it if it is missing.
    ///
    /// # Errors
    /// If NATS does not answer or refuses.
    pub async fn invocations(&self) -> Result<kv::Store, ControlError> {
        let wanted = streams::invocations(&self.settings);
        self.stream(&wanted).await?;
        let bucket = self.settings.prefix.invocations();
        let found = self.existing_bucket(&bucket).await?;
        found.ok_or_else(|| ControlError::Silent { what: format!("create the bucket {bucket}") })
    }

    /// Returns a bucket that outlives the streams, and creates it if it is missing.
    async fn bucket(&self, config: kv::Config) -> Result<kv::Store, ControlError> {
        let bucket = config.bucket.clone();
        if let Some(found) = self.existing_bucket(&bucket).await? {
            return Ok(found);
        }
        let (storage, num_replicas) = (stream::StorageType::File, self.settings.replicas);
        let config = kv::Config { history: 1, storage, num_replicas, ..config };
        // Another node may create it at the same time, with the same configuration or another.
        let created = self.context.create_key_value(config).await;
        let found = self.existing_bucket(&bucket).await?;
        let what = format!("create the bucket {bucket}");
        found.ok_or_else(|| match created {
            Ok(_) => ControlError::Silent { what },
            Err(error) => ControlError::Refused { what, problem: deepest(&error), advice: "" },
        })
    }

    /// Returns the register; `None` if no node has created it.
    ///
    /// # Errors
    /// If NATS does not answer or refuses.
    pub async fn existing_register(&self) -> Result<Option<kv::Store>, ControlError> {
        self.existing_bucket(&self.settings.prefix.register()).await
    }

    /// Returns the bucket of this name; `None` if no node has created it.
    ///
    /// # Errors
    /// If NATS does not answer or refuses.
    pub async fn existing_bucket(&self, bucket: &str) -> Result<Option<kv::Store>, ControlError> {
        if self.info(&format!("KV_{bucket}")).await?.is_none() {
            return Ok(None);
        }
        let store = self.context.get_key_value(bucket).await;
        store.map(Some).map_err(|error| ControlError::Refused {
            what: format!("open the bucket {bucket}"),
            problem: deepest(&error),
            advice: "",
        })
    }

    /// Returns the stream of this name, and creates it as `wanted` if it is missing.
    async fn stream(&self, wanted: &stream::Config) -> Result<stream::Config, ControlError> {
        if let Some(found) = self.info(&wanted.name).await? {
            return Ok(found.config);
        }
        let what = format!("create the stream {}", wanted.name);
        let subject = format!("STREAM.CREATE.{}", wanted.name);
        match self.ask::<stream::Info>(&what, &subject, wanted).await? {
            Ok(created) => Ok(created.config),
            // Another node was faster.
            Err(error) if error.err_code == ErrorCode::STREAM_NAME_EXIST => {
                let found = self.info(&wanted.name).await?;
                found.map(|found| found.config).ok_or_else(|| refused(what, &error))
            }
            Err(error) => Err(refused(what, &error)),
        }
    }

    async fn call<T: DeserializeOwned>(
        &self,
        what: &str,
        subject: &str,
        payload: &impl Serialize,
    ) -> Result<T, ControlError> {
        self.ask(what, subject, payload).await?.map_err(|error| refused(what.to_owned(), &error))
    }

    /// Calls the API of JetStream.
    async fn ask<T: DeserializeOwned>(
        &self,
        what: &str,
        subject: &str,
        payload: &impl Serialize,
    ) -> Result<Result<T, ApiError>, ControlError> {
        let what = what.to_owned();
        match self.context.request(subject.to_owned(), payload).await {
            Ok(Answer::Taken(answer)) => Ok(Ok(answer)),
            Ok(Answer::Refused { error }) => Ok(Err(error)),
            Err(error) => Err(match error.kind() {
                jetstream::context::RequestErrorKind::TimedOut => ControlError::Silent { what },
                jetstream::context::RequestErrorKind::NoResponders => ControlError::Refused {
                    what,
                    problem: "NATS serves no streams".to_owned(),
                    advice: NO_STREAMS,
                },
                _ => ControlError::Refused { what, problem: deepest(&error), advice: "" },
            }),
        }
    }
}

const NO_STREAMS: &str = "; enable JetStream (`jetstream {}` in the servers' configuration, and for \
                          the account of the node)";

fn refused(what: String, error: &ApiError) -> ControlError {
    let ApiError { err_code: ErrorCode(code), description } = error;
    let problem = format!("{description} ({code})");
    ControlError::Refused { what, problem, advice: advice(error.err_code) }
}

/// Returns what the operator can do about an error of the API.
fn advice(code: ErrorCode) -> &'static str {
    /// Not named by the library: replicas on a server that is alone; memory and storage of the
    /// server or the account.
    const ALONE: ErrorCode = ErrorCode(10074);
    const MEMORY: ErrorCode = ErrorCode(10028);
    const STORAGE: ErrorCode = ErrorCode(10047);
    match code {
        ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => {
            NO_STREAMS
        }
        ErrorCode::CLUSTER_NO_PEERS | ALONE => {
            "; `cluster.replicas` must not be more than the servers with JetStream"
        }
        ErrorCode::INSUFFICIENT_RESOURCES
        | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
        | MEMORY
        | STORAGE => {
            "; lower `cluster.stream_bytes`, which is reserved at once, or let the servers use more \
             (`max_memory_store`, `max_file_store`)"
        }
        ErrorCode::STREAM_SUBJECT_OVERLAP => {
            "; another program uses these subjects: choose another `cluster.prefix`"
        }
        ErrorCode::CLUSTER_NOT_AVAILABLE => "; the servers have no leader at the moment",
        _ => "",
    }
}

/// Refuses servers that require TLS if it is off here: the library would use it all the same.
async fn refuse_tls(settings: &line::Settings) -> Result<(), ControlError> {
    if settings.tls.wish != Wish::Off {
        return Ok(());
    }
    for address in &settings.servers {
        // One that is down is passed over here and below.
        let requires = line::greeting(address).await.is_ok_and(|info| info.tls_required);
        if requires {
            let problem = "requires TLS, and `cluster.tls` is off here: set it to \"auto\"";
            let (url, problem) = (address.to_string(), problem.to_owned());
            return Err(ControlError::Server { url, problem });
        }
    }
    Ok(())
}

/// Returns how the library connects as a line does.
fn options(settings: &line::Settings) -> Result<ConnectOptions, String> {
    // The library gives less telling errors.
    settings.credentials.check().map_err(|error| error.to_string())?;
    let credentials = settings.credentials.clone();
    let mut options = ConnectOptions::with_auth_callback(move |nonce| {
        let auth = auth(&credentials, nonce);
        async move { auth.map_err(AuthError::new) }
    })
    .name(&settings.name)
    .connection_timeout(Duration::from_millis(NATS_CONNECT_MS))
    .request_timeout(Some(Duration::from_millis(NATS_CALL_MS)))
    .client_capacity(NATS_CONTROL_COMMANDS_MAX)
    .subscription_capacity(NATS_CONTROL_MESSAGES_MAX)
    .ignore_discovered_servers()
    .require_tls(settings.tls.wish == Wish::On);
    // Its own certificates, read at each connection, so that renewed ones count.
    if let Some(path) = &settings.tls.authorities {
        options = options.add_root_certificates(path.clone());
    }
    if let Some((certificate, key)) = &settings.tls.own {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    if settings.tls.authorities.is_some() || settings.tls.own.is_some() {
        settings.tls.client().map_err(|error| error.to_string())?;
    }
    Ok(options)
}

/// Returns what the library shows a server with this nonce.
fn auth(credentials: &Credentials, nonce: Vec<u8>) -> Result<Auth, String> {
    let nonce = Some(nonce).filter(|nonce| !nonce.is_empty());
    let nonce = nonce.map(|nonce| String::from_utf8_lossy(&nonce).into_owned());
    let mut hello = Connect::default();
    let filled = credentials.fill(&mut hello, &Info { nonce, ..Info::default() });
    filled.map_err(|error| error.to_string())?;
    let mut auth = Auth::new();
    if let Some((user, password)) = hello.user {
        auth.username = Some(user);
        auth.password = Some(password.expose().to_owned());
    }
    auth.token = hello.token.map(|token| token.expose().to_owned());
    if let Some((jwt, signature)) = hello.jwt {
        auth.jwt = Some(jwt.expose().to_owned());
        // The library encodes it again.
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|error| error.to_string())?;
        auth.signature = Some(signature);
    }
    Ok(auth)
}

fn connect_problem(error: &ConnectError) -> String {
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation => {
            "the server refuses the credentials; set cluster.user and cluster.password, \
             cluster.token or cluster.credentials_file as the server knows them"
                .to_owned()
        }
        ConnectErrorKind::TimedOut => {
            format!("the server did not take the connection within {NATS_CONNECT_MS} ms")
        }
        _ => deepest(error),
    }
}

/// Returns the texts of an error and of its causes, without those that repeat another.
pub(super) fn deepest(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let inner = error.to_string();
        if !text.contains(&inner) {
            text = format!("{text}: {inner}");
        }
        cause = error.source();
    }
    text
}
