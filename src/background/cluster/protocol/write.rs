//! What a client sends. Each function appends one operation to a buffer.

use std::fmt::Write as _;

use bytes::{BufMut, BytesMut};
use serde::Serialize;
use thiserror::Error;

use super::Sid;
use crate::config::Secret;

/// The question for a sign of life.
pub const PING: &[u8] = b"PING\r\n";
/// The answer to it.
pub const PONG: &[u8] = b"PONG\r\n";

const HEADERS_BEGIN: &[u8] = b"NATS/1.0\r\n";

/// What a client says of itself.
#[derive(Clone, Default, Debug)]
pub struct Connect {
    /// A name for the server's own lists of connections.
    pub name: String,
    /// Whether the connection uses TLS.
    pub tls_required: bool,
    /// User and password.
    pub user: Option<(String, Secret)>,
    /// A token instead of a user.
    pub token: Option<Secret>,
    /// The token of a credentials file, and the signature of the server's nonce in base64.
    pub jwt: Option<(Secret, String)>,
}

/// A message to publish.
#[derive(Clone, Copy, Default, Debug)]
pub struct Publish<'a> {
    /// The subject, without wildcards.
    pub subject: &'a str,
    /// The subject for answers.
    pub reply: Option<&'a str>,
    /// Names and values. Without any, the message has no block of headers.
    pub headers: &'a [(&'a str, &'a str)],
    /// The payload, in parts.
    pub payload: &'a [&'a [u8]],
}

/// Why an operation cannot be written. It would be another operation, or a part of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Unsendable {
    /// A subject is empty, or has white space or control characters.
    #[error("a subject that is empty or has white space or control characters")]
    Subject,
    /// A header's name or value has characters that would end it.
    #[error("a header whose name is empty or has a colon, or that has control characters")]
    Header,
}

#[derive(Serialize)]
struct ConnectJson<'a> {
    verbose: bool,
    pedantic: bool,
    tls_required: bool,
    headers: bool,
    no_responders: bool,
    echo: bool,
    protocol: u8,
    lang: &'a str,
    version: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pass: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sig: Option<&'a str>,
}

/// Appends a CONNECT that asks for headers, for an answer if a request reaches no one, and for the
/// client's own messages.
pub fn connect(out: &mut BytesMut, connect: &Connect) {
    let user = connect.user.as_ref();
    let jwt = connect.jwt.as_ref();
    let json = ConnectJson {
        verbose: false,
        pedantic: false,
        tls_required: connect.tls_required,
        headers: true,
        no_responders: true,
        echo: true,
        protocol: 1,
        lang: "rust",
        version: env!("CARGO_PKG_VERSION"),
        name: &connect.name,
        user: user.map(|(name, _)| name.as_str()),
        pass: user.map(|(_, password)| password.expose()),
        auth_token: connect.token.as_ref().map(Secret::expose),
        jwt: jwt.map(|(jwt, _)| jwt.expose()),
        sig: jwt.map(|(_, signature)| signature.as_str()),
    };
    out.put_slice(b"CONNECT ");
    let json = serde_json::to_vec(&json).expect("texts and flags are JSON");
    out.put_slice(&json);
    out.put_slice(b"\r\n");
}

/// Appends a SUB.
///
/// # Errors
/// If the subject cannot be sent. Then nothing is appended.
pub fn subscribe(out: &mut BytesMut, subject: &str, sid: Sid) -> Result<(), Unsendable> {
    check_subject(subject)?;
    out.put_slice(b"SUB ");
    out.put_slice(subject.as_bytes());
    out.put_slice(b" ");
    put_number(out, sid);
    out.put_slice(b"\r\n");
    Ok(())
}

/// Appends an UNSUB.
pub fn unsubscribe(out: &mut BytesMut, sid: Sid) {
    out.put_slice(b"UNSUB ");
    put_number(out, sid);
    out.put_slice(b"\r\n");
}

/// Appends a PUB, or an HPUB if the message has headers.
///
/// # Errors
/// If the message cannot be sent. Then nothing is appended.
pub fn publish(out: &mut BytesMut, message: &Publish<'_>) -> Result<(), Unsendable> {
    check_subject(message.subject)?;
    message.reply.map_or(Ok(()), check_subject)?;
    message.headers.iter().try_for_each(check_header)?;
    let headers = message.headers_bytes();
    out.put_slice(if headers > 0 { b"HPUB " } else { b"PUB " });
    out.put_slice(message.subject.as_bytes());
    if let Some(reply) = message.reply {
        out.put_slice(b" ");
        out.put_slice(reply.as_bytes());
    }
    if headers > 0 {
        out.put_slice(b" ");
        put_number(out, headers as u64);
    }
    out.put_slice(b" ");
    put_number(out, message.bytes() as u64);
    out.put_slice(b"\r\n");
    if headers > 0 {
        out.put_slice(HEADERS_BEGIN);
        for (name, value) in message.headers {
            write!(out, "{name}: {value}\r\n").expect("a buffer that grows takes any text");
        }
        out.put_slice(b"\r\n");
    }
    message.payload.iter().for_each(|part| out.put_slice(part));
    out.put_slice(b"\r\n");
    Ok(())
}

impl Publish<'_> {
    /// Returns the bytes of headers and payload, which the server compares with its bound.
    pub fn bytes(&self) -> usize {
        self.headers_bytes() + self.payload.iter().map(|part| part.len()).sum::<usize>()
    }

    fn headers_bytes(&self) -> usize {
        if self.headers.is_empty() {
            return 0;
        }
        let lines = self.headers.iter().map(|(name, value)| name.len() + value.len() + 4);
        HEADERS_BEGIN.len() + lines.sum::<usize>() + 2
    }
}

fn check_subject(subject: &str) -> Result<(), Unsendable> {
    let ends = |byte: u8| byte <= b' ' || byte == 0x7f;
    if subject.is_empty() || subject.bytes().any(ends) {
        return Err(Unsendable::Subject);
    }
    Ok(())
}

fn check_header((name, value): &(&str, &str)) -> Result<(), Unsendable> {
    let ends = |byte: u8| byte < b' ' || byte == 0x7f;
    if name.is_empty() || name.contains([':', ' ']) || name.bytes().chain(value.bytes()).any(ends) {
        return Err(Unsendable::Header);
    }
    Ok(())
}

fn put_number(out: &mut BytesMut, number: u64) {
    write!(out, "{number}").expect("a buffer that grows takes any text");
}
