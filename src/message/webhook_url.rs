//! Which URLs a webhook may have: a webhook must not reach what only the node can reach.
//!
//! Administrators of channels choose the URLs, and the node that posts to them often stands
//! inside a network, next to databases, admin pages and a cloud's metadata service.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;
use url::{Host, Url};

/// Why a URL is never called.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Refusal {
    /// The stored text is not a URL.
    #[error("it is not a URL")]
    Unreadable,
    /// The scheme is neither `http` nor `https`.
    #[error("it is neither http nor https")]
    Scheme,
    /// Every address of the host is loopback, private, or special in another way.
    #[error("its address is not public")]
    Address,
}

impl Refusal {
    /// Returns why a definition may not have a webhook with this URL, which would never be called;
    /// `None` if it may. Names pass, except those of loopback (RFC 6761 section 6.3), because
    /// another address may be theirs by the time of the call.
    pub fn of(url: &str, allow_private: bool) -> Option<Self> {
        let url = match parse(url) {
            Ok(url) => url,
            Err(refusal) => return Some(refusal),
        };
        let is_loopback = !allow_private && url.domain().is_some_and(is_loopback_name);
        let refused = if is_loopback { Err(Self::Address) } else { check(&url, allow_private) };
        refused.err()
    }
}

fn is_loopback_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost")
}

/// Refuses a URL that may not be called, as far as can be told before its name is looked up.
///
/// # Errors
/// What is wrong with the URL.
pub fn check(url: &Url, allow_private: bool) -> Result<(), Refusal> {
    check_scheme(url)?;
    if allow_private { Ok(()) } else { check_host(url) }
}

/// Parses a URL. Spellings of IPv4 addresses such as `0x7f.1` become addresses.
///
/// # Errors
/// A text that is not a URL.
pub fn parse(url: &str) -> Result<Url, Refusal> {
    Url::parse(url).map_err(|_| Refusal::Unreadable)
}

/// Refuses schemes other than `http` and `https`.
fn check_scheme(url: &Url) -> Result<(), Refusal> {
    match url.scheme() {
        "http" | "https" => Ok(()),
        _ => Err(Refusal::Scheme),
    }
}

/// Returns scheme, host and port: the part of a URL that the log may show, and the target whose
/// calls wait for each other.
pub fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// Refuses a URL whose host is an address that is not public. Names pass, because their addresses
/// are checked when they are resolved, and only checked addresses are connected to.
fn check_host(url: &Url) -> Result<(), Refusal> {
    let address: IpAddr = match url.host() {
        Some(Host::Domain(_)) => return Ok(()),
        Some(Host::Ipv4(address)) => address.into(),
        Some(Host::Ipv6(address)) => address.into(),
        None => return Err(Refusal::Unreadable),
    };
    if is_public(address) { Ok(()) } else { Err(Refusal::Address) }
}

/// Returns whether the address can belong to a host on the public internet.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match embedded(address) {
            Some(embedded) => is_public_v4(embedded),
            None => is_public_v6(address),
        },
    }
}

/// A network: its first address, and the number of leading bits that all of its addresses share.
type Network<A> = (A, u32);

/// Special-purpose networks of RFC 6890, and those that clouds add.
const SPECIAL_V4: [Network<Ipv4Addr>; 16] = [
    // This host, on some systems a name of loopback.
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    // Private.
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    // Behind a provider's address translation.
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    // Loopback.
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    // Link-local, and the metadata of most clouds.
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    // The host of a virtual machine, on Azure.
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    // Protocol assignments; relays to IPv6.
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    // Documentation.
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    // Benchmarks.
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    // Multicast; reserved, broadcast included.
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// The only public range. Loopback, unique local, link-local, site-local and multicast addresses
/// are outside of it.
const GLOBAL_UNICAST: Network<Ipv6Addr> = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Special-purpose networks inside [`GLOBAL_UNICAST`].
const SPECIAL_V6: [Network<Ipv6Addr>; 3] = [
    // Protocol assignments: Teredo, benchmarks and hash identities among them.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    // Documentation.
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

fn is_public_v4(address: Ipv4Addr) -> bool {
    !SPECIAL_V4
        .iter()
        .any(|&(first, shared)| (address.to_bits() ^ first.to_bits()).leading_zeros() >= shared)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let is_in = |(first, shared): Network<Ipv6Addr>| {
        (address.to_bits() ^ first.to_bits()).leading_zeros() >= shared
    };
    is_in(GLOBAL_UNICAST) && !SPECIAL_V6.into_iter().any(is_in)
}

/// Returns the IPv4 address inside a mapped, compatible, NAT64 or 6to4 address.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] => Some(Ipv4Addr::from_bits(address.to_bits() as u32)),
        [0x2002, ..] => Some(Ipv4Addr::from_bits((address.to_bits() >> 80) as u32)),
        _ => address.to_ipv4(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_public(addresses: &str, expected: bool) {
        for address in addresses.split_whitespace() {
            assert_eq!(is_public(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn networks_end_where_they_end() {
        // The first and the last address of each network, and their neighbours outside.
        assert_public(
            "0.0.0.0 0.255.255.255 10.0.0.0 10.255.255.255 100.64.0.0 100.127.255.255 127.0.0.0
             127.0.0.1 127.255.255.255 168.63.129.16 169.254.0.0 169.254.169.254 169.254.255.255
             172.16.0.0 172.31.255.255 192.0.0.0 192.0.0.255 192.0.2.0 192.0.2.255 192.88.99.0
             192.88.99.255 192.168.0.0 192.168.255.255 198.18.0.0 198.19.255.255 198.51.100.0
             198.51.100.255 203.0.113.0 203.0.113.255 224.0.0.0 239.255.255.255 240.0.0.0
             255.255.255.254 255.255.255.255",
            false,
        );
        assert_public(
            "1.0.0.0 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255
             128.0.0.0 168.63.129.15 168.63.129.17 169.253.255.255 169.255.0.0 172.15.255.255
             172.32.0.0 191.255.255.255 192.0.1.0 192.0.1.255 192.0.3.0 192.88.98.255 192.88.100.0
             192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 198.51.99.255 198.51.101.0
             203.0.112.255 203.0.114.0 223.255.255.255",
            true,
        );
    }

    #[test]
    fn of_ipv6_only_global_unicast_is_public() {
        assert_public(
            ":: ::1 100::1 fc00::1 fd00:ec2::254 fdff:ffff::1 fe80::1 febf::1 fec0::1 ff02::1
             ffff::1 1fff:ffff::1 4000::1 5f00::1 2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2
             2001:2::1 2001:10::1 2001:1ff:ffff::1 2001:db8::1 2001:db8:ffff::1 3fff::1
             3fff:fff::1 64:ff9b:1::808:808 ::ffff:0:8.8.8.8",
            false,
        );
        assert_public(
            "2000::1 2001:200::1 2001:db7::1 2001:db9::1 2001:4860:4860::8888 2003::1
             2606:4700::1111 2a00::1 3ffe:ffff::1 3fff:1000::1",
            true,
        );
    }

    #[test]
    fn embedded_addresses_are_what_counts() {
        for prefix in ["::ffff:", "::", "64:ff9b::"] {
            for refused in ["127.0.0.1", "10.1.2.3", "169.254.169.254"] {
                assert_public(&format!("{prefix}{refused}"), false);
            }
            assert_public(&format!("{prefix}8.8.8.8"), true);
        }
        assert_public("2002:7f00:1::1 2002:a9fe:a9fe:: 2002:c0a8:101::8.8.8.8", false);
        assert_public("2002:808:808::1 2002:808:808::127.0.0.1", true);
    }

    #[test]
    fn every_spelling_of_an_address_is_seen_through() {
        for url in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://127.0.0.1./",
            "http://0x7f.1/",
            "http://0x7f000001/",
            "http://2130706433/",
            "http://017700000001/",
            "http://0/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]/",
            "http://[0:0:0:0:0:0:0:1]:80/",
            "http://user:password@10.0.0.1:99/",
            "http://169.254.169.254/latest/meta-data/",
            "http://１２７.0.0.1/",
            "http://127.0。0.1/",
            "HTTP:\\\\127.0.0.1\\",
            "http:127.0.0.1",
        ] {
            let parsed = parse(url).unwrap();
            assert_eq!(check_host(&parsed), Err(Refusal::Address), "{url}: {parsed}");
        }
        for url in ["http://8.8.8.8/", "https://[2606:4700::1111]/", "http://localhost/"] {
            assert_eq!(check_host(&parse(url).unwrap()), Ok(()), "{url}");
        }
    }

    #[test]
    fn only_http_is_posted_to() {
        for url in ["ftp://8.8.8.8/", "javascript:1", "file:///etc/passwd", "ws://8.8.8.8/"] {
            assert_eq!(check_scheme(&parse(url).unwrap()), Err(Refusal::Scheme), "{url}");
        }
        for url in ["", "http://", "http://[::1", "http://256.256.256.256/"] {
            assert_eq!(parse(url), Err(Refusal::Unreadable), "{url:?}");
        }
    }

    #[test]
    fn a_definition_may_have_what_can_be_called() {
        let table = [
            ("https://example.com/hook", None, None),
            ("http://8.8.8.8:81/", None, None),
            ("http://[2606:4700::1111]/", None, None),
            ("http://localhost.example.com/", None, None),
            ("http://10.0.0.1/", Some(Refusal::Address), None),
            ("http://[::1]/", Some(Refusal::Address), None),
            ("http://LOCALHOST:3000/", Some(Refusal::Address), None),
            ("http://a.localhost./", Some(Refusal::Address), None),
            ("ftp://example.com/", Some(Refusal::Scheme), Some(Refusal::Scheme)),
            ("mailto:a@example.com", Some(Refusal::Scheme), Some(Refusal::Scheme)),
            ("example.com/hook", Some(Refusal::Unreadable), Some(Refusal::Unreadable)),
        ];
        for (url, refusal, if_private_is_allowed) in table {
            let refusals = [false, true].map(|allow_private| Refusal::of(url, allow_private));
            assert_eq!(refusals, [refusal, if_private_is_allowed], "{url}");
        }
    }

    #[test]
    fn an_origin_holds_no_secrets() {
        for (url, expected) in [
            ("https://user:hunter2@Example.com/hunter2?hunter2#hunter2", "https://example.com"),
            ("http://example.com:80/", "http://example.com"),
            ("http://[2606:4700:0::1]:8080/x", "http://[2606:4700::1]:8080"),
        ] {
            assert_eq!(origin(&parse(url).unwrap()), expected);
        }
    }
}
