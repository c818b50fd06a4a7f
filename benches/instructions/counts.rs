//! Instruction counts as they are saved in the repository, and their comparison.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;

/// Percent that a count may differ by from the saved one, if the compiler is the same.
///
/// Twenty runs of one build on a busy machine differed by at most 0.25 %, nearly all by nothing. The
/// rest is room for another libc, whose memory copies are counted, and for another valgrind; how
/// much these need was not measured.
pub(crate) const TOLERANCE: u64 = 2;
/// The same for another compiler than the one that the counts were saved with. Chosen and not
/// measured: wide enough to go on comparing, and narrow enough to show a new copy of a message.
pub(crate) const OTHER_COMPILER: u64 = 15;

/// The command that compares the counts.
pub(crate) const CHECK: &str = "cargo bench --profile instructions --bench instructions -- --check";
/// The command that saves the counts.
pub(crate) const SAVE: &str = "cargo bench --profile instructions --bench instructions -- --save";

/// The saved counts.
#[derive(Deserialize, PartialEq, Eq, Debug, Default)]
pub(crate) struct Saved {
    /// The compiler's version, as `rustc --version` prints it.
    pub(crate) rustc: String,
    /// Instructions by step.
    pub(crate) steps: BTreeMap<String, u64>,
}

/// Instructions of the steps, in the order in which they are shown.
pub(crate) type Counts = [(&'static str, u64)];

/// The result of a comparison.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Comparison {
    /// One line for each step, as a table.
    pub(crate) table: String,
    /// What is wrong and what to do, a line each.
    pub(crate) problems: Vec<String>,
}

/// Returns the saved counts as the text of their file.
pub(crate) fn text(rustc: &str, counts: &Counts) -> String {
    let mut text = format!(
        "# Instructions of each step of benches/instructions/steps.rs, as callgrind counts them.\n\
         # Compared in tests/run:\n#   {CHECK}\n# Written by:\n#   {SAVE}\n\
         rustc = \"{rustc}\"\n\n[steps]\n"
    );
    for (step, count) in counts {
        let _ = writeln!(text, "\"{step}\" = {count}");
    }
    text
}

/// Compares counts with the saved ones.
pub(crate) fn compare(saved: &Saved, rustc: &str, counts: &Counts) -> Comparison {
    let is_same = saved.rustc == rustc;
    let tolerance = if is_same { TOLERANCE } else { OTHER_COMPILER };
    let mut table = format!("{:<44} {:>9} {:>9} {:>7}\n", "step", "saved", "now", "ratio");
    let mut problems = Vec::new();
    for &(step, now) in counts {
        let Some(&before) = saved.steps.get(step) else {
            let _ = writeln!(table, "{step:<44} {:>9} {now:>9}", "-");
            problems.push(format!("{step}: no count is saved"));
            continue;
        };
        let ratio = now as f64 / before as f64;
        let _ = writeln!(table, "{step:<44} {before:>9} {now:>9} {ratio:>7.3}");
        if now.abs_diff(before) * 100 > before * tolerance {
            let what = if now > before {
                "more: make the step cheaper again, or save the count and say why in the commit"
            } else {
                "fewer: save the count, so that the step stays as cheap"
            };
            problems.push(format!("{step}: saved {before}, now {now}, ratio {ratio:.3}, {what}"));
        }
    }
    let is_counted = |step: &str| counts.iter().any(|(counted, _)| *counted == step);
    let gone = saved.steps.keys().filter(|step| !is_counted(step));
    problems
        .extend(gone.map(|step| format!("{step}: a count is saved, but there is no such step")));
    let _ = writeln!(table, "A count may differ by {tolerance} % from the saved one.");
    if !is_same {
        let saved_with = &saved.rustc;
        let _ = writeln!(
            table,
            "The counts were saved with {saved_with}, and this is {rustc}. With the same compiler \
             they may differ by {TOLERANCE} %. If {rustc} is here to stay, save them."
        );
    }
    Comparison { table, problems }
}
