//! Unit tests of the reading of fields.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn raw(json: &str) -> &RawValue {
    serde_json::from_str(json).unwrap()
}

fn get(body: &str) -> [Option<&str>; 2] {
    object(body.as_bytes(), &["a", "b"]).unwrap().map(|field| field.map(RawValue::get))
}

#[test]
fn fields_are_found_as_they_were_written() {
    assert_eq!(get(""), [None, None]);
    assert_eq!(get(" {} "), [None, None]);
    assert_eq!(get(r#"{"b": [1, 2.50] ,"c":{"a":1}}"#), [None, Some("[1, 2.50]")]);
    assert_eq!(get(r#"{"\u0061":null,"b":"\u0061"}"#), [Some("null"), Some(r#""\u0061""#)]);
    assert_eq!(get(r#"{"a":1,"a":2}"#), [Some("2"), None]);
}

#[test]
fn what_is_no_object_is_named() {
    let table = [
        ("[]", "Expected object, received array"),
        ("null", "Expected object, received null"),
        (" \"x\"", "Expected object, received string"),
        ("-1", "Expected object, received number"),
        ("true", "Expected object, received boolean"),
    ];
    for (body, message) in table {
        let refusal = object(body.as_bytes(), &["a"]).unwrap_err();
        assert_eq!((refusal.status(), refusal.to_string().as_str()), (400, message));
    }
}

#[test]
fn what_is_no_json_is_refused_with_advice() {
    let bodies: [&[u8]; 9] = [
        b" ",
        b"{",
        b"{\"a\":}",
        b"{\"a\":1}}",
        b"{\"a\":1,}",
        b"[1",
        b"tru",
        b"{\"x\":\"\xff\"}",
        b"{\"a\":\"\n\"}",
    ];
    for body in bodies {
        let refusal = object(body, &["a"]).unwrap_err();
        let reply = super::super::Reply::from(refusal);
        assert_eq!(reply.status, 400);
        assert!(reply.body.contains("contains valid JSON"), "{body:?}: {}", reply.body);
    }
}

#[test]
fn depth_costs_no_stack() {
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(400_000), "]".repeat(400_000));
    assert_eq!(get(&deep)[0].map(str::len), Some(800_000));
}

#[test]
fn texts_are_read() {
    assert!(matches!(text("x", raw(r#""plain""#), 9), Ok(Cow::Borrowed("plain"))));
    assert_eq!(text("x", raw(r#""q\"\u00fc\ud83d\ude00""#), 9).unwrap(), "q\"ü😀");
    assert_eq!(text("x", raw(r#""""#), 0).unwrap(), "");
    let issue = |json, max| text("x", raw(json), max).unwrap_err();
    assert_eq!(issue(r#""\ud83d""#, 9), "x: String must be valid Unicode");
    assert_eq!(issue(r#""üü""#, 3), "x: String must contain at most 3 byte(s)");
    assert_eq!(issue("{}", 3), "x: Expected string, received object");
    let empty = nonempty("x", raw(r#""""#), 9).unwrap_err();
    assert_eq!(empty, "x: String must contain at least 1 character(s)");
}

#[test]
fn lists_and_flags_are_read() {
    let items = list("x", raw(r#"[ 1 , "a" ]"#), 2).unwrap();
    assert_eq!(items.iter().map(|item| item.get()).collect::<Vec<_>>(), ["1", "\"a\""]);
    let long = list("x", raw("[1,2,3]"), 2).unwrap_err();
    assert_eq!(long, "x: Array must contain at most 2 element(s)");
    let none = list("x", raw("{}"), 2).unwrap_err();
    assert_eq!(none, "x: Expected array, received object");
    assert_eq!(flag("x", raw("true")), Ok(true));
    assert_eq!(flag("x", raw("false")), Ok(false));
    let none = flag("x", raw("0")).unwrap_err();
    assert_eq!(none, "x: Expected boolean, received number");
}

#[test]
fn a_strict_object_has_no_other_fields() {
    let read = |json| strict_object("x", raw(json), &["a", "b"]);
    let found = read(r#"{"b":1,"\u0061":2,"b":3}"#).unwrap();
    assert_eq!(found.map(|field| field.map(RawValue::get)), [Some("2"), Some("3")]);
    let issue = |json| read(json).unwrap_err();
    assert_eq!(issue(r#"{"c":1,"a":2,"d":3}"#), "x: Unrecognized key(s) in object: 'c', 'd'");
    let sorted = issue(r#"{"c d":1,"c":2,"c":3}"#);
    assert_eq!(sorted, "x: Unrecognized key(s) in object: 'c', 'c d'");
    assert_eq!(issue("[]"), "x: Expected object, received array");
    assert_eq!(issue(r#"{"\ud800":1}"#), "x: Keys must be valid Unicode");
    let bare = strict_object("", raw("null"), &["a"]).unwrap_err();
    assert_eq!(bare, "Expected object, received null");
    let none = nonempty_list("x", raw("[]"), 2).unwrap_err();
    assert_eq!(none, "x: Array must contain at least 1 element(s)");
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let map = prop::collection::hash_map("[abc\"]{0,2}", inner.clone(), 0..4);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            map.prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..64)) {
        let text = std::str::from_utf8(&body).unwrap_or("invalid");
        let sound = serde_json::from_str::<Value>(text).is_ok_and(|value| value.is_object());
        prop_assert_eq!(object(&body, &["a"]).is_ok(), sound || body.is_empty());
    }

    #[test]
    fn near_json_is_read_if_it_is_json(
        body in r#"\{("[ab\\]{0,2}"[:, ]?|[\[\]{}1.,: -]){0,9}\}"#,
    ) {
        let sound = serde_json::from_str::<&RawValue>(&body).is_ok();
        prop_assert_eq!(object(body.as_bytes(), &["a"]).is_ok(), sound);
    }

    #[test]
    fn any_json_gives_the_fields_that_a_full_parse_gives(value in json()) {
        let body = serde_json::to_string_pretty(&value).unwrap();
        let Value::Object(map) = value else {
            prop_assert!(object(body.as_bytes(), &["a"]).is_err());
            return Ok(());
        };
        for (name, found) in ["a", "b"].into_iter().zip(get(&body)) {
            let found: Option<Value> = found.map(|raw| serde_json::from_str(raw).unwrap());
            prop_assert_eq!(found.as_ref(), map.get(name));
        }
    }
}
