//! Fetches the public keys of a token issuer from its address.
//!
//! A set that cannot be fetched or used leaves the one before it in effect. The answer must come
//! from the address itself: redirects are not followed, no proxy is asked, and neither the answer
//! nor a token can name another address.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use reqwest::{Client, ClientBuilder};
use tokio::runtime::Builder;
use tokio::time::{Instant, sleep};

use super::outgoing::{self, first_cause};
use crate::auth::{UnknownKey, jwk_count};
use crate::limits::{JWKS_AGAIN_MS, JWKS_BYTES_MAX, JWKS_REFRESH_MS, JWKS_TIMEOUT_MS};

/// Time between two looks whether a token named an unknown key.
const LOOK: Duration = Duration::from_millis(500);

/// The set that was fetched last, and what asks for another one.
#[derive(Clone, Default, Debug)]
pub struct Fetched {
    /// The JWK set, in JSON; `None` before the first one.
    pub set: Arc<ArcSwapOption<String>>,
    /// Whether a token named a key that is not in it.
    pub unknown: Arc<UnknownKey>,
}

/// Keeps `fetched` up to date for ever. `tried` is told of the end of the first attempt.
///
/// # Errors
/// If the system gives the thread no event descriptor, or TLS cannot be set up.
pub fn run(url: &str, fetched: &Fetched, tried: &SyncSender<()>) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = client().build().map_err(io::Error::other)?;
        loop {
            let begun = Instant::now();
            let wait = match fetch(&client, url).await {
                Ok((set, keys)) => {
                    if fetched.set.load().as_deref() != Some(&set) {
                        tracing::info!(url, keys, "the issuer's keys were fetched");
                        fetched.set.store(Some(Arc::new(set)));
                    }
                    Duration::from_millis(JWKS_REFRESH_MS)
                }
                Err(why) => {
                    tracing::warn!(
                        url,
                        why,
                        "the issuer's keys cannot be fetched; those before stay"
                    );
                    Duration::from_millis(JWKS_AGAIN_MS)
                }
            };
            // The start waits for the first attempt only.
            let _ = tried.try_send(());
            until_due(fetched, begun, wait).await;
        }
    })
}

/// Waits until the next fetch is due: after `wait`, or earlier for a token of an unknown key.
async fn until_due(fetched: &Fetched, begun: Instant, wait: Duration) {
    let earliest = Duration::from_millis(JWKS_AGAIN_MS);
    let mut is_wanted = false;
    loop {
        sleep(LOOK).await;
        is_wanted |= fetched.unknown.take();
        let since = begun.elapsed();
        if since >= wait || is_wanted && since >= earliest {
            return;
        }
    }
}

/// Fetches the issuer's JWK set. Returns it with the number of its keys that the node can use, or
/// the reason why the node can use none.
async fn fetch(client: &Client, url: &str) -> Result<(String, usize), String> {
    let mut response = client.get(url).send().await.map_err(|error| cause(&error))?;
    if !response.status().is_success() {
        return Err(format!("it answered {}", response.status().as_u16()));
    }
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(|error| cause(&error))? {
        if body.len() + part.len() > JWKS_BYTES_MAX {
            return Err(format!("its answer is longer than {JWKS_BYTES_MAX} bytes"));
        }
        body.extend_from_slice(&part);
    }
    let set = String::from_utf8(body).map_err(|_| "its answer is not UTF-8".to_owned())?;
    let keys = jwk_count(&set).map_err(|error| error.to_string())?;
    Ok((set, keys))
}

/// Returns why a request has failed.
fn cause(error: &reqwest::Error) -> String {
    match error.is_timeout() {
        true => format!("it did not answer within {JWKS_TIMEOUT_MS} ms"),
        false => first_cause(error),
    }
}

fn client() -> ClientBuilder {
    outgoing::client().timeout(Duration::from_millis(JWKS_TIMEOUT_MS)).pool_max_idle_per_host(0)
}
