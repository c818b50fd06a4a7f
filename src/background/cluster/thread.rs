//! The thread of the cluster: its runtime and its parts.

use std::io;
use std::sync::Arc;

use tokio::net::unix::pipe;
use tokio::runtime;
use tokio::sync::mpsc;

use super::client::Client;
use super::line::Line;
use super::mirror::Mirror;
use super::owner::{Owner, Parts};
use super::reads::Reader;
use super::settings::Settings;
use crate::cluster::landing::Landing;
use crate::cluster::name::Subjects;
use crate::limits::CLUSTER_RESULTS_MAX;
use crate::mailbox::Doorbell;
use crate::metrics::Counters;

/// Runs a node's part in its cluster on the calling thread, until the node or the register ends.
/// The bell must be rung whenever `landing` has something.
///
/// # Errors
/// If the system gives no runtime, or the prefix is not one.
pub fn run<L: Landing>(
    settings: Settings,
    landing: L,
    bell: &Doorbell,
    counters: Arc<Counters>,
) -> io::Result<()> {
    let Settings { prefix, origin, .. } = &settings;
    let subjects = Subjects::new(prefix, origin.node.clone(), origin.incarnation);
    let subjects = subjects.ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "the prefix of the cluster is not valid")
    })?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Not a pipe, but read like one.
        let ring = pipe::Receiver::from_owned_fd_unchecked(bell.descriptor().try_clone()?)?;
        let (results, found) = mpsc::channel(CLUSTER_RESULTS_MAX);
        let (claims, mirrored) = mpsc::channel(CLUSTER_RESULTS_MAX);
        let (again, asked) = mpsc::channel(1);
        let client = Client::start(settings.line.clone());
        Mirror::start(settings.line.clone(), subjects.clone(), claims, asked);
        let parts = Parts {
            line: Line::new(settings.line.clone()),
            reader: Reader::new(client, subjects.clone(), results),
            found,
            mirrored,
            again,
            subjects,
            counters,
        };
        Owner::new(settings, landing, parts).run(bell, &ring).await;
        Ok(())
    })
}
