//! The signals of the operator, handled on a thread of its own.

use std::collections::BTreeSet;
use std::io;
use std::ops::RangeInclusive;
use std::process;
use std::sync::Arc;
use std::sync::mpsc::{Sender, SyncSender};

use rustix::process::Signal;
use signal_hook::consts::{
    SIGALRM, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM,
    SIGXCPU, SIGXFSZ,
};
use signal_hook::iterator::Signals;
use signal_hook::low_level::signal_name;

use super::threads::spawn;
use super::{Event, log};
use crate::runtime::shared::Notice;

/// The exit status of a process that a signal ended is this and the signal's number.
const ENDED_BY_SIGNAL: i32 = 128;
/// Signals that would end the process if nothing handled them, and mean nothing to a node. SIGPIPE
/// is not among them because the standard library ignores it.
const MEANINGLESS: [i32; 11] = [
    SIGQUIT,
    SIGUSR1,
    SIGUSR2,
    SIGALRM,
    SIGVTALRM,
    SIGPROF,
    SIGIO,
    SIGXCPU,
    SIGXFSZ,
    Signal::POWER.as_raw(),
    Signal::STKFLT.as_raw(),
];
/// The realtime signals, which mean nothing either. The C library may keep the first for itself.
const REALTIME: RangeInclusive<i32> = 34..=64;

/// Handles signals from now on: the first SIGTERM or SIGINT is sent to `told`, and so is the second
/// if the node has a delay before its drain and that is not over. A further one ends the process at
/// once. Each SIGHUP asks for a reload. All others that can be handled do nothing.
///
/// # Errors
/// If the system does not let the node handle them.
pub(super) fn watch(
    told: &Sender<Event>,
    reload: SyncSender<()>,
    (notice, has_delay): (Arc<Notice>, bool),
) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    for signal in MEANINGLESS.into_iter().chain(REALTIME) {
        // Fails for a signal that the C library keeps for itself.
        let _ = signals.add_signal(signal);
    }
    let events = told.clone();
    spawn("signals", told, move || {
        let sent_most = 1 + u32::from(has_delay);
        let (mut sent, mut named) = (0, BTreeSet::new());
        for signal in signals.forever() {
            let name = signal_name(signal).unwrap_or("a signal");
            match signal {
                SIGINT | SIGTERM if sent == sent_most || notice.is_over() => {
                    tracing::warn!("another signal to stop: stopping at once");
                    log::flush();
                    process::exit(ENDED_BY_SIGNAL + signal);
                }
                SIGINT | SIGTERM => {
                    sent += 1;
                    let _ = events.send(Event::Signal(name));
                }
                // If a reload is due already, it will read what has changed by now.
                SIGHUP => drop(reload.try_send(())),
                // Only once, because SIGXFSZ comes with every write to a log that may not grow.
                _ if named.insert(signal) => tracing::info!(
                    signal = name,
                    number = signal,
                    "this signal does nothing; SIGTERM stops the node and SIGHUP reloads"
                ),
                _ => {}
            }
        }
    })
}
