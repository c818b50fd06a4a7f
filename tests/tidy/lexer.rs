//! Tells the code of Rust source from comments and literals.

/// The kind of a byte of Rust source. Delimiters of literals are code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Code,
    Comment,
    /// The inside of a string or character literal.
    Text,
}

/// Returns the kind of each byte of Rust source.
pub(crate) fn kinds(text: &str) -> Vec<Kind> {
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

/// Returns the kind and the length of the piece that begins here. A literal is one piece with its
/// delimiters.
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

/// Returns the lengths of a literal's opening delimiter and of its inside.
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

/// Returns the length of the raw string that begins here; `None` if none begins.
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

/// Returns the number of bytes up to the closing quote, which is included.
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

/// Returns the length of the character literal that begins here; `None` for a lifetime.
fn character(rest: &str) -> Option<usize> {
    let inside = &rest[1..];
    if inside.starts_with('\\') {
        return Some(1 + quoted(inside, '\''));
    }
    let first = inside.chars().next()?;
    inside[first.len_utf8()..].starts_with('\'').then(|| 2 + first.len_utf8())
}
