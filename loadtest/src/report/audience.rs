//! The clients of one API in a run with several.

use anyhow::Result;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::api::Api;
use crate::lengths::FrameLengths;
use crate::report::{deliveries_json, latency_cells, latency_json, loss_cells, told_row};
use crate::table::{Table, bytes, grouped, plural};
use crate::tally::Deliveries;

/// What the clients of one API received.
#[derive(Clone, Debug)]
pub(crate) struct Audience {
    pub(crate) api: Api,
    /// Number of clients.
    pub(crate) clients: usize,
    pub(crate) deliveries: Deliveries,
    /// Time from a publication's due time to its reading, in ns.
    pub(crate) latency: Histogram<u64>,
    /// Lengths of the delivered frames.
    pub(crate) frames: FrameLengths,
    /// Number of errors from the server.
    pub(crate) errors: u64,
}

impl Audience {
    /// Adds other clients of the same API.
    pub(crate) fn add(&mut self, other: Self) -> Result<()> {
        self.clients += other.clients;
        self.deliveries.merge(other.deliveries);
        self.latency.add(other.latency)?;
        self.frames.add(&other.frames);
        self.errors += other.errors;
        Ok(())
    }

    /// Adds the rows for people.
    pub(super) fn rows(&self, table: &mut Table) {
        let Self { api, clients, deliveries, latency, frames, errors } = self;
        table.line("", &format!("of these, {} of {api}:", plural(*clients, "client")));
        table.row("  deliveries", [("received", grouped(deliveries.received))]);
        table.row("", loss_cells(deliveries));
        told_row(table, deliveries);
        table.row("  latency", latency_cells(latency));
        let median = bytes(frames.median().map(|bytes| bytes as f64));
        table.row("  frame", [("median", median), ("errors received", grouped(*errors))]);
    }

    /// Returns the result for machines.
    pub(super) fn json(&self) -> Value {
        json!({
            "api": self.api,
            "clients": self.clients,
            "deliveries": deliveries_json(&self.deliveries),
            "latency_ns": latency_json(&self.latency),
            "frame_bytes": self.frames.median(),
            "realtime_errors": self.errors,
        })
    }
}
