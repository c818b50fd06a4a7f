//! Rust source as the rules see it: code told from comments and literals, tests from production,
//! and every path that is named. Not a parser, and exact enough for sources that rustfmt wrote.

/// One file under `src`, and what its text is made of.
pub(crate) struct Source {
    /// Under `src`, with `/` between folders.
    pub(crate) path: String,
    pub(crate) text: String,
    /// What each byte belongs to.
    pub(crate) kinds: Vec<Kind>,
    /// First and last lines of its test modules, counted from 0.
    pub(crate) test_spans: Vec<(usize, usize)>,
    /// The file itself is a test module.
    pub(crate) is_test: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Code,
    Comment,
    /// Inside a string or character literal.
    Text,
}

/// A path as code names it, from its first segment on.
pub(crate) struct NamedPath {
    pub(crate) line: usize,
    pub(crate) segments: Vec<String>,
}

impl NamedPath {
    pub(crate) fn starts_with(&self, segments: &[&str]) -> bool {
        self.segments.len() >= segments.len()
            && self.segments.iter().zip(segments).all(|(own, other)| own == other)
    }
}

impl Source {
    /// Takes all files under `src`, each with its path there and its text, and finds out which of
    /// them are test modules.
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

    /// The first folder or file under `src`.
    pub(crate) fn module(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or_default();
        first.trim_end_matches(".rs")
    }

    pub(crate) fn is_under(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }

    /// The text with comments and the insides of literals blanked, byte for byte.
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

    /// Without those in test modules.
    pub(crate) fn production_paths(&self) -> Vec<NamedPath> {
        self.paths().into_iter().filter(|path| !self.is_test_line(path.line)).collect()
    }

    /// The paths of production code, without those that a `pub use` hands on.
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

    /// Whether a line, counted from 1, stands in a test module.
    pub(crate) fn is_test_line(&self, line: usize) -> bool {
        self.test_spans.iter().any(|&(from, to)| (from..=to).contains(&(line - 1)))
    }

    /// The module of this crate that a path leads to, if it leads to one.
    pub(crate) fn own_module(&self, path: &NamedPath) -> Option<String> {
        let first = path.segments.first()?.as_str();
        if first == "crate" || first == "fanfare" {
            return path.segments.get(1).cloned();
        }
        let supers = path.segments.iter().take_while(|segment| *segment == "super").count();
        // `src/a.rs` and `src/a/mod.rs` are one step below the crate, `src/a/b.rs` two.
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

    /// Paths, without ending, of test modules that this file declares and others hold.
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

/// Places of `#[cfg(test)] mod` in `code`, each with the code from the module's name on.
fn test_modules(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.match_indices("#[cfg(test)]").filter_map(|(start, attribute)| {
        let rest = code[start + attribute.len()..].trim_start();
        let rest = rest.strip_prefix("pub(crate) ").unwrap_or(rest);
        let rest = rest.strip_prefix("pub(super) ").unwrap_or(rest);
        Some((start, rest.strip_prefix("mod ")?))
    })
}

/// Counted from 1.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Where the bracket closes that was open before `code`; its end when it never does.
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

/// What each byte of Rust source belongs to. Delimiters of literals count as code.
fn kinds(text: &str) -> Vec<Kind> {
    let bytes = text.as_bytes();
    let mut kinds = Vec::with_capacity(bytes.len());
    while kinds.len() < bytes.len() {
        let at = kinds.len();
        let rest = &text[at..];
        let (kind, length) = piece(rest, text[..at].chars().next_back());
        if kind == Kind::Text {
            let (before, inside) = literal(rest, length);
            kinds.resize(at + before, Kind::Code);
            kinds.resize(at + before + inside, Kind::Text);
            kinds.resize(at + length, Kind::Code);
        } else {
            kinds.resize(at + length, kind);
        }
    }
    kinds
}

/// The kind and length of what begins here; for a literal both are those of all of it.
fn piece(rest: &str, before: Option<char>) -> (Kind, usize) {
    let first = rest.chars().next().unwrap_or_default();
    if rest.starts_with("//") {
        return (Kind::Comment, rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return (Kind::Comment, block_comment(rest));
    }
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if let Some(length) = raw_string(rest).filter(|_| !in_word) {
        return (Kind::Text, length);
    }
    match first {
        '"' => (Kind::Text, 1 + quoted(&rest[1..], '"')),
        '\'' => match character(rest) {
            Some(length) => (Kind::Text, length),
            // A lifetime.
            None => (Kind::Code, 1),
        },
        _ => (Kind::Code, first.len_utf8()),
    }
}

/// How many bytes of a literal come before its inside, and how many that has.
fn literal(rest: &str, length: usize) -> (usize, usize) {
    let quote = rest.find(['"', '\'']).unwrap_or(0);
    let hashes = rest[..quote].matches('#').count();
    let closing = 1 + hashes;
    (quote + 1, length.saturating_sub(quote + 1 + closing))
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        let here = &rest.as_bytes()[at..];
        if here.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with(b"*/") {
            depth -= 1;
            at += 2;
        } else {
            at += 1;
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// The length of a raw string, if one begins here.
fn raw_string(rest: &str) -> Option<usize> {
    let prefix = ["r", "br", "cr"].into_iter().find(|prefix| {
        let rest = rest.strip_prefix(prefix).map(|rest| rest.trim_start_matches('#'));
        rest.is_some_and(|rest| rest.starts_with('"'))
    })?;
    let hashes = rest[prefix.len()..].chars().take_while(|c| *c == '#').count();
    let open = prefix.len() + hashes + 1;
    let end = format!("\"{}", "#".repeat(hashes));
    let inside = rest[open..].find(&end).unwrap_or(rest.len() - open);
    Some((open + inside + end.len()).min(rest.len()))
}

/// Bytes up to and with the closing quote.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The length of a character literal, if one begins here and not a lifetime.
fn character(rest: &str) -> Option<usize> {
    let inside = &rest[1..];
    if inside.starts_with('\\') {
        return Some(1 + quoted(inside, '\''));
    }
    let first = inside.chars().next()?;
    inside[first.len_utf8()..].starts_with('\'').then(|| 2 + first.len_utf8())
}

#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) line: usize,
    /// A word, `::`, or one other character.
    pub(crate) text: String,
}

pub(crate) fn tokens(code: &str) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut line = 1;
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let in_word = |c: char| c.is_alphanumeric() || c == '_';
        let length = match first {
            c if in_word(c) => rest.find(|c| !in_word(c)).unwrap_or(rest.len()),
            ':' if rest.starts_with("::") => 2,
            c => c.len_utf8(),
        };
        if first == '\n' {
            line += 1;
        }
        if !first.is_whitespace() {
            tokens.push(Token { line, text: rest[..length].to_owned() });
        }
        rest = &rest[length..];
    }
    tokens
}

/// Every path that the code names, groups of imports taken apart.
fn named_paths(tokens: &[Token]) -> Vec<NamedPath> {
    let mut paths = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let goes_on = at > 0 && matches!(tokens[at - 1].text.as_str(), "." | "::");
        // A leading `::` names a crate, as in `::monoio::time`.
        let is_global = goes_on
            && tokens[at - 1].text == "::"
            && (at < 2 || !(is_word(&tokens[at - 2]) || tokens[at - 2].text == ">"));
        if is_word(&tokens[at]) && (!goes_on || is_global) {
            at = take_path(tokens, at, &[], &mut paths);
        } else {
            at += 1;
        }
    }
    paths
}

/// Takes the path that begins at `at`, behind `prefix`; answers where it ends.
fn take_path(
    tokens: &[Token],
    mut at: usize,
    prefix: &[String],
    paths: &mut Vec<NamedPath>,
) -> usize {
    let line = tokens[at].line;
    let mut segments = prefix.to_vec();
    loop {
        segments.push(tokens[at].text.clone());
        at += 1;
        if tokens.get(at).is_none_or(|token| token.text != "::") {
            break;
        }
        match tokens.get(at + 1) {
            Some(token) if is_word(token) => at += 1,
            Some(token) if token.text == "{" => {
                return take_group(tokens, at + 2, &segments, paths);
            }
            // A glob, or type arguments: the path so far is what counts.
            _ => break,
        }
    }
    paths.push(NamedPath { line, segments });
    at
}

fn take_group(
    tokens: &[Token],
    mut at: usize,
    prefix: &[String],
    paths: &mut Vec<NamedPath>,
) -> usize {
    while at < tokens.len() && tokens[at].text != "}" {
        at = if is_word(&tokens[at]) { take_path(tokens, at, prefix, paths) } else { at + 1 };
    }
    at + 1
}

/// How many tokens of a `pub(…)` stand at the beginning; 0 if none does.
fn visibility(tokens: &[Token]) -> usize {
    match tokens {
        [first, open, ..] if first.text == "pub" && open.text == "(" => {
            tokens.iter().position(|token| token.text == ")").map_or(0, |end| end + 1)
        }
        _ => 0,
    }
}

/// How many tokens of a `pub use` stand at the beginning; 0 if none does.
fn reexport(tokens: &[Token]) -> usize {
    if tokens.first().is_none_or(|token| token.text != "pub") {
        return 0;
    }
    // `pub(in a::b) use` has the most words before it.
    let is_use = tokens.iter().take(8).take_while(|token| token.text != ";");
    let end = tokens.iter().position(|token| matches!(token.text.as_str(), ";" | "fn" | "="));
    match (is_use.into_iter().any(|token| token.text == "use"), end) {
        (true, Some(end)) if tokens[end].text == ";" => end + 1,
        _ => 0,
    }
}

fn is_word(token: &Token) -> bool {
    token.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
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
