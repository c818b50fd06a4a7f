//! Members of a channel that shows them. Some stay, others come and go. When a fault is over and
//! no member comes or goes any longer, every node must list exactly those that are there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::client::{Client, Kind, Said};
use super::site::wait_until;
use super::stage::Stage;
use super::subscribers::some;
use crate::support::user_token;

pub(super) const ROOM: &str = "lounge";
/// How long nodes that serve again may list others than those that are there.
pub(super) const CONVERGE_WITHIN: Duration = Duration::from_secs(5);
/// The member that asks a node for its list.
const PROBE: &str = "probe";
/// Between two attempts.
const AGAIN: Duration = Duration::from_millis(50);
/// How long a member that comes and goes is there, and how long it is away, at most.
const TURN_MS: u64 = 1_200;

/// The members, and what those that stay know of the others.
pub(super) struct Crew {
    seats: Vec<Seat>,
    is_frozen: AtomicBool,
    known: Mutex<BTreeMap<usize, BTreeSet<String>>>,
}

/// A connection of a member.
struct Seat {
    port: u16,
    user: String,
    /// Whether the member is there when no member comes or goes any longer.
    stays: bool,
}

impl Crew {
    /// Returns the members on these nodes. One user has connections on all nodes, of which one
    /// stays, and another one has them too and leaves with all.
    pub(super) fn new(ports: &[(u64, u16)]) -> Self {
        let of = |&(node, port): &(u64, u16)| {
            let seat = |user: String, stays| Seat { port, user, stays };
            [
                seat(format!("stays-{node}"), true),
                seat(format!("turns-{node}"), false),
                seat("everywhere".to_owned(), node == 1),
                seat("nowhere".to_owned(), false),
            ]
        };
        let seats = ports.iter().flat_map(of).collect();
        Self { seats, is_frozen: AtomicBool::new(false), known: Mutex::default() }
    }

    /// Returns the numbers of all connections.
    pub(super) fn seats(&self) -> std::ops::Range<usize> {
        0..self.seats.len()
    }

    /// Lets the members with this connection come and go until the round is over.
    pub(super) fn attend(&self, stage: &Stage, number: usize) {
        let seat = &self.seats[number];
        let token = user_token(&seat.user);
        let is_wanted = || !stage.is_over() && (seat.stays || !self.is_frozen());
        while is_wanted() {
            match Client::connect_as(seat.port, Kind::Socket, &token) {
                Some(client) => self.sit(number, client, is_wanted),
                None => thread::sleep(AGAIN),
            }
            self.known().remove(&number);
            if !seat.stays {
                thread::sleep(some(TURN_MS));
            }
        }
    }

    /// Stays while it is wanted, and for a while if it comes and goes.
    fn sit(&self, number: usize, mut client: Client, is_wanted: impl Fn() -> bool) {
        let stays = self.seats[number].stays;
        let until = (!stays).then(|| Instant::now() + some(TURN_MS));
        client.join(ROOM);
        let mut is_leaving = false;
        while is_wanted() {
            match client.look() {
                Said::End => return,
                Said::Left if is_leaving => return,
                // After a gap, a list tells what is missing.
                Said::Refused | Said::Gap if !is_leaving => {
                    thread::sleep(AGAIN);
                    client.join(ROOM);
                }
                _ => {}
            }
            if stays {
                self.known().insert(number, client.members.clone());
            }
            if !is_leaving && until.is_some_and(|until| until <= Instant::now()) {
                // Half of them end their connection without a word.
                if rand::random() {
                    return;
                }
                client.leave(ROOM);
                is_leaving = true;
            }
        }
    }

    /// Lets nobody come or go any longer.
    pub(super) fn freeze(&self) {
        self.is_frozen.store(true, SeqCst);
    }

    fn is_frozen(&self) -> bool {
        self.is_frozen.load(SeqCst)
    }

    /// Waits until those that stay, and a newcomer on every node, know exactly who is there.
    /// Returns how long that took from a moment on.
    pub(super) fn converge(&self, since: Instant) -> Duration {
        let staying = || self.seats.iter().enumerate().filter(|(_, seat)| seat.stays);
        let expected: BTreeSet<_> = staying().map(|(_, seat)| seat.user.clone()).collect();
        let differing = || {
            let known = self.known();
            staying().find(|(number, _)| known.get(number) != Some(&expected)).map(|one| one.0)
        };
        wait_until("those that stay know who is there", || differing().is_none());
        let ports: BTreeSet<_> = self.seats.iter().map(|seat| seat.port).collect();
        for port in ports {
            wait_until("a newcomer is told who is there", || list(port) == Some(expected.clone()));
        }
        since.elapsed()
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<usize, BTreeSet<String>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the members that a node lists; `None` if it does not answer.
fn list(port: u16) -> Option<BTreeSet<String>> {
    let mut client = Client::connect_as(port, Kind::Socket, &user_token(PROBE))?;
    client.join(ROOM);
    let end = Instant::now() + CONVERGE_WITHIN;
    while Instant::now() < end {
        match client.look() {
            Said::Joined => {
                client.members.remove(PROBE);
                return Some(client.members);
            }
            Said::Refused | Said::End => return None,
            _ => {}
        }
    }
    None
}
