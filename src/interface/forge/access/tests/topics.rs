//! Who hears whom.

use std::collections::HashSet;

use proptest::sample::{select, subsequence};

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

/// The ids were computed with Python's `hmac` from the tuples as they stand here: nodes of all
/// versions must agree on them.
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
    // Each pair is the same text where members are joined by what stands between them.
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

/// A topic before anything was made canonical, compared member by member.
#[derive(Clone, PartialEq, Debug)]
struct Tuple {
    installation: &'static str,
    channel: &'static str,
    scope: Scope,
    claims: Option<Sample>,
}

#[derive(Clone, PartialEq, Debug)]
enum Scope {
    Global,
    Place { module: Module, key: Option<&'static str>, entities: Vec<(Entity, Sample)> },
    Entities(Vec<(Entity, Sample)>),
}

#[derive(Clone, PartialEq, Debug)]
enum Module {
    Key(&'static str),
    Kind(&'static str),
}

/// A value whose numbers are all doubles.
#[derive(Clone, PartialEq, Debug)]
enum Sample {
    Null,
    Bool(bool),
    Number(f64),
    Text(&'static str),
    Array(Vec<Sample>),
    /// In the order of the names, each once.
    Object(Vec<(&'static str, Sample)>),
}

/// What would collide if members were joined, or written without quotes or escapes.
const TEXTS: [&str; 12] = [
    "a",
    "b",
    "a:b",
    "a,b",
    "\"",
    "\\",
    "\\\"",
    "\",\"context\",\"",
    "null",
    "1",
    "]",
    "{\"a\":1}",
];

fn text() -> impl Strategy<Value = &'static str> {
    select(&TEXTS[..])
}

fn sample() -> impl Strategy<Value = Sample> {
    let leaf = prop_oneof![
        Just(Sample::Null),
        any::<bool>().prop_map(Sample::Bool),
        select(&[0.0, 1.0, -1.0, 0.1, 1e21, 1e-7, 9_007_199_254_740_993.0, 5e-324][..])
            .prop_map(Sample::Number),
        any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(Sample::Number),
        text().prop_map(Sample::Text),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Sample::Array),
            object(inner),
        ]
    })
}

fn object(value: impl Strategy<Value = Sample> + Clone) -> impl Strategy<Value = Sample> {
    subsequence(&["", "A", "a", "id", "ö", "€", "\u{fb33}", "😀"][..], 0..4)
        .prop_flat_map(move |names| {
            let values = prop::collection::vec(value.clone(), names.len());
            values.prop_map(move |values| names.iter().copied().zip(values).collect())
        })
        .prop_map(Sample::Object)
}

/// What identifies an entity: no object with an id, and not null.
fn identity() -> impl Strategy<Value = Sample> {
    prop_oneof![
        select(&["1", "2"][..]).prop_map(Sample::Text),
        Just(Sample::Number(1.0)),
        Just(Sample::Array(vec![])),
        Just(Sample::Object(vec![("a", Sample::Number(1.0))])),
    ]
}

fn entities() -> impl Strategy<Value = Vec<(Entity, Sample)>> {
    subsequence(&Entity::ALL[..3], 0..=2).prop_flat_map(|entities| {
        let identities = prop::collection::vec(identity(), entities.len());
        identities.prop_map(move |identities| entities.iter().copied().zip(identities).collect())
    })
}

fn scope() -> impl Strategy<Value = Scope> {
    let module = prop_oneof![text().prop_map(Module::Key), text().prop_map(Module::Kind)];
    prop_oneof![
        Just(Scope::Global),
        (module, prop::option::of(text()), entities())
            .prop_map(|(module, key, entities)| Scope::Place { module, key, entities }),
        entities().prop_map(Scope::Entities),
    ]
}

fn tuple() -> impl Strategy<Value = Tuple> {
    let claims = prop::option::of(object(sample().boxed()));
    (text(), text(), scope(), claims).prop_map(|(installation, channel, scope, claims)| Tuple {
        installation,
        channel,
        scope,
        claims,
    })
}

/// JSON as somebody may write it who knows nothing of canonical JSON: members from the last to the
/// first, blanks, escapes, exponents.
fn spelled(value: &Sample, out: &mut String) {
    match value {
        Sample::Null => out.push_str(" null "),
        Sample::Bool(value) => out.push_str(&value.to_string()),
        Sample::Number(number) => out.push_str(&format!("{number:e}")),
        Sample::Text(text) => spell_text(text, out),
        Sample::Array(items) => {
            out.push_str("[ ");
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { "\n," } else { "" });
                spelled(item, out);
            }
            out.push(']');
        }
        Sample::Object(members) => {
            out.push('{');
            for (index, (name, value)) in members.iter().rev().enumerate() {
                out.push_str(if index > 0 { "\t, " } else { "" });
                spell_text(name, out);
                out.push_str(" : ");
                spelled(value, out);
            }
            out.push_str(" }");
        }
    }
}

fn spell_text(text: &str, out: &mut String) {
    out.push('"');
    for unit in text.encode_utf16() {
        out.push_str(&format!("\\u{unit:04X}"));
    }
    out.push('"');
}

/// JSON as most write it.
fn plain(value: &Sample) -> Value {
    match value {
        Sample::Null => Value::Null,
        Sample::Bool(value) => json!(value),
        Sample::Number(number) if number.fract() == 0.0 && number.abs() < 1e15 => {
            json!(*number as i64)
        }
        Sample::Number(number) => json!(number),
        Sample::Text(text) => json!(text),
        Sample::Array(items) => items.iter().map(plain).collect(),
        Sample::Object(members) => {
            members.iter().map(|(name, value)| ((*name).to_owned(), plain(value))).collect()
        }
    }
}

/// The id of a topic whose context and claims were signed and verified on the way.
fn made(tuple: &Tuple, spells: bool) -> String {
    let json = |value: &Sample| {
        let mut out = String::new();
        if spells {
            spelled(value, &mut out);
        } else {
            out = plain(value).to_string();
        }
        out
    };
    let mut auth = forge();
    let grant = tuple.claims.as_ref().map(|claims| {
        let (installation, channel) = (tuple.installation, tuple.channel);
        let new = NewToken { installation, channel, claims: &json(claims), permissions: None };
        let wanted = Wanted { channel, installation, permission: Permission::Subscribe };
        auth.channel_token(&auth.sign(&new, NOW).unwrap().token, &wanted, NOW).unwrap()
    });
    let (module, key, entities) = match &tuple.scope {
        Scope::Global => (&Module::Key("m"), &None, &vec![]),
        Scope::Place { module, key, entities } => (module, key, entities),
        Scope::Entities(entities) => (&Module::Key("m"), &None, entities),
    };
    let mut claims = json!({
        "aud": "realtime", "exp": NOW + 1, "installationId": tuple.installation, "contextKey": key,
    });
    match module {
        Module::Key(key) => claims["moduleKey"] = json!(key),
        Module::Kind(kind) => claims["moduleType"] = json!(kind),
    }
    let shown = entities.iter().rev().map(|(entity, identity)| {
        let identity = json(identity);
        let value = if spells { format!(r#"{{"id":{identity}}}"#) } else { identity };
        format!(r#""{}":{value}"#, entity.name())
    });
    let shown: Vec<_> = shown.collect();
    let rest = claims.to_string().split_off(1);
    let claims = format!(r#"{{"extension":{{{}}},{rest}"#, shown.join(","));
    let context = auth.context(&hs256(&claims), NOW).unwrap();
    let selected: Vec<_> = entities.iter().map(|(entity, _)| *entity).collect();
    let reach = match tuple.scope {
        Scope::Global => Reach::Global,
        Scope::Place { .. } => Reach::Place(&context),
        Scope::Entities(_) => Reach::Entities(&context, &selected),
    };
    let claims = grant.as_ref().map(|grant| &*grant.claims);
    let Tuple { installation, channel, .. } = *tuple;
    auth.topic(&Topic { installation, channel, reach, claims }).unwrap().as_str().to_owned()
}

proptest! {
    #[test]
    fn topics_are_the_same_where_tuples_are(
        one in tuple(),
        other in tuple(),
        shares in any::<[bool; 4]>(),
    ) {
        let mut other = other;
        if shares[0] {
            other.installation = one.installation;
        }
        if shares[1] {
            other.channel = one.channel;
        }
        if shares[2] {
            other.scope = one.scope.clone();
        }
        if shares[3] {
            other.claims = one.claims.clone();
        }
        prop_assert_eq!(made(&one, true) == made(&other, false), one == other);
    }

    #[test]
    fn how_it_is_written_does_not_matter(tuple in tuple()) {
        prop_assert_eq!(made(&tuple, true), made(&tuple, false));
    }

    #[test]
    fn the_order_of_an_array_matters(
        items in prop::collection::vec(sample(), 2..4).prop_filter("differ", |v| v[0] != v[1]),
    ) {
        let mut swapped = items.clone();
        swapped.swap(0, 1);
        let ids = [items, swapped].map(|items| {
            let claims = Some(Sample::Object(vec![("a", Sample::Array(items))]));
            made(&Tuple { installation: "i", channel: "c", scope: Scope::Global, claims }, false)
        });
        prop_assert_ne!(&ids[0], &ids[1]);
    }
}
