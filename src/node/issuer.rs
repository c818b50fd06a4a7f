//! The thread that fetches the public keys of a token issuer.

use std::io;
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use super::Event;
use super::threads::spawn;
use crate::background::issuer::{Fetched, run};
use crate::config::Config;
use crate::limits::JWKS_TIMEOUT_MS;

/// Starts the thread and waits for the end of its first attempt, because clients that are refused
/// do not try again by themselves. Returns `None` if no issuer has an address.
///
/// # Errors
/// If the system gives no thread.
pub(super) fn start(config: &Config, told: &Sender<Event>) -> io::Result<Option<Fetched>> {
    let Some(url) = config.auth.jwks_url.clone() else { return Ok(None) };
    let fetched = Fetched::default();
    let (tried, first) = mpsc::sync_channel(1);
    let theirs = fetched.clone();
    spawn("issuer", told, move || {
        if let Err(error) = run(&url, &theirs, &tried) {
            tracing::error!(%error, "the issuer's keys cannot be fetched");
        }
    })?;
    let _ = first.recv_timeout(Duration::from_millis(JWKS_TIMEOUT_MS));
    Ok(Some(fetched))
}
