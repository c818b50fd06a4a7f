//! Routes, bodies, queries and replies of M2's calls.

use bytestring::ByteString;

use super::*;
use crate::interface::m2::nouns::ResourceKind;

const NOW: Millis = 1_777_136_400_123;

fn keep(text: &str) -> ByteString {
    text.into()
}

fn scope() -> Scope {
    Scope { organization: "o".into(), project: "p/q".into(), ..Scope::default() }
}

fn named(kind: ResourceKind, id: &str) -> Named {
    Named { kind, id: id.into() }
}

fn written(id: &str, body: &str) -> Result<DocumentWrite, String> {
    let kind = ResourceKind::Collection;
    let write = named(kind, id).write(&scope(), (None, body.as_bytes()), NOW, &keep);
    write.map_err(|error| error.to_string())
}

#[test]
fn an_id_that_clients_would_resolve_is_not_written() {
    for id in [".", "..", "%2e", "%2E.", ".%2e"] {
        let path = format!("/api/realtime/resources/kvStore/{id}");
        let refused = route("PUT", &path).unwrap_err().to_string();
        assert!(refused.contains("clients resolve"), "{id}: {refused}");
        // What earlier releases took can still be removed.
        assert!(route("DELETE", &path).is_ok() && route("GET", &path).is_ok(), "{id}");
    }
    for id in ["...", "a/..", ".a"] {
        assert!(route("PUT", &format!("/api/realtime/resources/kvStore/{id}")).is_ok(), "{id}");
    }
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
    let from_query = public.delete(&scope(), (query, b""), NOW, &keep).unwrap();
    let body = br#"{"userId":"u v","audience":"user","version":"2026-04-25T17:00:00.123Z"}"#;
    assert_eq!(public.delete(&scope(), (None, body), NOW, &keep).unwrap(), from_query);
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
    let write = |query| public.write(&scope(), (Some(query), data), NOW, &keep);
    assert!(write("durability=synced&").is_ok());
    for query in ["userId=u", "audience=user", "version=x", "durabilty=synced"] {
        let error = write(query).unwrap_err().to_string();
        assert!(error.contains("is not expected in the query of this call"), "{error}");
    }
    let delete = |query, body| public.delete(&scope(), (Some(query), body), NOW, &keep);
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
    let status = |is_stopping, problems: &[String], is_bare| {
        let (now, degraded) = (0, None);
        Reply::m2_status(&NodeHealth { now, is_stopping, problems, degraded, is_bare })
    };
    assert_eq!(status(false, &[], false).body, r#"{"status":"ok"}"#);
    assert_eq!(status(true, &[], false).body, r#"{"status":"draining"}"#);
    let late = ["worker 1 is late".to_owned()];
    let bare = status(false, &late, true);
    assert_eq!((bare.status, &*bare.body), (503, r#"{"status":"unavailable"}"#));
    let failing = status(false, &late, false);
    let body = r#"{"status":"unavailable","problems":["worker 1 is late"]}"#;
    assert_eq!((failing.status, failing.body.as_str()), (503, body));
}
