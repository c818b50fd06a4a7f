//! Why a text is not read.

use simd_json::ErrorType;
use thiserror::Error;

use crate::limits::JSON_DEPTH_MAX;

/// Why a text is no object: its sender's fault. The words are for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum JsonError {
    /// Nothing, or nothing but blanks.
    #[error("Expected an object, received nothing")]
    Empty,
    /// Another kind of value.
    #[error("Expected object, received {0}")]
    NotAnObject(&'static str),
    /// Not UTF-8.
    #[error("The text is not UTF-8")]
    Utf8,
    /// An escape that is none, or half of a surrogate pair.
    #[error("A string has an invalid escape, or half of a surrogate pair")]
    Escape,
    /// A number that is none, or one beyond the range of a 64-bit float.
    #[error("Invalid number, or one out of range, at byte {0}")]
    Number(usize),
    /// Values that lie in each other deeper than [`JSON_DEPTH_MAX`].
    #[error("Values lie in each other deeper than {JSON_DEPTH_MAX}")]
    Depth,
    /// An object or string without its end, or a control character in a string.
    #[error("Not valid JSON: it ends too early, or a string has a control character")]
    Unfinished,
    /// Something else that JSON does not have, or something behind the object.
    #[error("Not valid JSON near byte {0}")]
    Syntax(usize),
}

pub(super) fn reason(error: &simd_json::Error) -> JsonError {
    let at = error.index();
    match error.error() {
        ErrorType::Eof => JsonError::Empty,
        ErrorType::InvalidUtf8 => JsonError::Utf8,
        ErrorType::InvalidEscape
        | ErrorType::InvalidUnicodeEscape
        | ErrorType::InvalidUnicodeCodepoint => JsonError::Escape,
        ErrorType::InvalidNumber | ErrorType::Overflow => JsonError::Number(at),
        ErrorType::DepthLimitExceeded => JsonError::Depth,
        ErrorType::Syntax => JsonError::Unfinished,
        _ => JsonError::Syntax(at),
    }
}
