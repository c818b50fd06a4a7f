//! Configurations to run the program with, and the output that they must lead to.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use tempfile::TempDir;

use super::{listing, run, text};

/// Part of every secret in these cases, so that no message may contain it.
pub(super) const SECRET: &str = "hunter2";

/// A file with a public key that the node accepts.
pub(super) const RS_PEM: &str = include_str!("../../../src/auth/testdata/rs256_a.pem");

/// The input of a node and the expected lines of its output. An expected line may be only the start
/// of the actual one.
#[derive(Default)]
pub(super) struct Case {
    /// Names and contents. `keys.toml` is written into the data directory.
    files: Vec<(&'static str, Vec<u8>)>,
    env: Vec<(&'static str, &'static str)>,
    args: Vec<&'static str>,
    pub(super) says: Vec<&'static str>,
}

impl Case {
    pub(super) fn file(mut self, name: &'static str, content: impl Into<Vec<u8>>) -> Self {
        self.files.push((name, content.into()));
        self
    }

    pub(super) fn env(mut self, name: &'static str, value: &'static str) -> Self {
        self.env.push((name, value));
        self
    }

    pub(super) fn args(mut self, args: &[&'static str]) -> Self {
        self.args.extend(args);
        self
    }

    pub(super) fn says(mut self, lines: &[&'static str]) -> Self {
        self.says.extend(lines);
        self
    }

    /// Creates a directory with the files, in which the program runs.
    pub(super) fn set_up(&self) -> TempDir {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for (name, content) in &self.files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("it is in a directory")).expect("it is made");
            fs::write(&path, content).expect("the file is written");
            let mode = if name.ends_with("keys.toml") { 0o600 } else { 0o644 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is ours");
        }
        dir
    }

    pub(super) fn run(&self, command: &str, dir: &Path) -> Output {
        let mut args = vec![command];
        args.extend(&self.args);
        run(&args, &self.env, dir)
    }
}

/// Returns a case with the file `f.toml`.
pub(super) fn toml(text: &str) -> Case {
    Case::default().file("f.toml", text).args(&["--config", "f.toml"])
}

/// Returns a case with the file `keys.toml`.
pub(super) fn kept(text: impl Into<Vec<u8>>) -> Case {
    Case::default().file("fanfare-data/keys.toml", text)
}

/// Returns a case with one environment variable.
pub(super) fn env(name: &'static str, value: &'static str) -> Case {
    Case::default().env(name, value)
}

/// Returns a case with these arguments.
pub(super) fn args(args: &[&'static str]) -> Case {
    Case::default().args(args)
}

/// Returns a case with a PEM file that `f.toml` names.
pub(super) fn pem(text: impl Into<Vec<u8>>) -> Case {
    toml("[auth]\npublic_keys_file = 'k.pem'").file("k.pem", text)
}

/// Returns a case with a JWKS file that the environment names.
pub(super) fn jwks(text: impl Into<Vec<u8>>) -> Case {
    env("FANFARE_JWKS_FILE", "set.json").file("set.json", text)
}

/// Runs `check` and `serve` with each case. Both must refuse it with exactly its lines, repeat no
/// secret and change no file.
pub(super) fn assert_refused(cases: Vec<Case>) {
    for case in cases {
        let dir = case.set_up();
        let before = listing(dir.path());
        let checked = case.run("check", dir.path());
        let served = case.run("serve", dir.path());
        let said = text(&checked.stderr);
        let codes = (checked.status.code(), served.status.code());
        assert_eq!(codes, (Some(2), Some(2)), "{:?}: {said}", case.says);
        assert_eq!(said, text(&served.stderr), "serve says what check says");
        assert_eq!(text(&checked.stdout), "", "{said}");
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines.len(), case.says.len(), "{:?} but it said:\n{said}", case.says);
        for (line, expected) in lines.iter().zip(&case.says) {
            let line = line.strip_prefix("fanfare: ").expect("it says who speaks");
            assert!(line.starts_with(expected), "expected {expected}\nbut it said {line}");
        }
        assert!(!said.contains(SECRET), "a secret is repeated: {said}");
        assert_eq!(listing(dir.path()), before, "nothing is made or changed: {said}");
    }
}
