//! File systems of a test's own, which may fill up and break.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// The variable is set if a test runs in a mount namespace of its own.
const INSIDE: &str = "FANFARE_TEST_OWN_MOUNTS";
/// If this variable is set, tests that need mounts are skipped.
pub(crate) const WITHOUT: &str = "FANFARE_TEST_WITHOUT_MOUNTS";

/// The kind of file system that a test mounts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// In memory. Every user may mount it in a user namespace.
    Memory,
    /// In a file. Only root may mount it.
    Image,
}

/// Returns true if this test runs in a mount namespace of its own: then other processes do not see
/// its mounts, and the mounts end with the test. Otherwise runs the test again in such a namespace,
/// panics if that fails, and returns false: the caller has nothing left to do.
pub(crate) fn has_own_mounts(test: &str, needs: Needs) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    if std::env::var_os(WITHOUT).is_some() {
        eprintln!("not tested, as {WITHOUT} says");
        return false;
    }
    let own: &[&str] = match needs {
        _ if rustix::process::geteuid().is_root() => &["unshare", "--mount"],
        Needs::Memory => &["unshare", "--user", "--map-root-user", "--mount"],
        Needs::Image => &["sudo", "-n", "unshare", "--mount"],
    };
    let program = std::env::current_exe().expect("the test is a file");
    let mut command = Command::new(own[0]);
    // Programs that make file systems may be outside of the user's path.
    let path = std::env::var("PATH").unwrap_or_default() + ":/sbin:/usr/sbin";
    command.args(&own[1..]).args(["env", &format!("{INSIDE}=1"), &format!("PATH={path}")]);
    command.arg(program);
    command.args(["--exact", test, "--nocapture"]);
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(
        output.status.success() && said[0].contains("test result: ok. 1 passed"),
        "{command:?} fails; where nothing may be mounted, {WITHOUT}=1 leaves this out:\n{}",
        said.concat()
    );
    false
}

/// A mounted file system, which is removed on drop. A node on it must be dropped before.
pub(crate) struct Disk {
    image: Option<PathBuf>,
    point: PathBuf,
    _place: TempDir,
}

impl Disk {
    /// Mounts a file system in memory, of this size.
    pub(crate) fn in_memory(size: &str) -> Self {
        let disk = Self::nowhere();
        run("mount", &["-t", "tmpfs", "-o", &format!("size={size},mode=700"), "test"], &disk.point);
        disk
    }

    /// Mounts a file system in a file, of this many bytes.
    pub(crate) fn in_image(size: u64) -> Self {
        let mut disk = Self::nowhere();
        let image = disk.point.with_file_name("image");
        let file = File::create_new(&image).expect("a file of the test");
        file.set_len(size).expect("it takes no room yet");
        run("mkfs.ext4", &["-q", "-F"], &image);
        disk.image = Some(image);
        disk.mount();
        disk
    }

    /// Returns the mount point.
    pub(crate) fn path(&self) -> &Path {
        &self.point
    }

    /// Takes all the free space, to the last byte, until [`Self::make_room`].
    pub(crate) fn fill(&self) {
        let mut filler = File::create(self.filler()).expect("a name takes no room");
        for size in [64 * 1024, 1] {
            let bytes = vec![b'x'; size];
            let error = loop {
                if let Err(error) = filler.write_all(&bytes) {
                    break error;
                }
            };
            assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
        }
    }

    pub(crate) fn make_room(&self) {
        fs::remove_file(self.filler()).expect("it was filled");
    }

    /// Forbids writing to a file, also through open descriptors, or allows it again.
    pub(crate) fn seal(&self, file: &str, is_sealed: bool) {
        run("chattr", &[if is_sealed { "+i" } else { "-i" }], &self.point.join(file));
    }

    /// Makes the file system fail as ext4 does after an error: nothing can be written any more, and
    /// data that was not synced is lost.
    pub(crate) fn fail(&self) {
        run("mount", &["-o", "remount,abort"], &self.point);
    }

    /// Unmounts and mounts the file system, which gives the state after a loss of power. No process
    /// may use it.
    pub(crate) fn mount_again(&self) {
        run("umount", &["--quiet"], &self.point);
        self.mount();
    }

    fn nowhere() -> Self {
        let place = tempfile::tempdir().expect("a directory of the test");
        let point = place.path().join("disk");
        fs::create_dir(&point).expect("a directory of the test");
        Self { image: None, point, _place: place }
    }

    fn mount(&self) {
        let image = self.image.as_ref().expect("only images are mounted again");
        run("mount", &[OsStr::new("-o"), OsStr::new("loop"), image.as_os_str()], &self.point);
    }

    fn filler(&self) -> PathBuf {
        self.point.join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // If a test fails, a node may still use it.
        let _ = Command::new("umount").arg("--lazy").arg(&self.point).status();
    }
}

fn run(program: &str, arguments: &[impl AsRef<OsStr>], path: &Path) {
    let mut command = Command::new(program);
    command.args(arguments).arg(path);
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}
