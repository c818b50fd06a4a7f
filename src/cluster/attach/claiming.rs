//! Sending a node's claims and noting what became of them.

use super::{Attachments, Line, Wish};
use crate::cluster::flight::Outcome;
use crate::cluster::limits::{CLAIM_RETRY_MS, CLAIMS_UNDER_WAY_MAX};
use crate::cluster::name::{ChannelHash, Seq};
use crate::message::Millis;

impl<T> Attachments<T> {
    /// Takes what became of a claim.
    pub fn claimed(&mut self, hash: ChannelHash, listens: bool, outcome: Outcome, now: Millis) {
        if !matches!(outcome, Outcome::Late(_)) {
            self.claims_flying -= 1;
        }
        let is_settled = self.with(hash, |one| one.claim.answered(listens, outcome));
        match is_settled {
            Some(false) => {
                self.with(hash, |one| one.claim.is_queued = true);
                self.retries.push_back((now + CLAIM_RETRY_MS, hash));
            }
            Some(true) => self.queue_claim(hash),
            None => {}
        }
        let gap = self.with(hash, |one| {
            let is_due = one.claim.is_held() && std::mem::take(&mut one.owes_gap);
            is_due.then(|| one.channel.clone())
        });
        self.wishes.extend(gap.flatten().map(Wish::Gap));
        self.complete(hash, now);
        self.forget(hash);
    }

    /// Notes that the mirror shows the end of this node's claim at this place. If another node has
    /// ended it, publishers are perhaps told that the channel has no listener. That goes on until
    /// the claim is made anew, so that the gap is told then.
    pub fn claim_ended(&mut self, hash: ChannelHash, seq: Seq) {
        self.with(hash, |one| one.owes_gap |= one.claim.ended(seq) && one.needs_listener);
        self.queue_claim(hash);
    }

    /// Returns whether the stream, up to this place, lacks a claim that it has acknowledged. `has`
    /// says whether it has the claim of a channel.
    pub fn lacks_claim(&self, up_to: Seq, has: impl Fn(ChannelHash) -> bool) -> bool {
        let mut held = self.channels.iter().filter(|(_, one)| one.claim.is_held_since(up_to));
        held.any(|(hash, _)| !has(*hash))
    }

    /// Claims everything anew, because the stream has lost the claims. Gaps are told when that is
    /// done.
    pub fn claims_lost(&mut self) {
        let hashes: Vec<_> = self.channels.keys().copied().collect();
        for hash in hashes {
            self.with(hash, |one| {
                one.claim.lost();
                one.owes_gap |= one.phase.is_heard() && one.needs_listener;
            });
            self.queue_claim(hash);
        }
    }

    /// Lets a claim wait to be sent, unless the stream has what it should have.
    pub(super) fn queue_claim(&mut self, hash: ChannelHash) {
        let is_new = self.with(hash, |one| {
            let is_new = one.claim.must_send() && !one.claim.is_queued;
            one.claim.is_queued |= is_new;
            is_new
        });
        if is_new == Some(true) {
            self.claims.push_back(hash);
        }
    }

    /// Sends claims as long as there is room for them.
    pub(super) fn send_claims(&mut self) {
        while self.line != Line::Down
            && self.claims_flying < CLAIMS_UNDER_WAY_MAX
            && let Some(hash) = self.claims.pop_front()
        {
            let sent = self.with(hash, |one| {
                one.claim.is_queued = false;
                one.claim.must_send().then(|| one.claim.sent())
            });
            if let Some(Some((listens, expected))) = sent {
                self.claims_flying += 1;
                self.wishes.push(Wish::Claim(hash, listens, expected));
            }
            self.forget(hash);
        }
    }
}
