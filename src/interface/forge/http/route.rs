//! Finds the call that a request line of Forge Realtime asks for.

use crate::codec::http::decode_segment;
use crate::interface::forge::limits::INVOCATION_ID_BYTES_MAX;
use crate::interface::forge::modules::Module;
use crate::interface::rest::ApiError;

/// The beginning of all paths of administration.
const ADMINISTRATION: &str = "/admin/";

/// A call of Forge Realtime.
///
/// An id is `None` if the path segment is not a valid id of an invocation. The call refuses it
/// after checking the credential.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Route {
    /// `POST /forge/realtime/v1/publish`
    Publish,
    /// `POST /forge/realtime/v1/publish/global`
    PublishGlobal,
    /// `POST /forge/realtime/v1/token`
    Token,
    /// `GET /forge/realtime/v1/{client.js,client.d.ts,server.js,server.d.ts}`
    Module(Module),
    /// `GET /forge/realtime/v1/ws`
    Socket,
    /// `PUT /admin/v1/invocations/{id}`
    Register(Option<Box<str>>),
    /// `DELETE /admin/v1/invocations/{id}`
    Revoke(Option<Box<str>>),
}

/// Returns whether a path belongs to Forge.
pub fn is_ours(path: &str) -> bool {
    path.starts_with("/forge/") || is_administration(path)
}

/// Returns whether a path is one of administration: what registers and revokes invocations.
pub fn is_administration(path: &str) -> bool {
    path.starts_with(ADMINISTRATION)
}

/// Returns the call that a request line asks for. A query after `?` and one trailing slash are
/// ignored.
///
/// # Errors
/// 404 for an unknown path, 405 with the allowed methods for another method.
pub fn route(method: &str, target: &str) -> Result<Route, ApiError> {
    let sent = target.split_once('?').map_or(target, |(path, _query)| path);
    let path = sent.strip_suffix('/').unwrap_or(sent);
    let found = find(method, path).ok_or_else(|| ApiError::endpoint_not_found(sent));
    let (route, allow) = found?;
    route.ok_or_else(|| ApiError::method_not_allowed(method, path, allow))
}

/// Returns the call and the allowed methods of a path. The call is `None` for another method; the
/// result is `None` for an unknown path.
fn find(method: &str, path: &str) -> Option<(Option<Route>, &'static str)> {
    let only = |wanted, route| Some(((method == wanted).then_some(route), wanted));
    if let Some(id) = path.strip_prefix("/admin/v1/invocations/") {
        return invocation(method, id);
    }
    match path.strip_prefix("/forge/realtime/v1/")? {
        "publish" => only("POST", Route::Publish),
        "publish/global" => only("POST", Route::PublishGlobal),
        "token" => only("POST", Route::Token),
        // No client upgrades with HEAD.
        "ws" => only("GET", Route::Socket),
        name => {
            let module = Route::Module(Module::named(name)?);
            Some((matches!(method, "GET" | "HEAD").then_some(module), "GET, HEAD"))
        }
    }
}

fn invocation(method: &str, segment: &str) -> Option<(Option<Route>, &'static str)> {
    if segment.is_empty() || segment.contains('/') {
        return None;
    }
    let id = || {
        let id = decode_segment(segment).ok()?;
        is_invocation_id(&id).then(|| id.into())
    };
    let route = match method {
        "PUT" => Some(Route::Register(id())),
        "DELETE" => Some(Route::Revoke(id())),
        _ => None,
    };
    Some((route, "PUT, DELETE"))
}

/// Returns whether an id can be written in `forge-proxy-authorization`, whose elements are
/// separated by commas.
fn is_invocation_id(id: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b',';
    (1..=INVOCATION_ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::rest::Reply;

    #[test]
    fn every_route_is_found() {
        let register = |id: &str| Route::Register(Some(id.into()));
        let longest = "x".repeat(INVOCATION_ID_BYTES_MAX);
        let table = [
            ("POST", "publish", Route::Publish),
            ("POST", "publish?x=1", Route::Publish),
            ("POST", "publish/", Route::Publish),
            ("POST", "publish/global", Route::PublishGlobal),
            ("POST", "token", Route::Token),
            ("GET", "ws", Route::Socket),
            ("GET", "ws/?x", Route::Socket),
            ("GET", "client.js", Route::Module(Module::Client)),
            ("HEAD", "client.js?v=2", Route::Module(Module::Client)),
            ("GET", "client.d.ts", Route::Module(Module::ClientTypes)),
            ("GET", "server.js", Route::Module(Module::Server)),
            ("HEAD", "server.d.ts", Route::Module(Module::ServerTypes)),
        ];
        let table = table
            .map(|(method, name, route)| (method, format!("/forge/realtime/v1/{name}"), route));
        let ids = [
            ("PUT", "inv-1", register("inv-1")),
            ("PUT", "a%2Fb=c%25", register("a/b=c%")),
            ("PUT", &longest, register(&longest)),
            ("DELETE", "inv-1", Route::Revoke(Some("inv-1".into()))),
            ("DELETE", "a,b", Route::Revoke(None)),
            ("PUT", "a%20b", Route::Register(None)),
            ("PUT", "%00", Route::Register(None)),
            ("PUT", "%C3%A9", Route::Register(None)),
            ("PUT", &(longest.clone() + "x"), Route::Register(None)),
        ];
        let ids =
            ids.map(|(method, id, route)| (method, format!("/admin/v1/invocations/{id}"), route));
        for (method, path, expected) in table.into_iter().chain(ids) {
            assert!(is_ours(&path));
            assert_eq!(route(method, &path).unwrap(), expected, "{method} {path}");
        }
    }

    #[test]
    fn another_method_is_answered_with_those_to_choose_from() {
        let table = [
            ("GET", "/forge/realtime/v1/publish", "POST"),
            ("PUT", "/forge/realtime/v1/publish/global", "POST"),
            ("HEAD", "/forge/realtime/v1/token", "POST"),
            ("HEAD", "/forge/realtime/v1/ws", "GET"),
            ("POST", "/forge/realtime/v1/ws", "GET"),
            ("POST", "/forge/realtime/v1/client.js", "GET, HEAD"),
            ("get", "/forge/realtime/v1/server.d.ts", "GET, HEAD"),
            ("GET", "/admin/v1/invocations/x", "PUT, DELETE"),
            ("POST", "/admin/v1/invocations/x", "PUT, DELETE"),
        ];
        for (method, path, allow) in table {
            let reply = Reply::from(route(method, path).unwrap_err());
            assert_eq!((reply.status, reply.allow), (405, Some(allow)), "{method} {path}");
        }
    }

    #[test]
    fn an_unknown_path_is_not_found() {
        let paths = [
            "/forge/",
            "/forge/realtime/v1",
            "/forge/realtime/v1/",
            "/forge/realtime/v1/client",
            "/forge/realtime/v1/publish/local",
            "/forge/realtime/v2/publish",
            "/admin/v1/invocations",
            "/admin/v1/invocations/",
            "/admin/v1/invocations/a/b",
        ];
        for path in paths {
            for method in ["GET", "POST", "PUT"] {
                assert_eq!(route(method, path).unwrap_err().status(), 404, "{method} {path}");
            }
        }
        assert!(!is_ours("/api/realtime/channels") && !is_ours("/forge"));
    }
}
