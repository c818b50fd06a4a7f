//! A cache of verified tokens, so that a thread verifies a token only when it first sees it.

use std::collections::{HashMap, VecDeque};

use super::keys;
use crate::limits::TOKEN_BYTES_MAX;

/// The SHA-256 of a token. The cache keeps it instead of the token, which therefore cannot be read
/// from a core dump of the cache.
pub(super) type TokenDigest = [u8; 32];

/// A bounded map from tokens to what they prove. At the bound the oldest entry is dropped, and its
/// token is verified again when it is next presented. Every operation takes constant time.
#[derive(Debug)]
pub(crate) struct TokenCache<T> {
    proofs: HashMap<TokenDigest, Proof<T>>,
    /// The keys of `proofs`, oldest first, each exactly once.
    ages: VecDeque<TokenDigest>,
    entries_max: usize,
}

/// The result of verifying a token, with its expiry.
#[derive(Debug)]
pub(crate) struct Proof<T> {
    /// The facts that the token proves, for example a credential.
    pub(crate) of: T,
    /// The token's expiry in seconds since the epoch; `None` if it never expires.
    pub(crate) expires_at: Option<u64>,
}

impl<T> Proof<T> {
    fn is_expired(&self, now_s: u64) -> bool {
        self.expires_at.is_some_and(|expires_at| now_s >= expires_at)
    }
}

impl<T> TokenCache<T> {
    /// Creates a cache of at most `entries_max` tokens, which allocates nothing before the first.
    pub(crate) fn new(entries_max: usize) -> Self {
        Self { proofs: HashMap::new(), ages: VecDeque::new(), entries_max }
    }

    /// Returns the facts that a cached token proves, or `None` if it is unknown or expired at
    /// `now_s` seconds since the epoch.
    pub(super) fn get(&self, token: &TokenDigest, now_s: u64) -> Option<&T> {
        let proof = self.proofs.get(token).filter(|proof| !proof.is_expired(now_s))?;
        Some(&proof.of)
    }

    /// Caches a verified token. Each insertion drops up to two of the oldest tokens if they have
    /// expired, so the cache shrinks towards the valid tokens without being searched.
    pub(super) fn insert(&mut self, token: TokenDigest, proof: Proof<T>, now_s: u64) {
        for _ in 0..2 {
            if self.is_oldest_expired(now_s) {
                self.forget_oldest();
            }
        }
        if self.proofs.insert(token, proof).is_none() {
            self.ages.push_back(token);
        }
        if self.ages.len() > self.entries_max {
            self.forget_oldest();
        }
        debug_assert_eq!(self.ages.len(), self.proofs.len());
    }

    /// Returns the facts that a token proves at `now_s` seconds since the epoch: from the cache, or
    /// else from `prove`. Returns `too_long` if it is longer than [`TOKEN_BYTES_MAX`].
    pub(crate) fn proof<E>(
        &mut self,
        token: &str,
        now_s: u64,
        too_long: E,
        prove: impl FnOnce() -> Result<Proof<T>, E>,
    ) -> Result<T, E>
    where
        T: Clone,
    {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(too_long);
        }
        let name = keys::digest(token);
        if let Some(known) = self.get(&name, now_s) {
            return Ok(known.clone());
        }
        let proof = prove()?;
        let of = proof.of.clone();
        self.insert(name, proof, now_s);
        Ok(of)
    }

    fn is_oldest_expired(&self, now_s: u64) -> bool {
        let oldest = self.ages.front().and_then(|token| self.proofs.get(token));
        oldest.is_some_and(|proof| proof.is_expired(now_s))
    }

    fn forget_oldest(&mut self) {
        if let Some(token) = self.ages.pop_front() {
            self.proofs.remove(&token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(of: char, expires_at: Option<u64>) -> Proof<char> {
        Proof { of, expires_at }
    }

    #[test]
    fn the_oldest_is_forgotten_at_the_bound() {
        let mut cache = TokenCache::new(2);
        for name in 0..3 {
            cache.insert([name; 32], proof('u', None), 10);
        }
        assert!(cache.get(&[0; 32], 10).is_none());
        assert!(cache.get(&[1; 32], 10).is_some());
        assert!(cache.get(&[2; 32], 10).is_some());
        assert_eq!((cache.ages.len(), cache.proofs.len()), (2, 2));
    }

    #[test]
    fn a_token_is_kept_until_the_second_it_expires() {
        let mut cache = TokenCache::new(2);
        cache.insert([1; 32], proof('u', Some(100)), 10);
        assert!(cache.get(&[1; 32], 99).is_some());
        assert!(cache.get(&[1; 32], 100).is_none());
    }

    #[test]
    fn the_same_token_takes_one_place() {
        let mut cache = TokenCache::new(2);
        for _ in 0..5 {
            cache.insert([1; 32], proof('u', None), 10);
        }
        cache.insert([2; 32], proof('v', None), 10);
        assert!(cache.get(&[1; 32], 10).is_some());
        assert_eq!(cache.ages.len(), 2);
    }

    #[test]
    fn expired_tokens_make_room_as_new_ones_come() {
        let mut cache = TokenCache::new(100);
        for name in 0..50 {
            cache.insert([name; 32], proof('u', Some(20)), 10);
        }
        for name in 50..80 {
            cache.insert([name; 32], proof('u', None), 30);
        }
        assert_eq!((cache.ages.len(), cache.proofs.len()), (30, 30));
    }
}
