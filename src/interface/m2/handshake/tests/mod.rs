//! The rules of the handshake.

use super::*;
use crate::codec::http::parse_head;
use crate::interface::m2::limits::NAME_BYTES_MAX;

mod headers;
mod subprotocol;

/// Headers of a complete scope.
const REAL: &str = "x-m2-organization: o\r\nx-m2-project: p\r\n";
/// Lines of a complete scope for a subprotocol.
const PLACE: &str = "x-m2-organization:o\nx-m2-project:p\n";

fn request(lines: impl AsRef<[u8]>) -> Request {
    let start = b"GET /api/realtime/ HTTP/1.1\r\nHost: a\r\n";
    let head = [start, lines.as_ref(), b"\r\n"].concat();
    parse_head(&head).unwrap().expect("it is complete").0
}

/// Parses the handshake of a WebSocket with these header lines.
fn said(lines: impl AsRef<[u8]>) -> Result<Said, HandshakeError> {
    of_socket(&request(lines), true)
}

fn offer(values: &[&str]) -> String {
    format!("Sec-WebSocket-Protocol: {}\r\n", values.join(", "))
}

fn base58(text: impl AsRef<[u8]>) -> String {
    bs58::encode(text).into_string()
}

/// Parses the handshake of a client that offers this text as a subprotocol.
fn embedded(text: &str) -> Result<Said, HandshakeError> {
    said(offer(&[&base58(text)]))
}

/// Returns organization, project, launch context, world, and the two credentials; empty if absent.
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
