//! Makes a connection: TCP, INFO, the version check, TLS, CONNECT, and the first PONG.

use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::BytesMut;
use rand::seq::SliceRandom as _;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, rustls};

use super::super::address::Address;
use super::super::credentials::{CredentialsError, Wish};
use super::super::protocol::{self, Connect, Info, OLDEST, Op, PING, Parser, Version};
use super::Settings;
use super::fault::{Fault, Reason};
use super::stream::Stream;
use crate::limits::NATS_CONNECT_MS;

const PATIENCE: Duration = Duration::from_millis(NATS_CONNECT_MS);

/// A server that has taken the credentials.
pub(super) struct Dialed {
    pub(super) stream: Stream,
    pub(super) parser: Parser,
    pub(super) info: Box<Info>,
}

/// Connects to a server.
pub(super) async fn dial(address: &Address, settings: &Settings) -> Result<Dialed, Fault> {
    let dialing = pin!(connect(address, settings));
    timeout(PATIENCE, dialing).await.unwrap_or_else(|_| {
        let text = format!("the server did not take the connection within {PATIENCE:?}");
        Err(Fault::new(Reason::Timeout, text))
    })
}

/// Asks a server what it says of itself to anyone who connects, and leaves.
///
/// # Errors
/// If it cannot be reached or is not a NATS server.
pub async fn greeting(address: &Address) -> Result<Box<Info>, Fault> {
    let greeting = async {
        let mut stream = Stream::Plain(open(address).await?);
        greeted(&mut stream, &mut Parser::default()).await
    };
    timeout(PATIENCE, greeting).await.unwrap_or_else(|_| {
        Err(Fault::new(Reason::Timeout, format!("the server did not greet within {PATIENCE:?}")))
    })
}

async fn greeted(stream: &mut Stream, parser: &mut Parser) -> Result<Box<Info>, Fault> {
    match operation(stream, parser).await? {
        Op::Info(info) => Ok(info),
        Op::Err(error) => Err(ended(&error)),
        _ => Err(Fault::new(Reason::Error, "what listens there is not a NATS server")),
    }
}

async fn connect(address: &Address, settings: &Settings) -> Result<Dialed, Fault> {
    let mut stream = Stream::Plain(open(address).await?);
    let mut parser = Parser::default();
    let info = greeted(&mut stream, &mut parser).await?;
    check_server(&info)?;
    let tls = wants_tls(address, settings, &info)?;
    if tls {
        // Bytes from before TLS must not pass for bytes from after it.
        if parser.is_inside() {
            return Err(Fault::new(Reason::Tls, "the server sent more than INFO before TLS"));
        }
        stream = secure(stream, address, settings).await?;
    }
    let mut hello =
        Connect { name: settings.name.clone(), tls_required: tls, ..Connect::default() };
    settings.credentials.fill(&mut hello, &info).map_err(|error| unusable(&error))?;
    let mut out = BytesMut::new();
    protocol::connect(&mut out, &hello);
    out.extend_from_slice(PING);
    stream.write_all(&out).await.map_err(|error| lost(&error))?;
    stream.flush().await.map_err(|error| lost(&error))?;
    welcomed(stream, parser, info).await
}

/// Waits for the answer to the first PING, by which the server has taken the credentials.
async fn welcomed(
    mut stream: Stream,
    mut parser: Parser,
    mut info: Box<Info>,
) -> Result<Dialed, Fault> {
    loop {
        match operation(&mut stream, &mut parser).await? {
            Op::Pong => return Ok(Dialed { stream, parser, info }),
            Op::Info(newer) => info = newer,
            Op::Err(error) => return Err(ended(&error)),
            _ => {}
        }
    }
}

/// Opens a connection to an address of the host that takes it. A name may stand for many servers,
/// so their order is drawn anew each time.
async fn open(address: &Address) -> Result<TcpStream, Fault> {
    let host = &address.host;
    let unreachable = |text: String| Fault::new(Reason::Unreachable, text);
    let found = lookup_host((host.as_str(), address.port)).await;
    let found = found.map_err(|error| unreachable(format!("{host} is not found: {error}")))?;
    let mut found: Vec<_> = found.collect();
    found.shuffle(&mut rand::rng());
    let mut last = None;
    for place in found {
        match TcpStream::connect(place).await {
            Ok(stream) => {
                // Without it, requests wait for acknowledgements of the ones before.
                stream.set_nodelay(true).map_err(|error| lost(&error))?;
                return Ok(stream);
            }
            Err(error) => last = Some(format!("{place} cannot be connected to: {error}")),
        }
    }
    Err(unreachable(last.unwrap_or_else(|| format!("{host} has no address"))))
}

async fn operation(stream: &mut Stream, parser: &mut Parser) -> Result<Op, Fault> {
    loop {
        if let Some(op) = parser.parse().map_err(|error| garbled(&error))? {
            return Ok(op);
        }
        let read = stream.read_buf(parser.space()).await.map_err(|error| lost(&error))?;
        if read == 0 {
            return Err(Fault::new(Reason::Closed, "the server closed the connection at once"));
        }
    }
}

fn check_server(info: &Info) -> Result<(), Fault> {
    let version = Version::parse(&info.version);
    let lacks = |text: String| Err(Fault::new(Reason::Version, text));
    if version.is_none_or(|version| version < OLDEST) {
        let Version(major, minor, _) = OLDEST;
        return lacks(format!(
            "the server is NATS {}, and a cluster needs {major}.{minor} or newer, because older \
             ones break the order of a channel",
            if info.version.is_empty() { "of no version" } else { &info.version },
        ));
    }
    if !info.headers {
        return lacks("the server is configured without headers, which a cluster needs".into());
    }
    Ok(())
}

/// Returns whether TLS is used, or why the two sides cannot agree.
fn wants_tls(address: &Address, settings: &Settings, info: &Info) -> Result<bool, Fault> {
    let is_offered = info.tls_required || info.tls_available;
    match settings.tls.wish {
        Wish::Off if info.tls_required => {
            Err(Fault::new(Reason::Tls, "the server requires TLS, and it is off here"))
        }
        Wish::Off if address.tls => {
            Err(Fault::new(Reason::Tls, "the server's URL says tls, and TLS is off"))
        }
        Wish::Off => Ok(false),
        Wish::On | Wish::Auto if is_offered => {
            Ok(info.tls_required || address.tls || settings.tls.wish == Wish::On)
        }
        Wish::Auto if !address.tls => Ok(false),
        Wish::On | Wish::Auto => {
            let text = "the server offers no TLS, and the connection must not go on without it";
            Err(Fault::new(Reason::Tls, text))
        }
    }
}

async fn secure(stream: Stream, address: &Address, settings: &Settings) -> Result<Stream, Fault> {
    let Stream::Plain(stream) = stream else { return Ok(stream) };
    let client = settings.tls.client().map_err(|error| unusable(&error))?;
    let name = ServerName::try_from(address.host.clone()).map_err(|_| {
        Fault::new(Reason::Tls, format!("no certificate can be for {}", address.host))
    })?;
    let connecting = TlsConnector::from(client).connect(name, stream);
    let stream = connecting
        .await
        .map_err(|error| Fault::new(Reason::Tls, format!("TLS with the server failed: {error}")))?;
    Ok(Stream::Tls(Box::new(stream)))
}

fn unusable(error: &CredentialsError) -> Fault {
    let reason = match error {
        CredentialsError::File { what, .. } if what.starts_with("credentials") => Reason::Auth,
        CredentialsError::NoNonce => Reason::Auth,
        _ => Reason::Tls,
    };
    Fault::new(reason, error.to_string())
}

/// Returns the fault of an `-ERR` before the connection is made, when every error ends it.
fn ended(error: &str) -> Fault {
    Fault::of_server(error).unwrap_or_else(|| {
        Fault::new(Reason::Error, format!("the server ended the connection: {error}"))
    })
}

pub(super) fn garbled(error: &protocol::Fault) -> Fault {
    Fault::new(Reason::Error, format!("the server does not keep to the protocol: {error}"))
}

/// Returns the fault of a failed system call. With TLS 1.3 a server that does not trust the node's
/// certificate says so only after the handshake.
pub(super) fn lost(error: &io::Error) -> Fault {
    let inner = error.get_ref();
    let is_tls = inner.is_some_and(|inner| inner.downcast_ref::<rustls::Error>().is_some());
    let reason = if is_tls { Reason::Tls } else { Reason::Closed };
    Fault::new(reason, format!("the connection was lost: {error}"))
}
