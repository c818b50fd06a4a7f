//! The machine and the versions that a run was measured with.

use std::fs;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::http;
use crate::procfs::kib_field;
use crate::target::Target;

/// How long the server may take to tell its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(1);

/// The machine that server and load tester ran on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// The processor's model; `unknown` if the kernel does not tell it.
    pub(crate) processor: String,
    /// Number of processors, whether or not this program may use them.
    pub(crate) cores: usize,
    pub(crate) memory_bytes: u64,
    /// Release of the Linux kernel.
    pub(crate) kernel: String,
}

impl Machine {
    /// Reads what the kernel tells of this machine.
    pub(crate) fn this() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (processor, cores) = parse_cpuinfo(&read("/proc/cpuinfo"));
        Self {
            processor: processor.unwrap_or_else(|| "unknown".to_owned()),
            cores,
            memory_bytes: kib_field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

/// The programs of a run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Versions {
    pub(crate) loadtest: String,
    /// Name and version of the server; `None` if it does not tell them.
    pub(crate) server: Option<String>,
}

impl Versions {
    /// Returns this program's version, with that of the server.
    pub(crate) fn with(server: Option<String>) -> Self {
        Self { loadtest: env!("CARGO_PKG_VERSION").to_owned(), server }
    }

    /// Asks the node at `target` for its version.
    pub(crate) fn of_node(target: &Target) -> Self {
        let request = http::head(target, "GET /api/health", "Accept: application/json", 0);
        let answer = http::ask_within(target, &request, VERSION_TIMEOUT);
        Self::with(answer.ok().and_then(|answer| parse_health(&answer.body)))
    }
}

/// Returns the model and the number of processors.
fn parse_cpuinfo(text: &str) -> (Option<String>, usize) {
    let values = |name: &'static str| {
        text.lines().filter_map(move |line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name).then(|| value.trim().to_owned())
        })
    };
    (values("model name").next(), values("processor").count().max(1))
}

fn parse_health(body: &[u8]) -> Option<String> {
    let health: Value = serde_json::from_slice(body).ok()?;
    Some(format!("{} {}", health["service"].as_str()?, health["version"].as_str()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_named_and_all_are_counted() {
        let text = "processor\t: 0\nmodel name\t: A CPU @ 2:5\n\nprocessor\t: 1\nmodel name : B\n";
        assert_eq!(parse_cpuinfo(text), (Some("A CPU @ 2:5".to_owned()), 2));
        assert_eq!(parse_cpuinfo(""), (None, 1));
        let machine = Machine::this();
        assert!(machine.memory_bytes > 0 && machine.cores > 0 && !machine.kernel.is_empty());
    }

    #[test]
    fn a_server_without_health_has_no_version() {
        let health = br#"{"status":"ok","version":"0.1.0","service":"fanfare"}"#;
        assert_eq!(parse_health(health).as_deref(), Some("fanfare 0.1.0"));
        assert_eq!(parse_health(br#"{"status":"ok"}"#), None);
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let target = format!("http://{}", closed.local_addr().unwrap()).parse().unwrap();
        drop(closed);
        assert_eq!(Versions::of_node(&target), Versions::with(None));
    }
}
