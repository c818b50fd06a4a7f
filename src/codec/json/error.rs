//! The errors of the JSON reader.

use simd_json::ErrorType;
use thiserror::Error;

use crate::limits::JSON_DEPTH_MAX;

/// Why a text is not an accepted object; its sender is at fault. The messages are for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum JsonError {
    /// The text is empty or consists of blanks.
    #[error("Expected an object, received nothing")]
    Empty,
    /// The text is another kind of value, which the field names.
    #[error("Expected object, received {0}")]
    NotAnObject(&'static str),
    /// The bytes are not UTF-8.
    #[error("The text is not UTF-8")]
    Utf8,
    /// An escape is invalid, or is half of a surrogate pair.
    #[error("A string has an invalid escape, or half of a surrogate pair")]
    Escape,
    /// The number at this byte is malformed or beyond the range of a 64-bit float.
    #[error("Invalid number, or one out of range, at byte {0}")]
    Number(usize),
    /// Values are nested deeper than [`JSON_DEPTH_MAX`].
    #[error("Values are nested deeper than {JSON_DEPTH_MAX}")]
    Depth,
    /// An object, an array or a string does not end, or a string contains a control character.
    #[error("Not valid JSON: it ends too early, or a string has a control character")]
    Unfinished,
    /// The text breaks JSON's grammar near this byte, or continues after the object.
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
