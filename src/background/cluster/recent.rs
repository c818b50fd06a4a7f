//! A bounded memory of what was noted last.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Values by key. At the bound the oldest is forgotten.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    most: usize,
    values: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K: Copy + Eq + Hash, V: Copy> Recent<K, V> {
    /// Creates a memory of at most this number of values.
    pub(super) fn new(most: usize) -> Self {
        Self { most, values: HashMap::new(), order: VecDeque::new() }
    }

    /// Notes a value, unless the key has one.
    pub(super) fn note(&mut self, key: K, value: V) {
        if self.values.contains_key(&key) {
            return;
        }
        if self.order.len() >= self.most
            && let Some(oldest) = self.order.pop_front()
        {
            self.values.remove(&oldest);
        }
        self.values.insert(key, value);
        self.order.push_back(key);
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.values.clear();
        self.order.clear();
    }

    /// Returns a value that was noted and is not forgotten.
    pub(super) fn get(&self, key: &K) -> Option<V> {
        self.values.get(key).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_and_the_first_value_stays() {
        let mut recent = Recent::new(2);
        for (key, value) in [(1, 10), (2, 20), (1, 11), (3, 30)] {
            recent.note(key, value);
        }
        assert_eq!([1, 2, 3].map(|key| recent.get(&key)), [None, Some(20), Some(30)]);
        recent.clear();
        recent.note(2, 21);
        assert_eq!([1, 2, 3].map(|key| recent.get(&key)), [None, Some(21), None]);
    }
}
