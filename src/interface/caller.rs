//! The client of a request, behind proxies that the configuration trusts.
//!
//! A proxy appends the address that it has a request from, behind those that its own peer has sent.
//! So the client is the rightmost address that is not a trusted proxy: what is left of it, any
//! client can claim. It is not known which of the two headers a proxy writes, and most proxies pass
//! on the other one as a client has sent it. So if both are there, they must name the same client.

use thiserror::Error;

use super::rest::ApiError;
use crate::codec::http::{Hop, Malformed, Request, forwarded, x_forwarded_for};
use crate::config::proxies::Proxies;
use crate::message::Peer;

/// The client of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caller {
    /// Its address, as far as it is known: that of the last trusted proxy if that one hides it.
    pub address: Peer,
    /// Whether a trusted proxy has passed the request on.
    pub is_proxied: bool,
    /// The way on which it came in.
    pub entry: Entry,
}

/// What the connection of a request may be used for, besides what its client may do.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Entry {
    /// Whether its listener leaves administration to others.
    pub is_public: bool,
    /// Whether the other end has shown a certificate that was verified.
    pub is_certified: bool,
}

/// Why the client of a request that a trusted proxy has passed on is not known. Serving the request
/// as the proxy's own would free its client from all limits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Unknown {
    /// A header cannot be read for certain.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The two headers name different clients.
    #[error(
        "X-Forwarded-For and Forwarded name different clients; the proxy should remove the one \
         that it does not write"
    )]
    Contradiction,
}

impl Unknown {
    /// Returns the refusal of the request.
    pub fn error(self) -> ApiError {
        ApiError::http(400, self.to_string())
    }

    /// Returns the reason for the log.
    pub fn why(self) -> &'static str {
        match self {
            Self::Malformed(_) => "a trusted proxy has passed on a malformed header with addresses",
            Self::Contradiction => {
                "a trusted proxy has passed on X-Forwarded-For and Forwarded that differ; it \
                 should remove the one that it does not write"
            }
        }
    }
}

impl From<Peer> for Caller {
    /// Returns the client whose own connection this peer has.
    fn from(address: Peer) -> Self {
        Self { address, is_proxied: false, entry: Entry::default() }
    }
}

/// Returns the client of a request that this peer has sent. `proxies` are those whose word counts.
///
/// # Errors
/// If the peer is a trusted proxy and its word is not clear.
pub fn caller(peer: Peer, request: &Request, proxies: Option<&Proxies>) -> Result<Caller, Unknown> {
    let Some(proxies) = proxies.filter(|proxies| proxies.trusts(peer)) else {
        return Ok(peer.into());
    };
    let named = |hops: Vec<Hop>| client(peer, &hops, proxies);
    let address = match (x_forwarded_for(request)?.map(named), forwarded(request)?.map(named)) {
        (Some(one), Some(other)) if one != other => return Err(Unknown::Contradiction),
        (one, other) => one.or(other).unwrap_or(peer),
    };
    Ok(Caller { address, is_proxied: true, ..peer.into() })
}

/// Returns the rightmost address that is not a trusted proxy, or the last one before an address
/// that is hidden.
fn client(peer: Peer, hops: &[Hop], proxies: &Proxies) -> Peer {
    let mut client = peer;
    for hop in hops.iter().rev() {
        let Some(address) = hop else { return client };
        client = Peer::from(*address);
        if !proxies.trusts(client) {
            return client;
        }
    }
    client
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::http::parse_head;
    use crate::config::{Arguments, Config};

    fn resolved(peer: &str, headers: &str) -> Result<(String, bool), Unknown> {
        let trusted = [("FANFARE_PROXY_TRUSTED", "10.0.0.0/8, 2001:db8::1, unix")];
        let config = Config::load(&Arguments::default(), trusted.into_iter()).unwrap();
        let head = format!("GET / HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        let (request, _) = parse_head(head.as_bytes()).unwrap().expect("the head is complete");
        let peer = peer.parse::<std::net::IpAddr>().map_or(Peer::Local, Peer::from);
        let caller = caller(peer, &request, config.proxy.trusted.as_ref())?;
        Ok((caller.address.to_string(), caller.is_proxied))
    }

    #[test]
    fn the_client_is_the_rightmost_address_that_is_not_trusted() {
        let cases = [
            // The word of other peers counts for nothing.
            ("192.0.2.1", "X-Forwarded-For: 198.51.100.1\r\n", "192.0.2.1", false),
            ("192.0.2.1", "Forwarded: for=\"\r\n", "192.0.2.1", false),
            ("11.0.0.1", "X-Forwarded-For: 10.0.0.1\r\n", "11.0.0.1", false),
            // A proxy's own request.
            ("10.0.0.1", "", "10.0.0.1", true),
            ("10.0.0.1", "X-Real-IP: 192.0.2.1\r\n", "10.0.0.1", true),
            ("10.0.0.1", "X-Forwarded-For:\r\n", "10.0.0.1", true),
            // One proxy, several proxies, and what a client claims.
            ("10.0.0.1", "X-Forwarded-For: 192.0.2.1\r\n", "192.0.2.1", true),
            ("::ffff:10.0.0.1", "X-Forwarded-For: ::ffff:192.0.2.1\r\n", "192.0.2.1", true),
            ("x", "X-Forwarded-For: 192.0.2.1\r\n", "192.0.2.1", true),
            ("2001:db8::1", "Forwarded: for=\"[2001:db8::2]:80\"\r\n", "2001:db8::2", true),
            ("10.0.0.1", "X-Forwarded-For: 1.1.1.1, 192.0.2.1, 10.2.2.2\r\n", "192.0.2.1", true),
            (
                "10.0.0.1",
                "X-Forwarded-For: 10.9.9.9\r\nX-Forwarded-For: 192.0.2.1,10.2.2.2\r\n",
                "192.0.2.1",
                true,
            ),
            ("10.0.0.1", "X-Forwarded-For: 10.9.9.9, 10.8.8.8\r\n", "10.9.9.9", true),
            // An address that is hidden is not looked behind.
            ("10.0.0.1", "X-Forwarded-For: 192.0.2.1, unknown\r\n", "10.0.0.1", true),
            ("10.0.0.1", "Forwarded: for=1.1.1.1, for=_a, for=10.2.2.2\r\n", "10.2.2.2", true),
            // Both headers.
            (
                "10.0.0.1",
                "X-Forwarded-For: 1.1.1.1, 192.0.2.1\r\nForwarded: for=192.0.2.1\r\n",
                "192.0.2.1",
                true,
            ),
        ];
        for (peer, headers, address, is_proxied) in cases {
            let expected = Ok((address.to_owned(), is_proxied));
            assert_eq!(resolved(peer, headers), expected, "{peer} {headers}");
        }
    }

    #[test]
    fn what_is_not_clear_is_refused() {
        let both = "X-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.2\r\n";
        let hidden = "X-Forwarded-For: 192.0.2.1\r\nForwarded: for=unknown\r\n";
        let open = "Forwarded: for=\", for=192.0.2.1\r\n";
        assert_eq!(resolved("10.0.0.1", both), Err(Unknown::Contradiction));
        assert_eq!(resolved("10.0.0.1", hidden), Err(Unknown::Contradiction));
        assert!(matches!(resolved("10.0.0.1", open), Err(Unknown::Malformed(_))));
    }
}
