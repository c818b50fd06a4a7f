//! One request to a webhook, and what its answer means.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, ClientBuilder, RequestBuilder, Response, StatusCode};
use thiserror::Error;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::Settings;
use super::intake::Parcel;
use super::resolve::Resolver;
use super::sign::{header_value, signature};
use crate::background::outgoing::{self, first_cause};
use crate::config::Secret;
use crate::limits::{
    WEBHOOK_ANSWER_BYTES_MAX, WEBHOOK_IDLE_MS, WEBHOOK_RETRY_AFTER_S_MAX,
    WEBHOOK_TARGET_CONCURRENT_MAX,
};
use crate::message::webhook_url::{self, Refusal};

/// The HTTP client that calls webhooks.
pub(super) struct Caller {
    client: Client,
    secret: Secret,
    timeout: Duration,
    allow_private: bool,
}

/// The result of an attempt.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The target answered 2xx.
    Delivered,
    /// The URL may not be called.
    Refused(Refusal),
    /// A repetition would change nothing.
    Failed(Fault),
    /// The fault may pass. The duration is the answer's `Retry-After`, if it has one.
    Again(Fault, Option<Duration>),
}

/// The fault of a call, in words that show no part of the URL but perhaps its host.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub(super) enum Fault {
    #[error("it answered {0}")]
    Status(u16),
    #[error("it did not answer in time")]
    Timeout,
    #[error("it cannot be connected to: {0}")]
    Unreachable(String),
    #[error("the connection was lost before it answered")]
    Lost,
    #[error("no HTTP request can be made for it")]
    Unsendable,
}

impl Caller {
    /// # Errors
    /// If TLS cannot be set up.
    pub(super) fn new(settings: &Settings) -> io::Result<Self> {
        let Settings { ref secret, timeout, allow_private, .. } = *settings;
        let client = client(allow_private).build().or_else(|error| {
            tracing::warn!(%error, "without authorities to trust, webhooks on https will fail");
            client(allow_private).tls_certs_only([]).build()
        });
        let client = client.map_err(io::Error::other)?;
        Ok(Self { client, secret: secret.clone(), timeout, allow_private })
    }

    /// Refuses a URL that may not be called, as far as can be told before its name is looked up.
    pub(super) fn check(&self, url: &Url) -> Result<(), Refusal> {
        webhook_url::check(url, self.allow_private)
    }

    /// Posts the publication once, and waits for the answer until the timeout.
    pub(super) async fn attempt(&self, url: Url, parcel: &Arc<Parcel>) -> Verdict {
        if let Err(refusal) = self.check(&url) {
            return Verdict::Refused(refusal);
        }
        let end = Instant::now() + self.timeout;
        let response = match timeout_at(end, self.request(url, parcel).send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return unanswered(&error),
            Err(_) => return Verdict::Again(Fault::Timeout, None),
        };
        let verdict = answered(&response);
        // The status counts, even if the body cannot be read.
        let _ = timeout_at(end, read_to_end(response)).await;
        verdict
    }

    fn request(&self, url: Url, parcel: &Arc<Parcel>) -> RequestBuilder {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let publication = parcel.publication();
        self.client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header("X-InsForge-Event", header_value(parcel.event()))
            .header("X-InsForge-Channel", header_value(publication.channel.as_str()))
            .header("X-InsForge-Message-Id", publication.id.to_string())
            .header("X-InsForge-Signature", signature(&self.secret, now, parcel.payload()))
            .body(parcel.body())
    }
}

fn client(allow_private: bool) -> ClientBuilder {
    outgoing::client()
        .dns_resolver(Resolver::new(allow_private))
        .pool_idle_timeout(Duration::from_millis(WEBHOOK_IDLE_MS))
        .pool_max_idle_per_host(WEBHOOK_TARGET_CONCURRENT_MAX)
}

fn answered(response: &Response) -> Verdict {
    let status = response.status();
    let fault = Fault::Status(status.as_u16());
    match status {
        _ if status.is_success() => Verdict::Delivered,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            Verdict::Again(fault, retry_after(response))
        }
        _ if status.is_server_error() => Verdict::Again(fault, retry_after(response)),
        _ => Verdict::Failed(fault),
    }
}

fn retry_after(response: &Response) -> Option<Duration> {
    wished_wait(response.headers().get(RETRY_AFTER)?.to_str().ok()?)
}

/// Parses a `Retry-After` in seconds, of which at most [`WEBHOOK_RETRY_AFTER_S_MAX`] are waited.
/// Returns `None` for a date.
fn wished_wait(retry_after: &str) -> Option<Duration> {
    let seconds: u64 = retry_after.parse().ok()?;
    Some(Duration::from_secs(seconds.min(WEBHOOK_RETRY_AFTER_S_MAX)))
}

fn unanswered(error: &reqwest::Error) -> Verdict {
    if let Some(refusal) = refusal(error) {
        return Verdict::Refused(refusal);
    }
    match error {
        _ if error.is_builder() => Verdict::Failed(Fault::Unsendable),
        _ if error.is_connect() => Verdict::Again(Fault::Unreachable(first_cause(error)), None),
        _ => Verdict::Again(Fault::Lost, None),
    }
}

/// Returns the resolver's refusal, if it is inside this error.
fn refusal(error: &reqwest::Error) -> Option<Refusal> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(refusal) = error.downcast_ref() {
            return Some(*refusal);
        }
        cause = error.source();
    }
    None
}

/// Reads the body, so that the connection can be used again. A body longer than
/// [`WEBHOOK_ANSWER_BYTES_MAX`] is left unread, which closes the connection.
async fn read_to_end(mut response: Response) {
    if response.content_length().is_some_and(|length| length > WEBHOOK_ANSWER_BYTES_MAX as u64) {
        return;
    }
    let mut read = 0;
    while let Ok(Some(part)) = response.chunk().await {
        read += part.len();
        if read > WEBHOOK_ANSWER_BYTES_MAX {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_asks_for_a_wait_without_end() {
        for (text, expected) in [
            ("0", Some(0)),
            ("59", Some(59)),
            ("61", Some(WEBHOOK_RETRY_AFTER_S_MAX)),
            ("18446744073709551615", Some(WEBHOOK_RETRY_AFTER_S_MAX)),
            ("18446744073709551616", None),
            ("-1", None),
            ("1.5", None),
            ("", None),
            ("Fri, 31 Dec 2100 23:59:59 GMT", None),
        ] {
            assert_eq!(wished_wait(text), expected.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn a_machine_without_authorities_still_calls_http() {
        assert!(client(false).tls_certs_only([]).build().is_ok());
    }
}
