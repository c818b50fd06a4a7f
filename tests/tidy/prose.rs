//! Rules of prose: comments name the actor, say more than the name of their item, and cite only
//! what a reader of the repository can open.

use std::collections::BTreeSet;

use crate::Violation;
use crate::lexer::Kind;
use crate::paths::{tokens, visibility};
use crate::source::{Source, closing};

/// The most words of a doc comment that is compared with the name of its item.
const SHORT_WORDS: usize = 3;
/// Words that say nothing about an item.
const EMPTY_WORDS: [&str; 12] =
    ["a", "an", "the", "its", "their", "this", "that", "of", "one", "in", "for", "to"];
/// Pronouns that hide the actor.
const VAGUE_WORDS: [&str; 3] = ["somebody", "nobody", "whoever"];
/// Words for documents that the repository does not hold.
const HIDDEN_DOCUMENTS: [&str; 3] = ["DESIGN", "contract", "contracts"];
/// Beginnings of the names of public documents with sections.
const PUBLIC_DOCUMENTS: [&str; 5] = ["RFC", "ECMA", "IEEE", "W3C", "WHATWG"];
/// Paths with these beginnings must exist; others only if they name a source or a page.
const FOLDERS: [&str; 4] = ["src/", "tests/", "benches/", "loadtest/"];
/// Words in front of the name of an item.
const KEYWORDS: [&str; 14] = [
    "pub", "async", "unsafe", "const", "extern", "fn", "struct", "enum", "union", "static", "type",
    "mod", "trait", "impl",
];
/// No head of an item has more bytes.
const HEAD_BYTES_MAX: usize = 4_000;

/// The files and folders of the repository, relative to its root.
pub(crate) struct Held(BTreeSet<String>);

impl Held {
    pub(crate) fn of(files: &[String]) -> Self {
        let all = files.iter().flat_map(|file| {
            let folders = file.match_indices('/').map(|(end, _)| &file[..end]);
            folders.chain([file.as_str()]).map(str::to_owned)
        });
        Self(all.collect())
    }

    /// Returns whether a path that a comment of `file` cites exists: below the root of the
    /// repository, the file's crate or its `src`, the file's folder, or the folder of its modules.
    fn has(&self, file: &str, cited: &str) -> bool {
        let cited = cited.trim_end_matches('/');
        let sources = if file.starts_with("loadtest/") { "loadtest/src/" } else { "src/" };
        let folder = file.rfind('/').map_or("", |end| &file[..=end]);
        let modules = format!("{}/", file.trim_end_matches(".rs"));
        let package = sources.trim_end_matches("src/");
        let bases = ["", package, sources, folder, &modules];
        bases.iter().any(|base| self.0.contains(&format!("{base}{cited}")))
    }
}

/// A line of a comment.
struct Comment<'a> {
    /// Counted from 1.
    line: usize,
    /// The place of the line's end in the file.
    end: usize,
    /// `///` and `//!` for docs; `//` or empty for others.
    marker: &'static str,
    text: &'a str,
}

/// Returns all lines of comments.
fn comments(source: &Source) -> Vec<Comment<'_>> {
    let mut at = 0;
    let lines = (1..).zip(source.text.split('\n')).filter_map(|(line, text)| {
        let (start, end) = (at, at + text.len());
        at = end + 1;
        let from = source.kinds[start..end].iter().position(|kind| *kind == Kind::Comment)?;
        let text = &text[from..];
        let is_rule = text.starts_with("////");
        let markers = ["///", "//!", "//"].into_iter().filter(|_| !is_rule);
        let marker = markers.into_iter().find(|marker| text.starts_with(marker)).unwrap_or("");
        Some(Comment { line, end, marker, text: text[marker.len()..].trim() })
    });
    lines.collect()
}

/// Finds comments with a pronoun that hides the actor.
pub(crate) fn check_words(source: &Source) -> Vec<Violation> {
    let mut violations = Vec::new();
    for Comment { line, text, .. } in comments(source) {
        let text = text.to_lowercase();
        let mut words = text.split(|c: char| !c.is_alphanumeric());
        if let Some(word) = words.find(|word| VAGUE_WORDS.contains(word)) {
            let message = format!("vague word: {word}; name the client, the caller or the thing");
            violations.push(source.violation(line, message));
        }
    }
    violations
}

/// Finds short docs that only repeat words of the item's name.
pub(crate) fn check_repeats(source: &Source) -> Vec<Violation> {
    let (code, comments) = (source.code(), comments(source));
    let docs = comments.chunk_by(|one, next| {
        one.marker.len() == 3 && one.marker == next.marker && one.line + 1 == next.line
    });
    let mut violations = Vec::new();
    for doc in docs.filter(|doc| doc[0].marker.len() == 3) {
        let text: Vec<_> = doc.iter().flat_map(|one| one.text.split_whitespace()).collect();
        if text.len() > SHORT_WORDS {
            continue;
        }
        let name = match doc[0].marker {
            "//!" => Some(module_name(&source.path).to_owned()),
            _ => item_name(&code[doc[doc.len() - 1].end..]),
        };
        if name.is_some_and(|name| repeats(&text.join(" "), &name)) {
            let message = "repeated name: the doc says no more than the name; give unit, bound, \
                           purpose or reason, or leave it out";
            violations.push(violation(source, doc[0].line, message.into()));
        }
    }
    violations
}

/// Returns a violation in a source whose path begins at the root of the repository.
fn violation(source: &Source, line: usize, message: String) -> Violation {
    Violation { file: source.path.clone(), line, message }
}

/// Returns the name of the module in a file.
fn module_name(path: &str) -> &str {
    let mut parts = path.trim_end_matches(".rs").rsplit('/');
    let name = parts.next().unwrap_or_default();
    if name == "mod" { parts.next().unwrap_or_default() } else { name }
}

/// Returns the name of the item that `code` begins with; `None` if it has no name.
fn item_name(code: &str) -> Option<String> {
    let mut rest = code[..code.len().min(HEAD_BYTES_MAX)].trim_start();
    while let Some(attribute) = rest.strip_prefix("#[") {
        rest = attribute.get(closing(attribute, '[', ']') + 1..)?.trim_start();
    }
    let tokens = tokens(rest);
    let mut words = tokens[visibility(&tokens)..].iter().map(|token| token.text.as_str());
    let name = words.find(|word| !KEYWORDS.contains(word))?;
    name.starts_with(|c: char| c.is_alphabetic()).then(|| name.to_owned())
}

/// Returns whether all words of a doc are words of a name. Words in backticks do not count, because
/// they quote what is on the wire or in a file.
fn repeats(doc: &str, name: &str) -> bool {
    let name = words_of(name);
    let unquoted = doc.split('`').step_by(2).collect::<Vec<_>>().join(" ");
    let words = unquoted.split(|c: char| !c.is_alphanumeric() && c != '\'');
    let words = words.map(str::to_lowercase);
    let mut words = words.filter(|word| !word.is_empty() && !EMPTY_WORDS.contains(&&**word));
    let Some(first) = words.next() else { return false };
    name.contains(&stem(&first)) && words.all(|word| name.contains(&stem(&word)))
}

/// Returns the words of a name in camel or snake case.
fn words_of(name: &str) -> BTreeSet<String> {
    let mut words = vec![String::new()];
    let mut before = '_';
    for c in name.chars() {
        if c == '_' || c.is_uppercase() && !before.is_uppercase() {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| c != '_') {
            word.extend(c.to_lowercase());
        }
        before = c;
    }
    words.iter().map(|word| stem(word)).collect()
}

/// Returns a word without the ending of the plural, the genitive or a verb's third person.
fn stem(word: &str) -> String {
    let word = word.strip_suffix("'s").unwrap_or(word);
    let short = word.strip_suffix('s').filter(|short| short.len() > 1);
    short.unwrap_or(word).to_owned()
}

/// Finds comments that cite what a reader of the repository cannot open.
pub(crate) fn check_citations(source: &Source, held: &Held) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut before = Comment { line: 0, end: 0, marker: "", text: "" };
    for comment in comments(source) {
        let Comment { line, text, .. } = comment;
        let mut words = text.split(|c: char| !c.is_alphanumeric());
        if let Some(word) = words.find(|word| HIDDEN_DOCUMENTS.contains(word)) {
            let message = format!("citation: {word} is not in the repository; say what holds");
            violations.push(violation(source, line, message));
        }
        let is_public = |text: &str| PUBLIC_DOCUMENTS.iter().any(|name| text.contains(name));
        let is_told = is_public(text) || before.line + 1 == line && is_public(before.text);
        if cites_section(text) && !is_told {
            let message = "citation: a section of no document; name the RFC or public document";
            violations.push(violation(source, line, message.into()));
        }
        for path in cited_paths(text).filter(|path| !held.has(&source.path, path)) {
            let message = format!("citation: `{path}` is not in the repository; name its path");
            violations.push(violation(source, line, message));
        }
        before = comment;
    }
    violations
}

/// Returns whether a text has the word "section" in front of a number.
fn cites_section(text: &str) -> bool {
    let words: Vec<_> = text.split_whitespace().collect();
    words.windows(2).any(|pair| {
        let word = pair[0].trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
        matches!(word.as_str(), "section" | "sections") && pair[1].starts_with(char::is_numeric)
    })
}

/// Returns the paths of sources, pages and folders in backticks, except globs, names with
/// placeholders, and `mod.rs`, which every folder may have.
fn cited_paths(text: &str) -> impl Iterator<Item = &str> {
    let last = text.matches('`').count();
    let quoted = text.split('`').enumerate().filter(move |(at, _)| at % 2 == 1 && *at < last);
    quoted.map(|(_, quoted)| quoted).filter(|quoted| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
        let is_path = [".rs", ".md"].iter().any(|ending| quoted.ends_with(ending));
        let is_below = FOLDERS.iter().any(|folder| quoted.starts_with(folder));
        let is_name = quoted != &"mod.rs" && !quoted.starts_with('.');
        (is_path || is_below) && is_name && quoted.chars().all(is_plain)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines;

    #[test]
    fn vague_words_are_found_in_comments() {
        let text = "/// Somebody's.\nfn f() { g(\"nobody\") } // Whoever.\n/* nobodys */\n";
        assert_eq!(lines(check_words, "broker/a.rs", text), [1, 2]);
    }

    #[test]
    fn docs_that_repeat_the_name_are_found() {
        let cases = [
            ("/// The channel.\npub(crate) channel: Channel,", true),
            ("/// The user's ids.\n#[serde(\n default)]\npub struct UserId;", true),
            ("/// Kills it.\npub const fn kill() {}", false),
            ("/// Kills.\npub const fn kill() {}", true),
            ("/// Turns.\nimpl Turns for World {}", true),
            ("/// The channel to join.\nchannel: Channel,", false),
            ("/// The retained channel.\nchannel: Channel,", false),
            ("/// The\n/// channel.\nchannel: Channel,", true),
            ("/// `GET`.\nGet,", false),
            ("// The channel.\nchannel: Channel,", false),
            ("//! The parser.\n", true),
            ("//! Frames.\n", false),
        ];
        for (text, found) in cases {
            let found = if found { vec![1] } else { vec![] };
            assert_eq!(lines(check_repeats, "codec/parser/mod.rs", text), found, "{text}");
        }
    }

    #[test]
    fn citations_of_what_no_reader_has_are_found() {
        let files =
            ["src/codec/mask.rs", "src/codec/mask/key.rs", "tests/sim/main.rs", "README.md"];
        let held = Held::of(&files.map(str::to_owned));
        let cases = [
            ("// see DESIGN 3", true),
            ("// as the contract asks", true),
            ("// a designer contracted", false),
            ("// see section 5.1", true),
            ("// see RFC 6455 (section 5.1)", false),
            ("// see RFC 6455\n// sections 5.1 and 5.2", false),
            ("// see RFC 6455\nlet x;\n// section 5.1", true),
            ("// a section of text", false),
            ("// `mask.rs`, `codec/mask.rs`, `src/codec/mask.rs`, `key.rs`, `README.md`", false),
            ("// `tests/sim`, `tests/sim/`, `src/<room>/mod.rs`, `src/*.rs`, `.rs`", false),
            ("// `codec.rs`", true),
            ("// `tests/gone`", true),
            ("// `notes.md`", true),
            ("// `notes.toml` and notes.md", false),
            ("let path = \"`notes.md`\";", false),
        ];
        for (text, found) in cases {
            let source = Source::new("src/codec/mask.rs", text);
            assert_eq!(!check_citations(&source, &held).is_empty(), found, "{text}");
        }
    }
}
