//! Disks of a test's own, which may fill up and break.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Set where a test has its mounts to itself.
const INSIDE: &str = "FANFARE_TEST_OWN_MOUNTS";
/// Leaves out, where it is set, what needs mounts.
const WITHOUT: &str = "FANFARE_TEST_WITHOUT_MOUNTS";

/// What a test mounts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Memory: anybody may, in a name space of users of their own.
    Memory,
    /// A file system in a file, which only root may.
    Image,
}

/// Whether this test has its mounts to itself, so that nobody else sees them and they go with it,
/// whatever becomes of it. Where it has not, it is run again so that it has, which must go well,
/// and there is nothing left to do.
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
    // What makes file systems is not on everybody's path.
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

/// A file system, mounted. Dropped, it is gone; a node on it must be dropped before.
pub(crate) struct Disk {
    image: Option<PathBuf>,
    point: PathBuf,
    _place: TempDir,
}

impl Disk {
    /// In memory, of that size.
    pub(crate) fn in_memory(size: &str) -> Self {
        let disk = Self::nowhere();
        run("mount", &["-t", "tmpfs", "-o", &format!("size={size},mode=700"), "test"], &disk.point);
        disk
    }

    /// In a file, of that size.
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

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.point
    }

    /// Takes all the room that is left, to the last byte, until [`Self::make_room`].
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

    /// From now on a file cannot be written, by those who have it open neither; or it can again.
    pub(crate) fn seal(&self, file: &str, is_sealed: bool) {
        run("chattr", &[if is_sealed { "+i" } else { "-i" }], &self.point.join(file));
    }

    /// Fails as this kind of file system does once it has met an error: nothing can be written any
    /// more, and what has not been brought to the disk never will be.
    pub(crate) fn fail(&self) {
        run("mount", &["-o", "remount,abort"], &self.point);
    }

    /// Unmounts and mounts it, as it is found after a loss of power. Nobody may use it.
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
        // Where a test fails, somebody may still use it.
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
