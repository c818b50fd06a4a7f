//! Proves that the simulation finds bugs: each patch in `tests/planted` is one, is applied to a copy
//! of the sources, and must make a seed fail.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Seeds within which each bug is found.
const SEEDS: u64 = 1_000;
const TEST: &str = "cluster::every_seed_passes";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn run(command: &mut Command) -> Output {
    let output = command.output().expect("the command runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}");
    output
}

/// Copies the files that git knows.
fn copy(to: &Path) {
    let listed = run(Command::new("git").arg("ls-files").current_dir(root()));
    let listed = String::from_utf8(listed.stdout).expect("names are UTF-8");
    for file in listed.lines() {
        let target = to.join(file);
        fs::create_dir_all(target.parent().expect("it is in the copy")).expect("it is writable");
        // A file that was deleted is listed until the next commit.
        if root().join(file).is_file() {
            fs::copy(root().join(file), &target).expect("it is writable");
        }
    }
}

/// Returns what the simulation prints about a copy of the sources with a bug.
fn simulate(patch: &Path) -> String {
    let copied = tempfile::tempdir().expect("there is room");
    copy(copied.path());
    run(Command::new("git").arg("apply").arg(patch).current_dir(copied.path()));
    let cargo = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO"));
        command.args(["test", "--test", "sim"]).args(arguments).current_dir(copied.path());
        // One folder for all copies, so that only the product is built for each.
        command.env("CARGO_TARGET_DIR", root().join("target/planted"));
        command.env("PROPTEST_RNG_SEED", "1").env("PROPTEST_CASES", SEEDS.to_string());
        command
    };
    run(&mut cargo(&["--no-run"]));
    let output = cargo(&["--", "--exact", TEST]).output().expect("the command runs");
    assert!(!output.status.success(), "{} is not found", patch.display());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn patches() -> Vec<PathBuf> {
    let folder = fs::read_dir(root().join("tests/planted")).expect("it is there");
    let mut patches: Vec<_> = folder.map(|one| one.expect("it is listed").path()).collect();
    patches.sort();
    assert_eq!(patches.len(), 5);
    patches
}

/// Whether they are found is looked at in the long mode only, by when the sources may have changed.
#[test]
fn each_planted_bug_fits_the_sources() {
    for patch in patches() {
        run(Command::new("git").args(["apply", "--check"]).arg(&patch).current_dir(root()));
    }
}

#[test]
#[ignore = "builds the product once for each bug, which takes minutes"]
fn each_planted_bug_is_found() {
    for patch in patches() {
        let printed = simulate(&patch);
        let found = printed.lines().find(|line| line.starts_with("seed "));
        let found =
            found.unwrap_or_else(|| panic!("{} breaks something else: {printed}", patch.display()));
        println!("{}: {found}", patch.display());
    }
}
