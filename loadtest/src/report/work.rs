//! Processor time of server and clients for each unit of a scenario's work: a publication, a
//! delivery, a join.

use serde_json::{Value, json};

use crate::fate::Cut;
use crate::procfs::{Cpu, Memory, Usage};
use crate::report::figure::{Better, Unit};
use crate::report::{Evidence, Load, Record, Series, Window, memory_json};
use crate::table::{Table, grouped, memory_cells, micros};

/// The measured window of a scenario. The window's `deliveries` count its units.
#[derive(Clone, Debug, Default)]
pub(crate) struct Work {
    /// The name of one unit.
    pub(crate) unit: &'static str,
    /// From the start of the window to the last unit, which may come after the planned end.
    pub(crate) window: Window,
    /// The window up to its planned end.
    pub(crate) planned: Window,
    /// The server's memory at the end, if its process is known.
    pub(crate) memory: Option<Memory>,
    /// Whether Ctrl-C ended the window.
    pub(crate) interrupted: bool,
    pub(crate) series: Series,
    /// The longest time in which answers were due and none came, in ns; `None` if there are none.
    pub(crate) pause_ns: Option<u64>,
    /// How the server cut the run short.
    pub(crate) cut: Option<Cut>,
}

impl Work {
    /// Returns the server's processor time for each unit, in ns; `None` if it is unknown or zero.
    pub(crate) fn server_ns(&self) -> Option<f64> {
        let server = self.window.server.as_ref()?;
        self.per_unit_ns(server.process).filter(|cpu_ns| *cpu_ns > 0.0)
    }

    /// Returns the units of each second of the window.
    pub(crate) fn per_second(&self) -> f64 {
        self.window.deliveries as f64 * 1e9 / self.window.wall_ns.max(1) as f64
    }

    /// Returns the units of each second up to the planned end of the window.
    pub(crate) fn per_planned_second(&self) -> f64 {
        self.planned.deliveries as f64 * 1e9 / self.planned.wall_ns.max(1) as f64
    }

    /// Returns how the server cut the run short, as a fault.
    pub(super) fn cut(&self) -> Option<String> {
        self.cut.as_ref().map(Cut::text)
    }

    /// Whether a long pause without any answer hides behind the figures.
    pub(super) fn has_a_long_pause(&self) -> bool {
        self.evidence().is_interrupted_by_a_pause()
    }

    /// Returns how much of one core the server and the clients used, in percent. The clients' is that
    /// of all their processes together.
    pub(super) fn cores(&self) -> (Option<f64>, f64) {
        let core = |cpu| core(cpu, &self.planned);
        let server = self.planned.server.as_ref().map(|server| core(server.process));
        (server, core(self.planned.client.process))
    }

    /// Returns what the verdict depends on, as far as the processors say.
    pub(super) fn evidence(&self) -> Evidence<'_> {
        let Window { client, server, cpu_wall_ns, .. } = &self.planned;
        let busiest = |usage, name| Load::busiest(usage, name, *cpu_wall_ns);
        Evidence {
            seconds: self.planned.wall_ns as f64 / 1e9,
            passed_s: self.window.wall_ns as f64 / 1e9,
            pause_ns: self.pause_ns,
            cut: self.cut.as_ref(),
            client: busiest(client, "clients"),
            publisher: busiest(client, "publisher"),
            server: server.as_ref().and_then(|usage| busiest(usage, "")),
            starved: server.as_ref().and_then(|usage| Load::most_kept(usage, *cpu_wall_ns)),
            ..Evidence::default()
        }
    }

    /// Fills in what a saved run says of the window.
    pub(super) fn save_into(&self, record: &mut Record) {
        use Better::{Higher, Lower, Neither};
        use Unit::{Bytes, Cores, Ns, PerSecond};
        record.interrupted = self.interrupted;
        record.seconds = self.window.wall_ns as f64 / 1e9;
        record.series = self.series.clone();
        let (server, client) = self.cores();
        let rate = format!("{} per second", self.unit);
        record.figure(&rate, PerSecond, Higher, Some(self.per_second()));
        record.figure("server CPU for each", Ns, Lower, self.server_ns());
        record.figure("server CPU, cores", Cores, Lower, server.map(|percent| percent / 1e2));
        record.figure("client CPU, cores", Cores, Neither, Some(client / 1e2));
        if self.pause_ns.is_some() {
            let pause_ns = self.pause_ns.map(|ns| ns as f64);
            record.figure("longest pause without answers", Ns, Lower, pause_ns);
        }
        record.figure("memory", Bytes, Lower, self.memory.map(|memory| memory.rss as f64));
    }

    /// Adds the rows for people.
    pub(super) fn rows(&self, table: &mut Table) {
        let units = grouped(self.window.deliveries);
        let rate = grouped(self.per_second().round() as u64);
        table.row("measured", [(self.unit, units), ("per second", rate)]);
        if let Some(server) = &self.window.server {
            self.cpu_row(table, "server CPU", server);
            for (name, cpu) in server.threads.values() {
                let one = Usage { process: *cpu, ..Usage::default() };
                self.cpu_row(table, &format!("  {name}"), &one);
            }
        }
        if let Some(memory) = self.memory {
            table.row("server memory", memory_cells(memory));
        }
        self.cpu_row(table, "client CPU", &self.window.client);
    }

    fn cpu_row(&self, table: &mut Table, title: &str, usage: &Usage) {
        let cpu = usage.process;
        table.row(
            title,
            [
                ("each", micros(self.per_unit_ns(cpu))),
                ("user", format!("{} ms", grouped(cpu.user_us / 1_000))),
                ("system", format!("{} ms", grouped(cpu.system_us / 1_000))),
                ("of one core", format!("{:.0} %", core(cpu, &self.window))),
            ],
        );
    }

    /// Adds the result for machines.
    pub(super) fn put_into(&self, result: &mut Value) {
        let usage = |usage: &Usage| {
            json!({
                "user_us": usage.process.user_us,
                "system_us": usage.process.system_us,
                "total_ns": usage.process.total_ns(),
                "total_from": usage.process.source(),
                "us_each": self.per_unit_ns(usage.process).map(|ns| ns / 1e3),
            })
        };
        result["window"] = json!({
            "unit": self.unit,
            "count": self.window.deliveries,
            "wall_ns": self.window.wall_ns,
            "per_second": self.per_second(),
            "longest_pause_ns": self.pause_ns,
            "server": self.window.server.as_ref().map(usage),
            "client": usage(&self.window.client),
        });
        result["interrupted"] = self.interrupted.into();
        result["server_memory"] = json!(self.memory.map(memory_json));
    }

    /// Returns the fault if a unit costs the server more than this, in µs.
    pub(crate) fn fault(&self, most_us: Option<f64>) -> Option<String> {
        let most = most_us?;
        let unit = self.unit;
        match self.server_ns().map(|ns| ns / 1e3) {
            Some(us) if us <= most => None,
            Some(us) => Some(format!(
                "the server's CPU for each of the {unit} is {us:.3} µs, more than {most}"
            )),
            None => Some(format!("the server's CPU for the {unit} was not measured")),
        }
    }

    fn per_unit_ns(&self, cpu: Cpu) -> Option<f64> {
        let units = self.window.deliveries;
        (units > 0).then(|| cpu.total_ns() as f64 / units as f64)
    }
}

fn core(cpu: Cpu, window: &Window) -> f64 {
    cpu.total_ns() as f64 * 1e2 / window.cpu_wall_ns.max(1) as f64
}
