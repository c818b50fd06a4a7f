//! What a round has measured.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::log::Pages;
use super::papers::Written;
use super::watch::Watch;
use crate::histories::{Answer, Fact};

/// A node that accepts nothing for so long must say that, within the same time.
pub(super) const SAY_WITHIN: Duration = Duration::from_secs(2);

/// When and where a fault was.
pub(super) struct Record {
    pub(super) began: Instant,
    pub(super) ended: Instant,
    /// Nodes that were killed or stopped.
    pub(super) dead: BTreeSet<u64>,
    /// Nodes that were cut off.
    pub(super) cut: BTreeSet<u64>,
    /// How long a node that must not serve took to say so.
    pub(super) said: Option<Duration>,
}

/// The figures of one round.
pub(super) struct Figures {
    /// The longest time until a node that served nothing said so in health and metrics.
    pub(super) said: Option<Duration>,
    /// The nodes that did not say it.
    pub(super) silent: Vec<u64>,
    /// The longest time from the fault's beginning on in which a node that was neither killed nor
    /// stopped nor cut off accepted no publication.
    pub(super) without: Duration,
    /// The time from the fault's end until every node had accepted a publication.
    pub(super) after: Duration,
    pub(super) publications: usize,
    pub(super) nulls: usize,
    pub(super) refused: usize,
    pub(super) unknown: usize,
    pub(super) gaps: usize,
    /// Audiences in which no node was unknown.
    pub(super) whole_audiences: usize,
    /// The time since all was served again until every node listed the members that were there.
    pub(super) converged: Duration,
    pub(super) written: Written,
}

impl Figures {
    pub(super) fn of(record: &Record, pages: &Pages, watches: &[Watch]) -> Self {
        let count = |is: fn(&Fact) -> bool| pages.history.iter().filter(|fact| is(fact)).count();
        let is_whole = |fact: &Fact| matches!(fact, Fact::Counted { unknown, is_named: true, .. } if unknown.is_empty());
        let mut figures = Self {
            said: record.said,
            silent: Vec::new(),
            without: Duration::ZERO,
            after: Duration::ZERO,
            publications: count(|fact| matches!(fact, Fact::Asked { .. })),
            nulls: count(|fact| matches!(fact, Fact::Answered { answer: Answer::NotHeard, .. })),
            refused: count(|fact| matches!(fact, Fact::Answered { answer: Answer::Refused, .. })),
            unknown: count(|fact| matches!(fact, Fact::Answered { answer: Answer::Unknown, .. })),
            gaps: count(|fact| matches!(fact, Fact::Gap { .. })),
            whole_audiences: count(is_whole),
            converged: Duration::ZERO,
            written: Written::default(),
        };
        for watch in watches {
            let is_dead = record.dead.contains(&watch.node);
            let is_away = is_dead || record.cut.contains(&watch.node);
            let since = if is_dead { record.ended } else { record.began };
            for (from, to) in pauses(pages, watch.node, since) {
                if !is_away {
                    figures.without = figures.without.max(to - from);
                }
                if to - from > SAY_WITHIN {
                    match watch.said(from).filter(|said| from + *said < to) {
                        Some(said) => figures.said = figures.said.max(Some(said)),
                        None => figures.silent.push(watch.node),
                    }
                }
            }
            let after = first_accepted(pages, watch.node, record.ended);
            figures.after = figures.after.max(after.unwrap_or(Duration::MAX));
        }
        figures
    }
}

/// Returns the times between two accepted publications of a node, from a moment on.
fn pauses(pages: &Pages, of: u64, since: Instant) -> Vec<(Instant, Instant)> {
    let mut asked = BTreeSet::new();
    let mut moments = vec![since];
    for (fact, at) in pages.history.iter().zip(&pages.times) {
        match fact {
            Fact::Asked { attempt, node, .. } if *node == of => drop(asked.insert(*attempt)),
            Fact::Answered { attempt, answer: Answer::Stored { .. } }
                if *at > since && asked.contains(attempt) =>
            {
                moments.push(*at);
            }
            _ => {}
        }
    }
    moments.windows(2).map(|pair| (pair[0], pair[1])).collect()
}

/// Returns how long after a moment a node first accepted a publication that was sent after it.
fn first_accepted(pages: &Pages, of: u64, since: Instant) -> Option<Duration> {
    let mut asked = BTreeSet::new();
    for (fact, at) in pages.history.iter().zip(&pages.times) {
        match fact {
            Fact::Asked { attempt, node, .. } if *node == of && *at > since => {
                asked.insert(*attempt);
            }
            Fact::Answered { attempt, answer: Answer::Stored { .. } }
                if asked.contains(attempt) =>
            {
                return Some(*at - since);
            }
            _ => {}
        }
    }
    None
}

/// Prints the figures of all rounds of a fault: the least, the median and the most.
pub(super) fn print(name: &str, rounds: &[Figures]) {
    let time = |of: fn(&Figures) -> Option<Duration>| {
        let times: Vec<_> = rounds.iter().filter_map(of).map(|time| time.as_secs_f64()).collect();
        spread(times).map_or("-".to_owned(), |[least, middle, most]| {
            format!("{least:.2}/{middle:.2}/{most:.2} s")
        })
    };
    let count = |of: fn(&Figures) -> usize| {
        let counts: Vec<_> = rounds.iter().map(of).collect();
        spread(counts)
            .map_or("-".to_owned(), |[least, middle, most]| format!("{least}/{middle}/{most}"))
    };
    println!(
        "{name}: {} rounds; said after {}; without service {}; served after its end {}; \
         publications {}, refused {}, unknown {}, nulls {}, whole audiences {}, gaps {}; \
         members known after {}; writes {}, refused {}, unknown {}, the same after {}",
        rounds.len(),
        time(|one| one.said),
        time(|one| Some(one.without)),
        time(|one| Some(one.after)),
        count(|one| one.publications),
        count(|one| one.refused),
        count(|one| one.unknown),
        count(|one| one.nulls),
        count(|one| one.whole_audiences),
        count(|one| one.gaps),
        time(|one| Some(one.converged)),
        count(|one| one.written.stored),
        count(|one| one.written.refused),
        count(|one| one.written.unknown),
        time(|one| Some(one.written.agreed)),
    );
}

/// Returns the least, the median and the most; `None` of nothing.
fn spread<T: PartialOrd + Copy>(mut all: Vec<T>) -> Option<[T; 3]> {
    all.sort_by(|one, other| one.partial_cmp(other).expect("they can be compared"));
    Some([*all.first()?, all[all.len() / 2], *all.last()?])
}
