//! The modules for pages and resolvers, as files that the node serves.

use std::net::Ipv4Addr;

use crate::support::Node;
use crate::tcp;

const MODULES: [(&str, &str); 4] = [
    ("client.js", "text/javascript; charset=utf-8"),
    ("client.d.ts", "application/typescript; charset=utf-8"),
    ("server.js", "text/javascript; charset=utf-8"),
    ("server.d.ts", "application/typescript; charset=utf-8"),
];
const ORIGIN: (&str, &str) = ("origin", "https://app.example");

fn path(name: &str) -> String {
    format!("/forge/realtime/v1/{name}")
}

#[test]
fn modules_are_served_to_pages_from_anywhere() {
    let node = Node::start();
    for (name, media_type) in MODULES {
        let response = node.request("GET", &path(name), &[ORIGIN], b"");
        assert_eq!(response.status, 200, "{name}");
        assert_eq!(response.header("content-type"), Some(media_type), "{name}");
        assert_eq!(response.header("cache-control"), Some("public, max-age=3600"), "{name}");
        assert_eq!(response.header("access-control-allow-origin"), Some(ORIGIN.1), "{name}");
        assert!(response.text().len() > 500 && response.text().contains("publish"), "{name}");

        let tag = response.header("etag").expect("it has a tag").to_owned();
        assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() > 2, "{tag}");
        let known = [tag.clone(), format!("\"x\", {tag}"), format!("W/{tag}"), "*".to_owned()];
        for known in known {
            let headers = [("if-none-match", known.as_str()), ORIGIN];
            let again = node.request("GET", &path(name), &headers, b"");
            assert_eq!((again.status, again.body.len()), (304, 0), "{name} {known}");
            assert_eq!(again.header("etag"), Some(tag.as_str()), "{name}");
            assert_eq!(again.header("cache-control"), Some("public, max-age=3600"), "{name}");
            assert_eq!(again.header("access-control-allow-origin"), Some(ORIGIN.1), "{name}");
        }
        let headers = [("if-none-match", "\"x\"")];
        let other = node.request("GET", &path(name), &headers, b"");
        assert_eq!((other.status, &other.body), (200, &response.body), "{name}");
    }
}

#[test]
fn modules_are_read_and_nothing_else() {
    let node = Node::start();
    for (name, media_type) in MODULES {
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            let response = node.request(method, &path(name), &[], b"{}");
            assert_eq!((response.status, response.header("allow")), (405, Some("GET, HEAD")));
        }
        // Both use one connection, on which a body in the answer to HEAD would be taken for the
        // next answer.
        let mut tcp = tcp::Tcp::connect((Ipv4Addr::LOCALHOST, node.port()).into());
        let mut lengths = Vec::new();
        for method in ["HEAD", "GET"] {
            tcp.send(tcp::request(&[&format!("{method} {} HTTP/1.1", path(name))], ""));
            let answer = tcp.response_to(method);
            assert_eq!((answer.status, answer.header("content-type")), (200, Some(media_type)));
            lengths.push(answer.header("content-length").map(str::to_owned));
        }
        assert!(lengths[0].is_some() && lengths[0] == lengths[1], "{lengths:?}");
    }
    for name in ["client", "client.ts", "Client.js", "modules/client.js", "..%2fclient.js"] {
        assert_eq!(node.request("GET", &path(name), &[], b"").status, 404, "{name}");
    }
}

#[test]
fn a_page_may_ask_whether_it_may_call() {
    let node = Node::start();
    let asked = "content-type, forge-proxy-authorization";
    for name in ["publish", "publish/global", "token", "client.js"] {
        let headers = [ORIGIN, ("access-control-request-headers", asked)];
        let response = node.request("OPTIONS", &path(name), &headers, b"");
        assert_eq!(response.status, 204, "{name}");
        assert_eq!(response.header("access-control-allow-origin"), Some(ORIGIN.1), "{name}");
        assert_eq!(response.header("access-control-allow-headers"), Some(asked), "{name}");
    }
    for name in ["publish", "publish/global", "token"] {
        let refused = node.request("POST", &path(name), &[ORIGIN], b"{}");
        assert_eq!((refused.status, refused.header("vary")), (401, Some("Origin")), "{name}");
        assert_eq!(refused.header("access-control-allow-origin"), Some(ORIGIN.1), "{name}");
        let response = node.request("GET", &path(name), &[], b"");
        assert_eq!((response.status, response.header("allow")), (405, Some("POST")), "{name}");
    }
}
