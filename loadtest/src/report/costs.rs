//! Processor time of server and clients per delivery.

use serde_json::{Value, json};

use crate::lengths::FrameLengths;
use crate::procfs::{Cpu, Memory, Usage};
use crate::report::figure::{Better, Unit};
use crate::report::record::Record;
use crate::table::{Table, bytes, grouped, memory_cells, micros, nanos};

/// A shorter window has no rates: they would be those of a moment.
const SHORTEST_NS: u64 = 10_000_000;

/// The measured window, from the first timed publication to the last delivery.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    /// Its length in ns.
    pub(crate) wall_ns: u64,
    /// The time in which the processor time was used, in ns.
    pub(crate) cpu_wall_ns: u64,
    /// Number of deliveries in the window.
    pub(crate) deliveries: u64,
    /// Processor time of the server, if its process is known.
    pub(crate) server: Option<Usage>,
    /// Processor time of the processes that held the clients.
    pub(crate) client: Usage,
}

/// The cost of all deliveries of the measured window.
#[derive(Clone, Debug, Default)]
pub(crate) struct Costs {
    /// Lengths of the delivered frames.
    pub(crate) frames: FrameLengths,
    pub(crate) window: Window,
    /// Number of processes that held the clients.
    pub(crate) client_processes: usize,
}

impl Costs {
    /// Returns the server's processor time per delivery, in ns. `None` also if it is zero: then the
    /// wrong process was measured, or the window was too short for the kernel's clock.
    pub(super) fn server_cost_ns(&self) -> Option<f64> {
        let server = self.window.server.as_ref()?;
        self.per_delivery_ns(server.process).filter(|cpu_ns| *cpu_ns > 0.0)
    }

    /// Returns the name of the file that the server's processor time was read from.
    pub(super) fn cpu_source(&self) -> Option<&'static str> {
        self.window.server.as_ref().map(|server| server.process.source())
    }

    /// Adds the figures of processor time to a saved run.
    pub(super) fn figures(&self, record: &mut Record) {
        let server = self.window.server.as_ref().and_then(|usage| self.cores(usage));
        let client = self.cores(&self.window.client);
        record.figure("CPU per delivery", Unit::Ns, Better::Lower, self.server_cost_ns());
        record.figure("server CPU, cores", Unit::Cores, Better::Lower, server);
        record.figure("client CPU, cores", Unit::Cores, Better::Neither, client);
    }

    /// Returns the processor time per delivery in the window, in ns.
    fn per_delivery_ns(&self, cpu: Cpu) -> Option<f64> {
        let deliveries = self.window.deliveries;
        (deliveries > 0).then(|| cpu.total_ns() as f64 / deliveries as f64)
    }

    /// Returns the processor time per byte of a frame, in ns, by which APIs with different frames
    /// can be compared.
    fn per_byte_ns(&self, cpu: Cpu) -> Option<f64> {
        Some(self.per_delivery_ns(cpu)? / self.frames.median()? as f64)
    }

    /// Adds rows for the processor time per delivery and for the server's memory.
    pub(super) fn rows(&self, table: &mut Table, memory: Option<Memory>) {
        table.row("frame", [("median", bytes(self.frames.median().map(|bytes| bytes as f64)))]);
        if let Some(server) = &self.window.server {
            self.cpu_row(table, "server CPU", server.process);
            for (name, cpu) in server.threads.values() {
                self.cpu_row(table, &format!("  {name}"), *cpu);
            }
        }
        if let Some(source) = self.cpu_source() {
            table.line("", &format!("per delivery from {source}, user and system from stat"));
        }
        if let Some(memory) = memory {
            table.row("server memory", memory_cells(memory));
        }
        let client = match self.client_processes {
            1 => "client CPU".to_owned(),
            count => format!("client CPU, {count}"),
        };
        self.cpu_row(table, &client, self.window.client.process);
    }

    fn cpu_row(&self, table: &mut Table, title: &str, cpu: Cpu) {
        let cores = cpu.total_ns() as f64 * 1e2 / self.window.cpu_wall_ns.max(1) as f64;
        table.row(
            title,
            [
                ("per delivery", micros(self.per_delivery_ns(cpu))),
                ("per byte", nanos(self.per_byte_ns(cpu))),
                ("user", format!("{} ms", grouped(cpu.user_us / 1_000))),
                ("system", format!("{} ms", grouped(cpu.system_us / 1_000))),
                ("of one core", format!("{cores:.0} %")),
            ],
        );
    }

    /// Adds the costs to a JSON result.
    pub(super) fn put_into(&self, result: &mut Value) {
        let Self { frames, window, client_processes } = self;
        result["frame_bytes"] = json!(frames.median());
        result["window"] = json!({
            "wall_ns": window.wall_ns,
            "deliveries": window.deliveries,
            "server": window.server.as_ref().map(|usage| self.usage_json(usage)),
            "client": self.usage_json(&window.client),
        });
        result["client_processes"] = json!(client_processes);
    }

    /// Returns the deliveries per second of the window; `None` if it was too short for a rate.
    pub(super) fn deliveries_per_second(&self) -> Option<f64> {
        let Window { deliveries, wall_ns, .. } = self.window;
        (wall_ns >= SHORTEST_NS).then(|| deliveries as f64 * 1e9 / wall_ns as f64)
    }

    /// Returns how many processors a process kept busy in the window; `None` if that was too short.
    fn cores(&self, usage: &Usage) -> Option<f64> {
        let wall_ns = self.window.cpu_wall_ns;
        (wall_ns >= SHORTEST_NS).then(|| usage.process.total_ns() as f64 / wall_ns as f64)
    }

    fn usage_json(&self, usage: &Usage) -> Value {
        let threads = usage.threads.values();
        let threads: Vec<Value> = threads
            .map(|(name, cpu)| {
                json!({
                    "name": name,
                    "user_us": cpu.user_us,
                    "system_us": cpu.system_us,
                    "total_ns": cpu.total_ns(),
                })
            })
            .collect();
        json!({
            "user_us": usage.process.user_us,
            "system_us": usage.process.system_us,
            "total_ns": usage.process.total_ns(),
            "total_from": usage.process.source(),
            "us_per_delivery": self.per_delivery_ns(usage.process).map(|ns| ns / 1e3),
            "ns_per_frame_byte": self.per_byte_ns(usage.process),
            "threads": threads,
        })
    }
}
