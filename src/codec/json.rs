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

use simd_json::{Buffers, ErrorType, Node, StaticNode, Tape, fill_tape};
use thiserror::Error;

use crate::limits::{JSON_DEPTH_MAX, JSON_KEPT_BYTES_MAX, JSON_KEPT_NODES_MAX};

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
        filled.map_err(|error| reason(&error))?;
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

fn reason(error: &simd_json::Error) -> JsonError {
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

/// Appends a JSON string.
pub fn push_json(out: &mut String, text: &str) {
    // Serializing a string into memory has no way to fail.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    /// The raw members of an object by the other parser, which only looks at the grammar.
    fn members(text: &str) -> Option<BTreeMap<String, &RawValue>> {
        serde_json::from_str(text).ok()
    }

    fn refused(text: impl AsRef<[u8]>) -> String {
        let mut scratch = Scratch::default();
        Document::from_bytes(text.as_ref(), &mut scratch).unwrap_err().to_string()
    }

    /// The string under `x`: what it says, and how it was written.
    fn x<'a>(text: &'a str, scratch: &'a mut Scratch) -> (&'a str, &'a str) {
        let document = Document::from_text(text, scratch).unwrap();
        let found = document.object().get("x").and_then(Value::as_text).unwrap();
        (found.value, found.raw())
    }

    #[test]
    fn members_of_every_kind() {
        let text = r#" {"a":null,"b":true,"c":-1.5e2,"d":"é","e":[1,[2,"x"],{}],"f":{"g":false}} "#;
        let mut scratch = Scratch::default();
        let document = Document::from_text(text, &mut scratch).unwrap();
        let object = document.object();
        let [f, a, b, c, d, e, none] = object.members(&["f", "a", "b", "c", "d", "e", "z"]);
        assert!(none.is_none() && object.get("g").is_none() && object.get("x").is_none());
        assert!(matches!((a, b), (Some(Value::Null), Some(Value::Bool(true)))));
        assert!(matches!(c, Some(Value::Number(-150.0))));
        assert_eq!(d.and_then(Value::as_text).unwrap().raw(), "\"é\"");
        let Some(Value::Array(items)) = e else { panic!("{e:?}") };
        let kinds: Vec<_> = items.map(Value::kind).collect();
        assert_eq!(kinds, ["number", "array", "object"]);
        let Some(Value::Array(inner)) = items.clone().nth(1) else { panic!("{items:?}") };
        assert_eq!(inner.last().and_then(Value::as_text).unwrap().raw(), r#""x""#);
        let Some(Value::Object(f)) = f else { panic!("{f:?}") };
        assert!(matches!(f.get("g"), Some(Value::Bool(false))));
    }

    #[test]
    fn strings_are_unescaped_and_stay_as_they_came() {
        let table = [
            (r#""""#, ""),
            (r#"" ""#, " "),
            (r#""plain""#, "plain"),
            (r#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{c}\n\r\t"),
            (r#""\u00e9\u20AC\ud83d\ude00\u0000""#, "é€😀\0"),
            (r#""é€😀""#, "é€😀"),
            (r#""{\"a\":\"\\\"\"}""#, r#"{"a":"\""}"#),
            (r#"",:]}[{""#, ",:]}[{"),
            (r#""a\"""#, "a\""),
            (r#""\\""#, "\\"),
        ];
        let mut scratch = Scratch::default();
        for (raw, value) in table {
            // Behind it stands an end, another member, or blanks first; before it the like.
            for (before, behind) in [("", "}"), (" \n", "\t\r\n ,\"y\":\"\\n\"}"), ("", ",\"\":1}")]
            {
                let text = format!(r#"{{"\u0078":{before}{raw}{behind}"#);
                assert_eq!(x(&text, &mut scratch), (value, raw), "{text}");
                let text = format!(r#"{{"w":"\u20ac\\","x":{before}{raw}{behind}"#);
                assert_eq!(x(&text, &mut scratch), (value, raw), "{text}");
            }
        }
    }

    #[test]
    fn of_members_with_one_name_the_last_counts() {
        let mut scratch = Scratch::default();
        let text = r#"{"x":"1","y":{"x":"2"},"\u0078":"3","z":["x","4"]}"#;
        assert_eq!(x(text, &mut scratch), ("3", "\"3\""));
        let document = Document::from_text(r#"{"x":"1","x":null}"#, &mut scratch).unwrap();
        assert!(matches!(document.object().get("x"), Some(Value::Null)));
    }

    #[test]
    fn what_is_no_object_is_refused_in_words() {
        let table = [
            ("", "Expected an object, received nothing"),
            (" \n", "Expected an object, received nothing"),
            ("[]", "Expected object, received array"),
            ("\"a\"", "Expected object, received string"),
            ("7", "Expected object, received number"),
            ("null", "Expected object, received null"),
            ("false", "Expected object, received boolean"),
            ("{\"a\":1}{", "Not valid JSON near byte 6"),
            ("{\"a\":1} x", "Not valid JSON near byte 6"),
            ("{\"a\":}", "Not valid JSON near byte 5"),
            ("{\"a\":1,}", "Not valid JSON near byte 7"),
            ("{\"a\" 1}", "Not valid JSON near byte 5"),
            ("{a:1}", "Not valid JSON near byte 1"),
            ("{\"a\":nul}", "Not valid JSON near byte 5"),
            ("{\"a\":01}", "Invalid number, or one out of range, at byte 6"),
            ("{\"a\":1e400}", "Invalid number, or one out of range, at byte 5"),
        ];
        let unfinished = "Not valid JSON: it ends too early, or a string has a control character";
        let table = table.into_iter().chain(
            [
                "{",
                "{\"a",
                "{\"a\"",
                "{\"a\":",
                "{\"a\":[1",
                "{\"a\":\"\\\"}",
                "{\"\n\":1}",
                "{\"a\":\"\0\"}",
            ]
            .map(|text| (text, unfinished)),
        );
        for (text, words) in table {
            assert_eq!(refused(text), words, "{text:?}");
        }
        assert_eq!(refused(b"{\"a\":\"\xff\"}"), "The text is not UTF-8");
        let pair = "A string has an invalid escape, or half of a surrogate pair";
        let halves =
            [r"\ud800", r"\udc00", r"\ud83dx", r"\ud83d\n", r"\ud83d\ud83d", r"\ude00\ud83d"];
        let escapes = [r"\x", r"\u12", r"\u12g4", r"\U0041"];
        for bad in halves.into_iter().chain(escapes) {
            for text in [format!("{{\"x\":\"{bad}\"}}"), format!("{{\"{bad}\":[\"\"]}}")] {
                assert_eq!(refused(&text), pair, "{text}");
            }
        }
    }

    #[test]
    fn whole_numbers_have_any_length() {
        let text = format!(r#"{{"x":"1","n":{}8,"m":-{}}}"#, "9".repeat(40), "9".repeat(19));
        let mut scratch = Scratch::default();
        let document = Document::from_text(&text, &mut scratch).unwrap();
        assert!(matches!(document.object().get("n"), Some(Value::Number(n)) if n == 1e41));
        assert!(matches!(document.object().get("m"), Some(Value::Number(m)) if m == -1e19));
    }

    #[test]
    fn depth_has_a_bound_and_costs_no_stack() {
        let nested = |depth| format!("{{\"x\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        let mut scratch = Scratch::default();
        let deepest = nested(JSON_DEPTH_MAX - 1);
        assert!(Document::from_text(&deepest, &mut scratch).is_ok());
        assert_eq!(refused(nested(JSON_DEPTH_MAX)), "Values lie in each other deeper than 128");
        assert_eq!(refused(nested(400_000)), "Values lie in each other deeper than 128");
        assert_eq!(refused("{\"x\":".repeat(150_000)), "Values lie in each other deeper than 128");
    }

    #[test]
    fn memory_is_given_back_after_long_texts() {
        let mut scratch = Scratch::default();
        let short = r#"{"x":"short"}"#;
        let long = format!(r#"{{"x":"{}"}}"#, "l".repeat(JSON_KEPT_BYTES_MAX));
        let many = format!(r#"{{"x":"y","z":[{}0]}}"#, "0,".repeat(JSON_KEPT_NODES_MAX));
        for text in [short, &long, short, &many, short] {
            let found = x(text, &mut scratch).1;
            assert!(text.contains(found));
            let Tools { buffers, nodes } = &scratch.tools;
            assert_eq!(buffers.is_some(), text == short);
            assert!(nodes.capacity() <= JSON_KEPT_NODES_MAX);
        }
        assert!(scratch.copy.capacity() <= JSON_KEPT_BYTES_MAX);
        assert!(Document::from_text("{", &mut scratch).is_err());
        assert!(scratch.tools.buffers.is_some() && scratch.tools.nodes.capacity() > 0);
    }

    /// A string as JSON may write it, its escapes in all their forms, and longer than any step.
    fn written() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            4 => "[ -!#-\\[\\]-~é€😀,:{}\\[\\]]{0,40}",
            2 => r#"\\["\\/bfnrt]"#,
            1 => r"\\u00[0-9a-fA-F]{2}",
            1 => r"\\ud83[d-fD-F]\\ude[0-9a-f]{2}",
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
    }

    fn value() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            3 => written(),
            1 => "null|true|false|-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,9})?([eE][+-]?[0-9]{1,2})?",
        ];
        leaf.prop_recursive(3, 24, 5, |inner| {
            let member =
                (written(), inner.clone()).prop_map(|(key, value)| format!("{key}:{value}"));
            prop_oneof![
                prop::collection::vec(inner, 0..5)
                    .prop_map(|items| format!("[{}]", items.join(" ,\n"))),
                prop::collection::vec(member, 0..5)
                    .prop_map(|members| format!("{{ {} }}", members.join("\t,"))),
            ]
        })
    }

    fn object() -> impl Strategy<Value = String> {
        let name = prop_oneof![Just("\"x\"".to_owned()), Just(r#""\u0079""#.to_owned()), written()];
        let blank = "[ \t\r\n]{0,3}";
        let member = (blank, name, blank, blank, value(), blank).prop_map(
            |(before, name, colon, after, value, end)| {
                format!("{before}{name}{colon}:{after}{value}{end}")
            },
        );
        let members = prop::collection::vec(member, 0..6);
        (blank, members, blank)
            .prop_map(|(before, members, end)| format!("{before}{{{}}}{end}", members.join(",")))
    }

    /// Holds one parser's reading of a text against the other's.
    fn check(text: &str, scratch: &mut Scratch) -> Result<(), TestCaseError> {
        let parsed = Document::from_text(text, scratch);
        let whole = serde_json::from_str::<serde_json::Value>(text);
        match (&parsed, members(text)) {
            (Ok(document), Some(members)) => {
                for (name, raw) in members {
                    let value = document.object().get(&name).unwrap();
                    let expected: Option<String> = serde_json::from_str(raw.get()).ok();
                    prop_assert_eq!(value.as_text().map(|text| text.value), expected.as_deref());
                    if let Value::Text(text) = value {
                        prop_assert_eq!(text.raw(), raw.get());
                    }
                }
            }
            // The other looks no closer at what nobody asks for.
            (Err(_), _) => prop_assert!(!whole.is_ok_and(|whole| whole.is_object()), "{}", text),
            (Ok(_), None) => prop_assert!(false, "accepted: {}", text),
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn objects_are_read_as_the_other_parser_reads_them(text in object()) {
            let mut scratch = Scratch::default();
            prop_assert!(Document::from_text(&text, &mut scratch).is_ok(), "{}", text);
            check(&text, &mut scratch)?;
        }

        #[test]
        fn near_json_is_read_if_it_is_json(
            texts in prop::collection::vec(
                r#"\{("[xy\\"u0-9d-f]{0,9}"[:, ]{0,2}|[\[\]{}0-9.,:eE+-]|true|nul|[ \t\f\x0b]){0,9}\}"#,
                1..4,
            ),
        ) {
            let mut scratch = Scratch::default();
            for text in &texts {
                check(text, &mut scratch)?;
            }
        }

        #[test]
        fn a_broken_object_is_read_if_it_is_still_one(
            text in object(), at in any::<prop::sample::Index>(), byte in 0_u8..128,
        ) {
            let mut bytes = text.into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let mut scratch = Scratch::default();
            match std::str::from_utf8(&bytes) {
                Ok(text) => check(text, &mut scratch)?,
                Err(_) => {
                    let refused = Document::from_bytes(&bytes, &mut scratch).unwrap_err();
                    prop_assert_eq!(refused, JsonError::Utf8);
                }
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut scratch = Scratch::default();
            let read = Document::from_bytes(&bytes, &mut scratch).is_ok();
            let sound = serde_json::from_slice::<serde_json::Value>(&bytes);
            prop_assert_eq!(read, sound.is_ok_and(|value| value.is_object()));
        }
    }
}
