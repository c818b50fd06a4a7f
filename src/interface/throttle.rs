//! The rates at which sessions may begin, and at which an address may send requests without a
//! credential or begin TLS handshakes, and the connections that an address may have.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use crate::broker::bucket::Bucket;
use crate::codec::http::Request;
use crate::config::Limits;
use crate::limits::ADDRESS_BUCKETS;
use crate::message::{Millis, Network, Peer};

/// Headers that hold a credential, and values of the query that do: a token, or the id of a session
/// on long-polling, which is a secret.
const HEADERS: [&str; 3] = ["authorization", "x-api-key", "forge-proxy-authorization"];
const QUERY: [&str; 2] = ["token", "sid"];

/// The rates of the configuration, and what clients have used of them.
#[derive(Debug)]
pub struct Throttle {
    /// Sessions in a second; 0 for no limit.
    handshakes: u32,
    begun: Mutex<Bucket>,
    /// Requests in a second for one address; 0 for no limit.
    requests: u32,
    addresses: Addresses,
    /// TLS handshakes in a second for one address; 0 for no limit.
    tls_handshakes: u32,
    tls_addresses: Addresses,
    connections: Arc<Connections>,
}

/// Counts the connections of addresses. It has an entry for each address with connections.
#[derive(Debug)]
struct Connections {
    /// What an address may have at once; 0 for no limit.
    most: u32,
    of: Mutex<HashMap<Network, u32>>,
}

/// A connection that counts at its address, until this is dropped.
#[derive(Debug)]
pub struct Held {
    network: Network,
    connections: Arc<Connections>,
}

/// An address has as many connections as it may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooMany;

impl Drop for Held {
    fn drop(&mut self) {
        let mut of = self.connections.of.lock().unwrap_or_else(PoisonError::into_inner);
        let Entry::Occupied(mut count) = of.entry(self.network) else { return };
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

impl Connections {
    fn hold(self: &Arc<Self>, client: Peer) -> Result<Option<Held>, TooMany> {
        let Some(network) = client.network().filter(|_| self.most > 0) else {
            return Ok(None);
        };
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let count = of.entry(network).or_default();
        if *count >= self.most {
            return Err(TooMany);
        }
        *count += 1;
        Ok(Some(Held { network, connections: self.clone() }))
    }
}

/// Buckets for addresses: two of a fixed number for each address, chosen by a keyed hash. An
/// address is over its rate only if both are empty, so that few others suffer from it. There is
/// nothing to forget, and no client can choose whom it meets.
#[derive(Debug)]
struct Addresses {
    buckets: Box<[Mutex<Bucket>]>,
    hasher: RandomState,
}

impl Throttle {
    /// Creates the state of these limits. It has memory for addresses only if they have a limit.
    pub fn new(limits: &Limits) -> Self {
        let requests = limits.requests_per_second_per_address;
        let tls_handshakes = limits.tls_handshakes_per_second_per_address;
        Self {
            handshakes: limits.handshakes_per_second,
            begun: Mutex::default(),
            requests,
            addresses: Addresses::new(requests),
            tls_handshakes,
            tls_addresses: Addresses::new(tls_handshakes),
            connections: Arc::new(Connections {
                most: limits.connections_per_address,
                of: Mutex::default(),
            }),
        }
    }

    /// Returns whether one more session may begin now, at `now` milliseconds since the node
    /// started, and counts it.
    pub fn admit_session(&self, now: Millis) -> bool {
        self.handshakes == 0 || take(&self.begun, self.handshakes, now)
    }

    /// Counts one more connection at this client's address. `None` if that has no limit.
    ///
    /// # Errors
    /// If the address has as many connections as it may have.
    pub fn hold(&self, client: Peer) -> Result<Option<Held>, TooMany> {
        self.connections.hold(client)
    }

    /// Returns whether a request of this client is within the rate of its address, and counts it.
    pub(super) fn admit_request(&self, client: Peer, now: Millis) -> bool {
        self.addresses.charge(client, self.requests, now)
    }

    /// Counts a request of this client whose credential was refused like one without.
    pub fn note_refused(&self, client: Peer, request: &Request, now: Millis) {
        if self.requests > 0 && has_credential(request) {
            self.addresses.charge(client, self.requests, now);
        }
    }

    /// Returns whether one more TLS handshake of this client is within the rate of its address, and
    /// counts it.
    pub fn admit_tls(&self, client: Peer, now: Millis) -> bool {
        self.tls_addresses.charge(client, self.tls_handshakes, now)
    }
}

impl Addresses {
    /// Creates the buckets for a rate. There are none if it is 0.
    fn new(rate: u32) -> Self {
        let buckets = if rate > 0 { ADDRESS_BUCKETS } else { 0 };
        let buckets = (0..buckets).map(|_| Mutex::default()).collect();
        Self { buckets, hasher: RandomState::new() }
    }

    /// Takes a token of the client's address. Returns false if none is left. A rate of 0 is no
    /// limit.
    fn charge(&self, client: Peer, rate: u32, now: Millis) -> bool {
        let Some(network) = client.network().filter(|_| rate > 0) else { return true };
        // Both, so that each has all of what its addresses use.
        let taken = self.of(network).map(|bucket| take(bucket, rate, now));
        taken.contains(&true)
    }

    fn of(&self, network: Network) -> [&Mutex<Bucket>; 2] {
        let hash = self.hasher.hash_one(network);
        let bytes = hash.to_le_bytes();
        let [low, high] = [[bytes[0], bytes[1]], [bytes[2], bytes[3]]].map(u16::from_le_bytes);
        [low, high].map(|place| &self.buckets[usize::from(place)])
    }
}

const _: () = assert!(ADDRESS_BUCKETS == 1 << u16::BITS, "places have 16 bits");

fn take(bucket: &Mutex<Bucket>, rate: u32, now: Millis) -> bool {
    bucket.lock().unwrap_or_else(PoisonError::into_inner).take(rate, now)
}

/// Returns whether a request comes with a credential, which may turn out to be invalid.
pub(super) fn has_credential(request: &Request) -> bool {
    request.has_header(|name| HEADERS.contains(&name))
        || QUERY.iter().any(|name| request.query_value(name) != Ok(None))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::codec::http::parse_head;
    use crate::config::Config;

    fn throttle(handshakes_per_second: u32, requests_per_second_per_address: u32) -> Throttle {
        Throttle::new(&Limits {
            connections_per_address: 2,
            handshakes_per_second,
            requests_per_second_per_address,
            ..Config::defaults().limits
        })
    }

    fn request(line: &str, headers: &str) -> Request {
        let head = format!("{line} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        parse_head(head.as_bytes()).unwrap().expect("the head is complete").0
    }

    fn peer(address: &str) -> Peer {
        Peer::from(address.parse::<IpAddr>().unwrap())
    }

    #[test]
    fn a_second_of_sessions_may_begin_at_once() {
        let limited = throttle(3, 0);
        assert_eq!((0..10).filter(|_| limited.admit_session(5_000)).count(), 3);
        assert!(limited.admit_session(5_400));
        assert!(!limited.admit_session(5_400));
        let open = throttle(0, 0);
        assert!((0..1_000).all(|_| open.admit_session(5_000)));
    }

    #[test]
    fn an_address_has_its_own_rate() {
        let limited = throttle(0, 5);
        let served = |address: &str, now| {
            (0..20).filter(|_| limited.admit_request(peer(address), now)).count()
        };
        assert_eq!(served("192.0.2.1", 9_000), 5);
        assert_eq!(served("192.0.2.2", 9_000), 5);
        assert_eq!(served("2001:db8::1", 9_000), 5);
        assert_eq!(served("2001:db8::ffff:2", 9_000), 0, "it is in the same network");
        assert_eq!(served("127.0.0.1", 9_000), 20);
        assert_eq!(served("192.0.2.1", 9_400), 2);
    }

    #[test]
    fn few_addresses_suffer_fromothers() {
        let limited = throttle(0, 1);
        for number in 0..2_000u32 {
            let busy = Peer::from(IpAddr::from((0x0a00_0000 + number).to_be_bytes()));
            limited.admit_request(busy, 9_000);
        }
        let is_served = |number: &u32| {
            let other = Peer::from(IpAddr::from((0xc000_0000 + number).to_be_bytes()));
            limited.admit_request(other, 9_000)
        };
        // Each of its two buckets is one of the 4,000 with a probability of 6 %, and those that
        // were asked before count, too.
        let refused = (0..1_000u32).filter(|number| !is_served(number)).count();
        assert!(refused < 50, "{refused}");
    }

    #[test]
    fn a_refused_credential_counts() {
        let limited = throttle(0, 2);
        let with = [
            request("GET /", "Authorization: x\r\n"),
            request("GET /", "x-api-key: x\r\n"),
            request("GET /", "forge-proxy-authorization: x\r\n"),
            request("GET /?channel=a&token=x", ""),
            request("GET /socket.io/?sid=x", ""),
        ];
        assert!(with.iter().all(has_credential));
        let without = [request("GET /?tokens=x", ""), request("GET /socket.io/?EIO=4", "")];
        assert!(!without.iter().any(has_credential));
        let (client, now) = (peer("192.0.2.1"), 9_000);
        // Those without were counted when they came.
        (0..9).for_each(|_| limited.note_refused(client, &without[0], now));
        assert!(limited.admit_request(client, now));
        limited.note_refused(client, &with[1], now);
        assert!(!limited.admit_request(client, now));
    }

    #[test]
    fn an_address_has_so_many_connections_at_once() {
        let limited = throttle(0, 0);
        let hold = |address: &str| limited.hold(peer(address));
        let counted = |address: &str| hold(address).unwrap().expect("it has a limit");
        let (first, second) = (counted("2001:db8::1"), counted("2001:db8::2"));
        assert_eq!(hold("2001:db8::3").unwrap_err(), TooMany);
        let others = [counted("2001:db8:0:1::1"), counted("192.0.2.1"), counted("192.0.2.2")];
        drop(first);
        let _third = counted("2001:db8::3");
        assert_eq!(hold("2001:db8::1").unwrap_err(), TooMany);
        drop(second);
        assert_eq!(limited.connections.of.lock().unwrap().len(), 4);
        assert!(hold("127.0.0.1").unwrap().is_none() && hold("::1").unwrap().is_none());
        assert!(limited.hold(Peer::Local).unwrap().is_none());
        drop(others);
        assert_eq!(limited.connections.of.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_held_connection_is_small() {
        // Workers keep one for each connection if there is a limit.
        assert_eq!(size_of::<Option<Held>>(), 16);
    }
}
