//! Wall clocks of single nodes that are wrong, and step while the nodes run.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::repository;

/// The wall clock of one process.
pub(crate) struct Clock {
    folder: TempDir,
    shift: File,
}

impl Clock {
    /// Builds the library that shifts the clock, which is right at first.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory for the library");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]);
        compiler.arg(library(folder.path())).arg(repository("tests/support/clock.c"));
        let status = compiler.status().expect("there is a C compiler");
        assert!(status.success(), "the library is built: {status}");
        fs::write(shift(folder.path()), 0_i64.to_ne_bytes()).expect("the file can be written");
        let shift = File::options().write(true).open(shift(folder.path()));
        Self { shift: shift.expect("it was just written"), folder }
    }

    /// Returns the variables with which a process runs on this clock.
    pub(crate) fn variables(&self) -> [(&'static str, PathBuf); 2] {
        let folder = self.folder.path();
        [("LD_PRELOAD", library(folder)), ("TEST_CLOCK", shift(folder))]
    }

    /// Steps the clock to so many seconds after the true time, or before it.
    pub(crate) fn shift(&self, seconds: i64) {
        self.shift.write_all_at(&seconds.to_ne_bytes(), 0).expect("the file can be written");
    }
}

fn library(folder: &Path) -> PathBuf {
    folder.join("clock.so")
}

fn shift(folder: &Path) -> PathBuf {
    folder.join("shift")
}
