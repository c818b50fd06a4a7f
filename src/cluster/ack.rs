//! Answers of JetStream to a publish.

use serde::Deserialize;

use super::name::{Seq, decimal};

/// The answer to a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ack {
    /// The stream has it.
    Stored {
        /// The message's place in the stream.
        seq: Seq,
        /// Whether the stream had a message with this id before, so that nothing was added.
        duplicate: bool,
    },
    /// It was not stored, for certain.
    Refused(Refusal),
}

/// Why the stream did not store a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The queue of the stream's leader is full, or that of this node.
    Overloaded,
    /// There is no stream or no leader, or the message was never sent.
    Unavailable,
    /// The last message of the subject is not the expected one. This is its sequence.
    Moved(Seq),
    /// Another error of the stream, with its code.
    Error(u64),
}

#[derive(Deserialize)]
struct Text {
    stream: Option<String>,
    seq: Option<Seq>,
    #[serde(default)]
    duplicate: bool,
    error: Option<ErrorText>,
}

#[derive(Deserialize)]
struct ErrorText {
    code: u64,
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

/// The error of JetStream if the last message of a subject is not the expected one.
const WRONG_LAST_SEQUENCE: u64 = 10_071;

impl Ack {
    /// Reads an answer: the status in its first line, if it has one, and its body. Returns `None`
    /// if it does not say for certain whether `stream` has the message.
    pub fn read(status: Option<u16>, body: &[u8], stream: &str) -> Option<Self> {
        if status == Some(503) {
            return Some(Self::Refused(Refusal::Unavailable));
        }
        let text: Text = serde_json::from_slice(body).ok()?;
        if let Some(error) = text.error {
            return Some(Self::Refused(Refusal::of(&error)));
        }
        let is_ours = text.stream.as_deref() == Some(stream);
        let seq = text.seq.filter(|seq| is_ours && *seq > 0)?;
        Some(Self::Stored { seq, duplicate: text.duplicate })
    }
}

impl Refusal {
    fn of(error: &ErrorText) -> Self {
        let moved = error.description.strip_prefix("wrong last sequence: ").and_then(decimal);
        match (error.code, error.err_code, moved) {
            (_, WRONG_LAST_SEQUENCE, Some(last)) => Self::Moved(last),
            (429, ..) => Self::Overloaded,
            (503, ..) => Self::Unavailable,
            (code, err_code, _) => Self::Error(if err_code == 0 { code } else { err_code }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_servers_are_read() {
        let refused = |refusal| Some(Ack::Refused(refusal));
        let cases: [(Option<u16>, &str, Option<Ack>); 10] = [
            (None, r#"{"stream":"S","seq":3}"#, Some(Ack::Stored { seq: 3, duplicate: false })),
            (
                None,
                r#"{"stream":"S","seq":1,"duplicate":true}"#,
                Some(Ack::Stored { seq: 1, duplicate: true }),
            ),
            (None, r#"{"stream":"T","seq":3}"#, None),
            (None, r#"{"stream":"S","seq":0}"#, None),
            (None, "", None),
            (Some(503), "", refused(Refusal::Unavailable)),
            (
                None,
                r#"{"error":{"code":429,"description":"too many requests"},"seq":0}"#,
                refused(Refusal::Overloaded),
            ),
            (
                None,
                r#"{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 12"}}"#,
                refused(Refusal::Moved(12)),
            ),
            (
                None,
                r#"{"error":{"code":400,"err_code":10060,"description":"expected stream"}}"#,
                refused(Refusal::Error(10_060)),
            ),
            (None, r#"{"error":{"code":503,"err_code":10008}}"#, refused(Refusal::Unavailable)),
        ];
        for (status, body, expected) in cases {
            assert_eq!(Ack::read(status, body.as_bytes(), "S"), expected, "{body}");
        }
    }
}
