//! A reader of JSON envelopes (RFC 8259). It finds an object's members by name and returns strings
//! both unescaped, for decisions, and as they were sent, for delivery.
//!
//! The parser unescapes strings in place, so it works on a copy of the text. It leaves a string's
//! first character at its place, and that place leads back to the original text. So a payload is
//! delivered byte for byte as its publisher sent it, without being escaped again.
//!
//! Beyond the grammar, the reader refuses four things: values other than objects, half of a
//! surrogate pair, numbers beyond the range of a 64-bit float, and values nested deeper than
//! [`JSON_DEPTH_MAX`].

use std::fmt;

use simd_json::{Buffers, Node, StaticNode, Tape, fill_tape};

use crate::limits::{JSON_DEPTH_MAX, JSON_KEPT_BYTES_MAX, JSON_KEPT_NODES_MAX};

mod error;

pub use error::JsonError;

/// Memory that one thread reuses for each text. While an object of a million bytes is being read,
/// it may take some thirty million bytes. After that the thread keeps at most
/// [`JSON_KEPT_BYTES_MAX`] and [`JSON_KEPT_NODES_MAX`], and frees a longer copy at the next text.
#[derive(Default)]
pub struct Scratch {
    copy: Vec<u8>,
    tools: Tools,
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch").field("bytes", &self.copy.capacity()).finish_non_exhaustive()
    }
}

/// The parser's memory. A [`Document`] borrows it and gives it back on drop.
#[derive(Default)]
struct Tools {
    buffers: Option<Buffers>,
    nodes: Vec<Node<'static>>,
}

/// A parsed text, which is an object. References with the lifetime `'a` outlive the document.
pub struct Document<'a> {
    text: &'a str,
    /// The copy's address, from which the offset of a string is computed.
    start: usize,
    /// `None` only while the document is being dropped.
    buffers: Option<Buffers>,
    nodes: Vec<Node<'a>>,
    home: &'a mut Tools,
}

impl<'a> Document<'a> {
    /// Parses bytes.
    ///
    /// # Errors
    /// [`JsonError`] if they are not an object in JSON and UTF-8.
    pub fn from_bytes(bytes: &'a [u8], scratch: &'a mut Scratch) -> Result<Self, JsonError> {
        let text = simdutf8::basic::from_utf8(bytes).map_err(|_| JsonError::Utf8)?;
        Self::from_text(text, scratch)
    }

    /// Parses a text.
    ///
    /// # Errors
    /// [`JsonError`] if it is not an object in JSON.
    pub fn from_text(text: &'a str, scratch: &'a mut Scratch) -> Result<Self, JsonError> {
        let Scratch { copy, tools } = scratch;
        if copy.capacity() > JSON_KEPT_BYTES_MAX {
            *copy = Vec::new();
        }
        copy.clear();
        copy.extend_from_slice(text.as_bytes());
        let start = copy.as_ptr().addr();
        let mut buffers = tools.buffers.take().unwrap_or_else(buffers);
        let mut tape = Tape(std::mem::take(&mut tools.nodes)).reset();
        let filled = fill_tape(copy, &mut buffers, &mut tape);
        // Created before errors are returned, because its drop gives the tools back.
        let document = Self { text, start, buffers: Some(buffers), nodes: tape.0, home: tools };
        filled.map_err(|error| error::reason(&error))?;
        match document.object().whole() {
            Value::Object(_) => Ok(document),
            other => Err(JsonError::NotAnObject(other.kind())),
        }
    }

    /// Returns the object that the whole text is.
    pub fn object(&self) -> Object<'_, 'a> {
        Object { document: self, nodes: &self.nodes }
    }
}

impl Drop for Document<'_> {
    fn drop(&mut self) {
        let nodes = Tape(std::mem::take(&mut self.nodes)).reset().0;
        if nodes.capacity() <= JSON_KEPT_NODES_MAX {
            self.home.nodes = nodes;
        }
        let is_small =
            self.text.len() <= JSON_KEPT_BYTES_MAX && self.signs().len() <= JSON_KEPT_NODES_MAX;
        if is_small {
            self.home.buffers = self.buffers.take();
        }
    }
}

impl fmt::Debug for Document<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Document").field(&self.text).finish()
    }
}

/// An object within a text.
#[derive(Clone, Copy, Debug)]
pub struct Object<'t, 'a> {
    document: &'t Document<'a>,
    /// The object's own node, followed by keys and values in turn.
    nodes: &'t [Node<'a>],
}

impl<'t, 'a> Object<'t, 'a> {
    /// Returns the values of the members with these names, `None` for each absent member. If a name
    /// is repeated, the last member counts, as in JavaScript.
    pub fn members<const N: usize>(self, names: &[&str; N]) -> [Option<Value<'t, 'a>>; N] {
        let mut found = [None; N];
        let mut rest = self.nodes.get(1..).unwrap_or_default();
        while let [Node::String(key), behind @ ..] = rest {
            let (value, behind) = split(behind);
            if let Some(at) = names.iter().position(|name| name == key) {
                found[at] = Some(self.document.value(value));
            }
            rest = behind;
        }
        found
    }

    /// Returns the value of the member with this name; see [`Object::members`].
    pub fn get(self, name: &str) -> Option<Value<'t, 'a>> {
        let [value] = self.members(&[name]);
        value
    }

    fn whole(self) -> Value<'t, 'a> {
        self.document.value(self.nodes)
    }
}

/// An array within a text: an iterator over its items.
#[derive(Clone, Copy, Debug)]
pub struct Array<'t, 'a> {
    document: &'t Document<'a>,
    /// The nodes of the items that the iterator has not returned yet.
    nodes: &'t [Node<'a>],
}

impl<'t, 'a> Iterator for Array<'t, 'a> {
    type Item = Value<'t, 'a>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.nodes.is_empty() {
            return None;
        }
        let (item, rest) = split(self.nodes);
        self.nodes = rest;
        Some(self.document.value(item))
    }
}

/// A value within a text.
#[derive(Clone, Copy, Debug)]
pub enum Value<'t, 'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number as in JavaScript: whole numbers are exact up to 2^53.
    Number(f64),
    /// A string, unescaped and as it was sent.
    Text(Text<'t, 'a>),
    /// An array, as an iterator over its items.
    Array(Array<'t, 'a>),
    /// An object, whose members are found by name.
    Object(Object<'t, 'a>),
}

impl<'t, 'a> Value<'t, 'a> {
    /// Returns JSON's word for this kind of value, for error texts.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Number(_) => "number",
            Self::Text(_) => "string",
            Self::Array(_) => "array",
            Self::Object(_) => "object",
        }
    }

    /// Returns the string, or `None` if the value is not a string.
    pub fn as_text(self) -> Option<Text<'t, 'a>> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// A string within a text.
#[derive(Clone, Copy)]
pub struct Text<'t, 'a> {
    /// The string without its quotes, unescaped.
    pub value: &'a str,
    document: &'t Document<'a>,
}

impl<'a> Text<'_, 'a> {
    /// Returns the string as it was sent, with its quotes and escapes.
    pub fn raw(self) -> &'a str {
        let quote = self.value.as_ptr().addr() - self.document.start - 1;
        let signs = self.document.signs();
        let behind = signs[signs.partition_point(|sign| *sign as usize <= quote)];
        self.document.text[quote..behind as usize].trim_ascii_end()
    }
}

impl fmt::Debug for Text<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<'a> Document<'a> {
    /// Returns the offsets of structural characters and of the beginnings of values, ascending. A
    /// string has one offset, its opening quote, so the next offset is the first token after it.
    fn signs(&self) -> &[u32] {
        self.buffers.as_ref().map_or(&[], Buffers::structural_indexes)
    }

    /// Returns the value that begins with the first of `nodes`.
    fn value<'t>(&'t self, nodes: &'t [Node<'a>]) -> Value<'t, 'a> {
        match nodes {
            [Node::String(value), ..] => Value::Text(Text { value, document: self }),
            [Node::Object { .. }, ..] => Value::Object(Object { document: self, nodes }),
            [Node::Array { .. }, rest @ ..] => Value::Array(Array { document: self, nodes: rest }),
            [Node::Static(StaticNode::Bool(value)), ..] => Value::Bool(*value),
            [Node::Static(StaticNode::I64(value)), ..] => Value::Number(*value as f64),
            [Node::Static(StaticNode::U64(value)), ..] => Value::Number(*value as f64),
            [Node::Static(StaticNode::F64(value)), ..] => Value::Number(*value),
            [Node::Static(StaticNode::Null), ..] | [] => Value::Null,
        }
    }
}

/// Splits `nodes` after the first value.
fn split<'t, 'a>(nodes: &'t [Node<'a>]) -> (&'t [Node<'a>], &'t [Node<'a>]) {
    let width = match nodes.first() {
        Some(Node::Object { count, .. } | Node::Array { count, .. }) => 1 + count,
        Some(_) => 1,
        None => 0,
    };
    nodes.split_at(width)
}

fn buffers() -> Buffers {
    Buffers::with_max_depth(0, JSON_DEPTH_MAX)
}

/// Digits of the largest whole number.
pub const DIGITS_MAX: usize = 20;

/// Appends a whole number.
pub fn push_number(out: &mut String, number: u64) {
    let mut place = [0; DIGITS_MAX];
    out.push_str(str::from_utf8(digits(number, &mut place)).expect("digits are ASCII"));
}

/// Writes a whole number to the end of `place` and returns its digits.
pub fn digits(number: u64, place: &mut [u8; DIGITS_MAX]) -> &[u8] {
    let (mut at, mut rest) = (DIGITS_MAX, number);
    loop {
        at -= 1;
        place[at] = b"0123456789"[(rest % 10) as usize];
        rest /= 10;
        if rest == 0 {
            return &place[at..];
        }
    }
}

/// Appends `text` as a JSON string, with quotes and escapes.
pub fn push_json(out: &mut String, text: &str) {
    // Serializing a string into memory cannot fail.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

#[cfg(test)]
mod tests;
