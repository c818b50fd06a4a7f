//! `LIKE` as PostgreSQL has it: the case matters, `%` stands for any run of characters, `_` for
//! one, and a backslash, or another character that `ESCAPE` names, takes both their meaning away.
//!
//! SQLite's own goes back to every `%` of a pattern, which a pattern of a few dozen characters
//! makes last for hours. This one goes back to the latest alone, which finds the same, and says
//! what it costs.

use thiserror::Error;

/// Why there is no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub(super) enum LikeError {
    /// The pattern's last character takes the meaning of one that is not there.
    #[error("LIKE pattern must not end with escape character")]
    EndsWithEscape,
    /// It would take too long.
    #[error("LIKE compares too many characters")]
    TooMuch,
}

/// A part of a pattern.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    /// This character.
    Exactly(char),
    /// Any one character.
    One,
    /// Any run of characters.
    Any,
}

/// Whether a text matches a pattern. Takes what it compares off `budget`.
///
/// # Errors
/// When the pattern makes no sense, or the budget is used up.
pub(super) fn like(
    pattern: &str,
    text: &str,
    escape: Option<char>,
    budget: &mut usize,
) -> Result<bool, LikeError> {
    let pattern = parse(pattern, escape)?;
    // Where the part behind the latest run lies, and what of the text it was tried on last.
    let mut latest: Option<(usize, &str)> = None;
    let (mut at, mut rest) = (0, text);
    loop {
        *budget = budget.checked_sub(1).ok_or(LikeError::TooMuch)?;
        let mut chars = rest.chars();
        let next = chars.next();
        let fits = match (pattern.get(at), next) {
            (Some(Part::Any), _) => {
                at += 1;
                latest = Some((at, rest));
                continue;
            }
            (None, None) => return Ok(true),
            (Some(Part::One), Some(_)) => true,
            (Some(Part::Exactly(wanted)), Some(found)) => *wanted == found,
            _ => false,
        };
        if fits {
            (at, rest) = (at + 1, chars.as_str());
            continue;
        }
        // The text's end fits nothing that a longer run could put in front of it.
        let Some((behind, tried)) = latest.filter(|_| next.is_some()) else { return Ok(false) };
        let mut chars = tried.chars();
        chars.next();
        latest = Some((behind, chars.as_str()));
        (at, rest) = (behind, chars.as_str());
    }
}

fn parse(pattern: &str, escape: Option<char>) -> Result<Vec<Part>, LikeError> {
    let mut parts = Vec::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(char) = chars.next() {
        parts.push(match char {
            _ if Some(char) == escape => {
                Part::Exactly(chars.next().ok_or(LikeError::EndsWithEscape)?)
            }
            '%' => Part::Any,
            '_' => Part::One,
            _ => Part::Exactly(char),
        });
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_like(text: &str, pattern: &str) -> Result<bool, LikeError> {
        like(pattern, text, Some('\\'), &mut 1_000_000)
    }

    #[test]
    fn matches_are_as_the_table_says() {
        let table = [
            ("order:1", "order:%", true),
            ("Order:1", "order:%", false),
            ("order:", "order:%", true),
            ("order:1", "order:_", true),
            ("order:12", "order:_", false),
            ("ü", "_", true),
            ("ü", "__", false),
            ("", "", true),
            ("", "%", true),
            ("", "_", false),
            ("a", "", false),
            ("100%", r"100\%", true),
            ("1000", r"100\%", false),
            (r"a\b", r"a\\b", true),
            ("a_b", r"a\_b", true),
            ("axb", r"a\_b", false),
            ("abc", r"\abc", true),
            ("aXbXc", "%X_", true),
            ("aab", "%ab", true),
            ("abab", "%ab%ab", true),
            ("aba", "%ab%ab", false),
        ];
        for (text, pattern, expected) in table {
            assert_eq!(is_like(text, pattern), Ok(expected), "{text} LIKE {pattern}");
        }
        assert_eq!(is_like("a", r"a\"), Err(LikeError::EndsWithEscape));
        assert_eq!(like("!%", "%", Some('!'), &mut 9), Ok(true));
        assert_eq!(like(r"\%", r"\x", None, &mut 9), Ok(true));
    }

    #[test]
    fn the_worst_patterns_end() {
        let (text, pattern) = ("a".repeat(512), format!("{}b", "a%".repeat(500)));
        let mut budget = 100_000;
        assert_eq!(like(&pattern, &text, None, &mut budget), Ok(false));
        let long = format!("%{}b", "_".repeat(60_000));
        let exhausted = like(&long, &"a".repeat(120_000), None, &mut budget);
        assert_eq!(exhausted, Err(LikeError::TooMuch));
    }

    /// The textbook definition of a match, exponential at worst.
    fn naive(pattern: &[Part], text: &[char]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [Part::Any, behind @ ..] => (0..=text.len()).any(|at| naive(behind, &text[at..])),
            [Part::One, behind @ ..] => !text.is_empty() && naive(behind, &text[1..]),
            [Part::Exactly(char), behind @ ..] => {
                text.first() == Some(char) && naive(behind, &text[1..])
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_backtracking(text in "[abé%]{0,12}", pattern in r"([abé_%]|\\[ab%_\\]){0,9}") {
            let parts = parse(&pattern, Some('\\')).unwrap();
            let chars: Vec<char> = text.chars().collect();
            prop_assert_eq!(is_like(&text, &pattern), Ok(naive(&parts, &chars)));
        }
    }
}
