//! Every rule of the handshake.

use proptest::prelude::*;

use super::*;
use crate::codec::http::parse_head;
use crate::interface::m2::limits::NAME_BYTES_MAX;

/// Headers of a client that needs no subprotocol.
const REAL: &str = "x-m2-organization: o\r\nx-m2-project: p\r\n";
/// What it would say in one.
const PLACE: &str = "x-m2-organization:o\nx-m2-project:p\n";

fn request(lines: impl AsRef<[u8]>) -> Request {
    let start = b"GET /api/realtime/ HTTP/1.1\r\nHost: a\r\n";
    let head = [start, lines.as_ref(), b"\r\n"].concat();
    parse_head(&head).unwrap().expect("it is complete").0
}

/// What a client says with these header lines.
fn said(lines: impl AsRef<[u8]>) -> Result<Said, HandshakeError> {
    of_socket(&request(lines), true)
}

fn offer(values: &[&str]) -> String {
    format!("Sec-WebSocket-Protocol: {}\r\n", values.join(", "))
}

fn base58(text: impl AsRef<[u8]>) -> String {
    bs58::encode(text).into_string()
}

/// What a client says that offers this text.
fn embedded(text: &str) -> Result<Said, HandshakeError> {
    said(offer(&[&base58(text)]))
}

/// Organization, project, launch context, world, and the two credentials.
fn shown(said: &Said) -> [&str; 6] {
    let Scope { organization, project, launch_context, world } = &said.scope;
    let [authorization, api_key] =
        [&said.authorization, &said.api_key].map(|it| it.as_deref().unwrap_or_default());
    [organization, project, launch_context, world, authorization, api_key]
}

fn assert_embedded(cases: &[(&str, [&str; 6])]) {
    for (text, expected) in cases {
        let said = embedded(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!(shown(&said), *expected, "{text:?}");
        assert_eq!(said.subprotocol, Some(base58(text)));
    }
}

#[test]
fn the_documented_vectors() {
    let plain = ["testOrg", "testProj", "", "", "", ""];
    let with_token = ["testOrg", "testProj", "", "", "Bearer a.b.c", ""];
    let table = [
        ("zvtwh2Pc4738C3hkLXwcLbY3LnsqYfMmKG2NWiWNE9yL8xVwQhcLFKCzzne1fqbf", plain),
        ("5QgtGPf8miheNjkvrHDa2yVS1LMVPGkJebd1En1aguR69pBGuNcw6e9vj8WVRS1KX7", plain),
        (
            "2JxPx9MYL3j6vyPGBGwgpTSmtyUebhDisBM7h2F2vFLTEesD2R9PRqz4X8gyGDtTrpMVFfR5d4VXL5q4\
             DDXUXHnfpg3eYNX4PFeWKnpnVf8PMC",
            with_token,
        ),
    ];
    for (vector, expected) in table {
        let said = said(offer(&[vector])).unwrap();
        assert_eq!(shown(&said), expected);
        assert_eq!(said.subprotocol.as_deref(), Some(vector));
    }
}

#[test]
fn headers_come_in_two_spellings() {
    let all = ["Org A", "p/1", "l", "w", "Bearer t", "k"];
    for suffix in ["", "-id", "-ID"] {
        let lines = format!(
            "X-M2-Organization{suffix}: Org A\r\nx-m2-project{suffix}:p/1\r\n\
             X-M2-WORLD{suffix}: w\r\nx-m2-launch-context{suffix}: l\r\n\
             Authorization: Bearer t\r\nX-Api-Key: k\r\n"
        );
        let by_header = said(&lines).unwrap();
        assert_eq!((shown(&by_header), &by_header.subprotocol), (all, &None), "{lines}");
        assert_eq!(of_call(&request(&lines), true), Ok(by_header));
        assert_embedded(&[(&lines, all)]);
    }
}

#[test]
fn both_spellings_must_say_the_same() {
    let all = "x-m2-organization: o\nx-m2-project: p\nx-m2-world: w\nx-m2-launch-context: l\n";
    let lines = all.replace('\n', "\r\n");
    for (name, value) in [
        ("x-m2-organization", "o"),
        ("x-m2-project", "p"),
        ("x-m2-world", "w"),
        ("x-m2-launch-context", "l"),
    ] {
        for value in [value, ""] {
            assert!(said(format!("{lines}{name}-id: {value}\r\n")).is_ok(), "{name}");
            assert!(embedded(&format!("{all}{name}-id: {value}")).is_ok(), "{name}");
        }
        let differ = said(format!("{lines}{name}-id: x\r\n"));
        assert_eq!(differ, Err(HandshakeError::Spellings(name)));
        let differ = embedded(&format!("{all}{name}-id: x"));
        assert_eq!(differ, Err(HandshakeError::Contradiction(name)));
    }
}

#[test]
fn a_header_is_sent_once() {
    for name in Field::ALL.into_iter().flat_map(Field::names) {
        for again in ["o", ""] {
            let lines = format!("{name}: o\r\n{name}: {again}\r\n");
            let error = Err(HandshakeError::Repeated(name));
            assert_eq!(said(&lines), error, "{lines}");
            assert_eq!(of_call(&request(&lines), true), error, "{lines}");
        }
    }
}

#[test]
fn a_subprotocol_does_not_contradict_itself() {
    for (name, value) in [
        ("x-m2-organization", "o"),
        ("x-m2-project", "p"),
        ("authorization", "Bearer t"),
        ("x-api-key", "k"),
    ] {
        let twice = |again: &str| {
            embedded(&format!("{PLACE}{name}:{value}\n{}:{again}", name.to_uppercase()))
        };
        assert!(twice(value).is_ok() && twice("").is_ok(), "{name}");
        assert_eq!(twice("x"), Err(HandshakeError::Contradiction(name)));
    }
    // It stays an error where a real header says it, and where another value would do.
    let torn = base58("x-m2-organization:o\nx-m2-organization:x");
    let good = base58(PLACE);
    let error = Err(HandshakeError::Contradiction("x-m2-organization"));
    assert_eq!(said(format!("{REAL}{}", offer(&[&torn]))), error);
    assert_eq!(said(offer(&[&torn, &good])), error);
    assert!(said(offer(&[&good, &torn])).is_ok());
}

#[test]
fn names_of_places_have_bounds() {
    let longest = "é".repeat(NAME_BYTES_MAX / 2) + "x";
    let beyond = format!("{longest}x");
    let too_long = "it has more than 255 bytes";
    let control = "it has control characters";
    let of_scope = Field::ALL.into_iter().filter(|field| field.is_of_scope());
    for name in of_scope.flat_map(Field::names) {
        for (value, problem) in
            [(beyond.as_str(), too_long), ("a\tb", control), ("a\u{85}b", control)]
        {
            let line = format!("{name}:{value}\r\n");
            let error = Err(HandshakeError::Value { name, problem });
            assert_eq!(said(&line), error, "{name}");
            assert_eq!(embedded(&line), error, "{name}");
            assert_eq!(of_call(&request(&line), false), error, "{name}");
        }
    }
    let lines = |value: &str| format!("x-m2-organization:{value}\r\nx-m2-project:{value}\r\n");
    for said in [said(lines(&longest)), embedded(&lines(&longest))] {
        assert_eq!(shown(&said.unwrap())[..2], [&longest, &longest]);
    }
    let zero = embedded("x-m2-organization:a\0b\nx-m2-project:p");
    let name = "x-m2-organization";
    assert_eq!(zero, Err(HandshakeError::Value { name, problem: control }));
}

#[test]
fn a_text_is_split_where_its_maker_meant_it() {
    let both = ["o", "p", "", "", "", ""];
    assert_embedded(&[
        ("x-m2-organization:o\nx-m2-project:p", both),
        ("x-m2-organization:o\r\nx-m2-project:p\r\n", both),
        ("\n\n x-m2-organization :\to \n \t\r\n\r\nx-m2-project:p\n", both),
        ("x-m2-organization:o\\nx-m2-project:p", both),
        ("\\nX-M2-ORGANIZATION: o\\n\\nx-m2-project: p \\n", both),
        ("x-m2-organization:o x-m2-project:p", both),
        (" x-m2-organization:o \tX-M2-Project-ID: p ", both),
        (
            "authorization:Bearer a.b.c x-m2-organization:o\tx-m2-project:p",
            ["o", "p", "", "", "Bearer a.b.c", ""],
        ),
        // Only what nothing better is there for separates.
        (
            "x-m2-organization:o x-m2-world:w\nx-m2-project:p",
            ["o x-m2-world:w", "p", "", "", "", ""],
        ),
        (
            "x-m2-organization:o\\nx-m2-world:w\nx-m2-project:p",
            ["o\\nx-m2-world:w", "p", "", "", "", ""],
        ),
        (
            "x-m2-organization:o x-m2-world:w\\nx-m2-project:p",
            ["o x-m2-world:w", "p", "", "", "", ""],
        ),
        ("x-m2-organization:o authorization:x x-m2-project:p", ["o", "p", "", "", "x", ""]),
        ("x-m2-organization:My Org host:x x-m2-project:p", ["My Org host:x", "p", "", "", "", ""]),
        ("x-m2-organization:ox-m2-y x-m2-project:p", ["ox-m2-y", "p", "", "", "", ""]),
    ]);
}

#[test]
fn a_value_begins_behind_the_first_colon() {
    assert_embedded(&[(
        "x-m2-organization:https://o:1/\nx-m2-project::p:\nauthorization: Bearer a:b \n\
         x-api-key:=:",
        ["https://o:1/", ":p:", "", "", "Bearer a:b", "=:"],
    )]);
}

#[test]
fn nothing_else_comes_in() {
    for name in [
        "host",
        "cookie",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-authorization",
        "x-authorization",
        "authorization-id",
        "x-api-key-id",
        "proxy-authorization",
        "sec-websocket-protocol",
        "x-m2-",
        "x-m2-user",
        "x-m2-organization-id-id",
    ] {
        assert_embedded(&[(&format!("{PLACE}{name}:x"), ["o", "p", "", "", "", ""])]);
    }
}

#[test]
fn what_is_not_ours_is_not_accepted() {
    let too_long = base58(format!("{PLACE}authorization:{}", "t".repeat(6_000)));
    assert!(too_long.len() > SUBPROTOCOL_BYTES_MAX);
    for value in [
        "graphql-ws".to_owned(),
        "forge".to_owned(),
        "1".to_owned(),
        "0OIl".to_owned(),
        base58("host:a\nx-forwarded-for:b"),
        base58(format!("{PLACE}x")),
        base58(format!("{PLACE}:x")),
        base58(format!("{PLACE} : x")),
        base58(format!("{PLACE}a b:x")),
        base58(format!("{PLACE}a\u{e9}:x")),
        base58(format!("{PLACE}(a):x")),
        base58(format!("{PLACE}a\0:x")),
        base58([PLACE.as_bytes(), b"\xff:x"].concat()),
        base58([PLACE.as_bytes(), b"a:\xc3"].concat()),
        base58([b"\0", PLACE.as_bytes()].concat()),
        base58(PLACE) + "0",
        format!("{}l", base58(PLACE)),
        base58("testOrg"),
        too_long,
    ] {
        let alone = said(offer(&[&value]));
        assert_eq!(alone, Err(HandshakeError::Subprotocol), "{value}");
        let named = said(format!("{REAL}{}", offer(&[&value]))).unwrap();
        assert_eq!(named.subprotocol, None, "{value}");
        let good = base58(PLACE);
        let behind = said(offer(&[&value, &good])).unwrap();
        assert_eq!(behind.subprotocol, Some(good), "{value}");
    }
}

#[test]
fn a_subprotocol_may_be_as_long_as_its_bound() {
    // A blank line in front makes a smaller number of as many bytes.
    let texts = (5_952..5_956).flat_map(|length| {
        ["", "\n"].map(|start| format!("{start}{}x-api-key:{}", PLACE, "k".repeat(length)))
    });
    let values: Vec<_> = texts.map(base58).collect();
    let of_length = |length| values.iter().find(|value| value.len() == length);
    let longest = of_length(SUBPROTOCOL_BYTES_MAX).unwrap();
    let beyond = of_length(SUBPROTOCOL_BYTES_MAX + 1).unwrap();
    assert!(said(offer(&[longest])).unwrap().subprotocol.is_some());
    assert_eq!(said(offer(&[beyond])), Err(HandshakeError::Subprotocol));
}

#[test]
fn the_first_that_decodes_is_taken_and_repeated_exactly() {
    let [a, b] = ["a", "b"].map(|o| base58(format!("x-m2-organization:{o}\nx-m2-project:p")));
    let other = base58("x-m2-anything:x");
    for (lines, organization, accepted) in [
        (offer(&[&a, &b]), "a", &a),
        (offer(&["chat", &b, &a]), "b", &b),
        (offer(&["chat"]) + &offer(&[&b]) + &offer(&[&a]), "b", &b),
        (format!("Sec-WebSocket-Protocol:,, \t{a}\t,{b},\r\n"), "a", &a),
        (format!("x-m2-organization:o\r\nx-m2-project:p\r\n{}", offer(&[&other, &a])), "o", &other),
    ] {
        let said = said(&lines).unwrap();
        assert_eq!(shown(&said)[0], organization, "{lines}");
        assert_eq!(said.subprotocol.as_ref(), Some(accepted), "{lines}");
    }
}

#[test]
fn who_offers_nothing_needs_nothing() {
    for lines in [String::new(), offer(&[""]), offer(&["", " "])] {
        let expected = said(REAL);
        assert_eq!(said(format!("{REAL}{lines}")), expected, "{lines}");
        assert_eq!(said(&lines), Err(HandshakeError::Organization), "{lines}");
    }
    // What nobody can use is of no interest where headers say where the client is.
    let lines = format!("x-m2-project: p\r\n{}", offer(&["chat"]));
    assert_eq!(said(&lines), Err(HandshakeError::Organization));
    let lines = format!("x-m2-organization:\r\n{}", offer(&["chat"]));
    assert_eq!(said(&lines), Err(HandshakeError::Subprotocol));
}

#[test]
fn a_real_header_counts_before_an_embedded_one() {
    let text = "x-m2-organization:eo\nx-m2-project-id:ep\nx-m2-launch-context:el\n\
                x-m2-world-id:ew\nauthorization:Bearer e\nx-api-key:ek";
    let offered = offer(&[&base58(text)]);
    let from_text = ["eo", "ep", "el", "ew", "Bearer e", "ek"];
    for (at, field) in Field::ALL.into_iter().enumerate() {
        for name in field.names() {
            let mut expected = from_text;
            expected[at] = "real";
            let said_real = said(format!("{name}: real\r\n{offered}")).unwrap();
            assert_eq!(shown(&said_real), expected, "{name}");
            let said_empty = said(format!("{name}: \r\n{offered}")).unwrap();
            assert_eq!(shown(&said_empty), from_text, "{name}");
        }
    }
    let call = of_call(&request(format!("{REAL}{offered}")), true).unwrap();
    assert_eq!(shown(&call), ["o", "p", "", "", "", ""]);
    assert_eq!(call.subprotocol, None);
    assert_eq!(of_call(&request(&offered), true), Err(HandshakeError::Organization));
}

#[test]
fn a_place_is_whole() {
    use HandshakeError::{Organization, Project, ProjectOf};
    let world = Err(ProjectOf("x-m2-world"));
    let launch = Err(ProjectOf("x-m2-launch-context"));
    for (lines, strict, lenient) in [
        ("", Err(Organization), Err(Organization)),
        ("x-m2-project:p\nx-m2-world:w", Err(Organization), Err(Organization)),
        ("x-m2-organization:\nx-m2-project:p", Err(Organization), Err(Organization)),
        ("x-m2-organization:o", Err(Project), Ok(())),
        ("x-m2-organization:o\nx-m2-project:", Err(Project), Ok(())),
        ("x-m2-organization:o\nx-m2-world:w", world, world),
        ("x-m2-organization:o\nx-m2-launch-context-id:l", launch, launch),
        ("x-m2-organization:o\nx-m2-project:\nx-m2-world:w", world, world),
        ("x-m2-organization:o\nx-m2-project:p\nx-m2-world:w", Ok(()), Ok(())),
        ("x-m2-organization:o\nx-m2-project:p\nx-m2-launch-context:l", Ok(()), Ok(())),
    ] {
        for (require, expected) in [(true, strict), (false, lenient)] {
            let headers = request(format!("{}\r\n", lines.replace('\n', "\r\n")));
            let headers = if lines.is_empty() { request("") } else { headers };
            assert_eq!(of_socket(&headers, require).map(drop), expected, "{lines}");
            assert_eq!(of_call(&headers, require).map(drop), expected, "{lines}");
            let offered = request(offer(&[&base58(lines)]));
            assert_eq!(of_socket(&offered, require).map(drop), expected, "{lines}");
        }
    }
}

#[test]
fn nothing_secret_is_printed() {
    let text = "x-m2-project:p\nauthorization:Bearer hunter2\nx-api-key:hunter2";
    let good = said(format!("{REAL}{}", offer(&[&base58(text)]))).unwrap();
    assert!(good.authorization.is_some() && good.api_key.is_some());
    let printed = format!("{good:?}");
    assert!(!printed.contains("hunter2") && !printed.contains(&base58(text)), "{printed}");
    for text in [
        "x-m2-project:p\nauthorization:Bearer hunter2",
        "x-m2-organization:o\nx-m2-project:p\nauthorization:a\nauthorization:hunter2",
        "x-m2-organization:o\tauthorization:hunter2\nx-m2-project:p",
    ] {
        let error = embedded(text).unwrap_err().to_string();
        assert!(error.contains("x-m2") || error.contains("authorization"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

/// Pairs of a name in any case and a value, with how they are joined.
fn any_text() -> impl Strategy<Value = (Vec<(Field, String, String)>, &'static str)> {
    let field = prop::sample::select(Field::ALL.to_vec());
    let line = (field, any::<bool>(), any::<bool>(), "[!-~é]([ -~é]{0,20}[!-~é])?");
    let line = line.prop_map(|(field, is_other, is_upper, value)| {
        let name = field.other_name().filter(|_| is_other).unwrap_or(field.name());
        let name = if is_upper { name.to_uppercase() } else { name.to_owned() };
        (field, name, value)
    });
    let join = prop::sample::select(vec!["\n", "\r\n", "\n\n"]);
    (prop::collection::vec(line, 1..8), join)
}

proptest! {
    #[test]
    fn what_was_meant_is_understood((lines, join) in any_text(), has_real in any::<bool>()) {
        let texts = lines.iter().map(|(_, name, value)| format!("{name}: {value}"));
        let text = texts.collect::<Vec<_>>().join(join) + "\n";
        let value = base58(&text);
        let real = if has_real { REAL } else { "" };
        let said = said(format!("{real}{}", offer(&[&value])));
        let meant = |field| {
            let mut values: Vec<_> =
                lines.iter().filter(|line| line.0 == field).map(|line| line.2.as_str()).collect();
            values.dedup();
            values
        };
        let is_torn = Field::ALL.into_iter().any(|field| meant(field).len() > 1);
        prop_assert_eq!(is_torn, matches!(said, Err(HandshakeError::Contradiction(_))));
        let Ok(said) = said else { return Ok(()) };
        prop_assert_eq!(said.subprotocol.as_deref(), Some(value.as_str()));
        for (at, field) in Field::ALL.into_iter().enumerate() {
            let expected = match field {
                Field::Organization if has_real => "o",
                Field::Project if has_real => "p",
                field => meant(field).first().copied().unwrap_or_default(),
            };
            prop_assert_eq!(shown(&said)[at], expected);
        }
    }

    #[test]
    fn only_what_was_offered_is_ever_repeated(
        values in prop::collection::vec("[1-9A-Za-z]{1,40}|[!-~]{1,20}", 0..4),
        texts in prop::collection::vec("(x-m2-|authorization:|[a-z:\n \\\\]){0,12}", 0..4),
        has_real in any::<bool>(),
    ) {
        let offered: Vec<_> = values.into_iter().chain(texts.iter().map(base58)).collect();
        let lists: String = offered.iter().map(|value| offer(&[value])).collect();
        let real = if has_real { REAL } else { "" };
        let Ok(said) = said(format!("{real}{lists}")) else { return Ok(()) };
        let Some(accepted) = said.subprotocol else { return Ok(()) };
        let members: Vec<_> =
            offered.iter().flat_map(|list| list.split(',')).map(str::trim_ascii).collect();
        let first = members.into_iter().find(|value| decoded(value).is_some());
        prop_assert_eq!(Some(accepted.as_str()), first);
    }
}

#[test]
fn a_header_that_cannot_be_read_is_not_taken_for_one_that_was_not_sent() {
    let problem = "it is not UTF-8";
    for name in ["x-m2-organization", "x-m2-world-id", "authorization", "x-api-key"] {
        let lines = [REAL.as_bytes(), name.as_bytes(), b": Caf\xe9\r\n"].concat();
        assert_eq!(said(&lines), Err(HandshakeError::Value { name, problem }));
        let with_more = [offer(&[&base58(PLACE)]).into_bytes(), lines].concat();
        assert_eq!(said(&with_more), Err(HandshakeError::Value { name, problem }));
    }
}
