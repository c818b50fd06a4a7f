//! The credentials of callers on loopback and on networks, and contexts with few claims.

use std::process::Command;

use serde_json::{Value, json};

use super::app::{
    ENDPOINTS, Outcome, PROXY, UNAUTHORIZED, call, failure, good_body, invocation,
    invocation_token, outcome, place, publish, raw_call, refused, refused_at_head, service_token,
};
use super::listener::Listener;
use crate::support::{ANON_KEY, API_KEY, Node, an_hour_from_now, sign, user_token};

const TRUST: (&str, &str) = ("FANFARE_FORGE_TRUST_NETWORK", "true");
const DISTRUST: (&str, &str) = ("FANFARE_FORGE_TRUST_NETWORK", "false");

fn with(command: &mut Command, envs: &[(&str, &str)]) {
    command.envs(envs.iter().copied());
}

/// Registers an invocation from the usual context for the longest time.
fn register(node: &Node, id: &str) {
    let mut body = place();
    (body["ui"], body["ttlSeconds"]) = (json!(true), json!(900));
    let (status, answer) = node.admin("PUT", &format!("/admin/v1/invocations/{id}"), &body);
    assert_eq!(status, 201, "{answer}");
}

/// The value of the headers that a caller sends besides [`PROXY`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Worth {
    Nothing,
    Bad,
    /// Valid for the usual installation.
    Good,
    /// Valid for another installation.
    Elsewhere,
}

type Headers = Vec<(&'static str, String)>;

fn callers() -> Vec<(Headers, Worth)> {
    let bearer = |token: &str| ("authorization", format!("Bearer {token}"));
    let key = |key: &str| ("x-api-key", key.to_owned());
    let wrong_key = API_KEY.replace('0', "1");
    let admin = sign(&json!({ "sub": "a", "role": "project_admin", "exp": an_hour_from_now() }));
    let (own, other) = (service_token("inst-1"), service_token("inst-2"));
    vec![
        (vec![], Worth::Nothing),
        (vec![bearer(API_KEY)], Worth::Good),
        (vec![("authorization", format!("bearer {API_KEY}"))], Worth::Good),
        (vec![key(API_KEY)], Worth::Good),
        (vec![bearer(&admin)], Worth::Good),
        (vec![bearer(&own)], Worth::Good),
        (vec![bearer(API_KEY), key(API_KEY)], Worth::Good),
        (vec![bearer(&other)], Worth::Elsewhere),
        (vec![bearer(&wrong_key)], Worth::Bad),
        (vec![key(&wrong_key)], Worth::Bad),
        (vec![key("")], Worth::Bad),
        (vec![key(ANON_KEY)], Worth::Bad),
        (vec![key(&own)], Worth::Bad),
        (vec![bearer(ANON_KEY)], Worth::Bad),
        (vec![bearer(&user_token("alice"))], Worth::Bad),
        (vec![bearer("nonsense")], Worth::Bad),
        (vec![bearer("")], Worth::Bad),
        (vec![("authorization", String::new())], Worth::Bad),
        (vec![("authorization", API_KEY.to_owned())], Worth::Bad),
        (vec![("authorization", format!("Basic {API_KEY}"))], Worth::Bad),
        // An invalid credential is refused even beside a valid one.
        (vec![bearer(API_KEY), key(&wrong_key)], Worth::Bad),
        (vec![bearer("nonsense"), key(API_KEY)], Worth::Bad),
        (vec![bearer(&own), key(&wrong_key)], Worth::Bad),
        (vec![bearer(&user_token("alice")), key(API_KEY)], Worth::Bad),
        (vec![bearer(API_KEY), bearer("nonsense")], Worth::Bad),
        (vec![key(API_KEY), key(&wrong_key)], Worth::Bad),
    ]
}

/// Returns the expected result of a call, by its subject and its caller's credential.
fn expected(subject: &str, endpoint: &str, worth: Worth, is_open: bool) -> Outcome {
    let is_installation = subject.starts_with("installationId=");
    let takes_credential = is_installation || (is_open && subject == "id=registered");
    match worth {
        Worth::Bad => refused_at_head("INVALID_CALLER_CREDENTIAL"),
        Worth::Nothing if takes_credential => refused_at_head("CALLER_CREDENTIAL_REQUIRED"),
        Worth::Elsewhere => refused(403, UNAUTHORIZED),
        // An installation alone has no context, so nothing can be published within one.
        _ if is_installation && endpoint == "publish" => refused(403, failure(endpoint)),
        _ => Outcome::Done,
    }
}

/// Makes the call of every caller for every subject to every endpoint.
fn check_callers(node: &Node, is_open: bool) {
    register(node, "registered");
    let signed = format!("id={}", invocation_token(&place()));
    for (headers, worth) in callers() {
        for subject in ["id=registered", &signed, "installationId=inst-1"] {
            for endpoint in ENDPOINTS {
                let authorization = format!("Forge as=app,{subject}");
                let mut all = vec![(PROXY, authorization.as_str())];
                all.extend(headers.iter().map(|(name, value)| (*name, value.as_str())));
                let response = raw_call(node, endpoint, &all, good_body(endpoint).to_string());
                let expected = expected(subject, endpoint, worth, is_open);
                let told = outcome(endpoint, &response);
                assert_eq!(told, expected, "{endpoint} {subject} {headers:?}");
            }
        }
    }
}

#[test]
fn on_loopback_an_id_is_enough_and_an_installation_is_not() {
    check_callers(&Node::start(), false);
}

#[test]
fn on_a_network_a_registered_id_takes_a_credential_of_the_caller() {
    let node = Node::on_all_addresses(|_| {});
    check_callers(&node, true);
    // Without a credential, the answer does not reveal whether an id is registered.
    let response = call(&node, "publish", "Forge id=nobody", &good_body("publish"));
    assert_eq!(outcome("publish", &response), refused_at_head("CALLER_CREDENTIAL_REQUIRED"));
    let response = call(&node, "publish", "Forge id=a.b.c", &good_body("publish"));
    assert_eq!(outcome("publish", &response), refused_at_head("UNKNOWN_INVOCATION"));
}

#[test]
fn a_network_that_is_trusted_is_like_loopback() {
    check_callers(&Node::on_all_addresses(|command| with(command, &[TRUST])), false);
}

#[test]
fn a_loopback_address_that_is_not_trusted_is_like_a_network() {
    check_callers(&Node::with(|command| with(command, &[DISTRUST])), true);
}

#[test]
fn a_request_that_a_proxy_has_passed_on_needs_a_credential_on_every_network() {
    let trusting = Node::on_all_addresses(|command| with(command, &[TRUST]));
    for node in [&Node::start(), &trusting] {
        register(node, "call-1");
        let publish = |more: &[(&'static str, &str)]| {
            let headers = [&[(PROXY, "Forge as=app,id=call-1")], more].concat();
            let response = raw_call(node, "publish", &headers, good_body("publish").to_string());
            outcome("publish", &response)
        };
        assert_eq!(publish(&[]), Outcome::Done);
        for header in [
            ("forwarded", "for=203.0.113.9"),
            ("x-forwarded-for", "203.0.113.9"),
            ("X-Forwarded-Proto", "https"),
            ("x-forwarded-for", "\u{e9}"),
            ("x-real-ip", ""),
            ("Via", "1.1 proxy"),
        ] {
            let expected = refused_at_head("CALLER_CREDENTIAL_REQUIRED");
            assert_eq!(publish(&[header]), expected, "{header:?}");
            assert_eq!(publish(&[header, ("x-api-key", API_KEY)]), Outcome::Done, "{header:?}");
        }
    }
}

#[test]
fn a_back_end_is_of_the_installation_that_it_calls_for() {
    let node = Node::start();
    let mut listener = Listener::connect(&node, &place());
    listener.subscribe("room", &json!({ "global": true }));
    let own = format!("Bearer {}", service_token("inst-1"));
    let call = |installation: &str| {
        let authorization = format!("Forge installationId={installation}");
        let headers = [(PROXY, authorization.as_str()), ("authorization", own.as_str())];
        raw_call(&node, "publish/global", &headers, good_body("publish/global").to_string())
    };
    assert_eq!(outcome("publish/global", &call("inst-2")), refused(403, UNAUTHORIZED));
    assert_eq!(outcome("publish/global", &call("INST-1")), refused(403, UNAUTHORIZED));
    let response = call("inst-1");
    assert!(response.json()["eventId"].is_string(), "{}", response.text());
    assert_eq!(listener.hear()["eventId"], response.json()["eventId"]);
}

#[test]
fn what_no_user_interface_is_behind_publishes_globally_and_signs() {
    let node = Node::start();
    let mut place = place();
    place["ui"] = json!(false);
    let mut listener = Listener::connect(&node, &place);
    listener.subscribe("room", &json!({}));
    let mut registration = place.clone();
    registration["ttlSeconds"] = json!(60);
    let path = "/admin/v1/invocations/background";
    assert_eq!(node.admin("PUT", path, &registration).0, 201);
    for header in [invocation(&place), "Forge id=background".to_owned()] {
        for endpoint in ENDPOINTS {
            let expected = match endpoint {
                "publish" => refused(403, failure(endpoint)),
                _ => Outcome::Done,
            };
            let response = call(&node, endpoint, &header, &good_body(endpoint));
            assert_eq!(outcome(endpoint, &response), expected, "{endpoint} {header}");
        }
        let mut body = good_body("publish");
        body["options"] = json!({ "contextOverrides": [] });
        let response = call(&node, "publish", &header, &body);
        assert_eq!(outcome("publish", &response), refused(403, failure("publish")));
    }
    let mut publish = |is_global: bool| {
        listener.ask(json!({
            "type": "publish", "channel": "room", "global": is_global, "payload": "x",
        }))
    };
    assert_eq!(publish(true)["type"], "published");
    let error = json!({ "message": failure("publish"), "code": "PUBLISH_FAILED" });
    assert_eq!(publish(false)["error"], error, "nor over a socket");
    listener.hear_nothing();
    for ui in [Value::Null, json!("true"), json!(1), json!([])] {
        place["ui"] = ui;
        let response = call(&node, "publish", &invocation(&place), &good_body("publish"));
        assert_eq!(outcome("publish", &response), refused_at_head("UNKNOWN_INVOCATION"));
    }
}

#[test]
fn global_channels_are_for_those_whose_scopes_say_so() {
    const READ: &str = "read:app-global-channel:realtime";
    let strict = Node::with_env(&[("FANFARE_FORGE_REQUIRE_SCOPES", "true")]);
    let lenient = Node::start();
    let table = [
        (None, [true, false]),
        (Some(json!([])), [false, false]),
        (Some(json!(["read:app-global-channel"])), [false, false]),
        (Some(json!(["write:app-global-channel:realtime", "READ"])), [false, false]),
        (Some(json!([READ])), [true, true]),
        (Some(json!(["read:jira-work", READ])), [true, true]),
    ];
    for (scopes, may_listen) in table {
        let mut claims = place();
        if let Some(scopes) = &scopes {
            claims["scopes"] = scopes.clone();
        }
        for (node, may_listen) in [&lenient, &strict].into_iter().zip(may_listen) {
            let mut listener = Listener::connect(node, &claims);
            let answer = listener.try_subscribe("room", &json!({ "global": true }));
            if may_listen {
                assert_eq!(answer["type"], "subscribed", "{scopes:?}: {answer}");
            } else {
                let error = json!({ "message": UNAUTHORIZED, "code": "UNAUTHORIZED" });
                assert_eq!(answer["error"], error, "{scopes:?}: {answer}");
            }
            // The scope affects only global subscriptions.
            listener.subscribe("room", &json!({}));
            for endpoint in ["publish", "publish/global"] {
                let body = good_body(endpoint);
                let is_heard = endpoint == "publish" || may_listen;
                node.soon(&format!("{scopes:?} {endpoint} {is_heard}"), || {
                    let result = publish(node, endpoint, &invocation(&claims), &body);
                    result["eventId"].is_string() == is_heard
                });
            }
            drop(listener);
            crate::support::wait_until("nobody listens", || {
                node.metric("fanfare_subscriptions") == 0
            });
        }
    }
}
