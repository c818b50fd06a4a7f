//! The headers that delimit a request's body and control its connection (RFC 9112 sections 6 and
//! 9), and the rules for `Host` and `Expect`.

use super::HttpError;

/// How a request's body is delimited (RFC 9112 section 6.3).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum BodyKind {
    /// The request has no body.
    #[default]
    None,
    /// The body has this number of bytes.
    Sized(u64),
    /// The body comes in chunks (RFC 9112 section 7.1).
    Chunked,
}

/// The values of the headers that this file reads.
#[derive(Default)]
pub(super) struct Framing {
    pub(super) hosts: usize,
    content_length: Option<u64>,
    chunked: bool,
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) connection_upgrade: bool,
    pub(super) websocket: bool,
    pub(super) expects_continue: bool,
}

impl Framing {
    pub(super) fn read(headers: &[httparse::Header<'_>]) -> Result<Self, HttpError> {
        let mut framing = Self::default();
        for header in headers {
            let (name, value) = (header.name, header.value.trim_ascii());
            if name.eq_ignore_ascii_case("connection") {
                framing.connection(value);
            } else if name.eq_ignore_ascii_case("upgrade") {
                framing.websocket |= tokens(value).any(|it| it.eq_ignore_ascii_case(b"websocket"));
            } else if name.eq_ignore_ascii_case("host") {
                framing.host(value)?;
            } else if name.eq_ignore_ascii_case("content-length") {
                framing.content_length(value)?;
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                framing.transfer_encoding(value)?;
            } else if name.eq_ignore_ascii_case("expect") {
                framing.expect(value)?;
            }
        }
        Ok(framing)
    }

    fn connection(&mut self, value: &[u8]) {
        for option in tokens(value) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            self.connection_upgrade |= option.eq_ignore_ascii_case(b"upgrade");
        }
    }

    fn host(&mut self, value: &[u8]) -> Result<(), HttpError> {
        self.hosts += 1;
        let is_authority = value
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=:[]%".contains(byte));
        if self.hosts > 1 || !is_authority {
            return Err(HttpError::Malformed("the Host is invalid or sent twice"));
        }
        Ok(())
    }

    fn content_length(&mut self, value: &[u8]) -> Result<(), HttpError> {
        // RFC 9112 section 6.3 would allow equal values; a sender that repeats them is not trusted.
        if self.content_length.is_some()
            || value.is_empty()
            || !value.iter().all(u8::is_ascii_digit)
        {
            return Err(HttpError::Malformed("the Content-Length is invalid or sent twice"));
        }
        let length = str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
        // Digits fail to parse only if the number exceeds 64 bits.
        self.content_length = Some(length.ok_or(HttpError::BodyTooLong)?);
        Ok(())
    }

    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), HttpError> {
        if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(HttpError::TransferCoding);
        }
        self.chunked = true;
        Ok(())
    }

    fn expect(&mut self, value: &[u8]) -> Result<(), HttpError> {
        if !value.eq_ignore_ascii_case(b"100-continue") {
            return Err(HttpError::Expectation);
        }
        self.expects_continue = true;
        Ok(())
    }

    pub(super) fn body(&self, is_1_1: bool) -> Result<BodyKind, HttpError> {
        match (self.content_length, self.chunked) {
            (Some(_), true) => {
                Err(HttpError::Malformed("both Content-Length and Transfer-Encoding"))
            }
            (None, true) if !is_1_1 => {
                Err(HttpError::Malformed("HTTP/1.0 does not support Transfer-Encoding"))
            }
            (None, true) => Ok(BodyKind::Chunked),
            (Some(length), false) => Ok(BodyKind::Sized(length)),
            (None, false) => Ok(BodyKind::None),
        }
    }
}

/// Returns the members of a comma-separated list, without the blanks around them.
fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}
