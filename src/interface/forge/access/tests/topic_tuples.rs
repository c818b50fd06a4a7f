//! Topics of generated tuples: two topics are the same if and only if their tuples are equal.

use proptest::sample::{select, subsequence};

use super::*;

/// The five properties of a topic before they are made canonical, compared member by member.
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

/// A JSON value whose numbers are all doubles.
#[derive(Clone, PartialEq, Debug)]
enum Sample {
    Null,
    Bool(bool),
    Number(f64),
    Text(&'static str),
    Array(Vec<Sample>),
    /// The members, in the order of their names, which differ.
    Object(Vec<(&'static str, Sample)>),
}

/// Texts that would collide if members were joined, or written without quotes or escapes.
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

/// Generates the identity of an entity: neither null nor an object with an id.
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

/// Appends JSON that is far from canonical: members in reverse order, blanks, escapes, exponents.
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

/// Returns a value in the usual form.
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

/// Returns the id of a topic, after signing and verifying its context and claims. `spells` writes
/// them in JSON that is far from canonical.
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
