//! Tests of PROXY headers.

use proptest::prelude::*;

use super::*;

/// What follows a header on a connection.
const REST: &[u8] = b"GET / HTTP/1.1\r\n";

fn binary(version_and_command: u8, family: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap();
    let start = [version_and_command, family];
    [BINARY, &start, &length.to_be_bytes(), content].concat()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Returns the content of a header with this source, the addresses of loopback as destination, and
/// these vectors.
fn addresses(source: &str, vectors: &[u8]) -> Vec<u8> {
    let (source, destination) = match address(source) {
        IpAddr::V4(source) => (source.octets().to_vec(), vec![127, 0, 0, 1]),
        IpAddr::V6(source) => (source.octets().to_vec(), vec![0; 16]),
    };
    [&source, &destination, &[0x1f, 0x90, 1, 0xbb][..], vectors].concat()
}

fn malformed_of(bytes: &[u8]) -> &'static str {
    match read(bytes) {
        Err(ProxyHeaderError::Malformed(why)) => why,
        other => panic!("{other:?}: {}", bytes.escape_ascii()),
    }
}

#[test]
fn a_line_names_the_client() {
    let cases = [
        ("PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\r\n", Some("203.0.113.7")),
        ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 0\r\n", Some("255.255.255.255")),
        ("PROXY TCP6 2001:db8::7 2001:db8::1 56324 443\r\n", Some("2001:db8::7")),
        ("PROXY TCP6 ::ffff:203.0.113.7 ::1 1 2\r\n", Some("::ffff:203.0.113.7")),
        ("PROXY UNKNOWN\r\n", None),
        ("PROXY UNKNOWN 203.0.113.7 192.0.2.1 56324 443\r\n", None),
        ("PROXY UNKNOWN whatever\r\n", None),
    ];
    for (line, client) in cases {
        let header = ProxyHeader { client: client.map(address), length: line.len() };
        assert_eq!(read(line.as_bytes()), Ok(Some(header)), "{line}");
        assert_eq!(read(&[line.as_bytes(), REST].concat()), Ok(Some(header)), "{line}");
    }
}

#[test]
fn other_lines_are_malformed() {
    let cases = [
        "PROXY \r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP5 203.0.113.7 192.0.2.1 1 2\r\n",
        "PROXY tcp4 203.0.113.7 192.0.2.1 1 2\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY  TCP4 203.0.113.7 192.0.2.1 1 2\r\n",
        "PROXY TCP4  203.0.113.7 192.0.2.1 1 2\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 1 2 \r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 1 2 3\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 1\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 1 \r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 1 65536\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 01 2\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 +1 2\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 1 2\n",
        "PROXY TCP4 203.0.113.07 192.0.2.1 1 2\r\n",
        "PROXY TCP4 203.0.113 192.0.2.1 1 2\r\n",
        "PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n",
        "PROXY TCP6 203.0.113.7 192.0.2.1 1 2\r\n",
        "PROXY TCP6 [2001:db8::7] ::1 1 2\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
        "PROXY TCP4 203.0.113.7\r 192.0.2.1 1 2\r\n",
    ];
    for line in cases {
        malformed_of(line.as_bytes());
    }
    assert_eq!(malformed_of(b"PROXY UNKNOWN \xff\r\n"), "it is not text");
}

#[test]
fn a_line_has_a_longest_length() {
    let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(TEXT_BYTES_MAX - 16));
    assert_eq!(longest.len(), TEXT_BYTES_MAX);
    let header = ProxyHeader { client: None, length: TEXT_BYTES_MAX };
    assert_eq!(read(longest.as_bytes()), Ok(Some(header)));
    let longer = format!("PROXY UNKNOWN {}\r\n", "x".repeat(TEXT_BYTES_MAX - 15));
    assert_eq!(read(longer.as_bytes()), Err(ProxyHeaderError::TooLong));
    assert_eq!(read(&longer.as_bytes()[..TEXT_BYTES_MAX]), Err(ProxyHeaderError::TooLong));
    assert_eq!(read(&longer.as_bytes()[..TEXT_BYTES_MAX - 1]), Ok(None));
}

#[test]
fn a_binary_header_names_the_client() {
    let vectors = [0x04, 0, 3, b'x', b'y', b'z'];
    let cases = [
        (binary(0x21, 0x11, &addresses("203.0.113.7", &[])), Some("203.0.113.7")),
        (binary(0x21, 0x11, &addresses("203.0.113.7", &vectors)), Some("203.0.113.7")),
        (binary(0x21, 0x21, &addresses("2001:db8::7", &[])), Some("2001:db8::7")),
        (binary(0x21, 0x21, &addresses("2001:db8::7", &vectors)), Some("2001:db8::7")),
        // A proxy speaks for itself, whatever else it says.
        (binary(0x20, 0x00, &[]), None),
        (binary(0x20, 0x11, &addresses("203.0.113.7", &[])), None),
        (binary(0x20, 0xff, b"whatever"), None),
        // A client without an address.
        (binary(0x21, 0x00, &vectors), None),
        (binary(0x21, 0x31, &[0; 216]), None),
    ];
    for (bytes, client) in cases {
        let header = ProxyHeader { client: client.map(address), length: bytes.len() };
        assert_eq!(read(&bytes), Ok(Some(header)), "{}", bytes.escape_ascii());
        assert_eq!(read(&[&bytes, REST].concat()), Ok(Some(header)));
    }
}

#[test]
fn other_binary_headers_are_malformed() {
    let ipv4 = addresses("203.0.113.7", &[]);
    let cases = [
        binary(0x11, 0x11, &ipv4),
        binary(0x31, 0x11, &ipv4),
        binary(0x22, 0x11, &ipv4),
        binary(0x2f, 0x11, &ipv4),
        // Datagrams, and families that there are not.
        binary(0x21, 0x12, &ipv4),
        binary(0x21, 0x10, &ipv4),
        binary(0x21, 0x01, &ipv4),
        binary(0x21, 0x41, &ipv4),
        binary(0x21, 0x11, &ipv4[..11]),
        binary(0x21, 0x11, &[]),
        binary(0x21, 0x21, &ipv4),
    ];
    for bytes in cases {
        malformed_of(&bytes);
    }
    let most = vec![0; PROXY_HEADER_BYTES_MAX - BINARY_BYTES_MIN];
    assert!(matches!(read(&binary(0x20, 0, &most)), Ok(Some(_))));
    let more = binary(0x20, 0, &[&*most, &[0]].concat());
    assert_eq!(read(&more[..BINARY_BYTES_MIN]), Err(ProxyHeaderError::TooLong));
}

#[test]
fn other_beginnings_are_told_apart_as_soon_as_possible() {
    for bytes in
        ["G", "PUT / HTTP/1.1", "PROXX", "PROXY\r", "\r\nG", "\r\n\r\n\r\n", "\x16\x03\x01"]
    {
        let bytes = bytes.as_bytes();
        assert_eq!(is_there(bytes), Some(false), "{}", bytes.escape_ascii());
        assert_eq!(read(bytes), Err(ProxyHeaderError::Missing));
    }
    for bytes in ["", "P", "PROXY", "\r", "\r\n", "\r\n\r\n\0\r\nQUIT"] {
        assert_eq!(is_there(bytes.as_bytes()), None, "{bytes:?}");
        assert_eq!(read(bytes.as_bytes()), Ok(None));
    }
    for bytes in ["PROXY ", "PROXY nonsense", "\r\n\r\n\0\r\nQUIT\n"] {
        assert_eq!(is_there(bytes.as_bytes()), Some(true), "{bytes:?}");
    }
}

/// Returns headers of both versions, right and wrong.
fn headers() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof!["TCP4", "TCP6", "UNKNOWN", "[0-9.:a-f]{1,12}", "127\\.0\\.0\\.1", "::1"];
    let line = proptest::collection::vec(word, 0..7).prop_map(|words| {
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        format!("PROXY {}\r\n", words.join(" ")).into_bytes()
    });
    let content = proptest::collection::vec(any::<u8>(), 0..60);
    let binary = (0x1f_u8..0x23, 0x00_u8..0x34, content)
        .prop_map(|(version, family, content)| binary(version, family, &content));
    let any = proptest::collection::vec(any::<u8>(), 0..40);
    prop_oneof![line, binary, any]
}

proptest! {
    /// What is said of a beginning holds for the whole, so that arriving in parts makes no
    /// difference.
    #[test]
    fn parts_are_read_like_the_whole(bytes in headers(), rest in any::<[u8; 3]>()) {
        let bytes = [&*bytes, &rest].concat();
        let whole = read(&bytes);
        for end in 0..bytes.len() {
            match read(&bytes[..end]) {
                Ok(None) => prop_assert!(end < PROXY_HEADER_BYTES_MAX),
                early => prop_assert_eq!(early, whole),
            }
            if let Some(known) = is_there(&bytes[..end]) {
                prop_assert_eq!(is_there(&bytes), Some(known));
            }
        }
        if let Ok(Some(header)) = whole {
            prop_assert!(header.length <= bytes.len());
        }
    }

    /// Every address comes back from both versions.
    #[test]
    fn addresses_come_back(v4 in any::<[u8; 4]>(), v6 in any::<[u8; 16]>(), port in any::<u16>()) {
        for client in [IpAddr::from(v4), IpAddr::from(v6)] {
            let (name, family) = if client.is_ipv4() { ("TCP4", 0x11) } else { ("TCP6", 0x21) };
            let line = format!("PROXY {name} {client} {client} {port} {port}\r\n");
            let bytes = binary(0x21, family, &addresses(&client.to_string(), &[]));
            for header in [line.as_bytes(), &bytes] {
                let read = read(header).unwrap().expect("it is complete");
                prop_assert_eq!(read, ProxyHeader { client: Some(client), length: header.len() });
            }
        }
    }
}
