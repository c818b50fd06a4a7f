//! The client modules: files of JavaScript and TypeScript that the node serves.

use std::fmt::Write as _;
use std::sync::LazyLock;

use sha2::{Digest, Sha256};

use crate::codec::http::Response;

/// A file that the node serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Module {
    /// `client.js`, which front ends import to subscribe and publish.
    Client,
    /// `client.d.ts`, the types of `client.js`.
    ClientTypes,
    /// `server.js`, which back ends import to publish and to request realtime tokens.
    Server,
    /// `server.d.ts`, the types of `server.js`.
    ServerTypes,
}

impl Module {
    /// All modules, in the order of the variants and of `ETAGS`.
    pub const ALL: [Self; 4] = [Self::Client, Self::ClientTypes, Self::Server, Self::ServerTypes];

    /// Returns the name of the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client.js",
            Self::ClientTypes => "client.d.ts",
            Self::Server => "server.js",
            Self::ServerTypes => "server.d.ts",
        }
    }

    /// Returns the module of that file name; `None` for other names.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|module| module.name() == name)
    }

    /// Returns the file, or an empty 304 if `If-None-Match` names its current version.
    pub fn response(self, if_none_match: Option<&str>) -> Response {
        let etag = &*ETAGS[self as usize];
        let response = match if_none_match {
            Some(known) if is_among(known, etag) => Response::empty(304),
            _ => Response::with_type(200, self.media_type(), self.source()),
        };
        response.header("ETag", etag).header("Cache-Control", "public, max-age=3600")
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Client | Self::Server => "text/javascript; charset=utf-8",
            Self::ClientTypes | Self::ServerTypes => "application/typescript; charset=utf-8",
        }
    }

    fn source(self) -> &'static [u8] {
        match self {
            Self::Client => include_bytes!("modules/client.js"),
            Self::ClientTypes => include_bytes!("modules/client.d.ts"),
            Self::Server => include_bytes!("modules/server.js"),
            Self::ServerTypes => include_bytes!("modules/server.d.ts"),
        }
    }
}

/// Bytes of the SHA-256 hash in an entity tag: enough to tell all versions of a file apart.
const ETAG_BYTES: usize = 16;

/// The entity tags, in the order of [`Module::ALL`].
static ETAGS: LazyLock<[String; 4]> = LazyLock::new(|| Module::ALL.map(etag));

fn etag(module: Module) -> String {
    let mut etag = String::from('"');
    for byte in &Sha256::digest(module.source())[..ETAG_BYTES] {
        let _ = write!(etag, "{byte:02x}");
    }
    etag.push('"');
    etag
}

/// Returns whether a list of entity tags has this one, weak or not (RFC 9110 section 13.1.2).
/// Splitting at commas is right for the node's own tags, which have none.
fn is_among(list: &str, etag: &str) -> bool {
    let mut tags = list.split(',').map(str::trim);
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header<'r>(response: &'r Response, name: &str) -> Option<&'r str> {
        let found = response.headers.iter().find(|(header, _)| *header == name);
        found.map(|(_, value)| &**value)
    }

    #[test]
    fn each_module_is_served_under_its_name() {
        let table = [
            ("client.js", "text/javascript; charset=utf-8", "createRealtime("),
            ("client.d.ts", "application/typescript; charset=utf-8", "createRealtime("),
            ("server.js", "text/javascript; charset=utf-8", "publishGlobal"),
            ("server.d.ts", "application/typescript; charset=utf-8", "signRealtimeToken"),
        ];
        for (name, media_type, part) in table {
            let module = Module::named(name).unwrap();
            let response = module.response(None);
            assert_eq!((module.name(), response.status), (name, 200));
            assert_eq!(header(&response, "Content-Type"), Some(media_type));
            assert_eq!(header(&response, "Cache-Control"), Some("public, max-age=3600"));
            let text = std::str::from_utf8(response.body.as_bytes()).unwrap();
            assert!(text.contains(part), "{name} has no {part}");
        }
        assert!(Module::named("client").is_none() && Module::named("").is_none());
    }

    #[test]
    fn a_module_that_a_client_has_is_not_sent_again() {
        let mut seen = Vec::new();
        for module in Module::ALL {
            let first = module.response(None);
            let etag = header(&first, "ETag").unwrap().to_owned();
            assert!(etag.starts_with('"') && etag.ends_with('"') && etag.len() == 34, "{etag}");
            let known =
                [etag.clone(), format!("W/{etag}"), format!("\"x\", {etag}"), "*".to_owned()];
            for known in known {
                let again = module.response(Some(&known));
                assert_eq!((again.status, again.body.as_bytes()), (304, &b""[..]), "{known}");
                assert_eq!(header(&again, "ETag"), Some(&*etag));
                assert_eq!(header(&again, "Content-Type"), None);
            }
            for other in ["", "\"x\"", etag.trim_matches('"')] {
                assert_eq!(module.response(Some(other)).status, 200, "{other}");
            }
            assert!(!seen.contains(&etag), "no two modules are taken for each other");
            seen.push(etag);
        }
    }
}
