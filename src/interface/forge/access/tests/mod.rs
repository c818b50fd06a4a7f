//! Tests of Forge's tokens with real keys and signatures, and of the topics that they lead to.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::channel_token::ChannelTokenKey;
use super::*;
use crate::auth::tests::{
    ED_PEM, ES_PEM, NOW, RS_PEM, SECRET, hs256, keys_reserving, private_key, signed_with,
};
use crate::auth::{Audience, Authenticator, Keys, SignError, token};
use crate::interface::authenticators::AUDIENCES;
use crate::interface::forge::nouns::{Context, Entity, TokenError};
use crate::interface::m2::access::{M2Auth, Terms};
use crate::limits::TOKEN_BYTES_MAX;

mod channel_tokens;
mod proofs;
mod signed;
mod topic_tuples;
mod topics;

const LIFETIME_S: u64 = 3_600;

fn keys() -> Keys {
    keys_reserving(&AUDIENCES)
}

fn forge() -> ForgeAuth {
    ForgeAuth::new(Arc::new(keys()), LIFETIME_S)
}

/// Returns keys that trust one issuer of each algorithm, besides the node itself.
fn trusting() -> Arc<Keys> {
    let mut keys = keys();
    for pem in [RS_PEM, ES_PEM, ED_PEM] {
        assert_eq!(keys.add_pem(None, pem), Ok(1));
    }
    Arc::new(keys)
}

/// Returns a token that the trusted issuer with that algorithm has signed.
fn issued(algorithm: Algorithm, claims: &Value) -> String {
    let name = format!("{algorithm:?}");
    let header = json!({ "alg": name });
    signed_with(&private_key(algorithm, 'a'), algorithm, &header, &claims.to_string())
}

/// Returns the first object with the members of the second, which replace those of the same name.
fn with(mut claims: Value, more: Value) -> Value {
    let Value::Object(more) = more else { panic!("{more}") };
    claims.as_object_mut().unwrap().extend(more);
    claims
}

/// Returns the required claims of a context token.
fn context_claims() -> Value {
    json!({"aud": "realtime", "exp": NOW + 900, "installationId": "inst-1", "moduleKey": "panel"})
}

/// Returns the context that a token with the required claims and these claims proves.
fn context_of(more: Value) -> Result<Arc<Context>, ProofError> {
    forge().context(&hs256(&with(context_claims(), more).to_string()), NOW)
}
