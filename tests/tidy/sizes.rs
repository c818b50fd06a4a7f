//! Rules of sizes: lines, files and the number of crates.

use std::collections::BTreeSet;

use crate::Violation;
use crate::lexer::Kind;
use crate::source::Source;

/// The most lines of a file, its test modules left out.
const FILE_LINES_MAX: usize = 800;

/// The most characters of a line, the contents of its string literals left out.
const LINE_CHARS_MAX: usize = 100;

/// The most packages in Cargo.lock: for all platforms, tests and benches.
const LOCKED_CRATES_MAX: usize = 480;

/// The most crates in the Linux build.
const LINUX_CRATES_MAX: usize = 280;

pub(crate) fn check_length(source: &Source) -> Vec<Violation> {
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

pub(crate) fn check_line_length(source: &Source) -> Vec<Violation> {
    // The contents of string literals do not count, because not every literal can be broken.
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

pub(crate) fn check_locked(lock: &str) -> Vec<Violation> {
    let count = lock.lines().filter(|line| *line == "[[package]]").count();
    assert!(count > 0, "Cargo.lock names packages");
    too_many("Cargo.lock", count, LOCKED_CRATES_MAX)
}

/// Checks the output of `cargo tree`: a line names a crate, with a star if it was listed before.
pub(crate) fn check_built(tree: &str) -> Vec<Violation> {
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
    use crate::lines;

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
    fn too_many_crates_are_found() {
        let lock = |count| "[[package]]\nname = \"x\"\n".repeat(count);
        assert!(check_locked(&lock(LOCKED_CRATES_MAX)).is_empty());
        assert_eq!(check_locked(&lock(LOCKED_CRATES_MAX + 1)).len(), 1);
        let tree = |count| (0..count).map(|at| format!("c{at} v1.0.0\nc{at} v1.0.0 (*)\n"));
        assert!(check_built(&tree(LINUX_CRATES_MAX).collect::<String>()).is_empty());
        assert_eq!(check_built(&tree(LINUX_CRATES_MAX + 1).collect::<String>()).len(), 1);
    }
}
