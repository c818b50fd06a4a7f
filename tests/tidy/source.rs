//! Rust source as the rules see it: code, comments and literals, tests and production code. This is
//! no parser, but exact enough for sources that rustfmt wrote.

use crate::lexer::{Kind, kinds};
use crate::paths::{NamedPath, named_paths, reexport, tokens, visibility};

/// A source file, with the kind of each byte.
pub(crate) struct Source {
    /// The path below `src`; of other files the path below the root of the repository.
    pub(crate) path: String,
    pub(crate) text: String,
    /// The kind of each byte of the text.
    pub(crate) kinds: Vec<Kind>,
    /// The first and the last line of each test module, counted from 0.
    pub(crate) test_spans: Vec<(usize, usize)>,
    /// Whether the whole file is a test module.
    pub(crate) is_test: bool,
}

impl Source {
    /// Creates the sources of files under `src`, each a path and a text, and finds those that are
    /// test modules.
    pub(crate) fn all(files: impl Iterator<Item = (String, String)>) -> Vec<Self> {
        let mut sources: Vec<_> = files.map(|(path, text)| Self::new(path, text)).collect();
        let tests: Vec<_> = sources.iter().flat_map(Self::test_files).collect();
        for source in &mut sources {
            // A test module in a file of its own, or in a folder.
            source.is_test = tests.iter().any(|test| {
                let rest = source.path.strip_prefix(test.as_str());
                rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
            });
        }
        sources
    }

    pub(crate) fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        let (path, text) = (path.into(), text.into());
        let kinds = kinds(&text);
        let mut source = Self { path, text, kinds, test_spans: Vec::new(), is_test: false };
        source.test_spans = source.find_test_spans();
        source
    }

    /// Returns the first folder or file under `src`.
    pub(crate) fn module(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or_default();
        first.trim_end_matches(".rs")
    }

    pub(crate) fn is_under(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }

    /// Returns the text with blanks for comments and the insides of literals, byte for byte.
    pub(crate) fn code(&self) -> String {
        let bytes = self.text.bytes().zip(&self.kinds);
        let blanked = bytes.map(|(byte, kind)| match (byte, kind) {
            (b'\n', _) => '\n',
            (byte, Kind::Code) if byte.is_ascii() => char::from(byte),
            _ => ' ',
        });
        blanked.collect()
    }

    pub(crate) fn paths(&self) -> Vec<NamedPath> {
        named_paths(&tokens(&self.code()))
    }

    /// Returns the paths that production code names.
    pub(crate) fn production_paths(&self) -> Vec<NamedPath> {
        self.paths().into_iter().filter(|path| !self.is_test_line(path.line)).collect()
    }

    /// Returns the paths that production code names, except in `pub use`.
    pub(crate) fn imports(&self) -> Vec<NamedPath> {
        let mut rest = &tokens(&self.code())[..];
        let mut kept = Vec::new();
        while let Some(first) = rest.first() {
            let length = reexport(rest).max(visibility(rest));
            if length == 0 {
                kept.push(first.clone());
            }
            rest = &rest[length.max(1)..];
        }
        named_paths(&kept).into_iter().filter(|path| !self.is_test_line(path.line)).collect()
    }

    /// Returns whether a line, counted from 1, is in a test module.
    pub(crate) fn is_test_line(&self, line: usize) -> bool {
        self.test_spans.iter().any(|&(from, to)| (from..=to).contains(&(line - 1)))
    }

    /// Returns the module of this crate that a path leads to; `None` for paths to other crates.
    pub(crate) fn own_module(&self, path: &NamedPath) -> Option<String> {
        let first = path.segments.first()?.as_str();
        if first == "crate" || first == "fanfare" {
            return path.segments.get(1).cloned();
        }
        let supers = path.segments.iter().take_while(|segment| *segment == "super").count();
        // `src/<a>.rs` and `src/<a>/mod.rs` are one step below the crate, `src/<a>/<b>.rs` two.
        let folders = self.path.matches('/').count();
        let depth = if self.path.ends_with("/mod.rs") { folders } else { folders + 1 };
        (supers > 0 && supers == depth).then(|| path.segments.get(supers).cloned())?
    }

    fn find_test_spans(&self) -> Vec<(usize, usize)> {
        let code = self.code();
        let modules = test_modules(&code);
        modules
            .filter_map(|(start, rest)| {
                let open = rest.find(['{', ';'])?;
                let inner = rest[open..].strip_prefix('{')?;
                let end = rest.len() - inner.len() + closing(inner, '{', '}');
                let last = start + (code.len() - start - rest.len()) + end;
                Some((line_of(&code, start) - 1, line_of(&code, last) - 1))
            })
            .collect()
    }

    /// Returns the paths, without `.rs`, of test modules that this file declares without a body.
    fn test_files(&self) -> Vec<String> {
        let folder = match self.path.rsplit_once('/') {
            Some((folder, "mod.rs")) => format!("{folder}/"),
            Some(_) => format!("{}/", self.path.trim_end_matches(".rs")),
            None if matches!(self.path.as_str(), "lib.rs" | "main.rs") => String::new(),
            None => format!("{}/", self.path.trim_end_matches(".rs")),
        };
        let code = self.code();
        test_modules(&code)
            .filter_map(|(_, rest)| {
                let (name, _) = rest.split_once(['{', ';'])?;
                let is_elsewhere = rest[name.len()..].starts_with(';');
                is_elsewhere.then(|| format!("{folder}{}", name.trim()))
            })
            .collect()
    }
}

/// Returns the places of `#[cfg(test)] mod` in `code`, each with the code from the module's name
/// on.
fn test_modules(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.match_indices("#[cfg(test)]").filter_map(|(start, attribute)| {
        let rest = code[start + attribute.len()..].trim_start();
        let rest = rest.strip_prefix("pub(crate) ").unwrap_or(rest);
        let rest = rest.strip_prefix("pub(super) ").unwrap_or(rest);
        Some((start, rest.strip_prefix("mod ")?))
    })
}

/// Returns the line of a byte, counted from 1.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Returns the place of the bracket that closes one before `code`; the end if it stays open.
pub(crate) fn closing(code: &str, open: char, close: char) -> usize {
    let mut depth = 1;
    for (at, c) in code.char_indices() {
        if c == open {
            depth += 1;
        } else if c == close {
            depth -= 1;
        }
        if depth == 0 {
            return at;
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_modules_in_files_of_their_own_are_known() {
        let declares =
            |path| Source::new(path, "#[cfg(test)]\nmod tests;\nmod other;").test_files();
        assert_eq!(declares("wire/mod.rs"), ["wire/tests"]);
        assert_eq!(declares("wire/frame.rs"), ["wire/frame/tests"]);
        assert_eq!(declares("config.rs"), ["config/tests"]);
        assert_eq!(declares("lib.rs"), ["tests"]);
    }

    #[test]
    fn literals_and_comments_are_told_from_code() {
        let text = r##"a("b\"c", r#"d"e"#, 'f', '\'', b"g") /* h /* i */ j */ k::<'l>() // m"##;
        let code = Source::new("a.rs", text).code();
        let words: String = code.chars().filter(|c| c.is_alphanumeric()).collect();
        assert_eq!(words, "arbkl");
    }
}
