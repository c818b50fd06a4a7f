//! Tokens signed for trying things out: the node accepts each kind for its purpose.

use super::*;

fn proof(audience: Audience, place: Option<NewPlace<'_>>) -> NewProof<'_> {
    NewProof { audience, issued_at: NOW, expires_at: NOW + 900, installation: "inst-1", place }
}

fn panel() -> Option<NewPlace<'static>> {
    Some(NewPlace { module_key: Some("panel"), ..NewPlace::default() })
}

#[test]
fn each_kind_is_good_for_itself() {
    let extension = json!({"issue": {"id": "1"}});
    let scopes = ["read:app-global-channel:realtime".to_owned()];
    let place = NewPlace {
        module_type: Some("t"),
        context_key: Some("k"),
        extension: extension.as_object(),
        sub: Some("account"),
        scopes: Some(&scopes),
        ui: Some(false),
        ..NewPlace::default()
    };
    let token = sign_proof(SECRET, &proof(audience::INVOCATION, Some(place))).unwrap();
    let context = forge().invocation(&token, NOW).unwrap();
    assert_eq!(&*context.place, r#"{"ctx":{"issue":"1"},"key":"k","moduleType":"t"}"#);
    assert_eq!((context.account.as_deref(), context.reads_global), (Some("account"), Some(true)));
    assert_eq!((context.is_ui, context.expires_at), (false, NOW + 900));

    let token = sign_proof(SECRET, &proof(audience::CONTEXT, panel())).unwrap();
    assert!(forge().context(&token, NOW).unwrap().is_ui);
    let token = sign_proof(SECRET, &proof(audience::SERVICE, None)).unwrap();
    assert_eq!(forge().service(&token, NOW).as_deref(), Ok("inst-1"));
}

#[test]
fn what_the_node_would_refuse_is_not_made() {
    let refused = |new: &NewProof<'_>| sign_proof(SECRET, new).unwrap_err().to_string();
    let nowhere = proof(audience::CONTEXT, Some(NewPlace::default()));
    assert_eq!(refused(&nowhere), "one of moduleKey, moduleType and contextKey is needed");
    let long = NewProof { expires_at: NOW + 901, ..proof(audience::INVOCATION, panel()) };
    let expected = "a context or invocation token may be valid for at most 900 seconds";
    assert_eq!(refused(&long), expected);
    let nobody = NewProof { installation: "", ..proof(audience::SERVICE, None) };
    assert!(refused(&nobody).starts_with("an installation's name has"));
    let short = sign_proof("short", &proof(audience::SERVICE, None));
    assert_eq!(short, Err(SignError::Key(crate::auth::KeyError::SecretTooShort { bytes: 5 })));
    let service = NewProof { expires_at: NOW + 100_000, ..proof(audience::SERVICE, None) };
    assert!(sign_proof(SECRET, &service).is_ok());
}
