//! Rules of imports: which rooms and crates each room may name, and which ones must stay pure.

use crate::Violation;
use crate::source::Source;

/// The pure rooms: bytes, state and decisions, without clock, socket and thread.
const PURE: [&str; 5] = ["codec", "broker", "auth", "cluster", "interface"];

/// The rooms (the first folder or file under `src`) that each room may import, besides itself.
const IMPORTS: [(&str, &[&str]); 12] = [
    ("message", &["limits"]),
    ("limits", &["message"]),
    ("codec", &["limits"]),
    ("config", &["message", "limits"]),
    ("metrics", &["message", "limits"]),
    ("auth", &["message", "limits", "codec"]),
    ("mailbox", &["message", "limits", "metrics"]),
    ("broker", &["message", "limits", "metrics", "mailbox"]),
    ("cluster", &["message", "limits"]),
    (
        "interface",
        &[
            "message", "limits", "codec", "config", "metrics", "auth", "mailbox", "broker",
            "cluster",
        ],
    ),
    (
        "runtime",
        &[
            "message",
            "limits",
            "codec",
            "config",
            "metrics",
            "auth",
            "mailbox",
            "broker",
            "interface",
        ],
    ),
    (
        "background",
        &["message", "limits", "codec", "config", "metrics", "auth", "mailbox", "cluster"],
    ),
];

/// The rooms that `main` may import: it starts the node, loads its configuration and prints tokens.
const MAIN_IMPORTS: &[&str] = &["auth", "config", "interface", "metrics", "node"];

/// The modules that may import everything: one declares the rooms, the other starts and stops them.
const UNRESTRICTED: [&str; 2] = ["lib", "node"];

/// Crates by their name in code, each with the only paths that may name it.
const CONFINED: [(&str, &[&str]); 12] = [
    ("monoio", HOT_PATHS),
    ("io_uring", HOT_PATHS),
    ("tokio", COLD_PATHS),
    ("rusqlite", COLD_PATHS),
    ("tokio_postgres", COLD_PATHS),
    ("sqlx", COLD_PATHS),
    ("async_nats", COLD_PATHS),
    ("reqwest", COLD_PATHS),
    ("rustls", &["background/", "codec/tls"]),
    ("rustls_native_certs", COLD_PATHS),
    ("tokio_rustls", COLD_PATHS),
    ("mimalloc", &["main.rs"]),
];

const HOT_PATHS: &[&str] = &["runtime/"];

const COLD_PATHS: &[&str] = &["background/"];

pub(crate) fn check_imports(source: &Source) -> Vec<Violation> {
    let module = source.module();
    if source.is_test || UNRESTRICTED.contains(&module) {
        return Vec::new();
    }
    let allowed = if module == "main" {
        MAIN_IMPORTS
    } else {
        match IMPORTS.iter().find(|(name, _)| *name == module) {
            Some((_, allowed)) => *allowed,
            None => {
                let message = format!(
                    "imports: module `{module}` is not in the table; say in tests/tidy/imports.rs \
                     what it may import, and in the architecture page why it exists"
                );
                return vec![source.violation(1, message)];
            }
        }
    };
    let mut violations = Vec::new();
    for path in source.production_paths() {
        let Some(target) = source.own_module(&path) else { continue };
        if target == module || allowed.contains(&target.as_str()) {
            continue;
        }
        let list = if allowed.is_empty() { "nothing of ours".into() } else { allowed.join(", ") };
        let message = format!(
            "imports: `{module}` may not import `{target}` (it may import {list}); move what is \
             shared into `message`, or let the caller pass it in"
        );
        violations.push(source.violation(path.line, message));
    }
    violations
}

pub(crate) fn check_confined_crates(source: &Source) -> Vec<Violation> {
    let mut violations = Vec::new();
    for path in source.paths() {
        let Some((name, places)) = CONFINED.iter().find(|(name, _)| path.starts_with(&[name]))
        else {
            continue;
        };
        if !source.is_under(places) {
            let message = format!(
                "crate names: `{name}` belongs into {}; ask for what is needed in a `Mail`, or \
                 pass the outcome in",
                places.join(", ")
            );
            violations.push(source.violation(path.line, message));
        }
    }
    violations
}

pub(crate) fn check_pure(source: &Source) -> Vec<Violation> {
    if source.is_test || !PURE.contains(&source.module()) {
        return Vec::new();
    }
    let module = source.module();
    let mut violations = Vec::new();
    for path in source.production_paths() {
        let clock = path
            .segments
            .iter()
            .any(|segment| matches!(segment.as_str(), "Instant" | "SystemTime" | "UNIX_EPOCH"));
        let (what, instead) = if clock {
            ("reads no clock", "take `now` as an argument")
        } else if path.starts_with(&["std", "net"]) {
            ("touches no socket", "take and give bytes")
        } else if path.starts_with(&["std", "thread"]) {
            ("knows no threads", "leave waiting and running to `runtime` and `background`")
        } else {
            continue;
        };
        let named = path.segments.join("::");
        let message = format!("pure core: `{module}` {what} (`{named}`); {instead}");
        violations.push(source.violation(path.line, message));
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines;

    #[test]
    fn imports_against_the_table_are_found() {
        let cases = [
            ("broker/a.rs", "use crate::interface::Session;", true),
            ("broker/a.rs", "use crate::message::Channel;", false),
            ("broker/a.rs", "use crate::broker::b;\nuse super::b;", false),
            ("broker/a.rs", "use crate::{limits::X, auth::{Frame, Mask}};", true),
            ("broker/a.rs", "fn f() { crate::auth::frame() }", true),
            ("broker/a.rs", "fn f() { let auth = self.crate_auth::<u8>(); }", false),
            ("broker/mod.rs", "use super::auth;", true),
            ("broker/a/b.rs", "use super::super::super::auth;", true),
            ("broker/a/b.rs", "use super::super::auth;", false),
            ("broker/a.rs", "// crate::auth\nconst X: &str = \"crate::auth\";", false),
            ("broker/a.rs", "#[cfg(test)]\nmod tests { use crate::auth::Frame; }", false),
            ("interface/a.rs", "use crate::runtime::Worker;", true),
            ("mailbox/a.rs", "use crate::broker::X;", true),
            ("runtime/a.rs", "use crate::background::Store;", true),
            ("runtime/a.rs", "use crate::{broker, interface, mailbox};", false),
            ("background/a.rs", "use crate::mailbox::Mail;", false),
            ("background/a.rs", "use crate::interface::Route;", true),
            ("message.rs", "use crate::limits::X;", false),
            ("message.rs", "use crate::broker::X;", true),
            ("message.rs", "use super::broker;", true),
            ("node/start.rs", "use crate::{background, runtime};", false),
            ("main.rs", "use fanfare::{auth, config, node};", false),
            ("main.rs", "fn main() { fanfare::runtime::run() }", true),
            ("helpers.rs", "", true),
        ];
        for (path, text, found) in cases {
            assert_eq!(!lines(check_imports, path, text).is_empty(), found, "{path}: {text}");
        }
    }

    #[test]
    fn crates_out_of_place_are_found() {
        let cases = [
            ("broker/a.rs", "use monoio::net::TcpStream;", true),
            ("runtime/a.rs", "use monoio::net::TcpStream;", false),
            ("runtime/mod.rs", "fn f() { monoio::spawn(x) }", false),
            ("runtime/driver.rs", "use io_uring::IoUring;", false),
            ("node/threads.rs", "use io_uring::IoUring;", true),
            ("runtime/a.rs", "use tokio::sync::mpsc;", true),
            ("runtime/a.rs", "fn f() { ::tokio::spawn(x) }", true),
            ("background/store/sqlite.rs", "use rusqlite::Connection;", false),
            ("interface/a.rs", "use rusqlite::{self, Connection};", true),
            ("interface/a.rs", "let x = self.tokio.x; // tokio::spawn", false),
            ("interface/a.rs", "let x = own::tokio::x();", false),
        ];
        for (path, text, found) in cases {
            assert_eq!(
                !lines(check_confined_crates, path, text).is_empty(),
                found,
                "{path}: {text}"
            );
        }
    }

    #[test]
    fn clocks_sockets_and_threads_in_the_pure_core_are_found() {
        let cases = [
            ("broker/a.rs", "use std::time::Instant;", true),
            ("broker/a.rs", "use std::{fmt, time::{Duration, SystemTime}};", true),
            ("broker/a.rs", "let now = time::Instant::now();", true),
            ("broker/a.rs", "use std::time::Duration;", false),
            ("codec/a.rs", "use std::net::SocketAddr;", true),
            ("auth/a.rs", "fn f() { std::thread::sleep(x) }", true),
            ("auth/a.rs", "#[cfg(test)]\nmod tests { fn f() { std::thread::sleep(x) } }", false),
            ("runtime/a.rs", "use std::{thread, net, time::Instant};", false),
        ];
        for (path, text, found) in cases {
            assert_eq!(!lines(check_pure, path, text).is_empty(), found, "{path}: {text}");
        }
    }
}
