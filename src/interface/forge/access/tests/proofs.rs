//! Context, invocation and service tokens: what they prove, and which tokens are accepted.

use super::*;

const ISSUE: &str = "read:jira-work";
const GLOBAL: &str = "read:app-global-channel:realtime";

#[test]
fn a_token_proves_a_context() {
    let claims = json!({
        "iss": "host", "aud": "realtime", "sub": "account-1", "iat": NOW, "exp": NOW + 600,
        "installationId": "inst-1", "moduleKey": "panel", "moduleType": "jira:issuePanel",
        "contextKey": "page-7", "scopes": [ISSUE, GLOBAL], "locale": "de", "user": {"id": "u"},
        "extension": {
            "project": {"id": "10000", "key": "P"}, "issue": {"id": 10001}, "board": null,
            "content": {"id": null, "title": "t"}, "space": "S", "timezone": "UTC", "localId": "l",
        },
    });
    let entities = [
        (Entity::Content, r#"{"id":null,"title":"t"}"#),
        (Entity::Issue, "10001"),
        (Entity::Project, r#""10000""#),
        (Entity::Space, r#""S""#),
    ];
    let expected = Context {
        installation: "inst-1".into(),
        account: Some("account-1".into()),
        place: concat!(
            r#"{"ctx":{"content":{"id":null,"title":"t"},"issue":10001,"project":"10000","#,
            r#""space":"S"},"key":"page-7","module":"panel"}"#
        )
        .into(),
        entities: entities.map(|(entity, identity)| (entity, identity.into())).into(),
        reads_global: Some(true),
        is_ui: true,
        expires_at: NOW + 600,
    };
    assert_eq!(*forge().context(&hs256(&claims.to_string()), NOW).unwrap(), expected);
}

#[test]
fn a_place_is_a_module_what_is_shown_and_the_hosts_own_key() {
    let place = |more: Value| context_of(more).unwrap().place.clone();
    let cases = [
        (json!({}), r#"{"ctx":{},"module":"panel"}"#),
        (json!({"moduleType": "t"}), r#"{"ctx":{},"module":"panel"}"#),
        (json!({"moduleKey": null, "moduleType": "t"}), r#"{"ctx":{},"moduleType":"t"}"#),
        (json!({"contextKey": "k"}), r#"{"ctx":{},"key":"k","module":"panel"}"#),
        (json!({"moduleKey": null, "contextKey": "k"}), r#"{"ctx":{},"key":"k"}"#),
        (json!({"moduleKey": "a\"b\u{1}"}), r#"{"ctx":{},"module":"a\"b\u0001"}"#),
        (json!({"extension": {"issue": {"id": 1.0}}}), r#"{"ctx":{"issue":1},"module":"panel"}"#),
        (
            json!({"extension": {"board": {"b": [1e21], "a": 1}, "x": 1}}),
            r#"{"ctx":{"board":{"a":1,"b":[1e+21]}},"module":"panel"}"#,
        ),
        (
            json!({"extension": {"Issue": {"id": 1}, "user": {"id": 2}}}),
            r#"{"ctx":{},"module":"panel"}"#,
        ),
    ];
    for (more, expected) in cases {
        assert_eq!(*place(more.clone()), *expected, "{more}");
    }
}

#[test]
fn canonical_places_are_canonical() {
    let entity = |at: usize| (Entity::ALL[at].name().to_owned(), json!({"id": at}));
    let extension: Map<String, Value> = (0..7).rev().map(entity).collect();
    let more = json!({"extension": extension, "contextKey": "k", "moduleType": "t"});
    for more in [more.clone(), with(more, json!({"moduleKey": null}))] {
        let place = context_of(more).unwrap().place.clone();
        let value: Value = serde_json::from_str(&place).unwrap();
        assert_eq!(jcs::canonical(&value), *place);
        assert_eq!(value["ctx"].as_object().unwrap().len(), 7);
    }
}

#[test]
fn accounts_scopes_and_user_interfaces_are_read() {
    let account = |more: Value| context_of(more).unwrap().account.clone();
    assert_eq!(account(json!({})), None);
    assert_eq!(account(json!({"sub": "s"})).as_deref(), Some("s"));
    assert_eq!(account(json!({"sub": "s", "accountId": "a"})).as_deref(), Some("a"));
    let reads_global = |more: Value| context_of(more).unwrap().reads_global;
    assert_eq!(reads_global(json!({})), None);
    assert_eq!(reads_global(json!({"scopes": []})), Some(false));
    assert_eq!(reads_global(json!({"scopes": [ISSUE]})), Some(false));
    assert_eq!(reads_global(json!({"scopes": [ISSUE, GLOBAL]})), Some(true));
    let is_ui = |more: Value| context_of(more).unwrap().is_ui;
    assert!(is_ui(json!({})) && is_ui(json!({"ui": true})) && !is_ui(json!({"ui": false})));
}

#[test]
fn claims_of_the_wrong_type_are_refused_and_named() {
    let long = "i".repeat(513);
    let cases = [
        (json!({"installationId": null}), "installationId"),
        (json!({"installationId": ""}), "installationId"),
        (json!({"installationId": 7}), "installationId"),
        (json!({"installationId": ["i"]}), "installationId"),
        (json!({"installationId": long}), "installationId"),
        (json!({"installationId": "a\nb"}), "installationId"),
        (json!({"moduleKey": ""}), "moduleKey"),
        (json!({"moduleKey": 7}), "moduleKey"),
        (json!({"moduleType": {}}), "moduleType"),
        (json!({"contextKey": false}), "contextKey"),
        (json!({"moduleKey": null}), "one of moduleKey, moduleType and contextKey"),
        (json!({"accountId": 7}), "accountId"),
        (json!({"sub": ""}), "sub"),
        (json!({"extension": []}), "extension"),
        (json!({"extension": "x"}), "extension"),
        (json!({"scopes": null}), "scopes"),
        (json!({"scopes": GLOBAL}), "scopes"),
        (json!({"scopes": [GLOBAL, 7]}), "scopes"),
        (json!({"ui": null}), "ui"),
        (json!({"ui": "false"}), "ui"),
    ];
    for (more, named) in cases {
        match context_of(more.clone()) {
            Err(ProofError::Claims(problem)) => assert!(problem.starts_with(named), "{problem}"),
            other => panic!("{more}: {other:?}"),
        }
    }
    let missing = hs256(&json!({"aud": "realtime", "exp": NOW + 1, "moduleKey": "m"}).to_string());
    assert!(matches!(forge().context(&missing, NOW), Err(ProofError::Claims(_))));
    let long = context_of(json!({"installationId": "i".repeat(512)}));
    assert_eq!(long.unwrap().installation.len(), 512);
}

#[test]
fn a_registration_is_read_like_a_token() {
    let body = br#" {"installationId":"i","moduleKey":"m","ui":false,"ttlSeconds":60} "#;
    let context = ContextClaims::parse(body).unwrap().into_context(NOW).unwrap();
    assert_eq!((&*context.installation, context.is_ui, context.expires_at), ("i", false, NOW));
    for body in ["", "[]", "null", "{", r#"["i","m"]"#, r#"{"moduleKey":"a","moduleKey":"b"}"#] {
        assert!(ContextClaims::parse(body.as_bytes()).is_err(), "{body}");
    }
}

#[test]
fn dates_are_kept() {
    let cases = [
        (json!(NOW + 1), Ok(NOW + 1)),
        (json!(NOW as f64 + 0.5), Ok(NOW + 1)),
        (json!(NOW), Err(ProofError::Expired)),
        (json!(-1), Err(ProofError::Expired)),
        (json!(NOW + 930), Ok(NOW + 930)),
        (json!(NOW as f64 + 930.5), Err(ProofError::Lifetime)),
        (json!(NOW + 931), Err(ProofError::Lifetime)),
        (json!(1e300), Err(ProofError::Lifetime)),
        (json!(u64::MAX), Err(ProofError::Lifetime)),
        (json!("1800000001"), Err(ProofError::Claims("exp and nbf must be numbers"))),
        (json!([]), Err(ProofError::Claims("exp and nbf must be numbers"))),
        (json!(null), Err(ProofError::Claims("exp is missing"))),
    ];
    for (exp, expected) in cases {
        let verdict = context_of(json!({"exp": exp})).map(|context| context.expires_at);
        assert_eq!(verdict, expected, "{exp}");
    }
    let nbf = |nbf: Value| context_of(json!({"nbf": nbf})).map(drop);
    assert_eq!(nbf(json!(NOW + 5)), Ok(()));
    assert_eq!(nbf(json!(NOW + 6)), Err(ProofError::Early));
    assert_eq!(nbf(json!(null)), Err(ProofError::Claims("exp and nbf must be numbers")));

    // The lifetime of a service token has no bound.
    let service = json!({"aud": "realtime-service", "installationId": "i", "exp": NOW + 1_000_000});
    assert_eq!(forge().service(&hs256(&service.to_string()), NOW).as_deref(), Ok("i"));
    let forever = json!({"aud": "realtime-service", "installationId": "i"});
    let verdict = forge().service(&hs256(&forever.to_string()), NOW);
    assert_eq!(verdict, Err(ProofError::Claims("exp is missing")));
    let nobody = json!({"aud": "realtime-service", "exp": NOW + 1});
    let verdict = forge().service(&hs256(&nobody.to_string()), NOW);
    assert!(matches!(verdict, Err(ProofError::Claims(_))), "{verdict:?}");
}

/// Returns the claims that all kinds of tokens need, so that only `aud` decides who accepts a
/// token.
fn claims_of_every_kind() -> Value {
    let channel = json!({"name": "ch", "claims": {}});
    let user = json!({"sub": "u", "role": "project_admin", "organization_id": "o"});
    with(with(context_claims(), user), json!({"ui": true, "channel": channel}))
}

/// Returns the purposes for which a token is accepted: user, administrator, context, invocation,
/// service, channel, and M2's readers and writers.
fn taken(keys: &Arc<Keys>, token: &str) -> String {
    let mut users = Authenticator::new(Arc::clone(keys));
    let mut forge = ForgeAuth::new(Arc::clone(keys), LIFETIME_S);
    let mut m2 = M2Auth::new(Arc::clone(keys), Terms::new(true, None));
    let wanted = Wanted { channel: "ch", installation: "inst-1", permission: Permission::Publish };
    let bearer = format!("Bearer {token}");
    let places = [
        ("user", users.verify(token, NOW).is_ok()),
        ("admin", users.admin(Some(&bearer), None, NOW).is_ok()),
        ("context", forge.context(token, NOW).is_ok()),
        ("invocation", forge.invocation(token, NOW).is_ok()),
        ("service", forge.service(token, NOW).is_ok()),
        ("channel", forge.channel_token(token, &wanted, NOW).is_ok()),
        ("reader", m2.reader(Some(&bearer), None, "o", NOW).is_ok()),
        ("writer", m2.writer(Some(&bearer), None, "o", NOW).is_ok()),
    ];
    let taken = places.iter().filter(|(_, is_taken)| *is_taken).map(|(place, _)| *place);
    taken.collect::<Vec<_>>().join(" ")
}

const ADMIN: &str = "user admin reader writer";

#[test]
fn no_kind_of_token_passes_for_another() {
    let keys = trusting();
    let kinds = [
        (json!(null), ADMIN),
        (json!("somebody"), ADMIN),
        (json!("realtime"), "context"),
        (json!("realtime-invocation"), "invocation"),
        (json!("realtime-service"), "service"),
        (json!("realtime-channel"), ""),
        (json!("m2-writer"), "writer"),
    ];
    for (aud, expected) in kinds {
        let claims = with(claims_of_every_kind(), json!({"aud": aud}));
        assert_eq!(taken(&keys, &hs256(&claims.to_string())), expected, "{aud}");
        for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
            let token = issued(algorithm, &claims);
            assert_eq!(taken(&keys, &token), expected, "{aud} {algorithm:?}");
        }
        // If the key of realtime tokens has signed a token, it is accepted only as a realtime
        // token.
        let token = token::sign(&ChannelTokenKey::new(Arc::clone(&keys)).signs, &claims);
        let expected = if aud == json!("realtime-channel") { "channel" } else { "" };
        assert_eq!(taken(&keys, &token), expected, "{aud}");
    }
    let new = NewToken { installation: "inst-1", channel: "ch", claims: "{}", permissions: None };
    let signed = ForgeAuth::new(Arc::clone(&keys), LIFETIME_S).sign(&new, NOW).unwrap();
    assert_eq!(taken(&keys, &signed.token), "channel");
}

#[test]
fn a_list_of_audiences_has_one_of_ours() {
    let keys = trusting();
    let of = |aud: Value| {
        let claims = with(claims_of_every_kind(), json!({"aud": aud}));
        taken(&keys, &hs256(&claims.to_string()))
    };
    let cases = [
        (json!(["realtime"]), "context"),
        (json!(["other", "realtime"]), "context"),
        (json!(["realtime", "other", "realtime"]), "context"),
        (json!(["other", "m2-writer"]), "writer"),
        (json!(["realtime", "realtime-service"]), ""),
        (json!(["realtime", "realtime-channel"]), ""),
        (json!(["realtime", "m2-writer"]), ""),
        (json!(["realtime", 7]), ""),
        (json!([["realtime"]]), ADMIN),
        (json!({"realtime": true}), ADMIN),
        (json!([]), ADMIN),
        (json!(7), ADMIN),
        (json!("Realtime"), ADMIN),
        (json!("realtime "), ADMIN),
    ];
    for (aud, expected) in cases {
        assert_eq!(of(aud.clone()), expected, "{aud}");
    }
}

#[test]
fn only_the_keys_of_the_node_and_its_issuers_prove_anything() {
    let claims = context_claims();
    for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
        let token = issued(algorithm, &claims);
        assert!(ForgeAuth::new(trusting(), LIFETIME_S).context(&token, NOW).is_ok());
        assert_eq!(forge().context(&token, NOW), Err(ProofError::Signature), "{algorithm:?}");
    }
    let good = hs256(&claims.to_string());
    let other = Keys::new("ik_", "anon_", &SECRET.replace('0', "1"), &AUDIENCES).unwrap();
    let mut other = ForgeAuth::new(Arc::new(other), LIFETIME_S);
    assert_eq!(other.context(&good, NOW), Err(ProofError::Signature));
    let long = context_of(json!({"padding": "x".repeat(TOKEN_BYTES_MAX)}));
    assert_eq!(long, Err(ProofError::Malformed));
    for token in ["", "a.b.c", ".", "..", &good[1..]] {
        assert_eq!(forge().context(token, NOW), Err(ProofError::Malformed), "{token}");
    }
    assert_eq!(forge().context(&format!("{good}x"), NOW), Err(ProofError::Signature));
    let repeated = r#"{"aud":"realtime","aud":"realtime","exp":1800000001}"#;
    assert_eq!(forge().context(&hs256(repeated), NOW), Err(ProofError::Malformed));
}

#[test]
fn a_verified_token_is_remembered_for_what_it_is() {
    let mut forge = forge();
    let token = hs256(&with(context_claims(), json!({"exp": NOW + 10})).to_string());
    let first = forge.context(&token, NOW).unwrap();
    assert!(Arc::ptr_eq(&first, &forge.context(&token, NOW + 9).unwrap()));
    assert_eq!(forge.invocation(&token, NOW + 9), Err(ProofError::Audience("realtime-invocation")));
    assert_eq!(forge.service(&token, NOW + 9), Err(ProofError::Audience("realtime-service")));
    assert_eq!(forge.context(&token, NOW + 10), Err(ProofError::Expired));
    let service = json!({"aud": "realtime-service", "installationId": "i", "exp": NOW + 10});
    let service = hs256(&service.to_string());
    let first = forge.service(&service, NOW).unwrap();
    assert!(Arc::ptr_eq(&first, &forge.service(&service, NOW + 9).unwrap()));
    assert_eq!(forge.context(&service, NOW + 9), Err(ProofError::Audience("realtime")));
    assert_eq!(forge.service(&service, NOW + 10), Err(ProofError::Expired));
}

#[test]
fn nothing_secret_is_printed() {
    let forge = forge();
    let token = forge
        .sign(&NewToken { installation: "i", channel: "c", claims: "{}", permissions: None }, NOW)
        .unwrap()
        .token;
    assert!(!token.is_empty());
    let printed = format!("{forge:?}");
    assert!(printed.contains("channel_tokens: [masked]"), "{printed}");
    assert!(!printed.contains(SECRET), "{printed}");
}

proptest! {
    #[test]
    fn signed_claims_never_panic(
        members in r#"("(aud|exp|ui|scopes|sub|extension)":[-0-9eE."a-z\[\]{}:]{0,14},?){0,4}"#,
        extension in r#"[-0-9eE."a-z\[\]{}:]{0,20}"#,
    ) {
        let _verdict = forge().context(&hs256(&format!("{{{members}}}")), NOW);
        let rest = context_claims().to_string().split_off(1);
        let claims = format!(r#"{{"extension":{{"issue":{extension}}},{rest}"#);
        let _verdict = forge().context(&hs256(&claims), NOW);
    }
}
