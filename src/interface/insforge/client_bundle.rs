//! The Socket.IO client's own files, which pages load from `/socket.io/`. They are served as the
//! stock server does: with the client's version as entity tag, to be checked at each use.

use std::collections::BTreeMap;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::codec::http::{Method, Request, Response};
use crate::config::client_files::ClientFiles;
use crate::interface::rest::{ApiError, Reply};

/// The folder in whose place the files are.
const FOLDER: &str = "/socket.io/";
/// The configuration key that has to be set, for people.
const UNSET: &str = "Set engine_io.client_dir to the folder `dist` of the npm package \
                     socket.io-client, or load the client from elsewhere";
const MISSING: &str = "The folder of engine_io.client_dir has no such file: take that of another \
                       version of the client, or load another file";

/// The client's files, as the node holds them since its start.
#[derive(Debug, Default)]
pub struct ClientBundle {
    /// The entity tag of all files; empty if no folder is configured.
    etag: String,
    files: BTreeMap<&'static str, File>,
}

#[derive(Debug)]
struct File {
    plain: Vec<u8>,
    gzip: Vec<u8>,
}

impl ClientBundle {
    /// Compresses the files and keeps them; `None` if no folder is configured.
    pub fn new(found: Option<ClientFiles>) -> Self {
        let Some(ClientFiles { version, files }) = found else { return Self::default() };
        let files = files.into_iter().map(|(name, plain)| {
            let gzip = compress(&plain);
            (name, File { plain, gzip })
        });
        Self { etag: format!("\"{version}\""), files: files.collect() }
    }
}

fn compress(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    written.expect("writing to a vector cannot fail")
}

/// Returns the name of the client's file that a path asks for; `None` for paths of Engine.IO. Names
/// that look like a script are answered as a missing file, because no transport has such a path.
pub(super) fn file_name(path: &str) -> Option<&str> {
    let name = path.strip_prefix(FOLDER)?;
    (name.ends_with(".js") || name.ends_with(".map")).then_some(name)
}

/// Returns the file, an empty 304 if the client has this version, or a 404 that names the setting.
pub(super) fn response(bundle: &ClientBundle, request: &Request, name: &str) -> Response {
    if !matches!(request.method, Method::Get | Method::Head) {
        let method = request.method_name();
        return Reply::from(ApiError::method_not_allowed(method, &request.path, "GET, HEAD"))
            .into();
    }
    let Some(file) = bundle.files.get(name) else {
        let advice = match bundle.etag.is_empty() {
            true => UNSET,
            false => MISSING,
        };
        return Reply::from(ApiError::no_client_file(&request.path, advice)).into();
    };
    let is_known = |known: &str| known.strip_prefix("W/").unwrap_or(known) == bundle.etag;
    let response = match request.header("if-none-match") {
        Some(list) if list.split(',').any(|known| is_known(known.trim())) => Response::empty(304),
        _ if accepts_gzip(request) => Response::with_type(200, media_type(name), file.gzip.clone())
            .header("Content-Encoding", "gzip"),
        _ => Response::with_type(200, media_type(name), file.plain.clone()),
    };
    response
        .header("Cache-Control", "public, max-age=0")
        .header("ETag", bundle.etag.clone())
        .header("Vary", "Accept-Encoding")
}

fn media_type(name: &str) -> &'static str {
    match name.ends_with(".map") {
        true => "application/json; charset=utf-8",
        false => "application/javascript; charset=utf-8",
    }
}

/// Returns whether a client takes gzip (RFC 9110 section 12.5.3).
fn accepts_gzip(request: &Request) -> bool {
    let codings = || request.header_values("accept-encoding").flat_map(|list| list.split(','));
    let takes = |coding: &str| {
        codings().find_map(|one| {
            let mut parts = one.split(';').map(str::trim);
            let is_it = parts.next()?.eq_ignore_ascii_case(coding);
            let weight = parts.find_map(|part| part.strip_prefix("q=")).unwrap_or("1");
            is_it.then(|| weight.parse::<f32>().is_ok_and(|weight| weight > 0.0))
        })
    };
    takes("gzip").or_else(|| takes("*")).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::codec::http::parse_head;

    const NAME: &str = "socket.io.js";

    fn request(line: &str, headers: &str) -> Request {
        let head = format!("{line} HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
        parse_head(head.as_bytes()).unwrap().unwrap().0
    }

    fn get(headers: &str) -> Request {
        request("GET /socket.io/socket.io.js", headers)
    }

    fn header<'r>(response: &'r Response, name: &str) -> Option<&'r str> {
        response.headers.iter().find(|(header, _)| *header == name).map(|(_, value)| &**value)
    }

    fn bundle() -> ClientBundle {
        let files = vec![(NAME, b"let x = 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx';".to_vec())];
        ClientBundle::new(Some(ClientFiles { version: "4.8.4".to_owned(), files }))
    }

    #[test]
    fn gzip_is_sent_to_clients_that_take_it() {
        let bundle = bundle();
        let plain = bundle.files[NAME].plain.clone();
        for (accepted, is_gzip) in [
            ("", false),
            ("Accept-Encoding: gzip, deflate, br\r\n", true),
            ("Accept-Encoding: br;q=1.0, GZIP;q=0.2\r\n", true),
            ("Accept-Encoding: br\r\nAccept-Encoding: gzip\r\n", true),
            ("Accept-Encoding: *\r\n", true),
            ("Accept-Encoding: br, identity\r\n", false),
            ("Accept-Encoding: gzip;q=0, *\r\n", false),
            ("Accept-Encoding: *;q=0\r\n", false),
        ] {
            let response = response(&bundle, &get(accepted), NAME);
            let coding = header(&response, "Content-Encoding");
            assert_eq!((response.status, coding), (200, is_gzip.then_some("gzip")), "{accepted}");
            let mut body = response.body.as_bytes().to_vec();
            if is_gzip {
                let mut unpacked = Vec::new();
                flate2::read::GzDecoder::new(&*body).read_to_end(&mut unpacked).unwrap();
                body = unpacked;
            }
            assert_eq!(body, plain, "{accepted}");
        }
    }

    #[test]
    fn a_known_version_is_not_sent_again() {
        let bundle = bundle();
        for (known, status) in [
            (r#""4.8.4""#, 304),
            (r#"W/"4.8.4""#, 304),
            (r#""4.8.3", "4.8.4""#, 304),
            (r#""4.8.3""#, 200),
            ("4.8.4", 200),
        ] {
            let response = response(&bundle, &get(&format!("If-None-Match: {known}\r\n")), NAME);
            assert_eq!(response.status, status, "{known}");
            assert_eq!(header(&response, "ETag"), Some(r#""4.8.4""#));
        }
    }

    #[test]
    fn only_names_of_files_are_taken_from_engineio() {
        assert_eq!(file_name("/socket.io/socket.io.js"), Some(NAME));
        assert_eq!(file_name("/socket.io/socket.io.slim.js"), Some("socket.io.slim.js"));
        for path in ["/socket.io/", "/socket.io", "/socket.io/below/", "/engine.io/a.js"] {
            assert_eq!(file_name(path), None, "{path}");
        }
    }
}
