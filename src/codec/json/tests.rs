//! Tests of example texts, and property tests against serde_json.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;

#[test]
fn whole_numbers() {
    for number in [0, 1, 9, 10, 4_294_967_295, u64::MAX] {
        let mut text = "n".to_owned();
        push_number(&mut text, number);
        assert_eq!(text, format!("n{number}"));
    }
}

/// Returns an object's raw members as serde_json reads them, which checks only their grammar.
fn members(text: &str) -> Option<BTreeMap<String, &RawValue>> {
    serde_json::from_str(text).ok()
}

fn refused(text: impl AsRef<[u8]>) -> String {
    let mut scratch = Scratch::default();
    Document::from_bytes(text.as_ref(), &mut scratch).unwrap_err().to_string()
}

/// Returns the string under `x`, unescaped and as it was written.
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
        // The string is surrounded by blanks, other members, or the object's end.
        for (before, behind) in [("", "}"), (" \n", "\t\r\n ,\"y\":\"\\n\"}"), ("", ",\"\":1}")] {
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
    let halves = [r"\ud800", r"\udc00", r"\ud83dx", r"\ud83d\n", r"\ud83d\ud83d", r"\ude00\ud83d"];
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
    assert_eq!(refused(nested(JSON_DEPTH_MAX)), "Values are nested deeper than 128");
    assert_eq!(refused(nested(400_000)), "Values are nested deeper than 128");
    assert_eq!(refused("{\"x\":".repeat(150_000)), "Values are nested deeper than 128");
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

/// Generates JSON strings with every form of escape, longer than any step of the parser.
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
        let member = (written(), inner.clone()).prop_map(|(key, value)| format!("{key}:{value}"));
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

/// Checks that this reader and serde_json agree on a text.
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
        // serde_json's raw members are not checked in full, so its whole value decides.
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
