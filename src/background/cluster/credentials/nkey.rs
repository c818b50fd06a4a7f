//! Keys of NATS users: Ed25519 seeds in base32 with a prefix and a checksum.

use aws_lc_rs::signature::{Ed25519KeyPair, Signature};
use thiserror::Error;

/// Characters of a seed: two bytes of prefix, 32 of seed and two of checksum in base32.
const SEED_CHARS: usize = 58;
const SEED_BYTES: usize = 32;
/// The first byte of a seed, in its upper five bits ("S").
const SEED: u8 = 18 << 3;
/// The kind of a user's key ("U").
const USER: u8 = 20 << 3;
/// RFC 4648.
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// A user's key, which signs what servers ask for.
#[derive(Debug)]
pub(super) struct UserKey(Ed25519KeyPair);

/// Why a text is not the seed of a user's key. The text is not repeated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub(super) enum SeedError {
    #[error("its seed is not base32 of 58 characters")]
    NotBase32,
    #[error("its seed is damaged: the checksum is wrong")]
    Checksum,
    #[error("its seed is not that of a user, which begins with SU")]
    NotUser,
    #[error("its seed is no key")]
    NoKey,
}

impl UserKey {
    pub(super) fn from_seed(text: &str) -> Result<Self, SeedError> {
        let bytes = decode(text).ok_or(SeedError::NotBase32)?;
        let (bytes, checksum) = bytes.split_last_chunk::<2>().ok_or(SeedError::NotBase32)?;
        if crc16(bytes) != u16::from_le_bytes(*checksum) {
            return Err(SeedError::Checksum);
        }
        let (&[first, second], seed) =
            bytes.split_first_chunk::<2>().ok_or(SeedError::NotBase32)?;
        // The kind of the key is spread over both bytes, after the five bits of the prefix.
        if (first & 0b1111_1000, (first & 0b111) << 5 | second >> 3) != (SEED, USER) {
            return Err(SeedError::NotUser);
        }
        debug_assert_eq!(seed.len(), SEED_BYTES, "the text has the length of a seed");
        Ed25519KeyPair::from_seed_unchecked(seed).map(Self).map_err(|_| SeedError::NoKey)
    }

    pub(super) fn sign(&self, text: &[u8]) -> Signature {
        self.0.sign(text)
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    if text.len() != SEED_CHARS {
        return None;
    }
    let (mut bits, mut count) = (0_u32, 0);
    let mut bytes = Vec::with_capacity(SEED_CHARS * 5 / 8);
    for char in text.bytes() {
        let value = ALPHABET.iter().position(|letter| *letter == char)?;
        bits = bits << 5 | value as u32;
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    Some(bytes)
}

/// Returns the checksum of XMODEM (polynomial 0x1021), which NATS uses.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ED25519, KeyPair as _, UnparsedPublicKey};

    use super::*;

    const SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";

    #[test]
    fn a_users_seed_signs() {
        assert_eq!(crc16(b"123456789"), 0x31c3, "the check value of XMODEM");
        let key = UserKey::from_seed(SEED).unwrap();
        let signature = key.sign(b"nonce");
        let public = UnparsedPublicKey::new(&ED25519, key.0.public_key().as_ref());
        public.verify(b"nonce", signature.as_ref()).unwrap();
    }

    #[test]
    fn other_texts_are_refused() {
        let cases = [
            ("", SeedError::NotBase32),
            (&SEED[1..], SeedError::NotBase32),
            (&SEED.to_lowercase(), SeedError::NotBase32),
            (&SEED.replace("SUAC", "SUAD"), SeedError::Checksum),
            // An account's.
            ("SAAPN4W3EG6KCJGUQTKTJ5GSB5NHK5CHAJL4DBGFUM3HHROI4XUEP4OBK4", SeedError::NotUser),
        ];
        for (text, error) in cases {
            assert_eq!(UserKey::from_seed(text).unwrap_err(), error, "{text}");
        }
    }
}
