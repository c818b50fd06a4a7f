//! Rules that clippy does not have: places of unsafe code, reasons of relaxed lints, and leftovers.

use crate::Violation;
use crate::paths::tokens;
use crate::source::{Source, closing, line_of};

const UNSAFE_PATHS: [&str; 3] = ["codec/websocket/mask.rs", "metrics/heap.rs", "runtime/"];

pub(crate) fn check_unsafe(source: &Source) -> Vec<Violation> {
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

pub(crate) fn check_reasons(source: &Source) -> Vec<Violation> {
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

pub(crate) fn check_leftovers(source: &Source) -> Vec<Violation> {
    // Spelled in two parts, so that a search for leftovers does not find this line.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines;

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
}
