//! JSON envelopes taken apart (RFC 8259): an object's members by name, unescaped for whoever
//! decides by them, and as they came for whoever passes them on.
//!
//! The parser unescapes strings in place, so it works on a copy. Where it puts a string is where
//! its first character was, which leads back to the original: a payload goes through byte for
//! byte, escaped once by its sender and never again.
//!
//! What is refused goes beyond the grammar in four points: whatever is no object, half of a
//! surrogate pair, numbers beyond the range of a 64-bit float, and values that lie in each other
//! deeper than [`JSON_DEPTH_MAX`].

use std::fmt;

use simd_json::{Buffers, Node, StaticNode, Tape, fill_tape};

use crate::limits::{JSON_DEPTH_MAX, JSON_KEPT_BYTES_MAX, JSON_KEPT_NODES_MAX};

mod error;

pub use error::JsonError;

/// What taking texts apart needs, used again for each of them. An object of a million bytes may
/// take some thirty million for as long as it is looked at; of that a thread keeps its last copy,
/// and no more than [`JSON_KEPT_BYTES_MAX`] and [`JSON_KEPT_NODES_MAX`] say.
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

/// Both are with a [`Document`] while there is one.
#[derive(Default)]
struct Tools {
    buffers: Option<Buffers>,
    nodes: Vec<Node<'static>>,
}

/// A text taken apart: an object. What it gives out that lives for `'a` outlives it.
pub struct Document<'a> {
    text: &'a str,
    /// Where the copy begins in memory, to tell how far behind that a string is.
    start: usize,
    /// There until the document goes.
    buffers: Option<Buffers>,
    nodes: Vec<Node<'a>>,
    home: &'a mut Tools,
}

impl<'a> Document<'a> {
    /// Takes bytes apart.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn from_bytes(bytes: &'a [u8], scratch: &'a mut Scratch) -> Result<Self, JsonError> {
        let text = simdutf8::basic::from_utf8(bytes).map_err(|_| JsonError::Utf8)?;
        Self::from_text(text, scratch)
    }

    /// Takes a text apart.
    ///
    /// # Errors
    /// What is wrong with it.
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
        // From here on it takes the tools home when it goes, whatever is wrong with the text.
        let document = Self { text, start, buffers: Some(buffers), nodes: tape.0, home: tools };
        filled.map_err(|error| error::reason(&error))?;
        match document.object().whole() {
            Value::Object(_) => Ok(document),
            other => Err(JsonError::NotAnObject(other.kind())),
        }
    }

    /// The object that it is.
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
    /// Its own node, then keys and values in turn.
    nodes: &'t [Node<'a>],
}

impl<'t, 'a> Object<'t, 'a> {
    /// The members of these names, `None` where there is none. Of several with one name the last
    /// counts, as in JavaScript.
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

    /// The member of this name.
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
    /// Of the items that are still to come.
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
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, as JavaScript has it: whole numbers are exact up to 2^53.
    Number(f64),
    /// A string.
    Text(Text<'t, 'a>),
    /// An array.
    Array(Array<'t, 'a>),
    /// An object.
    Object(Object<'t, 'a>),
}

impl<'t, 'a> Value<'t, 'a> {
    /// What it is, in the words of JSON, for people.
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

    /// The string, where it is one.
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
    /// What it says, unescaped.
    pub value: &'a str,
    document: &'t Document<'a>,
}

impl<'a> Text<'_, 'a> {
    /// How it was written: with its quotes, and every escape as it came.
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
    /// Where the signs of JSON stand and where its values begin. Of a string that is its first
    /// quote, and the next is what stands behind it.
    fn signs(&self) -> &[u32] {
        self.buffers.as_ref().map_or(&[], Buffers::structural_indexes)
    }

    /// The value that these nodes are.
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

/// The nodes of the first value, and those behind it.
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

/// Appends a JSON string.
pub fn push_json(out: &mut String, text: &str) {
    // Serializing a string into memory has no way to fail.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

#[cfg(test)]
mod tests;
