//! The help of each command, and wrong usage.

use super::{listing, run, text};

#[test]
fn help_fits_a_screen_and_has_an_example() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let of_forge = ["forge-context", "forge-invocation", "forge-service"];
    let kinds = [&["user", "admin", "m2", "m2-writer"][..], &of_forge].concat();
    let kinds: Vec<_> = kinds.into_iter().map(|kind| ["token", kind]).collect();
    let kinds = kinds.iter().map(|kind| &kind[..]);
    for command in [
        &[][..],
        &["serve"],
        &["keys"],
        &["token"],
        &["check"],
        &["cluster", "status"],
        &["cluster", "import"],
        &["postgres", "install"],
        &["postgres", "status"],
        &["postgres", "uninstall"],
    ]
    .into_iter()
    .chain(kinds)
    {
        let help = run(&[command, &["--help"]].concat(), &[], dir.path());
        assert_eq!((help.status.code(), text(&help.stderr)), (Some(0), ""));
        let help = text(&help.stdout);
        assert!(help.lines().count() <= 40, "{help}");
        for line in help.lines() {
            assert!(line.chars().count() <= 80, "{command:?} has a long line: {line}");
        }
        let command = if command.is_empty() { &["serve"] } else { command };
        let example = format!("fanfare {}", command.join(" "));
        let (_, examples) = help.split_once("Example:\n").expect("it has an example");
        assert!(examples.contains(&example), "{help}");
        assert!(help.contains("\nExit codes: 0 "), "{help}");
    }
}

#[test]
fn wrong_usage_ends_with_2() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for args in [&["nonsense"][..], &["serve", "--port", "1"], &["token"], &["token", "nobody"]] {
        let output = run(args, &[], dir.path());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output.stderr).contains("error: "), "{args:?}");
    }
    assert_eq!(listing(dir.path()), []);
}
