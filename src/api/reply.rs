//! What goes back over HTTP, before anybody turned it into bytes.

use serde::Serialize;

use crate::message::{Millis, iso_millis};

/// An answer: status, JSON body, and the headers that depend on the outcome.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The body, JSON.
    pub body: String,
    /// Value of `Retry-After`, in seconds.
    pub retry_after_s: Option<u32>,
    /// Value of `Allow`, which a 405 must carry (RFC 9110 section 15.5.6).
    pub allow: Option<&'static str>,
    /// Value of `forge-proxy-error`: what is wrong with the headers of a Forge call.
    pub proxy_error: Option<&'static str>,
}

impl Reply {
    /// `GET /api/health` (contract section 2.1). A node that has problems, or is about to stop,
    /// says so with 503, so that whoever spreads clients over nodes leaves it out.
    pub fn health(version: &str, now: Millis, is_stopping: bool, problems: &[String]) -> Self {
        let (status, word) = match (problems, is_stopping) {
            ([], false) => (200, "ok"),
            ([], true) => (503, "draining"),
            _ => (503, "failing"),
        };
        let timestamp = iso_millis(now);
        let health = Health { status: word, version, service: "fanfare", timestamp, problems };
        Self::json(status, &health)
    }

    pub(super) fn json(status: u16, body: &impl Serialize) -> Self {
        let body = serde_json::to_string(body).expect("structs of strings and numbers serialize");
        Self::of(status, body)
    }

    /// An answer whose body is JSON already, or nothing.
    pub(super) fn of(status: u16, body: String) -> Self {
        Self { status, body, retry_after_s: None, allow: None, proxy_error: None }
    }
}

#[derive(Serialize)]
struct Health<'a> {
    status: &'static str,
    version: &'a str,
    service: &'static str,
    timestamp: String,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    problems: &'a [String],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_is_rendered() {
        let reply = Reply::health("1.2.3", 1_777_136_400_123, false, &[]);
        assert_eq!(reply.status, 200);
        let rest = r#""service":"fanfare","timestamp":"2026-04-25T17:00:00.123Z"}"#;
        assert_eq!(reply.body, r#"{"status":"ok","version":"1.2.3","#.to_owned() + rest);
    }

    #[test]
    fn a_node_that_should_be_left_alone_says_so() {
        let stopping = Reply::health("1.2.3", 0, true, &[]);
        assert_eq!(stopping.status, 503);
        assert!(stopping.body.starts_with(r#"{"status":"draining","#), "{}", stopping.body);
        let failing = Reply::health("1.2.3", 0, true, &["worker 1 is late".to_owned()]);
        assert_eq!(failing.status, 503);
        assert!(failing.body.starts_with(r#"{"status":"failing","#), "{}", failing.body);
        assert!(failing.body.ends_with(r#""problems":["worker 1 is late"]}"#), "{}", failing.body);
    }
}
