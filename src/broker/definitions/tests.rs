use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::message::ChannelOptions;

fn definition(number: u128, pattern: &str) -> ChannelDefinition {
    ChannelDefinition {
        id: Uuid::from_u128(number),
        pattern: pattern.into(),
        description: None,
        webhook_urls: None,
        enabled: true,
        options: ChannelOptions::default(),
        created_at: 1_000,
        updated_at: 1_000,
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    Definitions::new(vec![definition(1, pattern)]).find(name).is_some()
}

/// Returns the pattern that governs the name. The definitions' ages are in the order of `patterns`,
/// the oldest first.
fn governing<'a>(patterns: &[&'a str], name: &str) -> Option<&'a str> {
    let made = |(at, pattern): (usize, &&str)| {
        let mut definition = definition(at as u128, pattern);
        definition.created_at = at as u64;
        definition
    };
    let definitions = Definitions::new(patterns.iter().enumerate().map(made).collect());
    let found = definitions.find(name)?;
    Some(patterns[usize::try_from(found.created_at).unwrap()])
}

#[test]
fn patterns_match_as_documented() {
    let table = [
        ("orders", "orders", true),
        ("orders", "orders1", false),
        ("orders", "order", false),
        ("orders", "Orders", false),
        ("order:*", "order:1", true),
        ("order:*", "order:", true),
        ("order:*", "order:1:items", true),
        ("order:*", "order", false),
        ("order:%", "order:1:items", true),
        ("order:%", "orders:1", false),
        ("order:*", "order:*", true),
        ("order:%", "order:%", true),
        ("order:%", "order:*", true),
        ("a:*:b", "a::b", true),
        ("a:*:b", "a:b", false),
        ("a:*:b", "a:x:y:b", true),
        ("a:*:b", "a:x:bb", false),
        ("a:*b*c", "a:bc", true),
        ("a:*b*c", "a:cb", false),
        ("a:*b*b", "a:b", false),
        ("a:*bc*cd", "a:bcd", false),
        ("a:**", "a:", true),
        ("a:*%*", "a:x", true),
        ("a:*%*b", "a:x", false),
        ("*", "", true),
        ("*", "anything at all", true),
        ("chat_room", "chatxroom", false),
        ("chat_room", "chat_room", true),
        ("a.b:*", "axb:1", false),
        ("a:_*", "a:b", false),
        ("a:*", "a:ü☃", true),
        ("a:*☃", "a:ü☃", true),
        ("a:*", "á:1", false),
    ];
    for (pattern, name, expected) in table {
        assert_eq!(matches(pattern, name), expected, "{pattern} against {name}");
    }
}

#[test]
fn exact_comes_before_prefix_and_prefix_before_age() {
    assert_eq!(governing(&["a:*", "a:1"], "a:1"), Some("a:1"));
    assert_eq!(governing(&["a:*", "a:b:*", "a:%"], "a:b:c"), Some("a:b:*"));
    assert_eq!(governing(&["a:*", "a:b:*:d"], "a:b:c"), Some("a:*"));
    assert_eq!(governing(&["a:%", "a:*"], "a:1"), Some("a:%"));
    assert_eq!(governing(&["a:*", "a:%"], "a:1"), Some("a:*"));
    assert_eq!(governing(&["a:*", "a:%"], "a:%"), Some("a:%"));
    assert_eq!(governing(&["a:*x", "a:*y"], "a:y"), Some("a:*y"));
    assert_eq!(governing(&["a:*"], "b:1"), None);
}

#[test]
fn of_equal_age_the_smaller_id_governs() {
    let definitions = Definitions::new(vec![definition(2, "a:*"), definition(1, "a:%")]);
    assert_eq!(definitions.find("a:1").unwrap().id, Uuid::from_u128(1));
}

#[test]
fn a_disabled_definition_is_kept_and_governs_nothing() {
    let mut exact = definition(1, "a:1");
    exact.enabled = false;
    let definitions = Definitions::new(vec![exact, definition(2, "a:*")]);
    assert_eq!(definitions.find("a:1").unwrap().pattern, "a:*");
    assert_eq!(definitions.get(Uuid::from_u128(1)).unwrap().pattern, "a:1");
    assert_eq!(definitions.get(Uuid::from_u128(3)), None);
    assert_eq!(definitions.all().len(), 2);
}

#[test]
fn all_are_listed_newest_first_and_versions_count_up() {
    let mut young = definition(1, "young");
    young.created_at = 2_000;
    let first = Definitions::new(vec![definition(2, "old"), young]);
    let listed: Vec<_> = first.all().iter().map(|one| one.pattern.as_str()).collect();
    assert_eq!(listed, ["young", "old"]);
    let second = first.replaced_by(vec![]);
    assert_eq!((first.version(), second.version()), (1, 2));
    assert!(second.all().is_empty() && second.find("old").is_none());
}

/// A backtracking or quadratic matcher would need hours for these.
#[test]
fn the_worst_patterns_take_linear_time() {
    let name = "a".repeat(4_000_000);
    let began = Instant::now();
    assert!(!matches(&format!("{}b", "a*".repeat(250)), &name));
    assert!(!matches(&format!("{}b*", "a*".repeat(250)), &name));
    assert!(!matches(&format!("{}ab*", "aa*".repeat(250)), &name));
    assert!(!matches(&format!("*{}b*", "a".repeat(500)), &name));
    assert!(matches(&format!("{}a", "a*".repeat(250)), &name));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

/// The textbook definition of a match, exponential at worst.
fn naive(pattern: &[u8], name: &[u8]) -> bool {
    match pattern {
        [] => name.is_empty(),
        [b'*' | b'%', rest @ ..] => (0..=name.len()).any(|at| naive(rest, &name[at..])),
        [byte, rest @ ..] => name.first() == Some(byte) && naive(rest, &name[1..]),
    }
}

/// The documented order, by a scan of all definitions.
fn naive_find<'a>(all: &'a [ChannelDefinition], name: &str) -> Option<&'a ChannelDefinition> {
    let prefix = |pattern: &str| pattern.find(['*', '%']).unwrap_or(pattern.len());
    all.iter()
        .filter(|one| one.enabled)
        .filter(|one| one.pattern == name || naive(one.pattern.as_bytes(), name.as_bytes()))
        .min_by_key(|one| {
            let exact = one.pattern == name;
            (!exact, Reverse(prefix(&one.pattern)), one.created_at, one.id)
        })
}

proptest! {
    #[test]
    fn matching_agrees_with_backtracking(pattern in "[ab:*%é]{0,9}", name in "[ab:*%é]{0,12}") {
        let expected = pattern == name || naive(pattern.as_bytes(), name.as_bytes());
        prop_assert_eq!(matches(&pattern, &name), expected);
    }

    #[test]
    fn finding_agrees_with_a_scan(
        made in prop::collection::vec(("[ab:*]{0,5}", 0..3_u64, 0..5_u8), 0..12),
        name in "[ab:*]{0,6}",
    ) {
        let all: Vec<_> = made.into_iter().enumerate().map(|(at, (pattern, age, luck))| {
            let mut definition = definition(at as u128, &pattern);
            (definition.created_at, definition.enabled) = (age, luck > 0);
            definition
        }).collect();
        let definitions = Definitions::new(all.clone());
        let found = definitions.find(&name).map(|one| one.id);
        prop_assert_eq!(found, naive_find(&all, &name).map(|one| one.id));
    }
}
