//! A terminal into which the commands of pages are pasted.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::page::{Block, Page};

/// How long the commands of a page may take. The first page builds the node.
const PAGE_PATIENCE: Duration = Duration::from_hours(2);
/// How long programs that a page has told to end may take to do so; a node drains for 10 seconds.
const ENDING_PATIENCE: Duration = Duration::from_secs(30);
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Lines of output with this text separate the blocks of a page.
const END_OF_BLOCK: &str = "=== end of block";
/// Bash reads this first. It writes down every command that fails, but for `wait` and `timeout`: the
/// program that they wait for is stopped by the page. After each block it waits, as a reader does, so
/// that programs in the background print what the block causes.
const BEGINNING: &str = r#"
unset BASH_ENV
set -E
note_failure() { [[ $3 == @(wait|timeout)\ * ]] || echo "$1: exit code $2: $3" >>FAILURES; }
trap 'note_failure $LINENO $? "$BASH_COMMAND"' ERR
end_of_block() { sleep 1; echo "=== end of block $1"; }
"#;

/// One terminal for each page, all of them in the same checkout.
pub(crate) struct Terminal {
    /// For files of the test, outside of the checkout.
    folder: PathBuf,
    checkout: PathBuf,
    /// The folder that takes the place of `~/.cargo` for installed programs.
    installed: PathBuf,
    /// How long programs that a page has told to end may take to do so.
    ending_patience: Duration,
}

impl Terminal {
    pub(crate) fn new(folder: &Path, checkout: &Path) -> Self {
        let (folder, checkout) = (folder.to_owned(), checkout.to_owned());
        let installed = folder.join("installed");
        Self { folder, checkout, installed, ending_patience: ENDING_PATIENCE }
    }

    /// Returns a command with the environment of a reader, in the checkout: without what cargo adds
    /// for tests, and without settings of the node.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.checkout).stdin(Stdio::null());
        for (name, _) in std::env::vars() {
            let is_cargo = ["CARGO_PKG_", "CARGO_BIN_", "CARGO_MANIFEST_", "CARGO_CRATE_"];
            let is_cargo = is_cargo.iter().any(|start| name.starts_with(start));
            let is_cargo = is_cargo || ["CARGO", "LD_LIBRARY_PATH"].contains(&&*name);
            if is_cargo || name.starts_with("FANFARE_") || name.starts_with("LOADTEST_") {
                command.env_remove(name);
            }
        }
        let path = std::env::var("PATH").expect("it is set");
        command.env("PATH", format!("{}:{path}", self.installed.join("bin").display()));
        command.env("CARGO_INSTALL_ROOT", &self.installed);
        command
    }

    /// Pastes all blocks of a page. Returns the faults: commands that failed, texts that were not
    /// printed, and programs that the page did not stop.
    pub(crate) fn paste(&self, page: &Page) -> Vec<String> {
        let file = |name: &str| self.folder.join(name);
        let failures = file("failures");
        fs::write(&failures, "").expect("the folder is writable");
        let beginning = BEGINNING.replace("FAILURES", &format!("'{}'", failures.display()));
        fs::write(file("beginning"), beginning).expect("the folder is writable");
        let script = page.script(|number| format!("end_of_block {number}"));
        fs::write(file("page"), script).expect("the folder is writable");
        let output = File::create(file("output")).expect("the folder is writable");

        // The session of its own shows which programs the page has started.
        let mut bash = self.command("setsid");
        bash.arg("bash").arg(file("page")).env("BASH_ENV", file("beginning"));
        bash.stdout(output.try_clone().expect("a descriptor is left")).stderr(output);
        let mut bash = bash.spawn().expect("setsid is installed");
        let ended = wait(&mut bash);
        let left = await_end(bash.id(), self.ending_patience);

        let output = fs::read(file("output")).expect("it was created");
        let output = String::from_utf8_lossy(&output);
        let failures = fs::read_to_string(failures).expect("it was created");
        let mut faults: Vec<_> =
            failures.lines().map(|failure| format!("{}:{failure}", page.path)).collect();
        match ended {
            Some(status) if status.signal().is_none() => {}
            _ => faults.push(format!("{}: its commands did not come to an end", page.path)),
        }
        faults.extend(not_printed(page, &output));
        faults.extend(left.iter().map(|left| format!("{}: still runs: {left}", page.path)));
        if !faults.is_empty() {
            faults.push(format!("The output was:\n{output}"));
        }
        faults
    }
}

/// Returns a fault for each text that the output of its block lacks.
fn not_printed(page: &Page, output: &str) -> Vec<String> {
    let outputs = output.split(END_OF_BLOCK).chain(std::iter::repeat(""));
    let lacking = |(block, output): (&Block, &str)| {
        let lacking = block.prints.iter().filter(|text| !output.contains(text.as_str()));
        lacking.map(|text| format!("{}:{}: not printed: {text}", page.path, block.line)).collect()
    };
    page.blocks.iter().zip(outputs).flat_map::<Vec<_>, _>(lacking).collect()
}

/// Waits until the page's last command has ended; `None` if that takes too long.
fn wait(bash: &mut Child) -> Option<ExitStatus> {
    let start = Instant::now();
    while start.elapsed() < PAGE_PATIENCE {
        if let Some(status) = bash.try_wait().expect("it is a child") {
            return Some(status);
        }
        thread::sleep(LOOK_INTERVAL);
    }
    None
}

/// Waits until no process of a session runs. Kills those that do not end by themselves, and returns
/// their command lines.
fn await_end(session: u32, patience: Duration) -> Vec<String> {
    let start = Instant::now();
    loop {
        let running = running(session);
        if running.is_empty() || start.elapsed() >= patience {
            for (pid, _) in &running {
                // This fails if the process has just ended, which is fine.
                let _ = Command::new("kill").args(["-KILL", pid]).status();
            }
            return running.into_iter().map(|(_, command)| command).collect();
        }
        thread::sleep(LOOK_INTERVAL);
    }
}

/// Returns the ids and command lines of the processes of a session.
fn running(session: u32) -> Vec<(String, String)> {
    let mut ps = Command::new("ps");
    ps.args(["-o", "pid=,stat=,args=", "-s", &session.to_string()]);
    let listed = ps.output().expect("ps is installed");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let processes = listed.lines().filter_map(|line| {
        let (pid, rest) = line.trim().split_once(' ')?;
        let (state, command) = rest.trim().split_once(' ')?;
        // A zombie has ended.
        (!state.starts_with('Z')).then(|| (pid.to_owned(), command.trim().to_owned()))
    });
    processes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pastes a page of this text in an empty folder and returns the faults without the output.
    fn faults(text: &str) -> Vec<String> {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let checkout = folder.path().join("checkout");
        fs::create_dir(&checkout).expect("the folder is writable");
        let mut terminal = Terminal::new(folder.path(), &checkout);
        terminal.ending_patience = Duration::from_secs(1);
        let mut faults = terminal.paste(&Page::new("A.md", text));
        faults.pop();
        faults
    }

    #[test]
    fn a_page_goes_on_in_the_same_terminal() {
        let text = "```sh\nmkdir a && cd a\nsleep 60 &\nIT=$!\necho b > c\n```\n\n\
                    ```sh\npwd; cat c\nkill $IT; wait $IT\n```\n\
                    <!-- prints: checkout/a -->\n<!-- prints: b -->\n";
        assert_eq!(faults(text), Vec::<String>::new());
    }

    #[test]
    fn commands_that_fail_are_faults() {
        let text = "```sh\nfalse || true\nno-such-program\nfails() { false; }\nfails\nX=$(false)\n\
                    grep -q a <<< b\n```\n";
        let found = faults(text);
        for line in ["A.md:3: exit code 127", "A.md:5:", "A.md:6:", "A.md:7:"] {
            assert!(found.iter().any(|fault| fault.starts_with(line)), "{line} in {found:?}");
        }
        assert!(!found.iter().any(|fault| fault.starts_with("A.md:2:")), "{found:?}");
    }

    #[test]
    fn programs_that_a_page_leaves_running_are_faults_and_are_ended() {
        let start = Instant::now();
        assert_eq!(faults("```sh\nsleep 77 &\n```\n"), ["A.md: still runs: sleep 77"]);
        assert!(start.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn texts_that_are_not_printed_by_the_end_of_their_block_are_faults() {
        let text = "```sh\necho a\n```\n<!-- prints: b -->\n```sh\necho b\n```\n";
        assert_eq!(faults(text), ["A.md:2: not printed: b"]);
    }
}
