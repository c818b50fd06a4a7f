//! Addresses of clients and proxies.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU64;

/// The other end of a connection, or the client behind it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Peer {
    /// This address. An IPv4 address that is written as one of IPv6 is an IPv4 address here.
    Network(IpAddr),
    /// A program of this machine, on a unix socket.
    Local,
}

/// An address of IPv4, or a network of 64 bits of IPv6, because a customer of a provider has at
/// least that. It is the first half of an address of IPv6. For IPv4 it begins as addresses of
/// groups of receivers do, from which no connection comes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Network(NonZeroU64);

const IPV4: u64 = 0xffff_ffff_0000_0000;

impl Peer {
    /// Returns what limits by address count as one. `None` for this machine, which has no such
    /// limits.
    pub fn network(self) -> Option<Network> {
        match self {
            _ if self.is_of_this_machine() => None,
            Self::Network(IpAddr::V4(address)) => {
                NonZeroU64::new(IPV4 | u64::from(address.to_bits())).map(Network)
            }
            Self::Network(IpAddr::V6(address)) => {
                // Programs of this machine have the first of these networks, and no others.
                NonZeroU64::new((address.to_bits() >> u64::BITS) as u64).map(Network)
            }
            Self::Local => None,
        }
    }

    /// Returns whether only programs of this machine can be this peer.
    pub fn is_of_this_machine(self) -> bool {
        match self {
            Self::Network(address) => address.is_loopback(),
            Self::Local => true,
        }
    }
}

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        Self::Network(address.to_canonical())
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        address.ip().into()
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(address) => address.fmt(f),
            Self::Local => f.write_str("unix"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn an_address_has_one_form() {
        let peer = |text: &str| Peer::from(text.parse::<SocketAddr>().unwrap());
        assert_eq!(peer("[::ffff:192.0.2.1]:80"), peer("192.0.2.1:9"));
        assert_eq!(peer("[::ffff:192.0.2.1]:80").to_string(), "192.0.2.1");
        assert_eq!(peer("[2001:DB8::1]:80").to_string(), "2001:db8::1");
        assert_eq!(Peer::Local.to_string(), "unix");
    }

    #[test]
    fn limits_count_networks_of_ipv6() {
        let network = |text: &str| Peer::from(text.parse::<IpAddr>().unwrap()).network();
        let alike = [
            ("192.0.2.1", "::ffff:192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("fe80::1", "fe80::2"),
        ];
        for (one, other) in alike {
            assert!(network(one).is_some(), "{one}");
            assert_eq!(network(one), network(other), "{one} {other}");
        }
        let apart = ["192.0.2.1", "192.0.2.2", "2001:db8:1:2::1", "2001:db8:1:3::1", "0.0.0.1"];
        let networks: HashSet<_> = apart.iter().map(|text| network(text)).collect();
        assert_eq!(networks.len(), apart.len());
        assert_eq!([network("127.0.0.1"), network("::1"), Peer::Local.network()], [None; 3]);
    }

    #[test]
    fn programs_of_this_machine_are_told_from_others() {
        let cases = [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("10.0.0.1:1", false),
            ("[fe80::1]:1", false),
        ];
        for (text, is_local) in cases {
            let peer = Peer::from(text.parse::<SocketAddr>().unwrap());
            assert_eq!(peer.is_of_this_machine(), is_local, "{text}");
        }
        assert!(Peer::Local.is_of_this_machine());
    }
}
