//! How many connections a node has closed because their clients were too slow, as its metrics say.

use crate::http;
use crate::target::Target;

const METRIC: &str = "fanfare_connections_closed_total";
/// An outbox was full, or all outboxes together had more bytes than they may.
const REASONS: [&str; 2] = ["slow_consumer", "memory"];

/// Returns the number since the nodes' start; `None` without a node, or if one does not tell it.
pub(crate) fn closed(nodes: &[Target]) -> Option<usize> {
    let all: Option<Vec<_>> = nodes.iter().map(closed_by).collect();
    all.filter(|all| !all.is_empty()).map(|all| all.iter().sum())
}

fn closed_by(target: &Target) -> Option<usize> {
    let request = http::head(target, "GET /metrics", "Accept: text/plain", 0);
    let response = http::ask(target, &request).ok().filter(|response| response.status == 200)?;
    counted(&String::from_utf8_lossy(&response.body))
}

fn counted(metrics: &str) -> Option<usize> {
    let of = |reason| {
        let name = format!("{METRIC}{{reason=\"{reason}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&name)?.parse::<usize>().ok())
    };
    REASONS.into_iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_connections_are_those_of_slow_clients() {
        let line = |reason: &str, count: u32| format!("{METRIC}{{reason=\"{reason}\"}} {count}\n");
        let all = [line("client", 538), line("slow_consumer", 10), line("memory", 2)].concat();
        assert_eq!(counted(&all), Some(12));
        assert_eq!(counted(&line("slow_consumer", 10)), None);
        assert_eq!(counted(""), None);
    }
}
