//! Whether the figures of a run are those of the server.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fate::{Cut, REST_PATIENCE};
use crate::procfs::{Busy, Cpu, Usage};
use crate::publisher::Lateness;
use crate::report::figure::{Unit, significant};
use crate::report::page::capital;
use crate::table::{plural, plural_of, were};

/// A thread that ran or waited for a processor for a larger part of the window could not have done
/// more.
const BUSY_MAX: f64 = 0.95;
/// Publications may be late by this part of the latency's 99th percentile.
const LATE_PART_MAX: f64 = 0.5;
/// Publications that are late by less never count.
const LATE_NS_MIN: u64 = 1_000_000;
/// Deliveries that are still under way at the end of the window: this part of all, and as many as
/// are due in this time.
const BACKLOG_PART_MAX: f64 = 0.02;
const BACKLOG_S_MAX: f64 = 0.5;
/// Growth of the median latency from the first to the last quarter of the window.
const GROWTH_FACTOR_MAX: u64 = 3;
const GROWTH_NS_MAX: u64 = 50_000_000;
/// A thread of the server that waited for a processor for a larger part of the window shows the
/// machine, not the server.
const STARVED_MAX: f64 = 0.5;
/// Pauses without any answer: up to this part of the time that passed, and shorter ones always.
const PAUSE_PART_MAX: f64 = 0.2;
const PAUSE_NS_MIN: u64 = 500_000_000;

/// The kinds of verdict.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// The figures are those of the server under the load that was asked for.
    Valid,
    /// The figures are those of the load tester or of the machine.
    ClientFellBehind,
    /// The machine gave the server too little processor time, so that the figures are not its own.
    ServerStarved,
    /// The server did not keep up with the load.
    ServerFellBehind,
    /// No answer came for long, although some were due.
    ServerStuck,
    /// The server's process ended during the run.
    ServerEnded,
}

impl Kind {
    /// All but `Valid`, the worst first.
    pub(crate) const DOUBTFUL: [Self; 5] = [
        Self::ServerEnded,
        Self::ServerStuck,
        Self::ServerStarved,
        Self::ClientFellBehind,
        Self::ServerFellBehind,
    ];

    /// Whether the figures are not those of the server.
    pub(crate) fn is_of_the_machine(self) -> bool {
        matches!(self, Self::ClientFellBehind | Self::ServerStarved)
    }

    /// Whether the kind also counts in a run at full speed, which neither side can fall behind.
    pub(crate) fn counts_at_full_speed(self) -> bool {
        !matches!(self, Self::ClientFellBehind | Self::ServerFellBehind)
    }
}

/// The verdict on a run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) kind: Kind,
    /// Sentences: first the reasons for the kind, then what else was looked at.
    pub(crate) evidence: Vec<String>,
}

/// How busy a thread was in the window: the parts of it in which the thread ran, and in which it
/// waited for a processor.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Load {
    pub(crate) thread: String,
    pub(crate) ran: f64,
    pub(crate) waited: f64,
}

/// What the verdict depends on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence<'a> {
    /// Length of the measured window.
    pub(crate) seconds: f64,
    /// Deliveries that were due in the window.
    pub(crate) offered: f64,
    /// Deliveries that arrived in the window or never.
    pub(crate) settled: u64,
    /// `None` if the server itself publishes.
    pub(crate) lateness: Option<&'a Lateness>,
    /// 99th percentile of latency in ns, if anything was delivered.
    pub(crate) latency_p99_ns: Option<u64>,
    /// The busiest thread of clients.
    pub(crate) client: Option<Load>,
    /// The thread that publishes.
    pub(crate) publisher: Option<Load>,
    /// The server's busiest thread; `None` if its process is unknown.
    pub(crate) server: Option<Load>,
    /// How long clients pause between two looks at their sockets, because they were asked to.
    pub(crate) lazy: Duration,
    /// Publications that the server refused.
    pub(crate) refused: u64,
    /// Deliveries that the server left out for clients that read, with gap notices in their place.
    pub(crate) left_out: u64,
    /// Clients that read and that the server closed as slow consumers, and what they missed.
    pub(crate) closed_as_slow: (usize, u64),
    /// Median latency in the first and in the last quarter of the window, in ns.
    pub(crate) growth: Option<(u64, u64)>,
    /// The thread of the server that waited most for a processor.
    pub(crate) starved: Option<Load>,
    /// The longest time in which answers were due and none came, in ns; `None` if the server gives
    /// no answers.
    pub(crate) pause_ns: Option<u64>,
    /// Time from the start of the window to the last answer, in s.
    pub(crate) passed_s: f64,
    /// Publications that had no answer although the rest was waited for.
    pub(crate) unanswered: u64,
    /// How the server cut the run short.
    pub(crate) cut: Option<&'a Cut>,
}

impl Load {
    /// Returns the busiest thread whose name begins with `prefix`; `None` if no
    /// thread has such a name.
    pub(crate) fn busiest(usage: &Usage, prefix: &str, wall_ns: u64) -> Option<Self> {
        let threads = usage.threads.values().filter(|(name, _)| name.starts_with(prefix));
        let busy_ns = |cpu: &Cpu| cpu.total_ns() + cpu.wait_ns.unwrap_or_default();
        let (name, cpu) = threads.max_by_key(|(_, cpu)| busy_ns(cpu))?;
        let (ran_ns, waited_ns) = (cpu.total_ns(), cpu.wait_ns.unwrap_or_default());
        Some(Self::of(name, Busy { ran_ns, waited_ns, wall_ns }))
    }

    /// Returns the thread that waited for a processor for the longest; `None` without threads.
    pub(crate) fn most_kept(usage: &Usage, wall_ns: u64) -> Option<Self> {
        let wait_ns = |cpu: &Cpu| cpu.wait_ns.unwrap_or_default();
        let (name, cpu) = usage.threads.values().max_by_key(|(_, cpu)| wait_ns(cpu))?;
        let (ran_ns, waited_ns) = (cpu.total_ns(), wait_ns(cpu));
        Some(Self::of(name, Busy { ran_ns, waited_ns, wall_ns }))
    }

    /// Returns the load of a thread that has measured itself.
    pub(crate) fn of(thread: &str, busy: Busy) -> Self {
        let part = |ns: u64| (ns as f64 / busy.wall_ns.max(1) as f64).min(1.0);
        let ran = part(busy.ran_ns);
        let waited = part(busy.waited_ns).min(1.0 - ran);
        Self { thread: thread.to_owned(), ran, waited }
    }

    /// Whether the thread could not have done more.
    pub(crate) fn is_full(&self) -> bool {
        self.ran + self.waited > BUSY_MAX
    }

    fn sentence(&self, whose: &str) -> String {
        let percent = |part: f64| format!("{:.0} %", part * 100.0);
        let Self { thread, ran, waited } = self;
        let waited = match *waited {
            waited if waited < 0.05 => String::new(),
            waited => format!(" and waited for a processor for {}", percent(waited)),
        };
        format!("{whose} ({thread}) ran for {} of the window{waited}.", percent(*ran))
    }
}

impl Verdict {
    /// Weighs the evidence. If the load tester fell behind, nothing can be said of the server.
    pub(crate) fn of(evidence: &Evidence<'_>) -> Self {
        let cut: Vec<_> = evidence.cut.map(|cut| sentence(&cut.text())).into_iter().collect();
        let client = evidence.against_client();
        let machine = evidence.against_machine();
        let server = evidence.against_server();
        let kind = match evidence.cut {
            Some(Cut::Ended(_)) => Kind::ServerEnded,
            Some(Cut::Stuck(_)) => Kind::ServerStuck,
            None if !machine.is_empty() => Kind::ServerStarved,
            None if !client.is_empty() => Kind::ClientFellBehind,
            None if !server.is_empty() => Kind::ServerFellBehind,
            None => Kind::Valid,
        };
        let reasons = [cut, machine, client, server].concat();
        let rest = evidence.remarks().into_iter().filter(|remark| !reasons.contains(remark));
        let rest: Vec<_> = rest.collect();
        Self { kind, evidence: [reasons, rest].concat() }
    }

    /// Returns the verdict in a few words.
    pub(crate) fn words(&self) -> &'static str {
        self.kind.words()
    }

    /// Returns what the verdict means for the figures.
    pub(crate) fn meaning(&self) -> &'static str {
        match self.kind {
            Kind::Valid => "Client and server kept up, so the figures are the server's.",
            Kind::ClientFellBehind => {
                "The figures measure the load tester or the machine, not the server."
            }
            Kind::ServerStarved => {
                "The figures measure the machine, which gave the server too little processor time."
            }
            Kind::ServerFellBehind => {
                "The figures show the server above its limit, not at the load that was asked for."
            }
            Kind::ServerStuck | Kind::ServerEnded => {
                "The figures are those up to then, and say nothing of the load as a whole."
            }
        }
    }
}

impl Kind {
    /// Returns the verdict in a few words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::ClientFellBehind => "the client fell behind",
            Self::ServerStarved => "the server was kept from its processor",
            Self::ServerFellBehind => "the server fell behind",
            Self::ServerStuck => "the server stopped answering",
            Self::ServerEnded => "the server ended",
        }
    }
}

/// Returns a text with a capital and a full stop.
fn sentence(text: &str) -> String {
    format!("{}.", capital(text))
}

impl Evidence<'_> {
    fn against_client(&self) -> Vec<String> {
        let full = |load: &Option<Load>, whose: &str| {
            load.as_ref().filter(|load| load.is_full()).map(|load| load.sentence(whose))
        };
        let mut reasons = Vec::new();
        reasons.extend(full(&self.client, CLIENT));
        reasons.extend(full(&self.publisher, "The publisher"));
        if let Some(late_ns) = self.late_ns(|lateness| &lateness.own) {
            reasons.push(format!(
                "The publisher was late by {} (99th percentile) through no fault of the server, \
                 while the latency's 99th percentile is {}.",
                Unit::Ns.text(Some(late_ns as f64)),
                Unit::Ns.text(self.latency_p99_ns.map(|ns| ns as f64)),
            ));
        }
        let growing = if self.lazy.is_zero() { Vec::new() } else { self.growing() };
        if !growing.is_empty() {
            let pause_ms = self.lazy.as_millis();
            reasons.push(format!(
                "Clients paused for {pause_ms} ms between two looks at their sockets (--lazy-ms)."
            ));
            reasons.extend(growing);
        }
        reasons
    }

    fn against_machine(&self) -> Vec<String> {
        let starved = self.starved.as_ref().filter(|load| load.waited > STARVED_MAX);
        starved.map(|load| load.sentence("A thread of the server")).into_iter().collect()
    }

    /// Whether a pause without any answer covers so much of the time that the figures hide it.
    pub(crate) fn is_interrupted_by_a_pause(&self) -> bool {
        let pause_ns = self.pause_ns.unwrap_or_default();
        pause_ns > PAUSE_NS_MIN && pause_ns as f64 / 1e9 > self.passed_s * PAUSE_PART_MAX
    }

    fn against_server(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.is_interrupted_by_a_pause() && self.cut.is_none() {
            reasons.push(format!(
                "For {} of {} s the server answered nothing, although answers were due.",
                Unit::Ns.text(self.pause_ns.map(|ns| ns as f64)),
                significant(self.passed_s),
            ));
        }
        if self.unanswered > 0 && self.cut.is_none() {
            let seconds = REST_PATIENCE.as_secs();
            let were = were(self.unanswered, "publication");
            reasons.push(format!("{were} still unanswered {seconds} s after the end."));
        }
        if self.refused > 0 {
            let refused = plural_of(self.refused, "publication");
            reasons.push(format!("The server refused {refused}."));
        }
        if let Some(late_ns) = self.late_ns(|lateness| &lateness.held) {
            reasons.push(format!(
                "The server left so many publications unanswered that later ones were sent {} too \
                 late (99th percentile).",
                Unit::Ns.text(Some(late_ns as f64)),
            ));
        }
        let (closed, missed) = self.closed_as_slow;
        if closed > 0 {
            reasons.push(format!(
                "It closed {} that read as slow consumers, which missed {}.",
                plural(closed, "client"),
                plural_of(missed, "delivery"),
            ));
        }
        if self.left_out > 0 {
            reasons.push(format!(
                "It left out {} to clients that read, and told them by gap notices.",
                plural_of(self.left_out, "delivery"),
            ));
        }
        if self.lazy.is_zero() {
            reasons.extend(self.growing());
        }
        reasons
    }

    /// Returns the signs that more and more deliveries were under way.
    fn growing(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        let backlog = self.offered - self.settled as f64;
        let due_s = backlog / (self.offered / self.seconds);
        if backlog > self.offered * BACKLOG_PART_MAX && due_s > BACKLOG_S_MAX {
            reasons.push(format!(
                "At the end of the window {} still under way, the load of {} s.",
                were(backlog as u64, "delivery"),
                significant(due_s),
            ));
        }
        if let Some((first, last)) = self.growth
            && last > first.saturating_mul(GROWTH_FACTOR_MAX)
            && last > first + GROWTH_NS_MAX
        {
            reasons.push(format!(
                "The median latency grew from {} in the first quarter of the window to {} in the \
                 last.",
                Unit::Ns.text(Some(first as f64)),
                Unit::Ns.text(Some(last as f64)),
            ));
        }
        reasons
    }

    /// Returns what was looked at, whatever it says.
    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        let lateness = self.lateness.filter(|lateness| !lateness.own.is_empty());
        if let Some(lateness) = lateness.filter(|_| self.late_ns(|late| &late.own).is_none()) {
            let late_ns = lateness.own.value_at_quantile(0.99);
            remarks.push(format!(
                "The publisher itself was late by {} (99th percentile).",
                Unit::Ns.text(Some(late_ns as f64))
            ));
        }
        if let Some(pause_ns) = self.pause_ns.filter(|_| !self.is_interrupted_by_a_pause()) {
            let pause = Unit::Ns.text(Some(pause_ns as f64));
            remarks.push(format!("The longest time without any answer was {pause}."));
        }
        remarks.extend(self.client.as_ref().map(|load| load.sentence(CLIENT)));
        remarks.push(match &self.server {
            Some(load) => load.sentence("The server's busiest thread"),
            None => "The server's processor time is unknown.".to_owned(),
        });
        remarks
    }

    /// Returns the 99th percentile of how late publications were, if it is a considerable part of
    /// the latency.
    fn late_ns(&self, kind: impl Fn(&Lateness) -> &hdrhistogram::Histogram<u64>) -> Option<u64> {
        let late = kind(self.lateness?);
        let late_ns = late.value_at_quantile(0.99);
        let latency_ns = self.latency_p99_ns.unwrap_or_default();
        let most_ns = LATE_NS_MIN.max((latency_ns as f64 * LATE_PART_MAX) as u64);
        (!late.is_empty() && late_ns > most_ns).then_some(late_ns)
    }
}

const CLIENT: &str = "The busiest thread of clients";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heard::histogram;

    fn lateness(own_ms: u64, held_ms: u64) -> Lateness {
        let of = |ms: u64| {
            let mut late = histogram();
            late.record(ms * 1_000_000).unwrap();
            late
        };
        Lateness { own: of(own_ms), held: of(held_ms) }
    }

    fn load(ran: f64, waited: f64) -> Option<Load> {
        Some(Load { thread: "one".to_owned(), ran, waited })
    }

    fn good() -> Evidence<'static> {
        Evidence {
            seconds: 10.0,
            offered: 100_000.0,
            settled: 99_900,
            latency_p99_ns: Some(20_000_000),
            client: load(0.6, 0.1),
            publisher: load(0.1, 0.0),
            server: load(0.99, 0.0),
            growth: Some((5_000_000, 9_000_000)),
            ..Evidence::default()
        }
    }

    #[test]
    fn a_run_in_which_both_kept_up_is_valid_and_says_why() {
        let late = lateness(1, 0);
        let verdict = Verdict::of(&Evidence { lateness: Some(&late), ..good() });
        assert_eq!((verdict.kind, verdict.words()), (Kind::Valid, "valid"));
        let evidence = verdict.evidence.join("\n");
        for part in [
            "The publisher itself was late by 1.00 ms",
            "(one) ran for 60 % of the window and waited for a processor for 10 %.",
            "The server's busiest thread (one) ran for 99 % of the window.",
        ] {
            assert!(evidence.contains(part), "{part} is missing in\n{evidence}");
        }
    }

    #[test]
    fn the_client_is_named_first_if_it_fell_behind() {
        let (own, held) = (lateness(11, 0), lateness(0, 11));
        let client: [(Evidence<'_>, &str); 4] = [
            (Evidence { client: load(0.97, 0.0), ..good() }, "ran for 97 %"),
            (Evidence { client: load(0.5, 0.46), ..good() }, "waited for a processor for 46 %"),
            (Evidence { publisher: load(0.9, 0.1), ..good() }, "The publisher (one)"),
            (Evidence { lateness: Some(&own), ..good() }, "late by 11.0 ms"),
        ];
        for (evidence, part) in client {
            let verdict = Verdict::of(&Evidence { refused: 3, ..evidence });
            assert_eq!(verdict.kind, Kind::ClientFellBehind, "{part}");
            assert!(verdict.evidence[0].contains(part), "{:?}", verdict.evidence);
            assert!(verdict.evidence.iter().any(|reason| reason.contains("refused 3")));
        }
        let verdict = Verdict::of(&Evidence { lateness: Some(&held), ..good() });
        assert_eq!(verdict.kind, Kind::ServerFellBehind, "the server held the publications up");
    }

    #[test]
    fn each_sign_that_the_server_fell_behind_is_evidence() {
        let server: [(Evidence<'_>, &str); 7] = [
            (Evidence { unanswered: 2, ..good() }, "2 publications were still unanswered 5 s"),
            (
                Evidence { pause_ns: Some(2_100_000_000), passed_s: 10.0, ..good() },
                "For 2.10 s of 10.0 s the server answered nothing",
            ),
            (Evidence { refused: 1, ..good() }, "refused 1 publication."),
            (Evidence { left_out: 54, ..good() }, "It left out 54 deliveries"),
            (
                Evidence { closed_as_slow: (2, 1_520), ..good() },
                "It closed 2 clients that read as slow consumers, which missed 1,520 deliveries.",
            ),
            (Evidence { settled: 90_000, ..good() }, "10,000 deliveries were still under way"),
            (Evidence { growth: Some((5_000_000, 800_000_000)), ..good() }, "5.00 ms in the first"),
        ];
        for (evidence, part) in server {
            let verdict = Verdict::of(&evidence);
            assert_eq!(verdict.kind, Kind::ServerFellBehind, "{part}");
            assert!(verdict.evidence[0].contains(part), "{:?}", verdict.evidence);
        }
        let lazy = Evidence { settled: 90_000, lazy: Duration::from_millis(20), ..good() };
        let verdict = Verdict::of(&lazy);
        assert_eq!(verdict.kind, Kind::ClientFellBehind, "the server cannot send to a full socket");
        assert!(verdict.evidence[0].contains("paused for 20 ms"), "{:?}", verdict.evidence);
        let kept_up = Evidence { settled: 100_000, ..lazy };
        assert_eq!(Verdict::of(&kept_up).kind, Kind::Valid);
        // At one publication a second, the last one is still under way at the end.
        let slow = Evidence { offered: 10.0, settled: 10, ..good() };
        assert_eq!(Verdict::of(&slow).kind, Kind::Valid);
        let nothing = Evidence::default();
        assert_eq!(Verdict::of(&nothing).kind, Kind::Valid, "nothing is no evidence");
    }

    #[test]
    fn a_server_that_waits_for_a_processor_is_not_measured() {
        let starved = Evidence { starved: load(0.0, 0.87), server: load(0.0, 0.87), ..good() };
        let verdict = Verdict::of(&Evidence { refused: 1, ..starved.clone() });
        assert_eq!(verdict.kind, Kind::ServerStarved);
        let reason = "A thread of the server (one) ran for 0 % of the window and waited for a \
                      processor for 87 %.";
        assert_eq!(verdict.evidence[0], reason);
        assert!(verdict.meaning().starts_with("The figures measure the machine"));
        let half = Evidence { starved: load(0.4, 0.5), ..good() };
        assert_eq!(Verdict::of(&half).kind, Kind::Valid);
        let both = Evidence { client: load(0.4, 0.6), ..starved };
        assert_eq!(Verdict::of(&both).kind, Kind::ServerStarved);
    }

    #[test]
    fn a_short_pause_is_told_and_a_long_one_is_no_valid_run() {
        let paused =
            |ms: u64, passed_s| Evidence { pause_ns: Some(ms * 1_000_000), passed_s, ..good() };
        let verdict = Verdict::of(&paused(1_900, 10.0));
        assert_eq!(verdict.kind, Kind::Valid);
        let told = "The longest time without any answer was 1.90 s.";
        assert!(verdict.evidence.iter().any(|it| it == told), "{:?}", verdict.evidence);
        assert_eq!(Verdict::of(&paused(490, 1.0)).kind, Kind::Valid, "half a second never counts");
        assert_eq!(Verdict::of(&paused(510, 1.0)).kind, Kind::ServerFellBehind);
        assert!(paused(510, 1.0).is_interrupted_by_a_pause());
    }

    #[test]
    fn the_end_of_the_server_counts_more_than_all_else() {
        let (ended, stuck) = (Cut::Ended(3.25), Cut::Stuck("nothing came".to_owned()));
        for (cut, kind, text) in [
            (&ended, Kind::ServerEnded, "The server ended 3.2 s after the start of"),
            (&stuck, Kind::ServerStuck, "The server stopped answering: nothing came."),
        ] {
            let client = load(0.97, 0.0);
            let verdict = Verdict::of(&Evidence { cut: Some(cut), client, ..good() });
            assert_eq!(verdict.kind, kind);
            assert!(verdict.evidence[0].starts_with(text), "{:?}", verdict.evidence);
        }
    }

    #[test]
    fn the_busiest_thread_of_a_name_is_found() {
        let cpu = |run_ms: u64, wait_ms: u64| Cpu {
            run_ns: Some(run_ms * 1_000_000),
            wait_ns: Some(wait_ms * 1_000_000),
            ..Cpu::default()
        };
        let threads =
            [("clients-0", cpu(300, 10)), ("clients-1", cpu(200, 900)), ("p", cpu(999, 0))];
        let threads = (0..).zip(threads).map(|(id, (name, cpu))| (id, (name.to_owned(), cpu)));
        let usage = Usage { process: Cpu::default(), threads: threads.collect() };
        let load = Load::busiest(&usage, "clients", 1_000_000_000).unwrap();
        assert_eq!(load, Load { thread: "clients-1".to_owned(), ran: 0.2, waited: 0.8 });
        assert_eq!(Load::busiest(&usage, "x", 1), None);
        assert_eq!(Load::most_kept(&usage, 1_000_000_000), Some(load));
    }
}
