//! The proxies in front of the node whose word about a client's address counts.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};
use thiserror::Error;

use super::entries::read_entries;
use crate::limits::PROXIES_MAX;
use crate::message::Peer;

/// The entry for proxies on unix sockets.
const UNIX: &str = "unix";
/// Bits of an IPv6 address before the IPv4 address that it stands for.
const MAPPED_BITS: u8 = 96;

/// The addresses and networks of proxies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proxies(Vec<Entry>);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Entry {
    Network(IpNet),
    Unix,
}

/// Why an entry, or the list, is not valid.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ProxyError {
    /// The entry is no address and no network.
    #[error("`{0}` is no address, no network such as `10.0.0.0/8`, and not `unix`")]
    Network(String),
    /// The network has bits behind its prefix.
    #[error("`{0}` has bits behind its prefix: write `{1}`")]
    Bits(String, IpNet),
    /// The network holds every address.
    #[error("`{0}` trusts everybody: any client could claim any address")]
    Everybody(String),
    /// The entry occurs twice, perhaps in another spelling.
    #[error("`{0}` is named twice")]
    Twice(String),
    /// There are no entries, or too many.
    #[error("there must be 1 to {PROXIES_MAX} of them")]
    Number,
}

impl Proxies {
    /// Reads a list of entries.
    ///
    /// # Errors
    /// What is wrong with the first entry that is not valid, or with the list.
    pub(super) fn read(entries: &[&str]) -> Result<Self, ProxyError> {
        let wrong = |twice: Option<&Entry>| {
            twice.map_or(ProxyError::Number, |entry| ProxyError::Twice(entry.to_string()))
        };
        read_entries(entries, PROXIES_MAX, Entry::read, wrong).map(Self)
    }

    /// Returns whether the word of this peer counts.
    pub fn trusts(&self, peer: Peer) -> bool {
        self.0.iter().any(|entry| match (entry, peer) {
            (Entry::Network(network), Peer::Network(address)) => network.contains(&address),
            (Entry::Unix, Peer::Local) => true,
            _ => false,
        })
    }

    /// Returns the entries, as [`Proxies::read`] reads them.
    pub(super) fn entries(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(ToString::to_string)
    }
}

impl Entry {
    fn read(text: &str) -> Result<Self, ProxyError> {
        if text == UNIX {
            return Ok(Self::Unix);
        }
        let address = text.parse::<IpAddr>().map(IpNet::from);
        let network = address.or_else(|_| text.parse::<IpNet>());
        let network = network.map_err(|_| ProxyError::Network(text.to_owned()))?;
        // The second form is that of all of IPv4, written as IPv6.
        if network.prefix_len() == 0 || canonical(network).prefix_len() == 0 {
            return Err(ProxyError::Everybody(text.to_owned()));
        }
        if network != network.trunc() {
            return Err(ProxyError::Bits(text.to_owned(), network.trunc()));
        }
        Ok(Self::Network(canonical(network)))
    }
}

/// Returns the network in the form of the addresses of peers: IPv4 as such.
fn canonical(network: IpNet) -> IpNet {
    let mapped = |address: Ipv6Addr, prefix: u8| {
        let bits = prefix.checked_sub(MAPPED_BITS)?;
        Ipv4Net::new(address.to_ipv4_mapped()?, bits).ok()
    };
    match network {
        IpNet::V6(v6) => mapped(v6.addr(), v6.prefix_len()).map_or(network, IpNet::V4),
        IpNet::V4(_) => network,
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) if network.prefix_len() == network.max_prefix_len() => {
                network.addr().fmt(f)
            }
            Self::Network(network) => network.fmt(f),
            Self::Unix => f.write_str(UNIX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(entries: &[&str]) -> Result<Vec<String>, String> {
        let read = Proxies::read(entries).map_err(|error| error.to_string())?;
        Ok(read.entries().collect())
    }

    #[test]
    fn entries_have_one_form() {
        let cases = [
            ("10.0.0.1", "10.0.0.1"),
            ("10.0.0.1/32", "10.0.0.1"),
            (" 10.0.0.0/8 ", "10.0.0.0/8"),
            ("2001:DB8:0::1", "2001:db8::1"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("unix", "unix"),
        ];
        for (entry, kept) in cases {
            assert_eq!(read(&[entry]), Ok(vec![kept.to_owned()]), "{entry}");
        }
    }

    #[test]
    fn other_entries_are_refused_with_what_is_wrong() {
        let cases = [
            ("", "is no address"),
            ("proxy.example.com", "is no address"),
            ("10.0.0.1:80", "is no address"),
            ("10.0.0.0/33", "is no address"),
            ("[::1]", "is no address"),
            ("10.0.0.1/8", "has bits behind its prefix: write `10.0.0.0/8`"),
            ("2001:db8::1/32", "has bits behind its prefix: write `2001:db8::/32`"),
            ("0.0.0.0/0", "trusts everybody"),
            ("::/0", "trusts everybody"),
            ("::ffff:0:0/96", "trusts everybody"),
            ("::ffff:0.0.0.0/96", "trusts everybody"),
            ("unix:/run/a", "is no address"),
        ];
        for (entry, part) in cases {
            let error = read(&[entry]).unwrap_err();
            assert!(error.contains(part), "{entry}: {error}");
        }
        let twice = read(&["10.0.0.1", "::ffff:10.0.0.1"]).unwrap_err();
        assert_eq!(twice, "`10.0.0.1` is named twice");
        assert!(read(&[]).is_err() && read(&[UNIX; PROXIES_MAX + 1]).is_err());
    }

    #[test]
    fn only_named_peers_are_trusted() {
        let proxies = Proxies::read(&["10.0.0.0/8", "2001:db8::/32", "192.0.2.1"]).unwrap();
        let cases = [
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("192.0.2.1", true),
            ("192.0.2.2", false),
            ("::ffff:10.0.0.1", true),
            ("2001:db8:ffff::1", true),
            ("2001:db9::1", false),
            ("::1", false),
        ];
        for (address, is_trusted) in cases {
            let peer = Peer::from(address.parse::<IpAddr>().unwrap());
            assert_eq!(proxies.trusts(peer), is_trusted, "{address}");
        }
        assert!(!proxies.trusts(Peer::Local));
        assert!(Proxies::read(&[UNIX]).unwrap().trusts(Peer::Local));
    }
}
