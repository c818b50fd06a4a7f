//! The negotiation of permessage-deflate (RFC 7692 sections 5 and 7.1, RFC 6455 section 9.1).

use crate::codec::http::Request;

const HEADER: &str = "sec-websocket-extensions";
/// The name of the extension.
const DEFLATE: &str = "permessage-deflate";
/// Neither side keeps a window between two messages, whatever the client offers.
const AGREED: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
/// The window of the compressor, as an exponent of 2.
const WINDOW_BITS: u8 = 15;
/// The least window that a client may ask for.
const WINDOW_BITS_MIN: u8 = 8;

/// The header is not a list of extensions as RFC 6455 section 9.1 defines it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

/// Returns the value of `Sec-WebSocket-Extensions` with which to accept the client's first offer of
/// compression that can be met; `None` if no offer can, so that messages are not compressed.
///
/// # Errors
/// [`Malformed`] if any of the offers is.
pub fn negotiate(request: &Request) -> Result<Option<String>, Malformed> {
    let mut accepted = None;
    for value in request.header_values(HEADER) {
        let mut rest = Scanner(value);
        while rest.is_at_offer() {
            let answer = rest.offer()?;
            accepted = accepted.or(answer);
            if !rest.0.is_empty() {
                rest.expect(b',')?;
            }
        }
    }
    Ok(accepted)
}

const BLANKS: [char; 2] = [' ', '\t'];

/// The rest of a header's value.
struct Scanner<'a>(&'a str);

/// What a client asks for in one offer of compression.
#[derive(Default)]
struct Offer {
    seen: Vec<Parameter>,
    window_bits: Option<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Parameter {
    ServerNoContextTakeover,
    ClientNoContextTakeover,
    ServerMaxWindowBits,
    ClientMaxWindowBits,
}

impl<'a> Scanner<'a> {
    /// Skips empty elements of the list (RFC 9110 section 5.6.1.2). Returns false at its end.
    fn is_at_offer(&mut self) -> bool {
        self.0 = self.0.trim_start_matches([' ', '\t', ',']);
        !self.0.is_empty()
    }

    /// Reads an extension with its parameters. Returns the answer that accepts it, or `None` if it
    /// is another extension or asks for something that cannot be met.
    fn offer(&mut self) -> Result<Option<String>, Malformed> {
        let name = self.token()?;
        let mut offer = name.eq_ignore_ascii_case(DEFLATE).then(Offer::default);
        loop {
            self.skip_blanks();
            if !self.0.starts_with(';') {
                return Ok(offer.map(Offer::answer));
            }
            self.expect(b';')?;
            let (name, value) = (self.token()?, self.value()?);
            // One parameter that is unknown, wrong or repeated declines the whole offer.
            offer = offer.and_then(|offer| offer.with(name, value.as_deref()));
        }
    }

    /// Reads what follows the name of a parameter: its value, quoted or not, or nothing.
    fn value(&mut self) -> Result<Option<String>, Malformed> {
        self.skip_blanks();
        if !self.0.starts_with('=') {
            return Ok(None);
        }
        self.expect(b'=')?;
        self.skip_blanks();
        if !self.0.starts_with('"') {
            return self.token().map(|value| Some(value.to_owned()));
        }
        self.expect(b'"')?;
        let mut value = String::new();
        loop {
            let next = self.0.chars().next().ok_or(Malformed)?;
            self.0 = &self.0[next.len_utf8()..];
            match next {
                '"' => break,
                '\\' => {
                    let escaped = self.0.chars().next().ok_or(Malformed)?;
                    self.0 = &self.0[escaped.len_utf8()..];
                    value.push(escaped);
                }
                plain => value.push(plain),
            }
        }
        // A quoted value must be a token, too.
        let is_token = !value.is_empty() && value.bytes().all(is_token_byte);
        if is_token { Ok(Some(value)) } else { Err(Malformed) }
    }

    fn token(&mut self) -> Result<&'a str, Malformed> {
        self.skip_blanks();
        let end = self.0.bytes().position(|byte| !is_token_byte(byte)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        if token.is_empty() { Err(Malformed) } else { Ok(token) }
    }

    fn skip_blanks(&mut self) {
        self.0 = self.0.trim_start_matches(BLANKS);
    }

    fn expect(&mut self, byte: u8) -> Result<(), Malformed> {
        self.0 = self.0.strip_prefix(char::from(byte)).ok_or(Malformed)?;
        Ok(())
    }
}

impl Offer {
    /// Adds a parameter. Returns `None` if the offer must be declined (RFC 7692 section 7.1).
    fn with(mut self, name: &str, value: Option<&str>) -> Option<Self> {
        let parameter = match (name.to_ascii_lowercase().as_str(), value) {
            ("server_no_context_takeover", None) => Parameter::ServerNoContextTakeover,
            ("client_no_context_takeover", None) => Parameter::ClientNoContextTakeover,
            ("server_max_window_bits", Some(bits)) => {
                // A smaller window cannot be promised: the compressor has only this one.
                self.window_bits = window_bits(bits).filter(|bits| *bits == WINDOW_BITS);
                self.window_bits?;
                Parameter::ServerMaxWindowBits
            }
            ("client_max_window_bits", None) => Parameter::ClientMaxWindowBits,
            ("client_max_window_bits", Some(bits)) => {
                window_bits(bits)?;
                Parameter::ClientMaxWindowBits
            }
            _ => return None,
        };
        let is_new = !self.seen.contains(&parameter);
        self.seen.push(parameter);
        is_new.then_some(self)
    }

    fn answer(self) -> String {
        match self.window_bits {
            Some(bits) => format!("{AGREED}; server_max_window_bits={bits}"),
            None => AGREED.to_owned(),
        }
    }
}

/// Reads the size of a window: a number from 8 to 15 without leading zeros.
fn window_bits(text: &str) -> Option<u8> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    let bits = text.parse().ok().filter(|_| is_number)?;
    (WINDOW_BITS_MIN..=WINDOW_BITS).contains(&bits).then_some(bits)
}

/// Returns whether a token may have this byte (RFC 9110 section 5.6.2).
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::http::parse_head;

    fn answer(lines: &[&str]) -> Result<Option<String>, Malformed> {
        let lines: String =
            lines.iter().map(|value| format!("Sec-WebSocket-Extensions: {value}\r\n")).collect();
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        negotiate(&parse_head(head.as_bytes()).unwrap().unwrap().0)
    }

    #[test]
    fn offers_that_are_met() {
        let agreed = Ok(Some(AGREED.to_owned()));
        for offer in [
            "permessage-deflate",
            "Permessage-Deflate",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate;client_max_window_bits=8",
            "permessage-deflate ; server_no_context_takeover ;\tclient_no_context_takeover",
            "permessage-deflate; client_max_window_bits = \"1\\0\"",
            ", permessage-deflate,, ",
        ] {
            assert_eq!(answer(&[offer]), agreed, "{offer}");
        }
        for offer in ["server_max_window_bits=15", "server_max_window_bits=\"15\""] {
            let told = answer(&[&format!("permessage-deflate; {offer}")]).unwrap().unwrap();
            assert_eq!(told, format!("{AGREED}; server_max_window_bits=15"));
        }
    }

    #[test]
    fn offers_that_are_declined() {
        for nothing in [&[][..], &[""], &[", ,"]] {
            assert_eq!(answer(nothing), Ok(None));
        }
        for parameters in [
            "server_max_window_bits=14",
            "server_max_window_bits=8",
            "server_max_window_bits",
            "server_max_window_bits=16",
            "server_max_window_bits=015",
            "client_max_window_bits=7",
            "client_max_window_bits=+9",
            "client_max_window_bits=99999999999",
            "server_no_context_takeover=1",
            "client_no_context_takeover=true",
            "client_no_context_takeover; client_no_context_takeover",
            "client_max_window_bits; client_max_window_bits=9",
            "server_max_window_bits=15; server_max_window_bits=15",
            "unknown",
        ] {
            assert_eq!(answer(&[&format!("permessage-deflate; {parameters}")]), Ok(None));
        }
        assert_eq!(answer(&["x-webkit-deflate-frame, permessage-bzip2; a=b"]), Ok(None));
    }

    #[test]
    fn the_first_offer_that_can_be_met_is_accepted() {
        let agreed = Ok(Some(AGREED.to_owned()));
        let small = "permessage-deflate; server_max_window_bits=9";
        assert_eq!(answer(&[&format!("{small}, permessage-deflate")]), agreed);
        assert_eq!(answer(&[small, "x-other, permessage-deflate"]), agreed);
        let two = "permessage-deflate, permessage-deflate; server_max_window_bits=15";
        assert_eq!(answer(&[two]), agreed);
    }

    #[test]
    fn what_is_not_a_list_of_extensions_is_refused() {
        for value in [
            "permessage-deflate;",
            "; a=b",
            "permessage-deflate; =9",
            "permessage-deflate; client_max_window_bits=",
            "permessage-deflate; client_max_window_bits=\"9",
            "permessage-deflate; client_max_window_bits=\"\"",
            "permessage-deflate; client_max_window_bits=\"9 \"",
            "permessage-deflate; client_max_window_bits=\"\\",
            "permessage-deflate client_max_window_bits",
            "permessage/deflate",
        ] {
            assert_eq!(answer(&[value]), Err(Malformed), "{value:?}");
        }
        assert_eq!(answer(&["permessage-deflate", "a;;b"]), Err(Malformed));
    }
}
