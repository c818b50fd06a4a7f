//! The rules of this code base that a machine can check. What each is for stands at its message.

#[path = "tidy/rooms.rs"]
mod rooms;
#[path = "tidy/source.rs"]
mod source;

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use source::{Kind, Source, closing, line_of, tokens};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Lines of a file without its tests.
const FILE_LINES_MAX: usize = 800;
/// Characters of a line without what its string literals hold.
const LINE_CHARS_MAX: usize = 100;
/// Packages in Cargo.lock, for all platforms and with what only tests and benches need.
const LOCKED_CRATES_MAX: usize = 480;
/// Crates that end up in the Linux build.
const LINUX_CRATES_MAX: usize = 280;

/// What a visitor of the repository sees first. Names that begin with a dot do not show.
const TOP_LEVEL: [&str; 10] = [
    "Cargo.toml",
    "Cargo.lock",
    "LICENSE",
    "README.md",
    "tuning.md",
    "src",
    "benches",
    "deploy",
    "loadtest",
    "tests",
];

/// Rooms that are pure: bytes, state and decisions. They know no clock, no socket and no thread.
const PURE: [&str; 4] = ["codec", "broker", "auth", "interface"];

/// Which rooms (the first folder or file under `src`) each may import, besides itself.
const IMPORTS: [(&str, &[&str]); 11] = [
    ("message", &["limits"]),
    ("limits", &["message"]),
    ("codec", &["limits"]),
    ("config", &["message", "limits"]),
    ("metrics", &["message", "limits"]),
    ("auth", &["message", "limits", "codec"]),
    ("mailbox", &["message", "limits", "metrics"]),
    ("broker", &["message", "limits", "metrics", "mailbox"]),
    (
        "interface",
        &["message", "limits", "codec", "config", "metrics", "auth", "mailbox", "broker"],
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
    ("background", &["message", "limits", "codec", "config", "metrics", "auth", "mailbox"]),
];
/// `main` starts the node, loads its configuration and prints tokens.
const MAIN_IMPORTS: &[&str] = &["auth", "config", "interface", "node"];
/// These two see everything: one declares the modules, the other starts and stops them.
const UNRESTRICTED: [&str; 2] = ["lib", "node"];

/// Crates that stay where they belong: their name in code, and the paths that may name them.
const CONFINED: [(&str, &[&str]); 9] = [
    ("monoio", HOT_PATHS),
    ("io_uring", HOT_PATHS),
    ("tokio", COLD_PATHS),
    ("rusqlite", COLD_PATHS),
    ("tokio_postgres", COLD_PATHS),
    ("sqlx", COLD_PATHS),
    ("async_nats", COLD_PATHS),
    ("reqwest", COLD_PATHS),
    ("mimalloc", &["main.rs"]),
];
const HOT_PATHS: &[&str] = &["runtime/"];
const COLD_PATHS: &[&str] = &["background/"];
const UNSAFE_PATHS: [&str; 2] = ["codec/websocket/mask.rs", "runtime/"];

#[test]
fn the_sources_are_tidy() {
    // New files are checked before they are added.
    let files = git_files(&["--cached", "--others", "--exclude-standard", "--", "src"]);
    let sources = Source::all(files.iter().filter_map(|path| read_source(path)));
    assert!(sources.len() > 2, "the sources are found");
    let checks = [
        check_length,
        check_line_length,
        check_imports,
        check_confined_crates,
        check_pure,
        check_unsafe,
        check_reasons,
        check_leftovers,
        rooms::check_axis,
        rooms::check_names,
    ];
    let each = sources.iter().flat_map(|source| checks.iter().flat_map(|check| check(source)));
    let mut violations: Vec<_> = each.collect();
    violations.extend(rooms::check_circles(&sources));
    report(&violations);
}

#[test]
fn the_top_level_shows_what_it_should() {
    report(&check_top_level(&git_files(&["--cached"])));
}

#[test]
fn the_dependencies_are_few() {
    let lock = fs::read_to_string(Path::new(ROOT).join("Cargo.lock")).expect("it is in git");
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "-e", "normal", "--prefix", "none", "-p", "fanfare"])
        .args(["--target", "x86_64-unknown-linux-gnu"])
        .current_dir(ROOT)
        .output()
        .expect("cargo runs");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).expect("cargo writes UTF-8");
    let mut violations = check_locked(&lock);
    violations.extend(check_built(&tree));
    report(&violations);
}

/// Returns the paths that `git ls-files` lists with these arguments, in order and relative to the
/// root of the repository.
fn git_files(arguments: &[&str]) -> Vec<String> {
    let listed = Command::new("git")
        .args(["ls-files", "-z"])
        .args(arguments)
        .current_dir(ROOT)
        .output()
        .expect("git runs");
    assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let paths = String::from_utf8(listed.stdout).expect("names are UTF-8");
    let mut paths: Vec<_> = paths.split_terminator('\0').map(str::to_owned).collect();
    paths.sort_unstable();
    paths
}

/// Returns the path below `src` of a Rust source, and its text. `None` for other files, and for
/// those that are deleted but still in git's index.
fn read_source(path: &str) -> Option<(String, String)> {
    let name = path.strip_prefix("src/").filter(|name| name.ends_with(".rs"))?;
    let file = Path::new(ROOT).join(path);
    file.exists().then(|| (name.to_owned(), fs::read_to_string(file).expect("sources are UTF-8")))
}

fn report(violations: &[Violation]) {
    let list: Vec<_> = violations.iter().map(ToString::to_string).collect();
    assert!(list.is_empty(), "{} violation(s):\n{}", list.len(), list.join("\n"));
}

struct Violation {
    file: String,
    line: usize,
    message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}

impl Source {
    fn violation(&self, line: usize, message: String) -> Violation {
        Violation { file: format!("src/{}", self.path), line, message }
    }
}

fn check_length(source: &Source) -> Vec<Violation> {
    if source.is_test {
        return Vec::new();
    }
    let tests: usize = source.test_spans.iter().map(|&(from, to)| to - from + 1).sum();
    let lines = source.text.lines().count() - tests;
    if lines <= FILE_LINES_MAX {
        return Vec::new();
    }
    let message = format!(
        "file length: {lines} lines without tests, at most {FILE_LINES_MAX}; make it a folder of \
         the same name and give each part a file"
    );
    vec![source.violation(1, message)]
}

fn check_line_length(source: &Source) -> Vec<Violation> {
    // What a string literal holds does not count: it cannot always be broken.
    let mut violations = Vec::new();
    let mut at = 0;
    for (index, line) in source.text.split('\n').enumerate() {
        let counted =
            line.char_indices().filter(|(place, _)| source.kinds[at + place] != Kind::Text);
        let chars = counted.count();
        at += line.len() + 1;
        if chars > LINE_CHARS_MAX {
            let message = format!(
                "line length: {chars} characters without its strings, at most {LINE_CHARS_MAX}; \
                 run `cargo fmt`, and break comments by hand"
            );
            violations.push(source.violation(index + 1, message));
        }
    }
    violations
}

fn check_imports(source: &Source) -> Vec<Violation> {
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
                    "imports: module `{module}` is not in the table; say in tests/tidy.rs what it \
                     may import, and in the architecture page why it exists"
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

fn check_confined_crates(source: &Source) -> Vec<Violation> {
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

fn check_pure(source: &Source) -> Vec<Violation> {
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

fn check_unsafe(source: &Source) -> Vec<Violation> {
    if source.is_under(&UNSAFE_PATHS) {
        return Vec::new();
    }
    let tokens = tokens(&source.code());
    let found = tokens.iter().filter(|token| token.text == "unsafe");
    let message = format!(
        "unsafe: only under {}; look for a safe call in rustix, or move it there",
        UNSAFE_PATHS.join(", ")
    );
    found.map(|token| source.violation(token.line, message.clone())).collect()
}

fn check_reasons(source: &Source) -> Vec<Violation> {
    let code = source.code();
    let mut violations = Vec::new();
    for (start, _) in code.match_indices('#') {
        let rest = code[start + 1..].strip_prefix('!').unwrap_or(&code[start + 1..]);
        let Some(attribute) = rest.strip_prefix('[') else { continue };
        let attribute = &attribute[..closing(attribute, '[', ']')];
        let words: Vec<_> = tokens(attribute).into_iter().map(|token| token.text).collect();
        let relaxes = words
            .windows(2)
            .any(|pair| matches!(pair[0].as_str(), "allow" | "expect") && pair[1] == "(");
        if relaxes && !words.iter().any(|word| word == "reason") {
            let line = line_of(&code, start);
            let message = "lints: a relaxed lint says why; add `reason = \"…\"`, or obey it";
            violations.push(source.violation(line, message.into()));
        }
    }
    violations
}

fn check_leftovers(source: &Source) -> Vec<Violation> {
    // Spelled apart, so that this file does not accuse itself.
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let mut violations = Vec::new();
    for (index, line) in source.text.lines().enumerate() {
        let mut found = line.split(|c: char| !c.is_ascii_alphanumeric());
        if let Some(word) = found.find(|word| words.contains(word)) {
            let message =
                format!("leftovers: {word}; do it, or open an issue and say nothing here");
            violations.push(source.violation(index + 1, message));
        }
    }
    violations
}

/// `files` are paths relative to the root of the repository.
fn check_top_level(files: &[String]) -> Vec<Violation> {
    let names: BTreeSet<_> =
        files.iter().map(|path| path.split('/').next().unwrap_or(path)).collect();
    assert!(names.contains("Cargo.toml"), "the root of the repository is listed");
    let strangers = names.iter().filter(|name| !name.starts_with('.') && !TOP_LEVEL.contains(name));
    let message = format!(
        "top level: only {} show there; put it into one of those folders, or hide settings in a \
         dot file",
        TOP_LEVEL.join(", ")
    );
    strangers
        .map(|name| Violation { file: (*name).to_owned(), line: 1, message: message.clone() })
        .collect()
}

fn check_locked(lock: &str) -> Vec<Violation> {
    let count = lock.lines().filter(|line| *line == "[[package]]").count();
    assert!(count > 0, "Cargo.lock names packages");
    too_many("Cargo.lock", count, LOCKED_CRATES_MAX)
}

/// `tree` names a crate a line; one that was listed before is marked with a star.
fn check_built(tree: &str) -> Vec<Violation> {
    let crates: BTreeSet<_> = tree
        .lines()
        .map(|line| line.trim_end_matches(" (*)").trim())
        .filter(|line| !line.is_empty())
        .collect();
    assert!(!crates.is_empty(), "the tree names crates");
    too_many("Cargo.toml", crates.len(), LINUX_CRATES_MAX)
}

fn too_many(file: &str, count: usize, most: usize) -> Vec<Violation> {
    if count <= most {
        return Vec::new();
    }
    let message = format!(
        "dependencies: {count} crates, at most {most}; turn off features, or do without one"
    );
    vec![Violation { file: file.into(), line: 1, message }]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines at which the check objects.
    fn lines(check: fn(&Source) -> Vec<Violation>, path: &str, text: &str) -> Vec<usize> {
        check(&Source::new(path, text)).into_iter().map(|violation| violation.line).collect()
    }

    #[test]
    fn long_files_are_found_and_their_tests_do_not_count() {
        let long = "x();\n".repeat(FILE_LINES_MAX);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "t();\n".repeat(500));
        assert_eq!(lines(check_length, "broker/a.rs", &long), []);
        assert_eq!(lines(check_length, "broker/a.rs", &format!("{long}{tests}")), []);
        assert_eq!(lines(check_length, "broker/a.rs", &format!("{long}y();\n{tests}")), [1]);
        assert_eq!(lines(check_length, "broker/a.rs", &format!("{tests}{long}y();\n")), [1]);
    }

    #[test]
    fn long_lines_are_found_and_strings_do_not_count() {
        let of = |length| "é".repeat(length);
        let text = format!("// {}\n// {}\n", of(97), of(98));
        assert_eq!(lines(check_line_length, "broker/a.rs", &text), [2]);
        let text = format!("let x = \"{}\";\nlet y = r#\"{}\"#; // {}\n", of(200), of(9), of(90));
        assert_eq!(lines(check_line_length, "broker/a.rs", &text), [2]);
    }

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

    #[test]
    fn unsafe_out_of_place_is_found() {
        let code = "fn f() {\n    unsafe { g() }\n}\n";
        assert_eq!(lines(check_unsafe, "broker/a.rs", code), [2]);
        assert_eq!(lines(check_unsafe, "codec/websocket/mod.rs", code), [2]);
        assert_eq!(lines(check_unsafe, "codec/websocket/mask.rs", code), []);
        assert_eq!(lines(check_unsafe, "runtime/poller.rs", code), []);
        assert_eq!(lines(check_unsafe, "broker/a.rs", "// unsafe\nlet x = \"unsafe\";"), []);
        assert_eq!(lines(check_unsafe, "broker/a.rs", "#![deny(unsafe_code)]"), []);
    }

    #[test]
    fn relaxed_lints_without_a_reason_are_found() {
        let bare = "#[allow(dead_code)]\nfn f() {}\n#![expect(clippy::all)]\n";
        assert_eq!(lines(check_reasons, "a.rs", bare), [1, 3]);
        let reasoned = "#[allow(\n    dead_code,\n    reason = \"[why]\"\n)]\nfn f() {}\n";
        assert_eq!(lines(check_reasons, "a.rs", reasoned), []);
        assert_eq!(lines(check_reasons, "a.rs", "#[cfg_attr(x, allow(y))]\nfn f() {}"), [1]);
        assert_eq!(lines(check_reasons, "a.rs", "x.expect(\"it holds\"); // #[allow(x)]"), []);
    }

    #[test]
    fn leftovers_are_found() {
        let word = concat!("TO", "DO");
        let text = format!("fn f() {{}}\n// {word}: later\n// {word}S are other words\n");
        assert_eq!(lines(check_leftovers, "a.rs", &text), [2]);
    }

    #[test]
    fn strangers_at_the_top_are_found() {
        let files =
            ["Cargo.toml", "src/lib.rs", ".github/ci.yml", "docs/a.md", "docs/b.md", "Makefile"];
        let found = check_top_level(&files.map(String::from));
        let files: Vec<_> = found.iter().map(|violation| violation.file.as_str()).collect();
        assert_eq!(files, ["Makefile", "docs"]);
    }

    #[test]
    fn files_are_listed_by_git() {
        let files = git_files(&["--cached"]);
        assert!(files.iter().any(|path| path == "tests/tidy.rs"));
        assert!(files.iter().all(|path| !path.starts_with("target/")));
        let (name, text) = read_source("src/lib.rs").expect("it is there");
        assert!(name == "lib.rs" && !text.is_empty());
        assert_eq!(read_source("src/gone.rs"), None);
        assert_eq!(read_source("README.md"), None);
    }

    #[test]
    fn too_many_crates_are_found() {
        let lock = |count| "[[package]]\nname = \"x\"\n".repeat(count);
        assert!(check_locked(&lock(LOCKED_CRATES_MAX)).is_empty());
        assert_eq!(check_locked(&lock(LOCKED_CRATES_MAX + 1)).len(), 1);
        let tree = |count| (0..count).map(|at| format!("c{at} v1.0.0\nc{at} v1.0.0 (*)\n"));
        assert!(check_built(&tree(LINUX_CRATES_MAX).collect::<String>()).is_empty());
        assert_eq!(check_built(&tree(LINUX_CRATES_MAX + 1).collect::<String>()).len(), 1);
    }
}
