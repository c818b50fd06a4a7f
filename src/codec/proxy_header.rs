//! The PROXY protocol, versions 1 and 2: a header before all other bytes of a connection, in which
//! a proxy that only passes bytes on names the client. HAProxy's `proxy-protocol.txt` describes it.
//!
//! Version 1 is a line of text, version 2 is binary. What follows the addresses in version 2 (TLV
//! vectors) is not looked at.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

use crate::limits::PROXY_HEADER_BYTES_MAX;

/// The first bytes of a header of version 1, and its longest line, with its end.
const TEXT: &[u8] = b"PROXY ";
const TEXT_BYTES_MAX: usize = 107;
/// The first bytes of a header of version 2, and the length of its part with a fixed one.
const BINARY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const BINARY_BYTES_MIN: usize = BINARY.len() + 4;

/// A complete header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProxyHeader {
    /// The client's address. `None` if the proxy speaks for itself, as for a check of health, or
    /// does not know its client's address.
    pub client: Option<IpAddr>,
    /// How many bytes it has.
    pub length: usize,
}

/// Why bytes do not begin with a header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ProxyHeaderError {
    /// They begin with something else.
    #[error("a PROXY header must come first")]
    Missing,
    /// The header breaks the grammar.
    #[error("the PROXY header is malformed: {0}")]
    Malformed(&'static str),
    /// The header is longer than it may be.
    #[error("the PROXY header is too long")]
    TooLong,
}

/// What bytes begin with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Start {
    Text,
    Binary,
    /// They are too few to tell.
    Open,
    Other,
}

impl Start {
    fn of(bytes: &[u8]) -> Self {
        if bytes.starts_with(TEXT) {
            Self::Text
        } else if bytes.starts_with(BINARY) {
            Self::Binary
        } else if TEXT.starts_with(bytes) || BINARY.starts_with(bytes) {
            Self::Open
        } else {
            Self::Other
        }
    }
}

/// Returns whether the bytes begin with a header, be it malformed; `None` if they are too few to
/// tell.
pub fn is_there(bytes: &[u8]) -> Option<bool> {
    match Start::of(bytes) {
        Start::Text | Start::Binary => Some(true),
        Start::Other => Some(false),
        Start::Open => None,
    }
}

/// Reads the header that the bytes begin with; `None` if it is incomplete. An incomplete header
/// has less than [`PROXY_HEADER_BYTES_MAX`] bytes.
///
/// # Errors
/// If they begin with something else, or the header is malformed or too long.
pub fn read(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyHeaderError> {
    match Start::of(bytes) {
        Start::Text => read_text(bytes),
        Start::Binary => read_binary(bytes),
        Start::Open => Ok(None),
        Start::Other => Err(ProxyHeaderError::Missing),
    }
}

fn read_text(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyHeaderError> {
    let most = &bytes[..bytes.len().min(TEXT_BYTES_MAX)];
    let Some(end) = most.iter().position(|byte| *byte == b'\n') else {
        let is_open = bytes.len() < TEXT_BYTES_MAX;
        return is_open.then_some(None).ok_or(ProxyHeaderError::TooLong);
    };
    let line = most[TEXT.len()..end].strip_suffix(b"\r");
    let line = line.ok_or(malformed("its line ends without a carriage return"))?;
    let line = str::from_utf8(line).map_err(|_| malformed("it is not text"))?;
    let mut parts = line.split(' ');
    let family = parts.next().unwrap_or_default();
    let client = match family {
        // A proxy may add anything.
        "UNKNOWN" => None,
        "TCP4" => Some(read_addresses::<Ipv4Addr>(parts)?),
        "TCP6" => Some(read_addresses::<Ipv6Addr>(parts)?),
        _ => return Err(malformed("its family is not TCP4, TCP6 or UNKNOWN")),
    };
    Ok(Some(ProxyHeader { client, length: end + 1 }))
}

/// Reads two addresses and two ports. Returns the first address.
fn read_addresses<'a, A: core::str::FromStr + Into<IpAddr>>(
    mut parts: impl Iterator<Item = &'a str>,
) -> Result<IpAddr, ProxyHeaderError> {
    let mut address = || {
        let address = parts.next().and_then(|part| part.parse::<A>().ok());
        address.ok_or(malformed("it has no two addresses of its family"))
    };
    let (client, _) = (address()?, address()?);
    let is_port = |part: &str| {
        let is_number = part.bytes().all(|byte| byte.is_ascii_digit());
        is_number && (part == "0" || !part.starts_with('0')) && part.parse::<u16>().is_ok()
    };
    let has_ports = (0..2).all(|_| parts.next().is_some_and(is_port));
    if !has_ports || parts.next().is_some() {
        return Err(malformed("its line does not end with two ports"));
    }
    Ok(client.into())
}

fn read_binary(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyHeaderError> {
    let Some((start, rest)) = bytes.split_at_checked(BINARY_BYTES_MIN) else { return Ok(None) };
    let [version_and_command, family, high, low] = start[BINARY.len()..] else {
        return Ok(None);
    };
    let is_for_itself = match version_and_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(malformed("its version is not 2, or its command is unknown")),
    };
    let announced = usize::from(u16::from_be_bytes([high, low]));
    let length = BINARY_BYTES_MIN + announced;
    if length > PROXY_HEADER_BYTES_MAX {
        return Err(ProxyHeaderError::TooLong);
    }
    let Some(addresses) = rest.get(..announced) else { return Ok(None) };
    let client = match family {
        _ if is_for_itself => None,
        // A client on a unix socket, or of a family that the proxy cannot name.
        0x00 | 0x31 => None,
        0x11 => Some(IpAddr::from(first_address::<4>(addresses)?)),
        0x21 => Some(IpAddr::from(first_address::<16>(addresses)?)),
        _ => return Err(malformed("its family is not one of streams")),
    };
    Ok(Some(ProxyHeader { client, length }))
}

/// Returns the first of two addresses with so many bytes, which two ports follow.
fn first_address<const BYTES: usize>(addresses: &[u8]) -> Result<[u8; BYTES], ProxyHeaderError> {
    let all = addresses.get(..2 * (BYTES + size_of::<u16>()));
    let first = all.and_then(|all| all.first_chunk());
    first.copied().ok_or(malformed("it is too short for its addresses"))
}

fn malformed(why: &'static str) -> ProxyHeaderError {
    ProxyHeaderError::Malformed(why)
}

#[cfg(test)]
mod tests;
