//! The body and the reply of `POST /forge/realtime/v1/publish` and `…/publish/global`.

use serde::Serialize;

use super::error::ForgeError;
use crate::codec::json::{Document, JsonError, Scratch, Text, Value};
use crate::interface::forge::nouns::{Entity, channel_problem};
use crate::interface::forge::wire::{Selection, SelectionFault, given};
use crate::interface::rest::Reply;
use crate::interface::rest::fields::{self, Read};
use crate::message::{MessageId, Millis};

/// The parsed body: an event that a back end publishes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Publish<'a> {
    /// The name of the channel, which is valid.
    pub channel: &'a str,
    /// The payload: a JSON string with quotes and escapes, as the caller sent it.
    pub payload: &'a str,
    /// The realtime token whose claims narrow the topic, if there is one.
    pub token: Option<&'a str>,
    /// The entities that replace the default scope; always `None` for a global channel.
    pub overrides: Option<Vec<Entity>>,
    /// The id that the publisher has given the event; `None` for a new one.
    pub id: Option<MessageId>,
}

impl<'a> Publish<'a> {
    /// Parses the body of a publish. The payload may have `payload_bytes_max` bytes, unescaped.
    ///
    /// The parser is the one of WebSocket messages, because it keeps the escaped text of the
    /// payload, which is published unchanged. Its errors say what is not valid JSON.
    ///
    /// # Errors
    /// 400 with all issues of name and payload, or else with the first one of the options; 413 if
    /// the payload is too long.
    pub fn parse(
        body: &'a [u8],
        scratch: &'a mut Scratch,
        is_global: bool,
        payload_bytes_max: usize,
    ) -> Result<Self, ForgeError> {
        let document = Document::from_bytes(body, scratch)?;
        let names = ["name", "payload", "options", "eventId"];
        let [name, payload, options, id] = document.object().members(&names);
        let id = given(id).map_err(str::to_owned);
        let read = (text("name", name).and_then(channel), text("payload", payload), id);
        let (Ok(channel), Ok(payload), Ok(id)) = read else {
            return Err(fields::refuse([read.0.err(), read.1.err(), read.2.err()]).into());
        };
        let Selection { token, overrides } = Selection::read(options, is_global)?;
        if payload.value.len() > payload_bytes_max {
            let detail =
                format!("payload: String must contain at most {payload_bytes_max} byte(s)");
            return Err(ForgeError::too_large(detail));
        }
        Ok(Self { channel, payload: payload.raw(), token, overrides, id })
    }
}

/// Parses a required string.
fn text<'t, 'a>(path: &str, member: Option<Value<'t, 'a>>) -> Read<Text<'t, 'a>> {
    let value = member.ok_or_else(|| fields::missing(path))?;
    value.as_text().ok_or_else(|| fields::mismatch(path, "string", value.kind()))
}

fn channel<'a>(name: Text<'_, 'a>) -> Read<&'a str> {
    match channel_problem(name.value) {
        None => Ok(name.value),
        Some(problem) => Err(format!("name: {problem}")),
    }
}

impl From<JsonError> for ForgeError {
    fn from(error: JsonError) -> Self {
        Self::malformed(error.to_string())
    }
}

impl From<SelectionFault> for ForgeError {
    fn from(fault: SelectionFault) -> Self {
        let (path, wanted, received) = match fault {
            SelectionFault::Options(kind) => ("options", "object", kind),
            SelectionFault::Token(kind) => ("options.token", "string", kind),
            SelectionFault::Overrides => return Self::overrides(),
        };
        Self::malformed(fields::mismatch(path, wanted, received))
    }
}

impl Reply {
    /// 200 with id and timestamp of the event; `None` if its topic has no subscribers, which is not
    /// an error.
    pub fn forge_published(event: Option<(MessageId, Millis)>) -> Self {
        let body = Published {
            event_id: event.map(|(id, _)| id.to_string()),
            event_timestamp: event.map(|(_, at)| at.to_string()),
            errors: (),
        };
        Self::json(200, &body)
    }
}

/// The body of a successful publish. `errors` is always `null`, not an empty list, because callers
/// test it first and JavaScript takes an empty list for true.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Published {
    event_id: Option<String>,
    event_timestamp: Option<String>,
    errors: (),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::interface::forge::http::Call;
    use crate::interface::forge::nouns::OVERRIDES_PROBLEM;

    const MAX: usize = 64;

    fn publish(body: &str) -> Publish<'_> {
        let scratch = Box::leak(Box::default());
        Publish::parse(body.as_bytes(), scratch, false, MAX).unwrap()
    }

    /// Returns status, message and detail of the answer to a refused body.
    fn refused(body: impl AsRef<[u8]>, is_global: bool) -> (u16, String, String) {
        let mut scratch = Scratch::default();
        let refusal = Publish::parse(body.as_ref(), &mut scratch, is_global, MAX).unwrap_err();
        let reply = refusal.reply(Call::Publish);
        let body: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
        let text = |name: &str| body["errors"][0][name].as_str().unwrap_or_default().to_owned();
        (reply.status, text("message"), text("detail"))
    }

    #[test]
    fn a_payload_goes_through_as_it_came() {
        let body =
            r#" { "payload" : "\u007b\"a\":\/1 é\ud83d\ude00}" , "name":"a\u0062", "x":[{}] } "#;
        let found = publish(body);
        assert_eq!(found.channel, "ab");
        assert_eq!(found.payload, r#""\u007b\"a\":\/1 é\ud83d\ude00}""#);
        assert_eq!((found.token, found.overrides), (None, None));
        assert_eq!(publish(r#"{"name":"a","payload":""}"#).payload, r#""""#);
        let twice = r#"{"name":1,"payload":"x","name":"b","payload":"y"}"#;
        assert_eq!((publish(twice).channel, publish(twice).payload), ("b", "\"y\""));
    }

    #[test]
    fn options_select_token_and_scope() {
        let with = |options: &str| {
            let body = format!(r#"{{"name":"a","payload":"p","options":{options}}}"#);
            let found = publish(Box::leak(body.into_boxed_str()));
            (found.token, found.overrides)
        };
        assert_eq!(with("null"), (None, None));
        assert_eq!(with("{}"), (None, None));
        assert_eq!(with(r#"{"token":null,"else":1}"#), (None, None));
        assert_eq!(with(r#"{"token":""}"#), (None, None));
        assert_eq!(with(r#"{"token":"a.b.\u0063"}"#), (Some("a.b.c"), None));
        assert_eq!(with(r#"{"contextOverrides":[]}"#), (None, Some(vec![])));
        let both = Some(vec![Entity::Project, Entity::Issue]);
        let doubled = r#"{"token":"t","contextOverrides":["project","issue","project"]}"#;
        assert_eq!(with(doubled), (Some("t"), both));
    }

    #[test]
    fn overrides_mean_nothing_on_global_channels() {
        for names in [r#"["issue"]"#, r#""issue""#, "7", r#"["unknown"]"#] {
            let body = format!(
                r#"{{"name":"a","payload":"p","options":{{"token":"t","contextOverrides":{names}}}}}"#
            );
            let mut scratch = Scratch::default();
            let found = Publish::parse(body.as_bytes(), &mut scratch, true, MAX).unwrap();
            assert_eq!((found.token, found.overrides), (Some("t"), None));
        }
    }

    #[test]
    fn bad_overrides_are_told_in_the_words_of_the_client() {
        let names = [r#""issue""#, "null", "{}", "7", r#"["unknown"]"#, "[1]", r#"["Issue"]"#];
        for names in names {
            let body =
                format!(r#"{{"name":"a","payload":"p","options":{{"contextOverrides":{names}}}}}"#);
            let refusal = refused(&body, false);
            assert_eq!(refusal, (400, OVERRIDES_PROBLEM.to_owned(), String::new()), "{names}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_body_is_told() {
        let long = format!(r#"{{"name":"{}","payload":"p"}}"#, "x".repeat(256));
        let table = [
            ("", "Expected an object, received nothing"),
            ("[]", "Expected object, received array"),
            ("{", "Not valid JSON: it ends too early, or a string has a control character"),
            ("{}", "name: Required, payload: Required"),
            (r#"{"name":"a"}"#, "payload: Required"),
            (
                r#"{"name":"","payload":1}"#,
                "name: String must contain at least 1 character(s), payload: Expected string, received number",
            ),
            (
                r#"{"name":null,"payload":null}"#,
                "name: Expected string, received null, payload: Expected string, received null",
            ),
            (r#"{"name":"a","payload":{"a":1}}"#, "payload: Expected string, received object"),
            (r#"{"name":"a\n","payload":"p"}"#, "name: String must not contain control characters"),
            (&long, "name: String must contain at most 255 byte(s)"),
            (
                r#"{"name":"a","payload":"\ud800"}"#,
                "A string has an invalid escape, or half of a surrogate pair",
            ),
            (
                r#"{"name":"a","payload":"p","options":"t"}"#,
                "options: Expected object, received string",
            ),
            (
                r#"{"name":"a","payload":"p","options":[]}"#,
                "options: Expected object, received array",
            ),
            (
                r#"{"name":"a","payload":"p","options":{"token":7}}"#,
                "options.token: Expected string, received number",
            ),
        ];
        for is_global in [false, true] {
            for (body, detail) in table {
                let expected =
                    (400, "Error publishing event to channel".to_owned(), detail.to_owned());
                assert_eq!(refused(body, is_global), expected, "{body}");
            }
        }
        assert_eq!(refused(b"{\"name\":\"\xff\"}", false).2, "The text is not UTF-8");
    }

    #[test]
    fn a_payload_is_measured_unescaped() {
        let body = |payload: &str| format!(r#"{{"name":"a","payload":"{payload}"}}"#);
        assert_eq!(
            publish(Box::leak(body(&r"\u0041".repeat(MAX)).into())).payload.len(),
            6 * MAX + 2
        );
        assert_eq!(publish(Box::leak(body(&"é".repeat(MAX / 2)).into())).payload.len(), MAX + 2);
        let told = "payload: String must contain at most 64 byte(s)";
        for payload in [r"\u0041".repeat(MAX + 1), "é".repeat(MAX / 2) + "x"] {
            let expected = (413, "Error publishing event to channel".to_owned(), told.to_owned());
            assert_eq!(refused(body(&payload), false), expected);
        }
    }

    #[test]
    fn an_event_is_told_to_its_publisher() {
        let id = MessageId::from_u128(0x0190_7a2b_3c4d_7e5f_8a9b_0c1d_2e3f_4a5b);
        let reply = Reply::forge_published(Some((id, 1_719_999_999_999)));
        assert_eq!((reply.status, reply.retry_after_s, reply.proxy_error), (200, None, None));
        assert_eq!(
            reply.body,
            r#"{"eventId":"01907a2b-3c4d-7e5f-8a9b-0c1d2e3f4a5b","#.to_owned()
                + r#""eventTimestamp":"1719999999999","errors":null}"#
        );
        let nobody = r#"{"eventId":null,"eventTimestamp":null,"errors":null}"#;
        assert_eq!(Reply::forge_published(None).body, nobody);
    }

    proptest! {
        #[test]
        fn any_publication_is_read(
            name in "[^\\p{Cc}]{1,40}", payload in ".{0,20}", token in prop::option::of(".{0,9}"),
            entities in prop::option::of(prop::sample::subsequence(&Entity::ALL[..], 0..7)),
            pretty in any::<bool>(),
        ) {
            let names = |all: &Vec<Entity>| all.iter().map(|one| one.name()).collect::<Vec<_>>();
            let mut options = json!({"token": token});
            if let Some(entities) = &entities {
                options["contextOverrides"] = json!(names(entities));
            }
            let body = json!({"name": name, "payload": payload, "options": options});
            let body = if pretty { format!("{body:#}") } else { body.to_string() };
            let mut scratch = Scratch::default();
            let found = Publish::parse(body.as_bytes(), &mut scratch, false, 1_000).unwrap();
            prop_assert_eq!(found.channel, name);
            prop_assert_eq!(found.payload, serde_json::to_string(&payload).unwrap());
            prop_assert_eq!(found.token, token.as_deref().filter(|token| !token.is_empty()));
            prop_assert_eq!(found.overrides, entities);
        }
    }
}
