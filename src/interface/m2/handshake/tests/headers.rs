//! Scope and credentials in headers.

use super::*;

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
fn a_header_that_cannot_be_read_is_not_taken_for_one_that_was_not_sent() {
    let problem = "it is not UTF-8";
    for name in ["x-m2-organization", "x-m2-world-id", "authorization", "x-api-key"] {
        let lines = [REAL.as_bytes(), name.as_bytes(), b": Caf\xe9\r\n"].concat();
        assert_eq!(said(&lines), Err(HandshakeError::Value { name, problem }));
        let with_more = [offer(&[&base58(PLACE)]).into_bytes(), lines].concat();
        assert_eq!(said(&with_more), Err(HandshakeError::Value { name, problem }));
    }
}
