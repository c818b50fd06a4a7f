//! Counters of deliveries and of used processor time.

use anyhow::Result;

use crate::clock::now_ns;
use crate::procfs::Usage;
use crate::report::Window;

/// Counters at one moment.
pub(super) struct Sample {
    at_ns: u64,
    received: u64,
    server: Option<Usage>,
    client: Usage,
}

impl Sample {
    /// Reads the processor time now and stores it with this number of deliveries.
    pub(super) fn take(
        received: u64,
        server_pid: Option<u32>,
        client_pids: impl IntoIterator<Item = u32>,
    ) -> Result<Self> {
        Ok(Self {
            at_ns: now_ns(),
            received,
            server: server_pid.map(Usage::of).transpose()?,
            client: Usage::of_all(client_pids)?,
        })
    }

    /// Changes the time of the sample to that of the last delivery.
    pub(super) fn dated(self, at_ns: u64) -> Self {
        Self { at_ns, ..self }
    }

    /// Returns the differences to the sample `before`.
    pub(super) fn since(&self, before: &Self) -> Window {
        let server = self.server.as_ref().zip(before.server.as_ref());
        Window {
            wall_ns: self.at_ns - before.at_ns,
            deliveries: self.received - before.received,
            server: server.map(|(after, before)| after.since(before)),
            client: self.client.since(&before.client),
        }
    }
}
