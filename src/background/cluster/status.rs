//! `fanfare cluster status`: what the register, the streams and the heartbeats say of a cluster, as
//! a text for the operator.

use std::fmt::Write as _;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::jetstream::stream::{Info, StorageType};
use thiserror::Error;

use super::beats::{Heard, listen};
use super::control::{Control, ControlError, Settings};
use super::entries::{Register, Registered};
use super::identity::ClusterId;
use super::line;
use super::protocol::{OLDEST, Version};
use super::register::date;
use crate::cluster::documents::Places;
use crate::cluster::health::differ;
use crate::cluster::name::Stream;
use crate::config::Fingerprints;
use crate::limits::STATUS_LISTEN_MS;

/// A cluster's state in words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The lines to print.
    pub text: String,
    /// Whether nothing needs the operator.
    pub is_healthy: bool,
}

/// Why there is no report.
#[derive(Debug, Error)]
pub enum StatusError {
    /// The system gave no descriptors or timers.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

/// Reads the state of a cluster, which takes about a second, because heartbeats are listened to.
/// `own` returns the fingerprints of this machine's settings in the cluster with an id. If NATS
/// cannot be reached or does not answer, the report says that, and has what could be read.
///
/// # Errors
/// If the system gives no descriptors or timers.
pub fn report(
    settings: Settings,
    own: impl Fn(&ClusterId) -> Fingerprints,
) -> Result<Report, StatusError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(async {
        let mut lines = Lines::default();
        let read = match Control::connect(settings.clone()).await {
            Ok(control) => lines.cluster(control, own).await,
            Err(error) => Err(error),
        };
        if let Err(error) = read {
            lines.interrupted(&settings, &error).await;
        }
        lines.finish()
    }))
}

/// The lines of a report, and what needs the operator.
#[derive(Default)]
struct Lines {
    text: String,
    problems: Vec<String>,
    /// Whether there is a line of the servers.
    has_servers: bool,
}

impl Lines {
    async fn cluster(
        &mut self,
        control: Control,
        own: impl Fn(&ClusterId) -> Fingerprints,
    ) -> Result<(), ControlError> {
        let settings = control.settings();
        let place = place(settings);
        let register = Register::existing(&control).await?;
        let cluster = match &register {
            Some(register) => register.cluster().await?.map(|id| (register, id)),
            None => None,
        };
        let Some((register, id)) = cluster else {
            self.line(&format!("no cluster {place}"));
            self.servers(settings).await;
            self.problems.push("no node has joined yet".to_owned());
            return Ok(());
        };
        let nodes = register.nodes().await?;
        let epoch = register.remembered(Stream::Order).await?;
        let epoch = epoch.map_or_else(|| "not begun".to_owned(), |epoch| epoch.number.to_string());
        let plural = if nodes.len() == 1 { "" } else { "s" };
        let count = nodes.len();
        self.line(&format!("cluster {} {place}, {count} node{plural}, epoch {epoch}", id.as_str()));
        let prefix = &settings.prefix;
        let name = prefix.stream(Stream::Order);
        let order = self.stream(&control, (&name, "messages"), true).await?;
        let name = prefix.stream(Stream::Claims);
        self.stream(&control, (&name, "claims and marks"), false).await?;
        let name = Places::new(prefix).stream();
        self.stream(&control, (&name, "documents and marks"), false).await?;
        self.servers(settings).await;
        let heard = listen(&control, Duration::from_millis(STATUS_LISTEN_MS)).await?;
        let last = order.map_or(0, |info| info.state.last_sequence);
        self.nodes(&nodes, &heard, last, &own(&id));
        Ok(())
    }

    /// Adds the servers, if they are missing, and why nothing more could be read.
    async fn interrupted(&mut self, settings: &Settings, error: &ControlError) {
        if self.text.is_empty() {
            self.line(&format!("cluster {}: it cannot be read", place(settings)));
        }
        if !self.has_servers {
            self.servers(settings).await;
        }
        self.problems.push(error.to_string());
    }

    /// Adds the line of a stream of this name that has `what`, and returns its description.
    async fn stream(
        &mut self,
        control: &Control,
        (name, what): (&str, &str),
        ages: bool,
    ) -> Result<Option<Info>, ControlError> {
        let Some(info) = control.info(name).await? else {
            self.line(&format!("stream   {name}  is missing"));
            self.problems.push(format!("the stream {name} is missing"));
            return Ok(None);
        };
        let Info { config, state, cluster, .. } = &info;
        let storage = if config.storage == StorageType::File { "file" } else { "memory" };
        // A server that is alone leads without saying so.
        let leader = cluster.as_ref().map(|cluster| cluster.leader.clone().unwrap_or_default());
        let leads = match leader.as_deref() {
            None => String::new(),
            Some("") => {
                self.problems.push(format!("the stream {name} has no leader"));
                "  no leader".to_owned()
            }
            Some(leader) => format!("  leader {leader}"),
        };
        let held = match config.max_bytes {
            most if most > 0 => format!("{} of {}", megabytes(state.bytes), megabytes(most as u64)),
            _ => megabytes(state.bytes),
        };
        let oldest = match (ages, state.messages) {
            (true, 1..) => {
                let age = now_seconds().saturating_sub(state.first_timestamp.unix_timestamp());
                format!("  oldest {} s", age.max(0))
            }
            _ => String::new(),
        };
        let (copies, count) = (config.num_replicas, grouped(state.messages));
        self.line(&format!(
            "stream   {name}  {storage} R{copies}{leads}  {count} {what}  {held}{oldest}"
        ));
        Ok(Some(info))
    }

    /// Adds the line of the configured servers.
    async fn servers(&mut self, settings: &Settings) {
        let mut shown = Vec::new();
        for address in &settings.line.servers {
            match line::greeting(address).await {
                Ok(info) => {
                    shown.push(format!("{} {}", info.server_name, info.version));
                    if Version::parse(&info.version).is_none_or(|version| version < OLDEST) {
                        let version = &info.version;
                        let problem =
                            format!("NATS at {address} is {version}, 2.11 or newer is needed");
                        self.problems.push(problem);
                    }
                }
                Err(fault) => {
                    shown.push(format!("{address} is not reached"));
                    self.problems.push(format!("NATS at {address}: {fault}"));
                }
            }
        }
        self.line(&format!("servers  {}", shown.join(" · ")));
        self.has_servers = true;
    }

    /// Adds a table of the nodes. `last` is the last sequence of the stream of publications before
    /// heartbeats were listened to.
    fn nodes(&mut self, nodes: &[Registered], heard: &Heard, last: u64, own: &Fingerprints) {
        let mut rows = vec![
            ["node", "version", "host", "state", "lag", "channels", "since"].map(str::to_owned),
        ];
        let mut differing = Vec::new();
        for Registered { origin, entry, .. } in nodes {
            let node = &origin.node;
            let (state, lag, channels) = match heard.beat(origin) {
                Some(beat) => {
                    let state = if beat.draining { "draining" } else { "up" };
                    let lag = grouped(last.saturating_sub(beat.heard));
                    (state, lag, grouped(beat.attached))
                }
                None => {
                    self.problems.push(format!(
                        "the node {node} is entered and not heard: it has ended without leaving, \
                         or does not reach NATS"
                    ));
                    ("silent", "–".to_owned(), "–".to_owned())
                }
            };
            rows.push([
                node.to_string(),
                entry.version.clone(),
                entry.host.clone(),
                state.to_owned(),
                lag,
                channels,
                date(entry.started),
            ]);
            let secrets = own.differing_secrets(&entry.fingerprints);
            if !secrets.is_empty() {
                self.problems.push(differ(&secrets, " of this configuration", node.as_str()));
            }
            let settings = own.differing_settings(&entry.fingerprints);
            if !settings.is_empty() {
                differing.push(format!("{node} {}", settings.join(", ")));
            }
        }
        self.table(&rows);
        if !differing.is_empty() {
            self.line(&format!(
                "settings that differ from this configuration: {}",
                differing.join("; ")
            ));
        }
    }

    /// Adds rows whose columns are as wide as their longest text.
    fn table<const COLUMNS: usize>(&mut self, rows: &[[String; COLUMNS]]) {
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
        for row in rows {
            let mut line = String::new();
            for (column, text) in row.iter().enumerate() {
                let width = width(column).unwrap_or(0);
                write!(line, "{text:width$}  ").expect("a string takes all that is written");
            }
            self.line(line.trim_end());
        }
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn finish(mut self) -> Report {
        let problems = std::mem::take(&mut self.problems);
        for problem in &problems {
            self.line(&format!("not healthy: {problem}"));
        }
        Report { text: self.text, is_healthy: problems.is_empty() }
    }
}

/// Says where a cluster is.
fn place(settings: &Settings) -> String {
    let servers = &settings.line.servers;
    let more = match servers.len() {
        1 => String::new(),
        all => format!(" (+{})", all - 1),
    };
    let first = servers.first().map(ToString::to_string).unwrap_or_default();
    format!("on {first}{more}, prefix {}", settings.prefix)
}

fn now_seconds() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

/// Returns bytes in units of 10^6.
fn megabytes(bytes: u64) -> String {
    let tenths = bytes.div_ceil(100_000);
    format!("{}.{} MB", grouped(tenths / 10), tenths % 10)
}

/// Returns a number with commas between groups of three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")]
        {
            assert_eq!(grouped(number), text);
        }
        for (bytes, text) in
            [(0, "0.0 MB"), (1, "0.1 MB"), (8_100_000, "8.1 MB"), (1 << 30, "1,073.8 MB")]
        {
            assert_eq!(megabytes(bytes), text);
        }
    }
}
