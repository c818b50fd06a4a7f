//! Which call a request line of M2 Realtime asks for, and what query and body say of a document.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::codec::http::{decode_segment_exactly, query_pairs};
use crate::interface::m2::limits::VERSION_AHEAD_MS_MAX;
use crate::interface::m2::nouns::channel_of;
use crate::interface::m2::nouns::{ResourceKind, Scope, name_problem, resource_id_problem};
use crate::interface::rest::fields::{self, Read};
use crate::interface::rest::{ApiError, Reply, dates};
use crate::limits::DOCUMENTS_MAX;
use crate::message::{DocumentKey, DocumentWrite, Durability, Millis, iso_millis};

const RESOURCES: &str = "/api/realtime/resources/";
/// An example of a version, for errors.
const DATE: &str = "2026-04-25T17:00:00.123Z";

/// A call of M2 Realtime.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Route {
    /// `GET /api/realtime/`, a WebSocket.
    Socket,
    /// `GET /api/realtime/status`
    Status,
    /// `PUT /api/realtime/resources/{type}/{id}`
    Write(Named),
    /// `DELETE` of the same.
    Delete(Named),
    /// `GET` of the same.
    Look(Named),
}

/// A resource, as a path names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Named {
    /// Its kind.
    pub kind: ResourceKind,
    id: Box<str>,
}

/// Whether a path belongs to M2.
pub fn is_ours(path: &str) -> bool {
    matches!(path, "/api/realtime" | "/api/realtime/")
        || matches!(path, "/api/realtime/status" | "/api/realtime/status/")
        || path.starts_with(RESOURCES)
}

/// Returns the call that a request line asks for. Everything behind the kind of a resource is its
/// id, slashes included, once the percent-encoding is undone.
///
/// # Errors
/// 404 for an unknown path, 405 with the methods to choose from for a known one, 400 for an id
/// that no resource can have.
pub fn route(method: &str, path: &str) -> Result<Route, ApiError> {
    let asked = if method == "HEAD" { "GET" } else { method };
    let Some(resource) = path.strip_prefix(RESOURCES) else {
        return match (path.trim_end_matches('/'), method) {
            ("/api/realtime/status", "GET" | "HEAD") => Ok(Route::Status),
            ("/api/realtime/status", _) => {
                Err(ApiError::method_not_allowed(method, path, "GET, HEAD"))
            }
            // No client upgrades with HEAD.
            (_, "GET") => Ok(Route::Socket),
            _ => Err(ApiError::method_not_allowed(method, path, "GET")),
        };
    };
    let (kind, id) = resource.split_once('/').unwrap_or((resource, ""));
    let kind = ResourceKind::named(kind).ok_or_else(|| ApiError::unknown_resource_kind(kind))?;
    let id = decode_segment_exactly(id);
    let id = id.ok_or_else(|| ApiError::invalid_input("id: it is not UTF-8"))?;
    if let Some(problem) = resource_id_problem(&id) {
        return Err(ApiError::invalid_input(format!("id: {problem}")));
    }
    let named = Named { kind, id: id.into() };
    match asked {
        "PUT" => Ok(Route::Write(named)),
        "DELETE" => Ok(Route::Delete(named)),
        "GET" => Ok(Route::Look(named)),
        _ => Err(ApiError::method_not_allowed(method, path, "GET, HEAD, PUT, DELETE")),
    }
}

impl Named {
    /// Reads the write that a body describes: `{userId?, audience?, data, version?}`. The query may
    /// say how safe the document must be, and nothing else.
    ///
    /// # Errors
    /// 400 with the issues of all fields. Unknown fields are errors: a misspelt `audience` must not
    /// make a private document public.
    pub fn write(
        &self,
        scope: &Scope,
        (query, body): (Option<&str>, &[u8]),
        now: Millis,
    ) -> Result<DocumentWrite, ApiError> {
        Said::in_query(query, &[DURABILITY])?;
        let names = [USER_ID, AUDIENCE, "data", VERSION];
        let [user_id, audience, data, version] = fields::strict_body(body, &names)?;
        let said = Said::in_body(user_id, audience, version);
        let data = fields::required("data", data).and_then(some_data);
        let (Ok(said), Ok(data)) = (&said, &data) else {
            return Err(fields::refuse([said.err(), data.err()]));
        };
        self.settle(scope, said, Some(data.get()), now)
    }

    /// Reads the deletion that a body describes, or the query if there is no body:
    /// `{userId?, audience?, version?}`.
    ///
    /// # Errors
    /// As [`Named::write`].
    pub fn delete(
        &self,
        scope: &Scope,
        (query, body): (Option<&str>, &[u8]),
        now: Millis,
    ) -> Result<DocumentWrite, ApiError> {
        if body.is_empty() {
            let said = Said::in_query(query, &[USER_ID, AUDIENCE, VERSION, DURABILITY])?;
            return self.settle(scope, &said, None, now);
        }
        Said::in_query(query, &[DURABILITY])?;
        let [user_id, audience, version] =
            fields::strict_body(body, &[USER_ID, AUDIENCE, VERSION])?;
        let said = Said::in_body(user_id, audience, version);
        self.settle(scope, &said.map_err(ApiError::invalid_input)?, None, now)
    }

    /// Returns the document that a query describes with `userId` and `audience`. A `reader` need
    /// not name itself.
    ///
    /// # Errors
    /// As [`Named::write`].
    pub fn look(
        &self,
        scope: &Scope,
        query: Option<&str>,
        reader: Option<&str>,
    ) -> Result<DocumentKey, ApiError> {
        let mut said = Said::in_query(query, &[USER_ID, AUDIENCE])?;
        said.user_id = said.user_id.or(reader.map(Cow::Borrowed));
        Ok(self.settle(scope, &said, None, 0)?.key)
    }

    fn settle(
        &self,
        scope: &Scope,
        said: &Said<'_>,
        data: Option<&str>,
        now: Millis,
    ) -> Result<DocumentWrite, ApiError> {
        let read = (said.user(), said.is_personal(self), said.version(now));
        let (Ok(user), Ok(is_personal), Ok(version)) = read else {
            let (user, is_personal, version) = read;
            return Err(fields::refuse([user.err(), is_personal.err(), version.err()]));
        };
        let resource = channel_of(&scope.to_string(), self.kind, &self.id);
        let audience = user.filter(|_| is_personal).map(Arc::from);
        let key = DocumentKey { resource, audience };
        Ok(DocumentWrite { key, user_id: user.map(Box::from), data: data.map(Box::from), version })
    }
}

const USER_ID: &str = "userId";
const AUDIENCE: &str = "audience";
const VERSION: &str = "version";
const DURABILITY: &str = "durability";

/// What a caller says besides the data.
#[derive(Default)]
struct Said<'a> {
    user_id: Option<Cow<'a, str>>,
    audience: Option<Cow<'a, str>>,
    version: Option<Cow<'a, str>>,
}

impl<'a> Said<'a> {
    /// Reads a query, which may have these names and no others.
    fn in_query(query: Option<&'a str>, names: &[&str]) -> Result<Self, ApiError> {
        let mut said = Self::default();
        let pairs = query_pairs(query.unwrap_or_default()).filter(|(name, _)| !name.is_empty());
        for (name, value) in pairs {
            if !names.contains(&&*name) {
                let expected = names.join("', '");
                return Err(ApiError::invalid_input(format!(
                    "'{name}' is not expected in the query of this call, which may have '{expected}'"
                )));
            }
            let place = match &*name {
                USER_ID => &mut said.user_id,
                AUDIENCE => &mut said.audience,
                VERSION => &mut said.version,
                _ => continue,
            };
            if place.replace(value).is_some() {
                return Err(ApiError::invalid_input(format!("{name}: Expected once")));
            }
        }
        Ok(said)
    }

    fn in_body(
        user_id: Option<&'a RawValue>,
        audience: Option<&'a RawValue>,
        version: Option<&'a RawValue>,
    ) -> Read<Self> {
        let text = |path: &str, value: Option<&'a RawValue>| {
            let value = value.filter(|value| !fields::is_null(value));
            value.map(|value| fields::text(path, value, usize::MAX)).transpose()
        };
        Ok(Self {
            user_id: text(USER_ID, user_id)?,
            audience: text(AUDIENCE, audience)?,
            version: text(VERSION, version)?,
        })
    }

    fn user(&self) -> Read<Option<&str>> {
        let user = self.user_id.as_deref().filter(|user| !user.is_empty());
        match user.and_then(name_problem) {
            None => Ok(user),
            Some(problem) => Err(format!("userId: {problem}")),
        }
    }

    /// Whether it is about a user's own document.
    fn is_personal(&self, resource: &Named) -> Read<bool> {
        let is_private = resource.kind.is_private(&resource.id);
        let is_personal = match (self.audience.as_deref(), is_private) {
            (Some("user"), _) | (None, true) => true,
            (Some("shared"), false) | (None, false) => false,
            (Some("shared"), true) => {
                let problem = "collection/private has a document for each user and none for all";
                return Err(format!("audience: {problem}"));
            }
            (Some(_), _) => {
                return Err("audience: Invalid enum value. Expected 'shared' | 'user'".to_owned());
            }
        };
        let names_nobody = self.user_id.as_deref().unwrap_or_default().is_empty();
        if is_personal && names_nobody {
            return Err("userId: Required, as it is about a user's own document".to_owned());
        }
        Ok(is_personal)
    }

    fn version(&self, now: Millis) -> Read<Option<Millis>> {
        let Some(text) = self.version.as_deref() else { return Ok(None) };
        let version = dates::millis(text).filter(|version| iso_millis(*version) == text);
        let version = version.ok_or_else(|| {
            format!("version: Expected a date in UTC with milliseconds, like {DATE}")
        })?;
        if version > now.saturating_add(VERSION_AHEAD_MS_MAX) {
            return Err("version: It is more than 24 hours ahead of the node's clock".to_owned());
        }
        Ok(Some(version))
    }
}

const _: () = assert!(VERSION_AHEAD_MS_MAX == 24 * 3_600_000, "the message names the bound");

/// Refuses `null`, by which subscribers are told that a document was deleted.
fn some_data(value: &RawValue) -> Read<&RawValue> {
    if fields::is_null(value) {
        return Err("data: Expected a value; to remove the document, use DELETE".to_owned());
    }
    Ok(value)
}

impl Reply {
    /// 200: a document was written or deleted under this version, and is as safe as this.
    pub fn document_written(version: Millis, durability: Durability) -> Self {
        let (version, durability) = (iso_millis(version), durability.name());
        Self::json(200, &Written { version, durability })
    }

    /// 200: this is the document, in JSON.
    pub fn document(json: String) -> Self {
        Self::of(200, json)
    }

    /// 409: the version of the write is not later than this one, the latest.
    pub fn document_stale(current: Millis) -> Self {
        let version = iso_millis(current);
        let body = Stale {
            error: "STALE_VERSION",
            message: format!("The write was dropped: its version is not later than {version}"),
            status_code: 409,
            version,
        };
        Self::json(409, &body)
    }

    /// The state of the service: 200, or 503 if clients should go elsewhere.
    pub fn m2_status(is_stopping: bool, problems: &[String]) -> Self {
        let (code, status) = match (problems, is_stopping) {
            (_, true) => (503, "draining"),
            ([], false) => (200, "ok"),
            _ => (503, "unavailable"),
        };
        Self::json(code, &Status { status, problems })
    }
}

impl ApiError {
    /// 404: there is no such kind of resources.
    pub(super) fn unknown_resource_kind(kind: &str) -> Self {
        let message = format!("There are no resources of the type {kind:?}");
        Self::new(404, "NOT_FOUND", message).advise("Use kvStore, collection or liveConfig")
    }

    /// 404: the resource has no document. `title` is the name of its kind.
    pub(super) fn document_not_found(title: &str) -> Self {
        Self::new(404, "NOT_FOUND", format!("{title} resource doesn't currently exist"))
    }

    /// 507: [`DOCUMENTS_MAX`] documents exist.
    pub(super) fn documents_full() -> Self {
        let message = format!("There are {DOCUMENTS_MAX} documents, the most allowed");
        Self::new(507, "LIMIT_REACHED", message).advise("Delete documents that are no longer used")
    }
}

#[derive(Serialize)]
struct Written {
    version: String,
    durability: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Stale {
    error: &'static str,
    message: String,
    status_code: u16,
    version: String,
}

#[derive(Serialize)]
struct Status<'a> {
    status: &'static str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    problems: &'a [String],
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = 1_777_136_400_123;

    fn scope() -> Scope {
        Scope { organization: "o".into(), project: "p/q".into(), ..Scope::default() }
    }

    fn named(kind: ResourceKind, id: &str) -> Named {
        Named { kind, id: id.into() }
    }

    fn written(id: &str, body: &str) -> Result<DocumentWrite, String> {
        let kind = ResourceKind::Collection;
        let write = named(kind, id).write(&scope(), (None, body.as_bytes()), NOW);
        write.map_err(|error| error.to_string())
    }

    #[test]
    fn every_route_is_found() {
        let item = || named(ResourceKind::KvStore, "World:kvstoreClient:a/b c");
        let path = "/api/realtime/resources/kvStore/World:kvstoreClient:a/b%20c";
        let table = [
            ("GET", "/api/realtime", Route::Socket),
            ("GET", "/api/realtime/", Route::Socket),
            ("GET", "/api/realtime/status", Route::Status),
            ("HEAD", "/api/realtime/status/", Route::Status),
            ("PUT", path, Route::Write(item())),
            ("DELETE", path, Route::Delete(item())),
            ("GET", path, Route::Look(item())),
            (
                "GET",
                "/api/realtime/resources/collection/%EF%BF%BD",
                Route::Look(named(ResourceKind::Collection, "\u{fffd}")),
            ),
            ("HEAD", path, Route::Look(item())),
        ];
        for (method, path, expected) in table {
            assert!(is_ours(path), "{path}");
            assert_eq!(route(method, path).unwrap(), expected, "{method} {path}");
        }
        for path in ["/api/realtime/channels", "/api/realtime/resources", "/api/realtime//"] {
            assert!(!is_ours(path), "{path}");
        }
    }

    #[test]
    fn what_is_no_route_is_refused() {
        let long = format!("/api/realtime/resources/kvStore/{}", "x".repeat(513));
        let table = [
            ("POST", "/api/realtime/", 405),
            ("HEAD", "/api/realtime/", 405),
            ("POST", "/api/realtime/status", 405),
            ("POST", "/api/realtime/resources/kvStore/a", 405),
            ("GET", "/api/realtime/resources/kvstore/a", 404),
            ("GET", "/api/realtime/resources/kvStore", 400),
            ("GET", "/api/realtime/resources/kvStore/", 400),
            ("GET", "/api/realtime/resources/kvStore/%ff", 400),
            ("GET", &long, 400),
        ];
        for (method, path, status) in table {
            assert_eq!(route(method, path).unwrap_err().status(), status, "{method} {path}");
        }
    }

    #[test]
    fn a_write_is_read() {
        let version = r#"{"data":[1, 2],"version":"2026-04-25T17:00:00.123Z"}"#;
        let write = written("public", version).unwrap();
        assert_eq!(write.key.resource.as_str(), "o/p%2Fq///collection/public");
        assert_eq!((write.key.audience, write.user_id), (None, None));
        assert_eq!((write.data.as_deref(), write.version), (Some("[1, 2]"), Some(NOW)));
        let author = r#"{"userId":"u","audience":"shared","data":0}"#;
        let write = written("public", author).unwrap();
        assert_eq!((write.key.audience, write.user_id.as_deref()), (None, Some("u")));
        for body in [r#"{"userId":"u","data":0}"#, r#"{"userId":"u","audience":"user","data":0}"#] {
            let write = written("private", body).unwrap();
            assert_eq!(write.key.audience.as_deref(), Some("u"), "{body}");
        }
    }

    #[test]
    fn a_write_that_makes_no_sense_is_told_why() {
        let table = [
            ("public", "{}", "data: Required"),
            ("public", r#"{"data":null}"#, "data: Expected a value; to remove the document"),
            ("public", r#"{"data":1,"userId":1}"#, "userId: Expected string"),
            ("public", r#"{"data":1,"userId":"a\n"}"#, "userId: it has control characters"),
            ("public", r#"{"data":1,"audience":"all"}"#, "audience: Invalid enum value"),
            ("public", r#"{"data":1,"audience":"user"}"#, "userId: Required"),
            ("private", r#"{"data":1}"#, "userId: Required"),
            ("private", r#"{"data":1,"audience":"shared"}"#, "audience: collection/private"),
            ("public", r#"{"data":1,"version":"2026-04-25"}"#, "version: Expected a date in UTC"),
            ("public", r#"{"data":1,"version":"2026-04-25T17:00:00.1Z"}"#, "version: Expected"),
            ("public", r#"{"data":1,"version":"2026-04-26T17:00:00.124Z"}"#, "version: It is more"),
            ("public", "[1]", "Expected object"),
            ("public", "", "Required"),
            ("public", r#"{"data":1,"audiance":"user"}"#, "Unrecognized key(s) in object: 'audi"),
        ];
        for (id, body, expected) in table {
            let problem = written(id, body).unwrap_err();
            assert!(problem.contains(expected), "{body}: {problem}");
        }
    }

    #[test]
    fn a_deletion_is_read_from_body_or_query() {
        let public = named(ResourceKind::Collection, "public");
        let query = Some("userId=u%20v&audience=user&version=2026-04-25T17:00:00.123Z");
        let from_query = public.delete(&scope(), (query, b""), NOW).unwrap();
        let body = br#"{"userId":"u v","audience":"user","version":"2026-04-25T17:00:00.123Z"}"#;
        assert_eq!(public.delete(&scope(), (None, body), NOW).unwrap(), from_query);
        assert_eq!(from_query.key.audience.as_deref(), Some("u v"));
        assert_eq!((from_query.data, from_query.version), (None, Some(NOW)));
        let look = |query, reader| public.look(&scope(), Some(query), reader);
        let own = look("userId=u%20v&audience=user", None).unwrap();
        assert_eq!(own, from_query.key);
        assert_eq!(look("audience=user", Some("u v")).unwrap(), own, "a reader is itself");
        assert!(look("audience=user", None).is_err());
        assert_eq!(look("", Some("u v")).unwrap().audience, None);
    }

    #[test]
    fn what_is_said_in_the_wrong_place_or_misspelt_is_refused() {
        let public = named(ResourceKind::Collection, "public");
        let data = br#"{"data":1}"#;
        let write = |query| public.write(&scope(), (Some(query), data), NOW);
        assert!(write("durability=synced&").is_ok());
        for query in ["userId=u", "audience=user", "version=x", "durabilty=synced"] {
            let error = write(query).unwrap_err().to_string();
            assert!(error.contains("is not expected in the query of this call"), "{error}");
        }
        let delete = |query, body| public.delete(&scope(), (Some(query), body), NOW);
        assert!(delete("userId=u&durability=stored", b"").is_ok());
        assert!(delete("userId=u", br#"{"userId":"v"}"#).is_err());
        assert!(delete("userId=u&userId=u", b"").is_err());
        assert!(delete("", br#"{"userid":"v"}"#).is_err());
        assert!(public.look(&scope(), Some("audiance=user"), None).is_err());
    }

    #[test]
    fn outcomes_are_rendered() {
        let reply = Reply::document_written(NOW, Durability::Synced);
        let body = r#"{"version":"2026-04-25T17:00:00.123Z","durability":"synced"}"#;
        assert_eq!((reply.status, reply.body.as_str()), (200, body));
        let reply = Reply::document_stale(NOW);
        assert!(reply.body.ends_with(r#""version":"2026-04-25T17:00:00.123Z"}"#), "{}", reply.body);
        assert_eq!(Reply::m2_status(false, &[]).body, r#"{"status":"ok"}"#);
        assert_eq!(Reply::m2_status(true, &[]).body, r#"{"status":"draining"}"#);
        let failing = Reply::m2_status(false, &["worker 1 is late".to_owned()]);
        let body = r#"{"status":"unavailable","problems":["worker 1 is late"]}"#;
        assert_eq!((failing.status, failing.body.as_str()), (503, body));
    }
}
