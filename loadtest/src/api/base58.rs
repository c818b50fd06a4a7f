//! Base58 with Bitcoin's alphabet. Browsers cannot set headers, so M2's clients send them encoded
//! as the name of a subprotocol.

const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/// Returns the text as base58. The time grows with the square of the length, but this runs once per
/// run.
pub(super) fn encode(text: &str) -> String {
    // Least significant digit first.
    let mut digits: Vec<u8> = Vec::new();
    for byte in text.bytes() {
        let mut carry = u32::from(byte);
        for digit in &mut digits {
            carry += u32::from(*digit) << 8;
            *digit = u8::try_from(carry % 58).expect("below 58");
            carry /= 58;
        }
        while carry > 0 {
            digits.push(u8::try_from(carry % 58).expect("below 58"));
            carry /= 58;
        }
    }
    let zeros = text.bytes().take_while(|byte| *byte == 0).map(|_| 0);
    let digits = zeros.chain(digits.iter().rev().copied());
    digits.map(|digit| char::from(ALPHABET[usize::from(digit)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_texts_are_encoded() {
        for (text, encoded) in [
            ("", ""),
            ("\0\0a", "112g"),
            (
                "x-m2-organization:testOrg\nx-m2-project:testProj",
                "zvtwh2Pc4738C3hkLXwcLbY3LnsqYfMmKG2NWiWNE9yL8xVwQhcLFKCzzne1fqbf",
            ),
            (
                "x-m2-organization-id:testOrg\nx-m2-project-id:testProj\n\
                 authorization:Bearer a.b.c",
                "2JxPx9MYL3j6vyPGBGwgpTSmtyUebhDisBM7h2F2vFLTEesD2R9PRqz4X8gyGDtTrpMVFfR5d4VXL5q4\
                 DDXUXHnfpg3eYNX4PFeWKnpnVf8PMC",
            ),
        ] {
            assert_eq!(encode(text), encoded);
        }
    }
}
