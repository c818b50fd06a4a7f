//! Further processes of this same program, which take their job and orders as JSON lines from
//! stdin and tell their news as JSON lines on stdout.
//!
//! The end of its stdin sends a helper home, whether this process is done or dead.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How long a helper may take to end by itself.
const FAREWELL: Duration = Duration::from_secs(5);
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// The process itself; it is sent home and waited for when dropped.
pub(crate) struct Helper {
    name: String,
    child: Child,
}

/// The way to it. Dropping this sends it home.
pub(crate) struct Orders(ChildStdin);

/// The way back.
pub(crate) struct News {
    name: String,
    lines: BufReader<ChildStdout>,
}

impl Helper {
    /// Starts the hidden `subcommand` with its job. `role` names it where something goes wrong.
    pub(crate) fn start(
        role: &str,
        subcommand: &str,
        job: &impl Serialize,
    ) -> Result<(Self, Orders, News)> {
        // The running image, even where the file was replaced since.
        let mut child = Command::new("/proc/self/exe")
            .arg0(env!("CARGO_PKG_NAME"))
            .arg(subcommand)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start the {role}"))?;
        let name = format!("the {role} (pid {})", child.id());
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (stdin, stdout) = pipes.expect("both were asked for");
        let mut orders = Orders(stdin);
        let helper = Self { name: name.clone(), child };
        orders.say(job).with_context(|| format!("{name} takes no job"))?;
        Ok((helper, orders, News { name, lines: BufReader::new(stdout) }))
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        // It fails for a process that has ended already, which is as good.
        let _ = self.child.kill();
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let start = Instant::now();
        while let Ok(None) = self.child.try_wait() {
            if start.elapsed() > FAREWELL {
                eprintln!("{} does not end by itself and is killed", self.name);
                self.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }
}

impl Orders {
    /// Says one thing.
    pub(crate) fn say(&mut self, order: &impl Serialize) -> Result<()> {
        let line = serde_json::to_string(order)? + "\n";
        Ok(self.0.write_all(line.as_bytes())?)
    }
}

impl News {
    /// Waits for the next of its news. Its end is an error, since a helper ends last of all.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line);
        let count = read.with_context(|| format!("{} cannot be read", self.name))?;
        if count == 0 {
            bail!("{} ended before it was done", self.name);
        }
        serde_json::from_str(&line).with_context(|| format!("{} speaks nonsense", self.name))
    }
}

/// Tells the process that started this one. It is for one thread, so that lines stay whole.
pub(crate) fn tell(news: &impl Serialize) -> Result<()> {
    let line = serde_json::to_string(news)? + "\n";
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(line.as_bytes())?;
    Ok(stdout.flush()?)
}
