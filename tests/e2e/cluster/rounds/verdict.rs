//! Judges a round, and shows what led to a fault.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Instant;

use super::crew::CONVERGE_WITHIN;
use super::figures::{Figures, Record, SAY_WITHIN};
use super::log::Pages;
use crate::histories::{Fact, Fault, faults};

/// Faults and facts of each that are shown. All are in the file.
const FAULTS_SHOWN: usize = 5;
const FACTS_SHOWN: usize = 40;

/// Panics if something is wrong with a round.
pub(super) fn check(
    name: &str,
    pages: &Pages,
    record: &Record,
    (figures, wrong): (&Figures, &[String]),
) {
    let mut problems = String::new();
    for one in wrong.iter().take(FAULTS_SHOWN) {
        let _ = writeln!(problems, "document {one}");
    }
    if figures.converged > CONVERGE_WITHIN {
        let took = figures.converged;
        let _ = writeln!(problems, "nodes listed the members that are there only after {took:?}");
    }
    let found = faults(&pages.history);
    for fault in found.iter().take(FAULTS_SHOWN) {
        let _ = writeln!(problems, "{fault:?}:\n{}", excerpt(fault, pages, record.began));
    }
    if found.len() > FAULTS_SHOWN {
        let _ = writeln!(problems, "and {} more", found.len() - FAULTS_SHOWN);
    }
    let cuts: Vec<_> = pages.cuts.difference(&record.dead).collect();
    if !cuts.is_empty() {
        let _ = writeln!(problems, "these nodes ended connections of clients: {cuts:?}");
    }
    for surprise in pages.surprises.iter().take(FAULTS_SHOWN) {
        let _ = writeln!(problems, "unexpected: {surprise}");
    }
    if !figures.silent.is_empty() {
        let silent = &figures.silent;
        let _ = writeln!(problems, "these nodes served nothing and did not say so: {silent:?}");
    }
    if let Some(said) = figures.said.filter(|said| *said >= SAY_WITHIN) {
        let _ = writeln!(problems, "a node said only after {said:?} that it served nothing");
    }
    if figures.whole_audiences == 0 {
        problems.push_str("no audience was known as a whole\n");
    }
    if !problems.is_empty() {
        let path = save(name, pages, record.began);
        panic!("{name}: all facts are in {path}\n{problems}");
    }
}

/// Returns the facts that a fault is about.
fn excerpt(fault: &Fault, pages: &Pages, began: Instant) -> String {
    let (subscribers, ids) = match *fault {
        Fault::Twice { subscriber, id }
        | Fault::Disorder { subscriber, id }
        | Fault::Missed { subscriber, id }
        | Fault::Denied { subscriber, id }
        | Fault::Stray { subscriber, id } => (vec![subscriber], vec![id]),
        Fault::FalseNull { attempt, subscriber } => (vec![subscriber], vec![attempt]),
        Fault::Hidden { attempt, .. }
        | Fault::Invented { attempt, .. }
        | Fault::Answers { attempt, .. } => (vec![], vec![attempt]),
    };
    let is_concerned = |fact: &Fact| match fact {
        Fact::Joining { subscriber, .. }
        | Fact::Joined { subscriber, .. }
        | Fact::Leaving { subscriber }
        | Fact::Left { subscriber }
        | Fact::Gap { subscriber } => subscribers.is_empty() || subscribers.contains(subscriber),
        Fact::Heard { id, .. } | Fact::Lost { id, .. } => ids.contains(id),
        Fact::Asked { attempt, .. }
        | Fact::Answered { attempt, .. }
        | Fact::Counted { attempt, .. } => ids.contains(attempt),
        Fact::Away { .. } | Fact::Back { .. } => true,
    };
    let lines = lines(pages, began, is_concerned);
    let shown = lines.lines().rev().take(FACTS_SHOWN).collect::<Vec<_>>();
    shown.into_iter().rev().fold(String::new(), |text, line| text + line + "\n")
}

/// Returns a line for each of the facts, with the seconds since the fault began.
fn lines(pages: &Pages, began: Instant, is_shown: impl Fn(&Fact) -> bool) -> String {
    let mut text = String::new();
    for (fact, at) in pages.history.iter().zip(&pages.times).filter(|(fact, _)| is_shown(fact)) {
        let before = began.saturating_duration_since(*at).as_secs_f64();
        let since = at.saturating_duration_since(began).as_secs_f64() - before;
        let _ = writeln!(text, "  {since:8.3} {fact:?}");
    }
    text
}

/// Writes all facts into a file of the build and returns its path.
fn save(name: &str, pages: &Pages, began: Instant) -> String {
    let name = name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("rounds-{name}.txt"));
    let written = fs::write(&path, lines(pages, began, |_| true));
    written.map_or_else(|error| error.to_string(), |()| path.display().to_string())
}
