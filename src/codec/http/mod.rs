//! HTTP/1.1 from the server's side (RFC 9110, RFC 9112): request heads, request bodies, responses.
//!
//! Strict where two readers of the same bytes could disagree (lengths, line ends, transfer
//! codings), because that is what request smuggling lives from; tolerant elsewhere.

mod body;
mod framing;
mod head;
mod headers;
mod method;
mod response;
mod target;

pub use body::BodyDecoder;
pub use framing::BodyKind;
pub use head::{Request, Unclear, parse_head};
pub use method::Method;
pub use response::{Body, Response, continue_100, reason};
pub use target::{decode_segment, decode_segment_exactly, query_pairs};

use thiserror::Error;

/// Why a request is refused. The client's fault in every case; the connection closes after the
/// answer, because where the next request would begin is not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum HttpError {
    /// Breaks the grammar, or could be read in two ways.
    #[error("Bad request: {0}")]
    Malformed(&'static str),
    /// The body exceeds the maximum.
    #[error("The request body is too long")]
    BodyTooLong,
    /// The request line alone exceeds the bound on heads.
    #[error("The request target is too long")]
    TargetTooLong,
    /// An expectation other than `100-continue`.
    #[error("The expectation cannot be met")]
    Expectation,
    /// The head exceeds `HTTP_HEAD_BYTES_MAX` or `HTTP_HEADERS_MAX`.
    #[error("The request's headers are too many or too long")]
    HeadTooLong,
    /// A transfer coding other than `chunked`, or more than one.
    #[error("The transfer coding is not supported")]
    TransferCoding,
    /// Neither HTTP/1.1 nor HTTP/1.0.
    #[error("The HTTP version is not supported")]
    Version,
}

impl HttpError {
    /// The status to answer with.
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::BodyTooLong => 413,
            Self::TargetTooLong => 414,
            Self::Expectation => 417,
            Self::HeadTooLong => 431,
            Self::TransferCoding => 501,
            Self::Version => 505,
        }
    }
}
