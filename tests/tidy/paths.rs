//! Finds the paths that Rust code names.

/// A path that code names, with all its segments.
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

/// Returns every path that the code names. A group of imports is one path for each member.
pub(crate) fn named_paths(tokens: &[Token]) -> Vec<NamedPath> {
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

/// Reads the path that begins at `at`, behind `prefix`, and returns where it ends.
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

/// Returns the number of tokens of a `pub(…)` at the beginning; 0 for other beginnings.
pub(crate) fn visibility(tokens: &[Token]) -> usize {
    match tokens {
        [first, open, ..] if first.text == "pub" && open.text == "(" => {
            tokens.iter().position(|token| token.text == ")").map_or(0, |end| end + 1)
        }
        _ => 0,
    }
}

/// Returns the number of tokens of a `pub use` at the beginning; 0 for other beginnings.
pub(crate) fn reexport(tokens: &[Token]) -> usize {
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
