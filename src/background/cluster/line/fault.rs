//! Why a connection ended, or could not be made.

use thiserror::Error;

/// The end of a connection, or of an attempt to make one.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{text}")]
pub struct Fault {
    /// What counters distinguish.
    pub reason: Reason,
    /// What happened, in words for the log.
    pub text: String,
}

/// The kind of an end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// There is no way to the server, or it does not listen.
    Unreachable,
    /// The server refuses the credentials, or the node cannot show any.
    Auth,
    /// The two cannot agree on TLS, or do not trust each other.
    Tls,
    /// The server is too old, or lacks something that a cluster needs.
    Version,
    /// The server, or the way to it, was silent for too long.
    Timeout,
    /// The server cut the connection because the node did not keep up, or seems to have: it gives
    /// no reason then, and there was much left to read.
    Slow,
    /// The connection ended without a word while there was nothing left to read.
    Closed,
    /// The server shuts down.
    LameDuck,
    /// The server gave another error, or violates the protocol.
    Error,
    /// The owner asked for a new connection.
    Asked,
}

impl Fault {
    pub(super) fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into() }
    }

    /// Returns what a server's `-ERR` means; `None` if the connection lives on, because the server
    /// refused one subscription or one message alone.
    pub(super) fn of_server(error: &str) -> Option<Self> {
        let lower = error.to_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
        if has(&["permissions violation", "invalid subject", "invalid publish subject"]) {
            return None;
        }
        let reason = if has(&["authorization violation", "authentication"]) {
            match lower.contains("timeout") {
                true => Reason::Timeout,
                false => Reason::Auth,
            }
        } else if has(&["stale connection"]) {
            Reason::Timeout
        } else if has(&["slow consumer"]) {
            Reason::Slow
        } else if has(&["tls required"]) {
            Reason::Tls
        } else {
            Reason::Error
        };
        let text = match reason {
            Reason::Auth => format!("the server refuses the credentials: {error}"),
            _ => format!("the server ended the connection: {error}"),
        };
        Some(Self { reason, text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_servers_are_told_apart() {
        let cases = [
            ("Authorization Violation", Some(Reason::Auth)),
            ("User Authentication Expired", Some(Reason::Auth)),
            ("User Authentication Revoked", Some(Reason::Auth)),
            ("Authentication Timeout", Some(Reason::Timeout)),
            ("Stale Connection", Some(Reason::Timeout)),
            ("Slow Consumer", Some(Reason::Slow)),
            ("Secure Connection - TLS Required", Some(Reason::Tls)),
            ("Maximum Payload Violation", Some(Reason::Error)),
            ("Unknown Protocol Operation", Some(Reason::Error)),
            ("maximum connections exceeded", Some(Reason::Error)),
            ("Permissions Violation for Subscription to \"x\"", None),
            ("Permissions Violation for Publish to \"authentication\"", None),
            ("Invalid Subject", None),
        ];
        for (text, reason) in cases {
            let fault = Fault::of_server(text);
            assert_eq!(fault.as_ref().map(|fault| fault.reason), reason, "{text}");
            assert!(fault.is_none_or(|fault| fault.text.contains(text)), "{text}");
        }
    }
}
