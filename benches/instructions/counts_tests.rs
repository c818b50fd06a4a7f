//! Tests of the comparison of counts. They are apart from the bench, which has no test harness.

#[path = "counts.rs"]
mod counts;

use counts::{Saved, compare, text};

const COUNTS: [(&str, u64); 2] = [("frame/b", 1_000), ("frame/a", 50)];

fn saved() -> Saved {
    toml::from_str(&text("rustc 1", &COUNTS)).expect("the file is TOML")
}

/// Returns the problems of these counts of `frame/b` with this compiler.
fn problems(rustc: &str, count: u64) -> Vec<String> {
    compare(&saved(), rustc, &[("frame/b", count), ("frame/a", 50)]).problems
}

#[test]
fn the_file_holds_what_was_counted() {
    let steps = COUNTS.map(|(step, count)| (step.to_owned(), count)).into();
    assert_eq!(saved(), Saved { rustc: "rustc 1".into(), steps });
}

#[test]
fn counts_may_differ_by_the_tolerance() {
    for count in [980, 1_000, 1_020] {
        assert_eq!(problems("rustc 1", count), [""; 0]);
    }
}

#[test]
fn a_step_that_became_dearer_or_cheaper_is_a_problem() {
    let dearer = problems("rustc 1", 1_021);
    assert!(dearer[0].starts_with("frame/b: saved 1000, now 1021, ratio 1.021, more: "));
    let cheaper = problems("rustc 1", 979);
    assert!(cheaper[0].starts_with("frame/b: saved 1000, now 979, ratio 0.979, fewer: "));
    assert_eq!((dearer.len(), cheaper.len()), (1, 1));
}

#[test]
fn another_compiler_has_another_tolerance_and_is_named() {
    assert_eq!(problems("rustc 2", 1_150), [""; 0]);
    assert_eq!(problems("rustc 2", 1_151).len(), 1);
    let table = compare(&saved(), "rustc 2", &COUNTS).table;
    assert!(table.contains("saved with rustc 1, and this is rustc 2"), "{table}");
    assert!(!compare(&saved(), "rustc 1", &COUNTS).table.contains("saved with"));
}

#[test]
fn a_step_without_a_saved_count_and_a_count_without_a_step_are_problems() {
    let compared = compare(&saved(), "rustc 1", &[("frame/b", 1_000), ("frame/c", 5)]);
    let [new, gone] = &*compared.problems else { panic!("{:?}", compared.problems) };
    assert_eq!(new, "frame/c: no count is saved");
    assert_eq!(gone, "frame/a: a count is saved, but there is no such step");
    assert!(compared.table.contains("frame/c"), "{}", compared.table);
}
