//! Users with keys: the tokens of operator, account and user that a NATS server checks, and
//! credentials files.

use std::path::Path;
use std::{fs, iter};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

const OPERATOR: u8 = 14 << 3;
const ACCOUNT: u8 = 0;
const USER: u8 = 20 << 3;
const SEED: u8 = 18 << 3;
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// 2020-01-01, in seconds since the epoch.
const ISSUED: u64 = 1_577_836_800;

/// A key with its seed.
struct Key {
    kind: u8,
    seed: [u8; 32],
    pair: Ed25519KeyPair,
}

/// An operator with one account, which a server trusts.
pub(crate) struct Operator {
    operator: Key,
    account: Key,
}

impl Operator {
    pub(crate) fn new() -> Self {
        Self { operator: Key::new(OPERATOR), account: Key::new(ACCOUNT) }
    }

    /// Returns the configuration of a server that knows the users of this account alone.
    pub(crate) fn configuration(&self) -> String {
        let own = json!({ "type": "operator", "version": 2 });
        let operator = self.operator.sign(&self.operator, own, None);
        let limits = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
            "wildcards": true, "conn": -1, "leaf": -1,
        });
        let claims = json!({
            "limits": limits, "default_permissions": { "pub": {}, "sub": {} },
            "type": "account", "version": 2,
        });
        let account = self.operator.sign(&self.account, claims, None);
        format!(
            "operator: {operator}\nresolver: MEMORY\nresolver_preload: {{ {}: {account} }}",
            self.account.public()
        )
    }

    /// Writes the credentials file of a new user, whose token ends at `expires`, if at all.
    pub(crate) fn write_user(&self, path: &Path, expires: Option<u64>) {
        let user = Key::new(USER);
        let claims = json!({
            "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1,
            "type": "user", "version": 2,
        });
        let token = self.account.sign(&user, claims, expires);
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
             ************************* IMPORTANT *************************\n\
             NKEY Seed printed below can be used to sign and prove identity.\n\n\
             -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n\n\
             *************************************************************\n",
            user.seed_text()
        );
        fs::write(path, text).expect("the file can be written");
    }
}

impl Key {
    fn new(kind: u8) -> Self {
        let seed: [u8; 32] = rand::random();
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("any 32 bytes are a seed");
        Self { kind, seed, pair }
    }

    fn public(&self) -> String {
        let key = self.pair.public_key().as_ref();
        encode(iter::once(self.kind).chain(key.iter().copied()).collect())
    }

    fn seed_text(&self) -> String {
        let prefix = [SEED | self.kind >> 5, self.kind << 3];
        encode(prefix.into_iter().chain(self.seed).collect())
    }

    /// Returns a token about a subject that this key signs.
    fn sign(&self, subject: &Self, nats: Value, expires: Option<u64>) -> String {
        let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
        let mut claims = json!({
            "jti": "id", "iat": ISSUED, "iss": self.public(), "name": "tests",
            "sub": subject.public(), "nats": nats,
        });
        if let Some(expires) = expires {
            claims["exp"] = json!(expires);
        }
        let [header, claims] =
            [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let text = format!("{header}.{claims}");
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(text.as_bytes()).as_ref());
        format!("{text}.{signature}")
    }
}

/// Returns bytes and their checksum in base32.
fn encode(mut bytes: Vec<u8>) -> String {
    bytes.extend(checksum(&bytes).to_le_bytes());
    let bits = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
    let bits: Vec<_> = bits.collect();
    let letters = bits.chunks(5).map(|five| {
        let value = five.iter().fold(0, |value, bit| value << 1 | bit) << (5 - five.len());
        char::from(ALPHABET[usize::from(value)])
    });
    letters.collect()
}

fn checksum(bytes: &[u8]) -> u16 {
    let mut crc = 0_u16;
    for bit in bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)) {
        let is_odd = (crc >> 15) as u8 ^ bit == 1;
        crc = crc << 1 ^ if is_odd { 0x1021 } else { 0 };
    }
    crc
}
