//! The log of the process: lines on standard error, written by a thread of its own, so that a full
//! disk or a full pipe costs lines and nothing else.

mod queue;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::OnceLock;
use std::time::Duration;
use std::{panic, thread};

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, fmt, reload};

use crate::config::{Config, LogFormat};
use crate::limits::LOG_FLUSH_MS;
use queue::{Queue, standard_error};

/// The log, once it is started. Like standard error there is one for the process.
static LOG: OnceLock<Log> = OnceLock::new();

/// What the targets of the node's own lines begin with.
const OWN: &str = env!("CARGO_CRATE_NAME");

struct Log {
    queue: Queue,
    level: reload::Handle<LevelFilter, Registry>,
}

/// Flushes the log on drop, also if the thread panics.
#[must_use]
#[derive(Debug)]
pub struct Flush(());

impl Drop for Flush {
    fn drop(&mut self) {
        flush();
    }
}

/// Starts the log, which also takes the messages of panics. Returns what flushes it at the end.
///
/// # Errors
/// If the system gives no thread or descriptor.
pub fn start(config: &Config) -> io::Result<Flush> {
    let queue = Queue::start(standard_error()?, |lines| {
        // An error, because it must be logged at every level.
        tracing::error!(
            lines,
            "log lines were lost, because standard error was full, closed or not read"
        );
    })?;
    let (level, handle) = reload::Layer::new(LevelFilter::from(config.log));
    let log = LOG.get_or_init(|| Log { queue, level: handle });
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|wish| !wish.is_empty());
    let lines = fmt::layer()
        .with_writer(|| &log.queue)
        .log_internal_errors(false)
        .with_ansi(io::stderr().is_terminal() && !is_plain);
    let subscriber = tracing_subscriber::registry().with(level);
    // What other crates tell below a warning, as each connection to NATS, the node says in words of
    // its own.
    let is_told = filter_fn(|line| line.target().starts_with(OWN) || *line.level() <= Level::WARN);
    match config.log_format {
        LogFormat::Text => subscriber.with(lines.with_filter(is_told)).init(),
        LogFormat::Json => {
            subscriber.with(lines.json().flatten_event(true).with_filter(is_told)).init();
        }
    }
    panic::set_hook(Box::new(log_panic));
    Ok(Flush(()))
}

/// Sets the least severe level that is logged.
pub(super) fn set_level(level: Level) {
    if let Some(log) = LOG.get() {
        // It fails only if there is no subscriber, and the log's lasts as long as the process.
        let _ = log.level.reload(LevelFilter::from(level));
    }
}

/// Writes lines for people to standard error, as they stand and behind what was logged before. If
/// they cannot be written, they are lost.
pub fn say(lines: &str) {
    match LOG.get() {
        Some(log) => log.queue.push(lines.as_bytes()),
        None => {
            let _ = io::stderr().write_all(lines.as_bytes());
        }
    }
}

/// Waits until the log is written, for a bounded time.
pub fn flush() {
    if let Some(log) = LOG.get() {
        log.queue.flush(Duration::from_millis(LOG_FLUSH_MS));
    }
}

/// Logs a panic. The standard library's hook waits for standard error.
fn log_panic(info: &panic::PanicHookInfo<'_>) {
    let thread = thread::current();
    let (thread, reason) = (thread.name().unwrap_or_default(), info.payload_as_str());
    let at = info.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(thread, at, "panicked: {}", reason.unwrap_or("no reason is given"));
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        say(&format!("{trace}\n"));
    }
}

#[cfg(test)]
mod tests {
    use std::io::pipe;
    use std::process::{Command, Stdio};
    use std::time::Instant;

    use super::*;

    /// Is set in the process whose threads panic.
    const INSIDE: &str = "TEST_PANIC_INSIDE";

    /// Threads panic while standard error is a full pipe. The log belongs to the process, so this
    /// needs one of its own.
    #[test]
    fn a_panic_waits_for_nobody() {
        if std::env::var_os(INSIDE).is_some() {
            let flush = start(&Config::defaults()).unwrap();
            for _ in 0..2_000 {
                let panics = thread::spawn(|| panic!("{}", "x".repeat(100)));
                assert!(panics.join().is_err());
            }
            drop(flush);
            std::process::exit(7);
        }
        let test = "node::log::tests::a_panic_waits_for_nobody";
        let (reader, writer) = pipe().unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
        let mut child = command.stdout(Stdio::null()).stderr(writer).spawn().unwrap();
        drop(command);
        let end = Instant::now() + Duration::from_secs(30);
        let status = loop {
            match child.try_wait().unwrap() {
                None if Instant::now() > end => {
                    child.kill().unwrap();
                    break child.wait().unwrap();
                }
                None => thread::sleep(Duration::from_millis(5)),
                Some(status) => break status,
            }
        };
        assert_eq!(status.code(), Some(7));
        let text = io::read_to_string(reader).unwrap();
        assert!(text.contains("panicked: xxx") && text.contains("src/node/log.rs:"), "{text}");
    }
}
