//! The signature of a call, and names as values of headers.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::header::HeaderValue;
use sha2::Sha256;

use crate::config::Secret;

/// Returns `t=<seconds>,v1=<hex>`: the HMAC-SHA256 of `<seconds>.<body>` under the secret as it
/// stands, prefix included. The time is signed, too, so that a receiver can refuse a call that was
/// recorded and is sent again later.
pub(super) fn signature(secret: &Secret, seconds: u64, body: &[u8]) -> HeaderValue {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes())
        .expect("HMAC takes keys of any length");
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body);
    let mut text = format!("t={seconds},v1=");
    for byte in mac.finalize().into_bytes() {
        write!(text, "{byte:02x}").expect("a string takes all that is written");
    }
    HeaderValue::try_from(text).expect("digits and letters are a header's value")
}

/// Returns a name as a header can carry it. Most names stay as they are. A name with other
/// characters than visible ASCII and spaces between them is percent-encoded as UTF-8: each byte
/// that is not visible ASCII, and `%`. So is a name that looks percent-encoded, so that no receiver
/// takes it for another name.
pub(super) fn header_value(name: &str) -> HeaderValue {
    let is_plain =
        name.bytes().all(|byte| matches!(byte, b' '..=b'~')) && name.trim_matches(' ') == name;
    let text =
        if is_plain && !looks_encoded(name) { name.to_owned() } else { percent_encoded(name) };
    HeaderValue::try_from(text).expect("visible ASCII and spaces are a header's value")
}

fn looks_encoded(name: &str) -> bool {
    let is_escape = |three: &[u8]| three[0] == b'%' && three[1..].iter().all(u8::is_ascii_hexdigit);
    name.as_bytes().windows(3).any(is_escape)
}

fn percent_encoded(name: &str) -> String {
    let mut text = String::with_capacity(3 * name.len());
    for byte in name.bytes() {
        match byte {
            b'!'..=b'$' | b'&'..=b'~' => text.push(char::from(byte)),
            _ => write!(text, "%{byte:02X}").expect("a string takes all that is written"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_encoded_is_told_from_what_is() {
        assert_eq!(header_value("100% sure").to_str().unwrap(), "100% sure");
        assert_eq!(header_value("%0d%0aX").to_str().unwrap(), "%250d%250aX");
        assert_eq!(header_value("\r\nX").to_str().unwrap(), "%0D%0AX");
    }

    #[test]
    fn signatures_are_what_anybody_else_computes() {
        // printf '1753000000.{"orderId":"123"}' | openssl dgst -sha256 -hmac whsec_0e0e…
        let secret = format!("whsec_{}", "0e".repeat(32)).as_str().into();
        let signature = signature(&secret, 1_753_000_000, br#"{"orderId":"123"}"#);
        assert_eq!(signature.to_str().unwrap(), format!("t=1753000000,v1={EXPECTED}"));
    }

    const EXPECTED: &str = "52d1a67575202d885ceff4ac7d3b33fddccfda93c6a9dafd9bbec81584989812";

    #[test]
    fn names_are_encoded_only_where_a_header_cannot_carry_them() {
        for (name, expected) in [
            ("INSERT", "INSERT"),
            ("", ""),
            ("order:1 of 2", "order:1 of 2"),
            ("100%", "100%"),
            ("~!\"#$&'()*+,/:;<=>?@[\\]^_`{|}", "~!\"#$&'()*+,/:;<=>?@[\\]^_`{|}"),
            ("caf\u{e9} 100%", "caf%C3%A9%20100%25"),
            ("a\r\nX-Injected: 1", "a%0D%0AX-Injected:%201"),
            ("a\tb\0c\u{7f}", "a%09b%00c%7F"),
            (" a", "%20a"),
            ("a ", "a%20"),
            ("\u{1f389}", "%F0%9F%8E%89"),
        ] {
            assert_eq!(header_value(name).as_bytes(), expected.as_bytes(), "{name:?}");
        }
    }
}
