//! Ctrl-C: the first ends the run with the summary so far, the second ends the program at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, bail};
use signal_hook::consts::SIGINT;
use signal_hook::flag;

static REQUESTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Starts to listen for Ctrl-C.
pub(crate) fn listen() -> Result<()> {
    let requested = REQUESTED.get_or_init(Arc::default);
    // In this order: the first action sees what the second one set at an earlier Ctrl-C.
    flag::register_conditional_default(SIGINT, Arc::clone(requested))
        .and_then(|_| flag::register(SIGINT, Arc::clone(requested)))
        .context("cannot listen for Ctrl-C")?;
    Ok(())
}

/// Whether the run must end with what it has.
pub(crate) fn requested() -> bool {
    REQUESTED.get().is_some_and(|requested| requested.load(Ordering::Relaxed))
}

/// Returns an error if the run must end although nothing is measured yet.
pub(crate) fn ensure_none() -> Result<()> {
    if requested() {
        bail!("interrupted before the measured window began");
    }
    Ok(())
}
