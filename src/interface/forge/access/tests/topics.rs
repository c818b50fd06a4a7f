//! Topics: which publishers reach which subscribers.

use std::collections::HashSet;

use super::*;

fn context(more: Value) -> Context {
    Context::clone(&*context_of(more).unwrap())
}

fn id(topic: &Topic<'_>) -> String {
    let channel = forge().topic(topic).unwrap();
    assert_eq!(channel.space(), crate::message::Space::Topics);
    channel.as_str().to_owned()
}

fn topic<'a>(reach: Reach<'a>, claims: Option<&'a str>) -> Topic<'a> {
    Topic { installation: "inst-1", channel: "ch", reach, claims }
}

/// Python's `hmac` computed these ids from the tuples in the comments. They must not change,
/// because nodes of all versions must agree on them.
#[test]
fn ids_are_what_they_were() {
    let context = context(json!({"extension": {"issue": {"id": "10001"}, "project": {"id": 7}}}));
    let place = Reach::Place(&context);
    let entities = Reach::Entities(&context, &[Entity::Project, Entity::Issue]);
    let claims = Some(r#"{"a":1}"#);
    let cases = [
        // ["inst-1","global","ch",null,null]
        (topic(Reach::Global, None), "LS8w_GVJANyR2qIHoab5EQ"),
        // ["inst-1","global","\"€\\",null,null]
        (Topic { channel: "\"€\\", ..topic(Reach::Global, None) }, "LaFl9ql6zkKHVSnRkZugoA"),
        // ["inst-1","global","ch",null,{"a":1}]
        (topic(Reach::Global, claims), "HEG5U23U1F-RCne_kfjLTg"),
        // ["inst-1","context","ch",{"ctx":{"issue":"10001","project":7},"module":"panel"},null]
        (topic(place, None), "V8TrEaMLIt5K2U6RlnuYoA"),
        // ["inst-1","context","ch",{"overrides":{"issue":"10001","project":7}},{"a":1}]
        (topic(entities, claims), "vkKXwQAea05cQHcH1NTYdA"),
        // ["inst-1","context","ch",{"overrides":{}},null]
        (topic(Reach::Entities(&context, &[]), None), "cVnfxqehlh82D8lBIRg41g"),
    ];
    for (topic, expected) in cases {
        assert_eq!(id(&topic), expected, "{topic:?}");
    }
}

#[test]
fn an_id_is_of_the_nodes_own_making() {
    let global = topic(Reach::Global, None);
    let other = Keys::new("ik_", "anon_", &SECRET.replace('0', "1"), &AUDIENCES).unwrap();
    let other = ForgeAuth::new(Arc::new(other), LIFETIME_S).topic(&global).unwrap();
    assert_ne!(other.as_str(), id(&global));
    assert_eq!(ForgeAuth::new(trusting(), 1).topic(&global), forge().topic(&global));
}

#[test]
fn the_same_place_is_the_same_whoever_is_there() {
    let here = json!({"sub": "a", "extension": {"issue": {"id": "1", "key": "P-1"}}});
    let same = [
        json!({"sub": "b", "extension": {"issue": {"id": "1"}}}),
        json!({"moduleType": "t", "extension": {"issue": {"key": "X", "id": "1"}}}),
        json!({"extension": {"issue": "1", "user": {"id": 7}, "locale": "de", "board": null}}),
        json!({"ui": false, "scopes": [], "extension": {"issue": {"id": "1"}}, "locale": "de"}),
    ];
    let others = [
        json!({"extension": {"issue": {"id": 1}}}),
        json!({"extension": {"issue": {"id": "2", "key": "P-1"}}}),
        json!({"extension": {}}),
        json!({"extension": {"issue": {"id": "1"}, "project": {"id": "1"}}}),
        json!({"extension": {"board": {"id": "1"}}}),
        json!({"moduleKey": "panel2", "extension": {"issue": {"id": "1"}}}),
        json!({"moduleKey": null, "moduleType": "panel", "extension": {"issue": {"id": "1"}}}),
        json!({"contextKey": "panel", "extension": {"issue": {"id": "1"}}}),
        json!({"moduleKey": null, "contextKey": "panel", "extension": {"issue": {"id": "1"}}}),
    ];
    let here = context(here);
    for more in same {
        let other = context(more.clone());
        assert!(here.is_same_place(&other), "{more}");
        assert_eq!(id(&topic(Reach::Place(&here), None)), id(&topic(Reach::Place(&other), None)));
    }
    let mut ids = HashSet::from([id(&topic(Reach::Place(&here), None))]);
    for more in others {
        let other = context(more.clone());
        assert!(!here.is_same_place(&other), "{more}");
        assert!(ids.insert(id(&topic(Reach::Place(&other), None))), "{more}");
    }
}

#[test]
fn overrides_are_a_set_and_replace_the_place() {
    let here = context(json!({"extension": {"issue": {"id": 1}, "project": {"id": 2}}}));
    let there = context(json!({
        "moduleKey": "other", "contextKey": "k",
        "extension": {"issue": {"id": 1.0}, "project": {"id": 2}, "board": {"id": 3}},
    }));
    use Entity::{Board, Issue, Project};
    let of = |context, entities: &[Entity]| id(&topic(Reach::Entities(context, entities), None));
    let both = of(&here, &[Issue, Project]);
    for entities in [&[Project, Issue][..], &[Issue, Project, Issue], &[Project, Project, Issue]] {
        assert_eq!(of(&here, entities), both, "{entities:?}");
        assert_eq!(of(&there, entities), both, "{entities:?}");
    }
    let mut ids = HashSet::from([both]);
    assert!(ids.insert(of(&here, &[Issue])));
    assert!(ids.insert(of(&here, &[Project])));
    assert!(ids.insert(of(&there, &[Board])));
    assert!(ids.insert(of(&there, &[Board, Issue, Project])));
    assert!(ids.insert(of(&here, &[])), "none is a reach of its own");
    assert_eq!(of(&there, &[]), of(&here, &[]));
    assert!(ids.insert(id(&topic(Reach::Global, None))), "and not the global one");
    assert!(ids.insert(id(&topic(Reach::Place(&here), None))));
    let bare = context(json!({}));
    assert!(ids.insert(id(&topic(Reach::Place(&bare), None))));
}

#[test]
fn what_a_context_lacks_cannot_be_selected() {
    let auth = forge();
    let here = context(json!({"extension": {"issue": {"id": 1}, "project": null}}));
    let of = |entities: &[Entity]| auth.topic(&topic(Reach::Entities(&here, entities), None));
    for entity in Entity::ALL.into_iter().filter(|entity| *entity != Entity::Issue) {
        assert_eq!(of(&[entity]), Err(MissingEntity(entity)));
        assert_eq!(of(&[Entity::Issue, entity]), Err(MissingEntity(entity)));
        assert_eq!(of(&[entity, Entity::Issue, entity]), Err(MissingEntity(entity)));
        assert!(MissingEntity(entity).to_string().ends_with(entity.name()));
    }
    assert!(of(&[Entity::Issue]).is_ok());
}

#[test]
fn no_token_is_not_a_token_without_claims() {
    let ids =
        [None, Some("{}"), Some(r#"{"a":null}"#)].map(|claims| id(&topic(Reach::Global, claims)));
    assert_eq!(HashSet::from(ids).len(), 3);
}

#[test]
fn nothing_meets_that_would_meet_if_it_were_joined() {
    // The members of each pair would be the same text if they were joined by this separator.
    for by in [":", ",", "/", "|", "\",\"", "\",\"global\",\"", "\\\",\\\"", ""] {
        let (longer, shorter) = (format!("a{by}b"), format!("b{by}c"));
        let ids = [("a", &*shorter), (&*longer, "c")].map(|(installation, channel)| {
            id(&Topic { installation, channel, reach: Reach::Global, claims: None })
        });
        assert_ne!(ids[0], ids[1], "{by}");
    }
    let key = "panel\",\"x\":\"";
    let places = [
        json!({"moduleKey": "panel", "contextKey": "k"}),
        json!({"moduleKey": "k", "contextKey": "panel"}),
        json!({"moduleKey": key}),
        json!({"moduleKey": "panel", "extension": {"issue": key}}),
        json!({"moduleKey": "panel", "extension": {"issue": {"id": [key]}}}),
        json!({"moduleKey": "panel", "extension": {"issue": "1", "project": "2"}}),
        json!({"moduleKey": "panel", "extension": {"issue": "1\",\"project\":\"2"}}),
    ];
    let contexts = places.map(context);
    let ids: HashSet<_> =
        contexts.iter().map(|context| id(&topic(Reach::Place(context), None))).collect();
    assert_eq!(ids.len(), contexts.len());
}
