//! `LIKE` as in PostgreSQL: the case matters, `%` matches any run of characters and `_` one. A
//! backslash, or another character that `ESCAPE` names, makes the character behind it literal.
//!
//! SQLite's own backtracks to every `%` of a pattern, so that a pattern of a few dozen characters
//! can run for hours. This one backtracks only to the latest `%`, which finds the same matches, and
//! counts its comparisons.

use thiserror::Error;

/// Why a comparison has no result.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub(super) enum LikeError {
    /// The pattern ends with the escape character, and no character is behind it.
    #[error("LIKE pattern must not end with escape character")]
    EndsWithEscape,
    /// The budget of comparisons is used up.
    #[error("LIKE compares too many characters")]
    TooMuch,
}

/// A part of a pattern.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Exactly(char),
    /// `_`: any one character.
    One,
    /// Any run of characters, also an empty one.
    Any,
}

/// Returns whether a text matches a pattern. Each comparison takes one off `budget`.
///
/// # Errors
/// If the pattern ends with the escape character, or the budget is used up.
pub(super) fn like(
    pattern: &str,
    text: &str,
    escape: Option<char>,
    budget: &mut usize,
) -> Result<bool, LikeError> {
    let pattern = parse(pattern, escape)?;
    // The place behind the latest `%`, and the rest of the text that was last tried there.
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
        // At the end of the text a longer run for `%` cannot help.
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
