//! Proxies that run with the configurations which the page on operation documents.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::process::geteuid;
use tempfile::TempDir;

use crate::support::encrypted::Pair;
use crate::support::{Output, repository, wait_until};

/// The user and group without rights.
const NOBODY: u32 = 65_534;

/// Returns a block of a section of the page, with replacements, each of which must be found.
pub(super) fn documented(section: &str, block: usize, replacements: &[(&str, &str)]) -> String {
    let page = fs::read_to_string(repository("src/node/README.md")).expect("it is there");
    let (_, section) = page.split_once(&format!("\n## {section}\n")).expect("the page has it");
    let section = section.split("\n## ").next().unwrap_or(section);
    let text = section.split("\n```").nth(2 * block + 1).expect("the section has the block");
    let (_, text) = text.split_once('\n').expect("its first line names its language");
    let mut text = text.to_owned();
    for (old, new) in replacements {
        assert!(text.contains(old), "no {old:?} in:\n{text}");
        text = text.replace(old, new);
    }
    text
}

/// The folder of a proxy.
pub(super) struct Folder(TempDir);

impl Folder {
    /// Creates a folder with a certificate and its key, as files of their own and as one.
    pub(super) fn with(pair: &Pair) -> Self {
        let folder = Self(tempfile::tempdir().expect("a directory of the test"));
        let read = |path: &Path| fs::read_to_string(path).expect("it was written");
        let (cert, key) = (read(&pair.cert), read(&pair.key));
        folder.write("realtime.pem", &format!("{cert}{key}"));
        folder.write("fullchain.pem", &cert);
        folder.write("privkey.pem", &key);
        folder
    }

    /// Writes a file and returns its path.
    pub(super) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).expect("it is written");
        path
    }

    pub(super) fn path(&self) -> String {
        self.0.path().display().to_string()
    }
}

/// A running proxy, which is killed on drop. If the test failed, its output is shown.
pub(super) struct Server {
    child: Child,
    output: Output,
}

impl Server {
    /// Starts a proxy as a user without rights, who owns its folder. Waits until it listens.
    pub(super) fn start(mut command: Command, folder: &Folder, ports: &[u16]) -> Self {
        let path = folder.0.path();
        if geteuid().is_root() {
            let files = fs::read_dir(path).expect("it is there").flatten().map(|file| file.path());
            for path in files.chain([path.to_owned()]) {
                chown(&path, Some(NOBODY), Some(NOBODY)).expect("root may do that");
            }
            command.uid(NOBODY).gid(NOBODY);
        }
        command.current_dir(path).env("HOME", path).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn();
        let mut child =
            child.unwrap_or_else(|error| panic!("{command:?}: {error}: tests/run installs it"));
        let output = Output::default();
        output.drain(child.stdout.take().expect("stdout is piped"), None);
        output.drain(child.stderr.take().expect("stderr is piped"), None);
        let mut server = Self { child, output };
        for port in ports {
            wait_until("the proxy listens", || {
                let ended = server.child.try_wait().expect("it is a child of this process");
                assert_eq!(ended, None, "{command:?} has ended");
                TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).is_ok()
            });
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if the process has ended and was waited for: then nothing is left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- the proxy said:\n{}---", self.output.text());
        }
    }
}
