//! Two saved runs side by side.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::report::figure::{Better, Figure};
use crate::report::record::Record;
use crate::report::verdict::Kind;

/// A smaller change than this part is within what runs differ by anyway, so it gets no mark.
const NOTABLE: f64 = 0.05;

/// The differences of two runs of the same scenario.
pub(crate) struct Diff<'a> {
    before: &'a Record,
    after: &'a Record,
}

impl<'a> Diff<'a> {
    /// Returns an error if the runs have different scenarios, whose figures mean different things.
    pub(crate) fn of(before: &'a Record, after: &'a Record) -> Result<Self> {
        let (one, other) = (&before.scenario, &after.scenario);
        ensure!(one == other, "the runs cannot be compared: one is of `{one}`, one of `{other}`");
        Ok(Self { before, after })
    }

    /// Returns the warnings and the figures of both runs with their ratios.
    pub(crate) fn table(&self) -> String {
        let Self { before, after } = self;
        let mut text = format!("{}: A {}, B {}", before.scenario, before.started, after.started);
        for warning in self.warnings() {
            let _ = write!(text, "\n  warning: {warning}");
        }
        let _ = write!(text, "\n  {:<24} {:>12} {:>12} {:>8}", "", "A", "B", "B / A");
        for figure in &before.figures {
            let other = after.figures.iter().find(|other| other.name == figure.name);
            let shown = other.map_or_else(|| "–".to_owned(), Figure::text);
            let ratio = other.and_then(|other| ratio(figure, other));
            let row = format!(
                "  {:<24} {:>12} {:>12} {:>8}  {}",
                figure.name,
                figure.text(),
                shown,
                ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.3}")),
                ratio.map_or("", |ratio| mark(figure.better, ratio)),
            );
            let _ = write!(text, "\n{}", row.trim_end());
        }
        text
    }

    /// Returns what makes the comparison doubtful.
    fn warnings(&self) -> Vec<String> {
        let Self { before, after } = self;
        let mut warnings = Vec::new();
        let mut differ = |name: &str, one: String, other: String| {
            if one != other {
                warnings.push(format!("{name} differs: {one} in A, {other} in B"));
            }
        };
        let names: BTreeSet<_> = before.settings.keys().chain(after.settings.keys()).collect();
        for name in names {
            let shown = |record: &Record| match record.settings.get(name) {
                None | Some(Value::Null) => "none".to_owned(),
                Some(value) => value.to_string(),
            };
            differ(name, shown(before), shown(after));
        }
        let (one, other) = (&before.machine, &after.machine);
        differ("the processor", one.processor.clone(), other.processor.clone());
        differ("the number of processors", one.cores.to_string(), other.cores.to_string());
        differ("the kernel", one.kernel.clone(), other.kernel.clone());
        let (one, other) = (&before.versions, &after.versions);
        differ("the load tester's version", one.loadtest.clone(), other.loadtest.clone());
        for (name, record) in [("A", before), ("B", after)] {
            if record.verdict.kind != Kind::Valid {
                let meaning = record.verdict.meaning();
                warnings.push(format!("in {name} {}. {meaning}", record.verdict.words()));
            }
            if record.interrupted {
                warnings.push(format!("{name} was interrupted after {:.1} s", record.seconds));
            }
            warnings.extend(record.defects.iter().map(|defect| format!("in {name} {defect}")));
        }
        warnings
    }
}

fn ratio(before: &Figure, after: &Figure) -> Option<f64> {
    let (before, after) = before.value.zip(after.value)?;
    (before > 0.0).then_some(after / before)
}

fn mark(better: Better, ratio: f64) -> &'static str {
    let grew = match ratio {
        ratio if ratio > 1.0 + NOTABLE => true,
        ratio if ratio < 1.0 / (1.0 + NOTABLE) => false,
        _ => return "",
    };
    match better {
        Better::Neither => "",
        Better::Lower if grew => "worse",
        Better::Higher if !grew => "worse",
        Better::Lower | Better::Higher => "better",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::record::tests::record;

    fn with(values: [f64; 2]) -> Record {
        let mut record = record();
        for (figure, value) in record.figures.iter_mut().zip(values) {
            figure.value = Some(value);
        }
        record
    }

    #[test]
    fn both_runs_and_their_ratio_are_shown() {
        let (before, after) = (with([2e6, 100.0]), with([3e6, 200.0]));
        let table = Diff::of(&before, &after).unwrap().table();
        let lines: Vec<_> = table.lines().collect();
        assert!(lines[2].ends_with("2.00 ms      3.00 ms    1.500  worse"), "{table}");
        assert!(lines[3].ends_with("100/s        200/s    2.000  better"), "{table}");
        assert!(!table.contains("warning"), "{table}");
        let same = Diff::of(&before, &before).unwrap().table();
        assert!(same.lines().nth(2).unwrap().ends_with("1.000"), "{same}");
    }

    #[test]
    fn what_differs_besides_the_figures_is_named() {
        let before = with([2e6, 100.0]);
        let mut after = before.clone();
        after.settings.insert("rate".to_owned(), 20.into());
        after.settings.remove("channel");
        after.machine.cores = 4;
        after.verdict.kind = Kind::ClientFellBehind;
        after.interrupted = true;
        after.figures[0].value = None;
        after.figures.pop();
        let table = Diff::of(&before, &after).unwrap().table();
        for part in [
            "warning: rate differs: 10.0 in A, 20 in B",
            "warning: channel differs: \"load:1\" in A, none in B",
            "warning: the number of processors differs: 2 in A, 4 in B",
            "warning: in B the client fell behind. The figures measure the load tester",
            "warning: B was interrupted after 10.0 s",
        ] {
            assert!(table.contains(part), "{part} is missing in\n{table}");
        }
        assert!(table.lines().last().unwrap().ends_with("100/s            –        –"), "{table}");
        after.scenario = "idle".to_owned();
        let error = Diff::of(&before, &after).err().unwrap().to_string();
        assert!(error.contains("one is of `fanout`, one of `idle`"), "{error}");
    }
}
