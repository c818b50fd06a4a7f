//! Finds the definition that governs a channel.
//!
//! A set of definitions never changes: an administrator's change makes a new set, which replaces
//! the old one whole, so that readers need no lock and always see one consistent set.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use memchr::memmem;
use uuid::Uuid;

use crate::message::ChannelDefinition;

/// All channel definitions of the node at one moment, indexed for [`Definitions::find`].
#[derive(Debug, Default)]
pub struct Definitions {
    version: u64,
    newest_first: Vec<Arc<ChannelDefinition>>,
    by_id: HashMap<Uuid, Arc<ChannelDefinition>>,
    /// Enabled definitions by pattern, those with wildcards included: a name may equal any of them.
    by_pattern: HashMap<Box<str>, Arc<ChannelDefinition>>,
    /// Enabled definitions with wildcards by literal prefix, the oldest first.
    by_prefix: HashMap<Box<[u8]>, Vec<Wildcard>>,
    /// The distinct lengths of these prefixes in bytes, the longest first.
    prefix_lengths: Vec<usize>,
}

impl Definitions {
    /// Creates the first set of a node, with version 1.
    pub fn new(definitions: Vec<ChannelDefinition>) -> Self {
        Self::default().replaced_by(definitions)
    }

    /// Creates the set that follows this one, with the next version.
    pub fn replaced_by(&self, definitions: Vec<ChannelDefinition>) -> Self {
        let mut oldest_first: Vec<_> = definitions.into_iter().map(Arc::new).collect();
        oldest_first.sort_unstable_by_key(|definition| (definition.created_at, definition.id));
        let mut next = Self { version: self.version + 1, ..Self::default() };
        for definition in &oldest_first {
            next.index(definition);
        }
        next.prefix_lengths = next.by_prefix.keys().map(|prefix| prefix.len()).collect();
        next.prefix_lengths.sort_unstable_by_key(|&length| Reverse(length));
        next.prefix_lengths.dedup();
        oldest_first.reverse();
        next.newest_first = oldest_first;
        next
    }

    /// Returns the version of the set. Conclusions under another version may no longer hold.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Returns the enabled definition that governs a channel name: the one whose pattern equals the
    /// name; otherwise, of those that match, the one with the longest literal prefix (bytes before
    /// the first wildcard); otherwise the oldest (creation time, then id).
    ///
    /// This takes one hash look-up for the name and one for each distinct prefix length. Only
    /// definitions that share a prefix with the name are tried, each in time linear in the name's
    /// length.
    pub fn find(&self, channel: &str) -> Option<&Arc<ChannelDefinition>> {
        if let Some(definition) = self.by_pattern.get(channel) {
            return Some(definition);
        }
        let name = channel.as_bytes();
        self.prefix_lengths
            .iter()
            .filter_map(|&length| self.by_prefix.get(name.get(..length)?))
            .flatten()
            .find(|wildcard| wildcard.matches(name))
            .map(|wildcard| &wildcard.definition)
    }

    /// Returns the definition with this id, enabled or not.
    pub fn get(&self, id: Uuid) -> Option<&Arc<ChannelDefinition>> {
        self.by_id.get(&id)
    }

    /// Returns all definitions, enabled or not, the newest first by creation time.
    pub fn all(&self) -> &[Arc<ChannelDefinition>] {
        &self.newest_first
    }

    /// Adds a definition to the indexes. Must be called with the oldest first, because a definition
    /// that is already indexed under a pattern or prefix has priority.
    fn index(&mut self, definition: &Arc<ChannelDefinition>) {
        self.by_id.insert(definition.id, Arc::clone(definition));
        if !definition.enabled {
            return;
        }
        self.by_pattern
            .entry(definition.pattern.as_str().into())
            .or_insert_with(|| Arc::clone(definition));
        if let Some((prefix, wildcard)) = Wildcard::parse(definition) {
            self.by_prefix.entry(prefix).or_default().push(wildcard);
        }
    }
}

/// A definition whose pattern has wildcards, cut at them.
#[derive(Debug)]
struct Wildcard {
    prefix_bytes: usize,
    /// Literals that must occur between prefix and suffix, in this order.
    middles: Vec<memmem::Finder<'static>>,
    suffix: Box<[u8]>,
    definition: Arc<ChannelDefinition>,
}

impl Wildcard {
    /// Returns the literal prefix and the rest; `None` if the pattern has no wildcard.
    fn parse(definition: &Arc<ChannelDefinition>) -> Option<(Box<[u8]>, Self)> {
        let is_wildcard = |c| c == '*' || c == '%';
        let (prefix, rest) = definition.pattern.split_once(is_wildcard)?;
        let mut segments = rest.split(is_wildcard);
        let suffix = segments.next_back().unwrap_or_default();
        let middles = segments
            .filter(|segment| !segment.is_empty())
            .map(|segment| memmem::Finder::new(segment).into_owned())
            .collect();
        let wildcard = Self {
            prefix_bytes: prefix.len(),
            middles,
            suffix: suffix.as_bytes().into(),
            definition: Arc::clone(definition),
        };
        Some((prefix.as_bytes().into(), wildcard))
    }

    /// Returns whether a name matches that is known to begin with the prefix.
    ///
    /// Taking each middle at its left-most place leaves the most space for the next ones, so that
    /// nothing is tried twice.
    fn matches(&self, name: &[u8]) -> bool {
        let Some(mut rest) = name[self.prefix_bytes..].strip_suffix(&*self.suffix) else {
            return false;
        };
        for middle in &self.middles {
            let Some(at) = middle.find(rest) else {
                return false;
            };
            rest = &rest[at + middle.needle().len()..];
        }
        true
    }
}

#[cfg(test)]
mod tests;
