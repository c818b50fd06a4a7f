//! The reports of `churn`, `floor-join` and `reconnect-storm`.

use serde_json::{Value, json};

use crate::joins::JoinCounts;
use crate::report::figure::{Better, Unit};
use crate::report::record::Distribution;
use crate::report::{
    Evidence, Frame, Load, Record, Verdict, Work, counted, late, latency_cells, latency_json,
    verdict_rows,
};
use crate::table::{Table, grouped, millis, plural, plural_of};

/// The result of `churn` or `floor-join`.
pub(crate) struct ChurnReport {
    /// The name of the command.
    pub(crate) scenario: &'static str,
    /// Joins per second; `None` for as many as succeeded.
    pub(crate) rate: Option<f64>,
    /// Joins that could be under way at once.
    pub(crate) underway_max: usize,
    /// Clients that stayed on the channel meanwhile.
    pub(crate) members: usize,
    /// Length of the measured window, in s.
    pub(crate) seconds: f64,
    /// The names of the nodes that clients joined.
    pub(crate) nodes: Vec<String>,
    pub(crate) counts: JoinCounts,
    pub(crate) work: Work,
}

/// The result of `reconnect-storm`.
pub(crate) struct StormReport {
    pub(crate) clients: usize,
    /// Joins that could be under way at once after the cut.
    pub(crate) underway_max: usize,
    /// Time from the cut until the last client was back, in ns; `None` if not all came back.
    pub(crate) all_back_ns: Option<u64>,
    /// Clients that were back at the end.
    pub(crate) back: usize,
    pub(crate) counts: JoinCounts,
    pub(crate) work: Work,
}

impl ChurnReport {
    /// Returns the table for people.
    pub(crate) fn table(&self) -> String {
        let mut table = Table::new(self.title());
        rows(&mut table, &self.counts, &self.work);
        if self.nodes.len() > 1 {
            for (name, joined) in self.at_nodes() {
                table.row("", [("of these, at", name.to_owned()), ("joined", grouped(joined))]);
            }
        }
        table.text
    }

    /// Returns the joins at each node.
    fn at_nodes(&self) -> impl Iterator<Item = (&str, u64)> {
        self.nodes.iter().map(String::as_str).zip(self.counts.joined_at.iter().copied())
    }

    fn title(&self) -> String {
        let Self { scenario, rate, underway_max, members, seconds, .. } = self;
        let pace = rate.map_or_else(|| "as many as succeed".to_owned(), |rate| format!("{rate}/s"));
        let beside = match members {
            0 => String::new(),
            _ => format!(" beside {},", plural(*members, "member")),
        };
        format!(
            "{scenario}: joins, {pace}, at most {underway_max} at once,{beside} for {seconds} s"
        )
    }

    /// Returns the result for machines, to be printed on one line.
    pub(crate) fn json(&self) -> Value {
        let mut result = json!({
            "scenario": self.scenario,
            "rate": self.rate,
            "underway_max": self.underway_max,
            "members": self.members,
            "seconds": self.seconds,
        });
        put_into(&mut result, &self.counts, &self.work);
        if self.nodes.len() > 1 {
            let node = |(name, joined)| json!({ "node": name, "joined": joined });
            result["nodes"] = self.at_nodes().map(node).collect();
        }
        result
    }

    /// Returns the run as it is saved.
    pub(crate) fn record(&self, frame: Frame, p99_ms: Option<f64>, cpu_us: Option<f64>) -> Record {
        let mut record = Record::new(frame, self.scenario, self.title());
        record.defects = self.defects();
        record.exceeded = self.exceeded(p99_ms, cpu_us);
        record.result = self.json();
        save_into(&mut record, &self.counts, &self.work);
        let joined = self.counts.joined as f64;
        record.figure("joins", Unit::Count, Better::Neither, Some(joined));
        record
    }

    fn defects(&self) -> Vec<String> {
        let JoinCounts { failed, unfinished, lost, latency, .. } = &self.counts;
        let mut faults: Vec<_> = self.work.cut().into_iter().collect();
        if *failed > 0 {
            faults.push(format!("{} failed", plural_of(*failed, "join")));
        }
        // Those that Ctrl-C or the server's end left are no further fault.
        let is_whole = !self.work.interrupted && self.work.cut.is_none();
        let unfinished = if is_whole { *unfinished } else { 0 };
        faults.extend(counted([
            (unfinished, "join", "due and not done at the end, although they were waited for"),
            (*lost, "member", "lost"),
        ]));
        if latency.is_empty() {
            faults.push("no client joined in the measured window".to_owned());
        }
        faults
    }

    /// Whether the verdict counts although neither side can fall behind a run at full speed.
    pub(crate) fn is_judged(&self) -> bool {
        self.rate.is_some() || self.work.has_a_long_pause()
    }

    fn exceeded(&self, p99_ms: Option<f64>, cpu_us: Option<f64>) -> Vec<String> {
        let late = late("of the time to join", &self.counts.latency, p99_ms);
        late.into_iter().chain(self.work.fault(cpu_us)).collect()
    }
}

impl StormReport {
    /// Returns the table for people.
    pub(crate) fn table(&self) -> String {
        let mut table = Table::new(self.title());
        let all = self.all_back_ns.map_or_else(|| "never".to_owned(), millis);
        table.row("all back", [("after", all), ("clients", grouped(self.back as u64))]);
        rows(&mut table, &self.counts, &self.work);
        table.text
    }

    /// Returns the result for machines, to be printed on one line.
    pub(crate) fn json(&self) -> Value {
        let mut result = json!({
            "scenario": "reconnect-storm",
            "clients": self.clients,
            "underway_max": self.underway_max,
            "all_back_ns": self.all_back_ns,
            "back": self.back,
        });
        put_into(&mut result, &self.counts, &self.work);
        result
    }

    fn title(&self) -> String {
        let clients = plural(self.clients, "client");
        let underway = grouped(self.underway_max as u64);
        format!(
            "reconnect-storm: all of {clients} cut at once, which come back, at most {underway} at once"
        )
    }

    /// Returns the run as it is saved.
    pub(crate) fn record(&self, frame: Frame, seconds: Option<f64>, cpu_us: Option<f64>) -> Record {
        let mut record = Record::new(frame, "reconnect-storm", self.title());
        record.defects = self.faults(seconds, cpu_us);
        record.result = self.json();
        let all_back = self.all_back_ns.map(|ns| ns as f64);
        record.figure("all back after", Unit::Ns, Better::Lower, all_back);
        save_into(&mut record, &self.counts, &self.work);
        record
    }

    /// Whether the verdict counts: the storm itself has no pace that a side could fall behind.
    pub(crate) fn is_judged(&self) -> bool {
        self.work.has_a_long_pause()
    }

    /// Returns the faults; empty if all clients came back in this time and stayed, or
    /// if Ctrl-C came first. A join that failed and was repeated is not a fault.
    pub(crate) fn faults(&self, seconds: Option<f64>, cpu_us: Option<f64>) -> Vec<String> {
        let mut faults: Vec<_> = self.work.cut().into_iter().collect();
        if self.back < self.clients && !self.work.interrupted {
            let missing = plural(self.clients - self.back, "client");
            faults.push(format!("{missing} did not come back"));
        }
        let taken = self.all_back_ns.map(|ns| ns as f64 / 1e9);
        if let Some((taken, most)) = taken.zip(seconds).filter(|(taken, most)| taken > most) {
            faults.push(format!("all were back after {taken:.3} s, more than {most}"));
        }
        faults.extend(self.work.fault(cpu_us));
        faults
    }
}

/// Judges a run by the processors. One thread, which is not named for it, drives all clients.
fn verdict(work: &Work) -> Verdict {
    let client = Load::busiest(&work.planned.client, "", work.planned.cpu_wall_ns);
    Verdict::of(&Evidence { client, publisher: None, ..work.evidence() })
}

fn save_into(record: &mut Record, counts: &JoinCounts, work: &Work) {
    record.verdict = verdict(work);
    record.latency = Distribution::of(&counts.latency);
    record.latency_figures(&counts.latency);
    work.save_into(record);
    record.faults([
        ("failed joins", counts.failed),
        ("unfinished joins", counts.unfinished),
        ("lost clients", counts.lost),
    ]);
}

fn rows(table: &mut Table, counts: &JoinCounts, work: &Work) {
    let JoinCounts { joined, failed, unfinished, lost, first_failure, latency, .. } = counts;
    let cells = [
        ("succeeded", grouped(*joined)),
        ("failed", grouped(*failed)),
        ("unfinished", grouped(*unfinished)),
        ("lost afterwards", grouped(*lost)),
    ];
    table.row("joins", cells);
    if let Some(failure) = first_failure {
        table.line("first failure", failure);
    }
    table.row("time to join", latency_cells(latency));
    work.rows(table);
    verdict_rows(table, &verdict(work));
}

fn put_into(result: &mut Value, counts: &JoinCounts, work: &Work) {
    result["joins"] = json!({
        "succeeded": counts.joined,
        "failed": counts.failed,
        "unfinished": counts.unfinished,
        "lost": counts.lost,
        "first_failure": counts.first_failure,
    });
    result["latency_ns"] = latency_json(&counts.latency);
    work.put_into(result);
    result["verdict"] = json!(verdict(work));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heard::histogram;

    fn counts(failed: u64, lost: u64) -> JoinCounts {
        let mut latency = histogram();
        latency.record(2_000_000).unwrap();
        let (joined_at, first_failure) = (vec![1], None);
        JoinCounts { joined: 1, joined_at, failed, unfinished: 0, lost, first_failure, latency }
    }

    #[test]
    fn a_failed_join_is_a_fault_of_churn_and_a_missing_client_one_of_the_storm() {
        let churn = |counts| ChurnReport {
            scenario: "churn",
            rate: None,
            underway_max: 4,
            members: 2,
            seconds: 1.0,
            nodes: vec!["127.0.0.1:1".to_owned()],
            counts,
            work: Work { unit: "joins", ..Work::default() },
        };
        assert_eq!(churn(counts(0, 0)).exceeded(Some(2.1), None), Vec::<String>::new());
        assert_eq!(churn(counts(1, 1)).defects().len(), 2);
        assert_eq!(churn(counts(1, 1)).exceeded(Some(1.9), Some(1.0)).len(), 2);
        let mut silent = counts(0, 0);
        silent.latency.clear();
        assert_eq!(churn(silent).defects().len(), 1);
        let storm = |back, all_back_ns| StormReport {
            clients: 5,
            underway_max: 5,
            all_back_ns,
            back,
            counts: counts(3, 0),
            work: Work { unit: "joins", ..Work::default() },
        };
        assert_eq!(storm(5, Some(1_000_000_000)).faults(Some(1.0), None).len(), 0);
        assert_eq!(storm(5, Some(1_100_000_000)).faults(Some(1.0), None).len(), 1);
        assert_eq!(storm(4, None).faults(Some(1.0), None).len(), 1);
        let mut ended = storm(4, None);
        ended.work.interrupted = true;
        assert_eq!(ended.faults(Some(1.0), None), Vec::<String>::new());
        assert!(storm(4, None).table().contains("after never"));
    }
}
