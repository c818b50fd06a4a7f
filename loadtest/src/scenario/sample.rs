//! What was delivered and used up to a moment.

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
    /// Now, with so many deliveries.
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

    /// The same, for a moment since which nothing came.
    pub(super) fn dated(self, at_ns: u64) -> Self {
        Self { at_ns, ..self }
    }

    /// What came and was used since `before`.
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
