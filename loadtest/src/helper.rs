//! Further processes of this program. A helper receives its job and its orders as JSON lines on
//! stdin and sends its reports as JSON lines on stdout.
//!
//! A helper ends when its stdin ends: when this process is done with it, or has died.

use std::io::{BufRead, BufReader, Write, stderr};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How long a helper may take to end by itself before it is killed.
const FAREWELL: Duration = Duration::from_secs(5);
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// The process. Dropping this waits for its end.
pub(crate) struct Helper {
    name: String,
    child: Child,
}

/// The helper's stdin. Dropping this makes the helper end.
pub(crate) struct Orders(ChildStdin);

/// The helper's stdout, which carries its reports as JSON lines.
pub(crate) struct News {
    name: String,
    lines: BufReader<ChildStdout>,
}

impl Helper {
    /// Starts the hidden `subcommand` and sends it its job. Error messages name the process `role`.
    pub(crate) fn start(
        role: &str,
        subcommand: &str,
        job: &impl Serialize,
    ) -> Result<(Self, Orders, News)> {
        // This is the running image, even if the file was replaced since.
        let mut child = Command::new("/proc/self/exe")
            .arg0(env!("CARGO_PKG_NAME"))
            .arg(subcommand)
            // A group of its own does not receive the terminal's Ctrl-C, so that the helper can send
            // its results after one.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start the {role}"))?;
        let name = format!("the {role} (pid {})", child.id());
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (stdin, stdout) = pipes.expect("both were asked for");
        let mut orders = Orders(stdin);
        let helper = Self { name: name.clone(), child };
        orders.say(job).with_context(|| format!("cannot send the job to {name}"))?;
        Ok((helper, orders, News { name, lines: BufReader::new(stdout) }))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills the process, and does nothing if it has ended.
    pub(crate) fn kill(&mut self) {
        // This fails if the process has ended already, which is fine.
        let _ = self.child.kill();
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let start = Instant::now();
        while let Ok(None) = self.child.try_wait() {
            if start.elapsed() > FAREWELL {
                // Standard error may be closed, which must not panic in a drop.
                let _ = writeln!(stderr(), "{} does not end by itself and is killed", self.name);
                self.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }
}

impl Orders {
    /// Sends an order as a JSON line. Fails if the helper has closed its stdin.
    pub(crate) fn say(&mut self, order: &impl Serialize) -> Result<()> {
        let line = serde_json::to_string(order)? + "\n";
        Ok(self.0.write_all(line.as_bytes())?)
    }
}

impl News {
    /// Waits for the next report. The end of the stream is an error, because a helper only ends
    /// after its stdin has ended.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line);
        let count = read.with_context(|| format!("{} cannot be read", self.name))?;
        if count == 0 {
            bail!("{} ended before it was done", self.name);
        }
        serde_json::from_str(&line).with_context(|| format!("{} sent an invalid report", self.name))
    }
}

/// Sends a report to the process that started this one. Only one thread may call this, because
/// lines must not mix.
pub(crate) fn tell(news: &impl Serialize) -> Result<()> {
    let line = serde_json::to_string(news)? + "\n";
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(line.as_bytes())?;
    Ok(stdout.flush()?)
}
