//! Base58 in Bitcoin's alphabet, in which a browser sends headers inside a subprotocol. A text is
//! one large number, so decoding takes quadratic time; this decoder works in steps of 64 bits.

const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
/// Digits that one step takes: 58^10 fits into 64 bits, 58^11 does not.
const STEP_DIGITS: usize = 10;
/// The entry in [`VALUES`] of a byte that is not a digit.
const NONE: u8 = u8::MAX;
const VALUES: [u8; 256] = values();

/// Decodes a text, or returns `None` if a character is not a base58 digit. The caller bounds the
/// text's length.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let zeros = text.bytes().take_while(|digit| *digit == ALPHABET[0]).count();
    // The number decoded so far, its lowest 64 bits first.
    let mut limbs: Vec<u64> = Vec::with_capacity(text.len() / STEP_DIGITS + 1);
    for digits in text.as_bytes()[zeros..].chunks(STEP_DIGITS) {
        let (mut carry, mut scale) = (0_u64, 1_u64);
        for digit in digits {
            let value = VALUES[usize::from(*digit)];
            if value == NONE {
                return None;
            }
            carry = carry * 58 + u64::from(value);
            scale *= 58;
        }
        for limb in &mut limbs {
            let wide = u128::from(*limb) * u128::from(scale) + u128::from(carry);
            (*limb, carry) = (wide as u64, (wide >> 64) as u64);
        }
        if carry > 0 {
            limbs.push(carry);
        }
    }
    let number = limbs.iter().rev().flat_map(|limb| limb.to_be_bytes());
    Some(std::iter::repeat_n(0, zeros).chain(number.skip_while(|byte| *byte == 0)).collect())
}

const fn values() -> [u8; 256] {
    let mut values = [NONE; 256];
    let mut value = 0;
    while value < ALPHABET.len() {
        values[ALPHABET[value] as usize] = value as u8;
        value += 1;
    }
    values
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_texts() {
        assert_eq!(decode(""), Some(vec![]));
        assert_eq!(decode("1"), Some(vec![0]));
        assert_eq!(decode("1112"), Some(vec![0, 0, 0, 1]));
        assert_eq!(decode("z"), Some(vec![57]));
        assert_eq!(decode("21"), Some(vec![58]));
        assert_eq!(decode("2NEpo7TZRRrLZSi2U").as_deref(), Some(b"Hello World!".as_slice()));
        // 58^10 is the first number that takes two steps, 2^64 the first that takes two limbs.
        assert_eq!(decode("21111111111"), Some(vec![5, 250, 134, 36, 199, 251, 164, 0]));
        assert_eq!(decode("jpXCZedGfVR"), Some(vec![1, 0, 0, 0, 0, 0, 0, 0, 0]));
    }

    #[test]
    fn what_is_no_digit_is_refused_wherever_it_stands() {
        for stranger in ["0", "O", "I", "l", "+", "/", "=", " ", "\0", "é", "\u{7f}"] {
            for text in [stranger.to_owned(), format!("1{stranger}"), format!("zz{stranger}zz")] {
                assert_eq!(decode(&text), None, "{text:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn what_others_encode_comes_back(
            zeros in 0..4_usize,
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let bytes = [vec![0; zeros], bytes].concat();
            prop_assert_eq!(decode(&bs58::encode(&bytes).into_string()), Some(bytes));
        }

        #[test]
        fn others_decode_the_same(text in "[1-9A-Za-z]{0,80}") {
            prop_assert_eq!(decode(&text), bs58::decode(&text).into_vec().ok());
        }
    }
}
