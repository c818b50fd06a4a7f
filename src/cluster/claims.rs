//! The mirror of all nodes' claims, and barriers that say how new it is.

use std::collections::BTreeMap;
use std::ops::Bound;

use smallvec::SmallVec;

use super::limits::{BARRIER_WAITING_MAX, CLAIMS_MAX, NODES_MAX};
use super::name::{ChannelHash, NodeName, PatternId, Place, Seq};
use super::wire::{Claim, Origin};
use crate::message::Millis;

/// A node's copy of all claims, as the stream of claims brings them, in order.
#[derive(Debug, Default)]
pub struct Claims {
    places: BTreeMap<Place, SmallVec<[Entry; 1]>>,
    lives: Lives,
    count: usize,
    /// Whether a claim was not noted at a bound.
    is_cut: bool,
    /// Everything of the stream up to here is in the mirror.
    applied: Seq,
}

/// A claim in the mirror. A place has one for each node.
#[derive(Clone, Copy, Debug)]
struct Entry {
    life: u16,
    seq: Seq,
}

/// The starts of nodes that have claims, each once: a claim refers to one by its number.
#[derive(Debug, Default)]
struct Lives {
    all: Vec<(Origin, usize)>,
    free: Vec<u16>,
    numbers: BTreeMap<(NodeName, u64), u16>,
}

/// A claim that is in the mirror.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Held {
    /// What the claim is for.
    pub place: Place,
    /// The start of the node that claims.
    pub origin: Origin,
    /// The claim's place in the stream.
    pub seq: Seq,
}

impl Claims {
    /// Returns the number of claims.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Returns whether there is no claim.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns whether a claim was not noted at a bound, so that a node may be missing.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Returns the place in the stream up to which the mirror is complete.
    pub fn applied(&self) -> Seq {
        self.applied
    }

    /// Forgets everything, because the stream is read from its beginning.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Notes that the stream's message with this sequence is no claim.
    pub fn passed(&mut self, seq: Seq) {
        self.applied = self.applied.max(seq);
    }

    /// Takes the next claim of the stream. A node has one claim for a place, whatever its
    /// incarnation: the last one counts.
    pub fn apply(&mut self, place: Place, node: NodeName, claim: Claim, seq: Seq) {
        self.passed(seq);
        let Claim { incarnation, listens } = claim;
        let entries = self.places.get_mut(&place);
        if let Some(entries) = entries {
            let old = entries.iter().position(|entry| self.lives.get(entry.life).node == node);
            if let Some(old) = old {
                let Entry { life, .. } = entries.remove(old);
                self.lives.release(life);
                self.count -= 1;
            }
            if entries.is_empty() && !listens {
                self.places.remove(&place);
            }
        }
        if !listens {
            return;
        }
        let life = if self.count < CLAIMS_MAX {
            self.lives.number(Origin { node, incarnation })
        } else {
            None
        };
        match life {
            Some(life) => {
                self.places.entry(place).or_default().push(Entry { life, seq });
                self.count += 1;
            }
            None => self.is_cut = true,
        }
    }

    /// Returns the nodes that claim a channel: those that name it, and those with a pattern that
    /// `matches` it. Each start of a node is named once.
    pub fn named(
        &self,
        channel: ChannelHash,
        mut matches: impl FnMut(PatternId) -> bool,
    ) -> Vec<Origin> {
        let mut lives: SmallVec<[u16; 8]> = SmallVec::new();
        let direct = self.places.get(&Place::Channel(channel)).into_iter().flatten();
        lives.extend(direct.map(|entry| entry.life));
        for (place, entries) in self.places.range(Place::Pattern(PatternId(0))..) {
            let Place::Pattern(pattern) = *place else { continue };
            if matches(pattern) {
                lives.extend(entries.iter().map(|entry| entry.life));
            }
        }
        lives.sort_unstable();
        lives.dedup();
        lives.iter().map(|life| self.lives.get(*life).clone()).collect()
    }

    /// Returns whether this start of a node has a claim for a place.
    pub fn has(&self, place: Place, origin: &Origin) -> bool {
        let mut entries = self.places.get(&place).into_iter().flatten();
        entries.any(|entry| self.lives.get(entry.life) == origin)
    }

    /// Returns whether any start of a node that `is_asked` has claims.
    pub fn has_any(&self, is_asked: impl Fn(&Origin) -> bool) -> bool {
        self.lives.all.iter().any(|(origin, count)| *count > 0 && is_asked(origin))
    }

    /// Looks through `most` places behind `after` for claims of which `is_asked`. Returns them, and
    /// the place to go on behind; `None` at the end.
    pub fn of(
        &self,
        is_asked: impl Fn(&Origin) -> bool,
        after: Option<Place>,
        most: usize,
    ) -> (Vec<Held>, Option<Place>) {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut found = Vec::new();
        for (count, (place, entries)) in self.places.range((from, Bound::Unbounded)).enumerate() {
            for Entry { life, seq } in entries {
                let origin = self.lives.get(*life);
                if is_asked(origin) {
                    found.push(Held { place: *place, origin: origin.clone(), seq: *seq });
                }
            }
            if count + 1 >= most {
                return (found, Some(*place));
            }
        }
        (found, None)
    }
}

impl Lives {
    fn get(&self, life: u16) -> &Origin {
        &self.all[usize::from(life)].0
    }

    /// Returns the number of a start of a node and counts a claim of it, or `None` at the bound: a
    /// node may have claims of two starts.
    fn number(&mut self, origin: Origin) -> Option<u16> {
        let key = (origin.node.clone(), origin.incarnation.0);
        if let Some(&life) = self.numbers.get(&key) {
            self.all[usize::from(life)].1 += 1;
            return Some(life);
        }
        let life = match self.free.pop() {
            Some(life) => {
                self.all[usize::from(life)] = (origin, 1);
                life
            }
            None if self.all.len() < 2 * NODES_MAX => {
                let life = u16::try_from(self.all.len()).ok()?;
                self.all.push((origin, 1));
                life
            }
            None => return None,
        };
        self.numbers.insert(key, life);
        Some(life)
    }

    fn release(&mut self, life: u16) {
        let (origin, count) = &mut self.all[usize::from(life)];
        *count -= 1;
        if *count == 0 {
            self.numbers.remove(&(origin.node.clone(), origin.incarnation.0));
            self.free.push(life);
        }
    }
}

/// Barriers in the stream of claims: when one has come out of the mirror's consumer, the mirror has
/// every claim that was stored before. At most one is under way, and what comes meanwhile waits for
/// the next, because the present one began earlier.
#[derive(Debug)]
pub struct Barrier<T> {
    running: Option<Running<T>>,
    next: Vec<T>,
}

#[derive(Debug)]
struct Running<T> {
    waiting: Vec<T>,
    /// The barrier's place in the stream; `None` until the stream has acknowledged it.
    seq: Option<Seq>,
    end: Millis,
}

impl<T> Barrier<T> {
    /// Lets a decision wait for a barrier that has not begun yet. Returns it if too many wait.
    pub fn wait(&mut self, decision: T) -> Result<(), T> {
        let running = self.running.as_ref().map_or(0, |running| running.waiting.len());
        if running + self.next.len() >= BARRIER_WAITING_MAX {
            return Err(decision);
        }
        self.next.push(decision);
        Ok(())
    }

    /// Returns whether a barrier must be sent.
    pub fn is_wanted(&self) -> bool {
        self.running.is_none() && !self.next.is_empty()
    }

    /// Notes that a barrier is sent, which must be over at this time.
    pub fn sent(&mut self, end: Millis) {
        self.running = Some(Running { waiting: std::mem::take(&mut self.next), seq: None, end });
    }

    /// Returns the deadline of the barrier that is under way; `None` without a barrier.
    pub fn due(&self) -> Option<Millis> {
        self.running.as_ref().map(|running| running.end)
    }

    /// Notes the place of the barrier, and that the mirror is complete up to `applied`. Returns the
    /// decisions that can be made.
    pub fn stored(&mut self, seq: Seq, applied: Seq) -> Vec<T> {
        if let Some(running) = &mut self.running {
            running.seq = Some(seq);
        }
        self.applied(applied)
    }

    /// Notes that the mirror is complete up to this place. Returns the decisions that can be made.
    pub fn applied(&mut self, applied: Seq) -> Vec<T> {
        let seq = self.running.as_ref().and_then(|running| running.seq);
        if seq.is_some_and(|seq| seq <= applied) { self.end() } else { Vec::new() }
    }

    /// Ends the barrier that is under way, because it was not stored or the mirror begins again.
    /// Returns the decisions that cannot be made.
    pub fn fail(&mut self) -> Vec<T> {
        self.end()
    }

    /// Ends the barrier that is under way and gives up the next one. Returns the decisions that
    /// cannot be made.
    pub fn fail_all(&mut self) -> Vec<T> {
        let mut failed = self.end();
        failed.append(&mut self.next);
        failed
    }

    fn end(&mut self) -> Vec<T> {
        self.running.take().map_or_else(Vec::new, |running| running.waiting)
    }
}

impl<T> Default for Barrier<T> {
    fn default() -> Self {
        Self { running: None, next: Vec::new() }
    }
}

#[cfg(test)]
mod tests;
