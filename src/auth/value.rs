//! JSON values whose keys are never interpreted.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A JSON value in which every key is an ordinary key.
///
/// serde_json's own [`Value`] treats an object specially if its first key is the private name that
/// serde_json uses for raw values: it parses the member's text as another value. A client that
/// chooses a part of signed claims could change their meaning with it.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Plain(pub(crate) Value);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(Any).map(Plain)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, is_true: bool) -> Result<Value, E> {
        Ok(Value::Bool(is_true))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        let number =
            Number::from_f64(number).ok_or_else(|| E::custom("the number is not finite"))?;
        Ok(Value::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::from(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(Plain(item)) = items.next_element()? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, Plain(value))) = members.next_entry::<String, Plain>()? {
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(json: &str) -> Option<Value> {
        serde_json::from_str(json).ok().map(|Plain(value)| value)
    }

    #[test]
    fn a_key_is_a_key_whatever_it_is_called() {
        let key = "$serde_json::private::RawValue";
        for inner in [r#""{\"role\":\"admin\"}""#, "\"no JSON\"", "5", "{}"] {
            let json = format!(r#"{{"a":{{"{key}":{inner},"b":1}}}}"#);
            let value = plain(&json).expect("it is JSON");
            assert_eq!(value["a"].as_object().map(Map::len), Some(2), "{json}");
            assert_eq!(value["a"][key].to_string(), inner, "{json}");
        }
    }

    #[test]
    fn what_is_no_json_is_refused_as_ever() {
        let deep = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(plain(&deep(100)).is_some());
        for json in ["", "{", "[1,]", "1e400", r#"{"a":1}x"#, "\"\\ud800\"", &deep(1_000)] {
            assert_eq!(plain(json), None, "{json:.20}");
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::hash_map(any::<String>(), inner, 0..5)
                    .prop_map(|members| members.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn anything_else_is_read_as_by_the_library(value in values()) {
            prop_assert_eq!(plain(&value.to_string()), Some(value));
        }
    }
}
