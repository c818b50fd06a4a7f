//! The one value of a measured run: what is saved, compared and shown as a page.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::machine::{Machine, Versions};
use crate::report::fanout::Measured;
use crate::report::figure::{Better, Figure, Unit};
use crate::report::page::capital;
use crate::report::quantile;
use crate::report::series::Series;
use crate::report::verdict::{Kind, Verdict};
use crate::table::grouped_float;

/// The name of the format of saved runs.
const FORMAT: &str = "loadtest-run";
/// The version of that format. It grows if a member changes its meaning or goes; new members do not
/// change it.
const VERSION: u32 = 1;

/// A measured run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    format: String,
    version: u32,
    pub(crate) scenario: String,
    /// The load in words.
    pub(crate) title: String,
    /// When the run was started, in RFC 3339 and UTC.
    pub(crate) started: String,
    /// Whether Ctrl-C ended it.
    pub(crate) interrupted: bool,
    /// Length of the measured window as it was, in s.
    pub(crate) seconds: f64,
    /// The arguments, without credentials.
    pub(crate) settings: BTreeMap<String, Value>,
    pub(crate) machine: Machine,
    pub(crate) versions: Versions,
    pub(crate) verdict: Verdict,
    /// Broken promises: deliveries that were lost, duplicated or out of order, lost connections.
    pub(crate) defects: Vec<String>,
    /// Thresholds that were exceeded.
    pub(crate) exceeded: Vec<String>,
    /// The main results.
    pub(crate) figures: Vec<Figure>,
    /// `None` if the scenario measures no latency.
    pub(crate) latency: Option<Distribution>,
    pub(crate) series: Series,
    /// The line of JSON that the scenario prints.
    pub(crate) result: Value,
    /// The runs of a scenario that has several, in the order of time: the steps of `saturate`, and the
    /// nodes and floors of `compare`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) runs: Vec<Self>,
}

/// The parts of a record that every scenario has in the same way.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) started: String,
    pub(crate) settings: BTreeMap<String, Value>,
    pub(crate) machine: Machine,
    pub(crate) versions: Versions,
}

impl Frame {
    /// Describes a run that starts now.
    pub(crate) fn now(settings: Value, versions: Versions) -> Self {
        let settings = match settings {
            Value::Object(settings) => settings.into_iter().collect(),
            _ => BTreeMap::new(),
        };
        Self { started: Self::started(), settings, machine: Machine::this(), versions }
    }

    /// Returns the start of a run that starts now.
    pub(crate) fn started() -> String {
        jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }
}

impl Record {
    /// Returns a record of a scenario without any result yet.
    pub(crate) fn new(frame: Frame, scenario: &str, title: String) -> Self {
        let Frame { started, settings, machine, versions } = frame;
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            scenario: scenario.to_owned(),
            title,
            started,
            interrupted: false,
            seconds: 0.0,
            settings,
            machine,
            versions,
            verdict: Verdict { kind: Kind::Valid, evidence: Vec::new() },
            defects: Vec::new(),
            exceeded: Vec::new(),
            figures: Vec::new(),
            latency: None,
            series: Series::default(),
            result: Value::Null,
            runs: Vec::new(),
        }
    }

    /// Takes over the course of a run and its verdict.
    pub(super) fn follow(&mut self, measured: &Measured) {
        let Measured { seconds, interrupted, series, verdict, joined: _, cut: _ } = measured;
        (self.seconds, self.interrupted) = (*seconds, *interrupted);
        self.series = series.clone();
        self.verdict = verdict.clone();
    }

    /// Adds a figure.
    pub(crate) fn figure(&mut self, name: &str, unit: Unit, better: Better, value: Option<f64>) {
        self.figures.push(Figure::new(name, unit, better, value));
    }

    /// Adds the percentiles of latency as figures.
    pub(crate) fn latency_figures(&mut self, latency: &Histogram<u64>) {
        for (name, part) in [
            ("latency p50", 0.5),
            ("latency p90", 0.9),
            ("latency p99", 0.99),
            ("latency p99.9", 0.999),
            ("latency max", 1.0),
        ] {
            let value = quantile(latency, part).map(|ns| ns as f64);
            self.figure(name, Unit::Ns, Better::Lower, value);
        }
    }

    /// Adds counts as figures, of which less is better.
    pub(super) fn faults<'a>(&mut self, counts: impl IntoIterator<Item = (&'a str, u64)>) {
        for (name, count) in counts {
            self.figure(name, Unit::Count, Better::Lower, Some(count as f64));
        }
    }

    /// Writes the run to a file.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(path, text).with_context(|| format!("cannot save the run to {}", path.display()))
    }

    /// Reads a saved run.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let name = path.display();
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
        let value: Value = serde_json::from_str(&text)
            .with_context(|| format!("{name} is no JSON, so it is not a saved run"))?;
        if value["format"] != FORMAT {
            bail!("{name} is not a saved run: it was not written by --save");
        }
        if value["version"] != VERSION {
            let version = &value["version"];
            bail!("{name} has version {version} of the format; this loadtest reads {VERSION}");
        }
        serde_json::from_value(value).with_context(|| format!("{name} is damaged"))
    }

    /// Returns the outcome in one line.
    pub(crate) fn headline(&self) -> String {
        let words = match (self.verdict.kind, self.defects.first()) {
            (Kind::Valid, None) => self.good_words(),
            (Kind::Valid, Some(first)) => first.clone(),
            (Kind::ClientFellBehind, None) => {
                "The client fell behind, so these are not the server's figures".to_owned()
            }
            (Kind::ServerStarved, None) => {
                "The server was kept from its processor, so these are not its figures".to_owned()
            }
            (Kind::ServerFellBehind, None) => "The server fell behind this load".to_owned(),
            (Kind::ServerEnded | Kind::ServerStuck, Some(first)) => first.clone(),
            (kind @ (Kind::ServerEnded | Kind::ServerStuck), None) => kind.words().to_owned(),
            (_, Some(first)) => format!("{}, and {first}", self.verdict.words()),
        };
        capital(&words)
    }

    /// Returns the value of a figure; `None` if it was not measured.
    pub(crate) fn value(&self, name: &str) -> Option<f64> {
        let figure = self.figures.iter().find(|figure| figure.name == name);
        figure.and_then(|figure| figure.value)
    }

    fn good_words(&self) -> String {
        let value = |name: &str| self.value(name);
        if let Some(rate) = value("sustained publications") {
            format!("{} publications/s are sustained", grouped_float(rate))
        } else if let Some(ratio) = value("ratio") {
            format!("A delivery costs the node {ratio:.3} times what it costs the floor")
        } else if let Some(ns) = value("all back after") {
            format!("All clients were back after {}", Unit::Ns.text(Some(ns)))
        } else if let Some(joins) = value("joins") {
            format!("All {} joins succeeded", grouped_float(joins))
        } else if let Some(deliveries) = value("expected deliveries")
            && value("lost") == Some(0.0)
        {
            format!("All {} deliveries arrived, once and in order", grouped_float(deliveries))
        } else if let Some(connections) = value("connections") {
            format!("All {} connections stayed", grouped_float(connections))
        } else if let Some(publications) = value("accepted publications")
            && value("refused publications") == Some(0.0)
        {
            format!("All {} publications were accepted", grouped_float(publications))
        } else {
            "The server kept up".to_owned()
        }
    }
}

/// How often each latency occurred.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Distribution {
    /// Value in ns and count, in order of the values.
    pub(crate) buckets: Vec<(u64, u64)>,
}

impl Distribution {
    /// Returns the buckets that hold something; `None` if none does.
    pub(crate) fn of(latency: &Histogram<u64>) -> Option<Self> {
        let buckets = latency.iter_recorded();
        let buckets: Vec<_> = buckets
            .map(|at| (at.value_iterated_to(), at.count_at_value()))
            .filter(|(_, count)| *count > 0)
            .collect();
        (!buckets.is_empty()).then_some(Self { buckets })
    }

    /// Returns the values of all of these together; `None` if there are none.
    pub(crate) fn sum<'a>(all: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        let mut sum = BTreeMap::<u64, u64>::new();
        for (value, count) in all.into_iter().flat_map(|one| &one.buckets) {
            *sum.entry(*value).or_default() += count;
        }
        (!sum.is_empty()).then(|| Self { buckets: sum.into_iter().collect() })
    }

    /// Returns the number of values.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }

    /// Returns the smallest value that this part of all values does not exceed, in ns.
    pub(crate) fn at(&self, quantile: f64) -> u64 {
        let wanted = ((self.count() as f64 * quantile).ceil() as u64).max(1);
        let mut seen = 0;
        let bucket = self.buckets.iter().find(|(_, count)| {
            seen += count;
            seen >= wanted
        });
        bucket.or(self.buckets.last()).map_or(0, |(value, _)| *value)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;
    use crate::heard::histogram;

    pub(in crate::report) fn record() -> Record {
        let settings = json!({ "rate": 10.0, "subscribers": 10, "channel": "load:1" });
        let frame = Frame {
            machine: Machine {
                processor: "A CPU".to_owned(),
                cores: 2,
                memory_bytes: 8 << 30,
                kernel: "6.18".to_owned(),
            },
            ..Frame::now(settings, Versions::with(Some("fanfare 0.1.0".to_owned())))
        };
        let mut record = Record::new(frame, "fanout", "load:1: 10 subscribers".to_owned());
        record.seconds = 10.0;
        record.figure("latency p99", Unit::Ns, Better::Lower, Some(2e6));
        record.figure("deliveries per second", Unit::PerSecond, Better::Higher, Some(100.0));
        record
    }

    #[test]
    fn a_saved_run_is_read_again_as_it_was() {
        let folder = std::env::temp_dir().join(format!("loadtest-record-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("run.json");
        let record = record();
        record.save(&path).unwrap();
        assert_eq!(Record::load(&path).unwrap(), record);
        let text = fs::read_to_string(&path).unwrap();
        let refused = |text: &str| {
            fs::write(&path, text).unwrap();
            format!("{:#}", Record::load(&path).unwrap_err())
        };
        assert!(refused("{").contains("is no JSON"));
        assert!(refused("{}").contains("is not a saved run"));
        let newer = refused(&text.replace(r#""version": 1,"#, r#""version": 2,"#));
        assert!(newer.contains("version 2 of the format; this loadtest reads 1"), "{newer}");
        assert!(refused(&text.replace(r#""series""#, r#""serie""#)).contains("is damaged"));
        fs::remove_dir_all(&folder).unwrap();
        let missing = Record::load(&path).unwrap_err().to_string();
        assert!(missing.contains("cannot read"), "{missing}");
    }

    #[test]
    fn quantiles_of_a_saved_distribution_are_those_of_the_histogram() {
        let mut latency = histogram();
        assert_eq!((Distribution::of(&latency), Distribution::sum([])), (None, None));
        (1..=10_000_u64).for_each(|step| latency.record(step * step * 1_000).unwrap());
        let distribution = Distribution::of(&latency).unwrap();
        assert_eq!(distribution.count(), 10_000);
        let twice = Distribution::sum([&distribution, &distribution]).unwrap();
        assert_eq!((twice.count(), twice.at(0.9)), (20_000, distribution.at(0.9)));
        for quantile in [0.5, 0.9, 0.99, 0.999, 1.0] {
            let (is, should) = (distribution.at(quantile), latency.value_at_quantile(quantile));
            assert!(is.abs_diff(should) * 500 <= should, "{quantile}: {is} for {should}");
        }
    }

    #[test]
    fn the_headline_names_the_worst() {
        let mut record = record();
        assert_eq!(record.headline(), "The server kept up");
        record.figure("expected deliveries", Unit::Count, Better::Neither, Some(1_000.0));
        record.figure("lost", Unit::Count, Better::Lower, Some(0.0));
        assert_eq!(record.headline(), "All 1,000 deliveries arrived, once and in order");
        record.defects.push("3 deliveries were lost".to_owned());
        assert_eq!(record.headline(), "3 deliveries were lost");
        record.verdict.kind = Kind::ServerFellBehind;
        assert_eq!(record.headline(), "The server fell behind, and 3 deliveries were lost");
    }
}
