//! The server's side of HTTP/1.1 (RFC 9110, RFC 9112): request heads, request bodies, responses.
//!
//! The parser is strict about lengths, line ends and transfer codings, because request smuggling
//! exploits every difference between two readers of the same bytes. It is tolerant elsewhere.

mod body;
mod date;
mod forwarded;
mod framing;
mod head;
mod headers;
mod method;
mod response;
mod target;

pub use body::BodyDecoder;
pub use date::{Date, Dates};
pub use forwarded::{Hop, Malformed, forwarded, x_forwarded_for};
pub use framing::BodyKind;
pub use head::{Request, Unclear, parse_head};
pub use method::Method;
pub use response::{Body, Response, ResponseHeaders, continue_100, reason};
pub use target::{NotUtf8, decode_segment, query_pairs};

use thiserror::Error;

/// Why a request is refused. The client is at fault in every case. The connection closes after the
/// response, because the beginning of the next request is not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum HttpError {
    /// The request breaks the grammar, or can be read in two ways.
    #[error("Bad request: {0}")]
    Malformed(&'static str),
    /// The request has arrived on a connection that should have been encrypted.
    #[error("This port speaks HTTPS: use https:// or wss://")]
    Plain,
    /// The body exceeds the caller's maximum, or its length exceeds 64 bits.
    #[error("The request body is too long")]
    BodyTooLong,
    /// The request line alone exceeds `HTTP_HEAD_BYTES_MAX`.
    #[error("The request target is too long")]
    TargetTooLong,
    /// The request has an expectation other than `100-continue`.
    #[error("The expectation cannot be met")]
    Expectation,
    /// The head exceeds `HTTP_HEAD_BYTES_MAX` or `HTTP_HEADERS_MAX`.
    #[error("The request's headers are too many or too long")]
    HeadTooLong,
    /// The body has a transfer coding other than `chunked`, or more than one.
    #[error("The transfer coding is not supported")]
    TransferCoding,
    /// The version is neither HTTP/1.1 nor HTTP/1.0.
    #[error("The HTTP version is not supported")]
    Version,
}

impl HttpError {
    /// Returns the status code of the response.
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed(_) | Self::Plain => 400,
            Self::BodyTooLong => 413,
            Self::TargetTooLong => 414,
            Self::Expectation => 417,
            Self::HeadTooLong => 431,
            Self::TransferCoding => 501,
            Self::Version => 505,
        }
    }
}
