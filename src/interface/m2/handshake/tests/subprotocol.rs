//! Scope and credentials in a subprotocol.

use proptest::prelude::*;

use super::*;

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
    // It is an error even if real headers have the scope, or if a later value is valid.
    let torn = base58("x-m2-organization:o\nx-m2-organization:x");
    let good = base58(PLACE);
    let error = Err(HandshakeError::Contradiction("x-m2-organization"));
    assert_eq!(said(format!("{REAL}{}", offer(&[&torn]))), error);
    assert_eq!(said(offer(&[&torn, &good])), error);
    assert!(said(offer(&[&good, &torn])).is_ok());
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
        // `\n` separates only in a text without newlines, a blank only in one without either.
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
    // A leading newline makes a smaller number of the same length, so that both lengths in base58
    // occur.
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
    // A foreign subprotocol is ignored if headers have a part of the scope.
    let lines = format!("x-m2-project: p\r\n{}", offer(&["chat"]));
    assert_eq!(said(&lines), Err(HandshakeError::Organization));
    let lines = format!("x-m2-organization:\r\n{}", offer(&["chat"]));
    assert_eq!(said(&lines), Err(HandshakeError::Subprotocol));
}

/// Generates fields, each with a name in any case and a value, and the separator of their lines.
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
