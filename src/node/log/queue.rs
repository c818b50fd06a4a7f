//! The queue to standard error and the thread that writes it. Callers never wait: a line that the
//! queue has no room for is dropped and counted, and so is one that cannot be written.

use std::cell::RefCell;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::limits::{LOG_QUEUE_BYTES_MAX, LOG_QUEUE_LINES_MAX};
use crate::metrics::log_lines;

/// Time between two looks at what is left, while a flush waits.
const LOOK: Duration = Duration::from_millis(1);
/// Bytes that a part of a line begins with after the end of another could not be written.
const LINE_END: &[u8] = b"\n";

thread_local! {
    /// Where the writing thread's own line goes instead of into the queue; `None` on other threads
    /// and at other times.
    static NOTICE: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// A bounded queue of lines. All clones lead to the same thread.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    lines: Sender<Box<[u8]>>,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes of the lines that are queued or being written.
    waiting_bytes: AtomicUsize,
    /// Lines that were lost since the log last told of any.
    untold: AtomicU64,
}

impl State {
    fn lose(&self) {
        log_lines::count_dropped_line();
        self.untold.fetch_add(1, Ordering::Relaxed);
    }
}

impl Queue {
    /// Starts the thread that writes lines to `out`. After losses it calls `notice` with their
    /// number; the line that this logs is written at once.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(super) fn start(out: OwnedFd, notice: fn(u64)) -> io::Result<Self> {
        let (lines, queued) = bounded(LOG_QUEUE_LINES_MAX);
        let state = Arc::<State>::default();
        let mut writer = Writer { out, is_line_cut: false };
        let shared = state.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || {
            write_lines(&queued, &shared, &mut writer, notice);
        })?;
        Ok(Self { lines, state })
    }

    /// Queues a line or several, with their ends. They are dropped if there is no room.
    pub(super) fn push(&self, lines: &[u8]) {
        let bytes = lines.len();
        let before = self.state.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let has_room = before + bytes <= LOG_QUEUE_BYTES_MAX;
        if !has_room || self.lines.try_send(lines.into()).is_err() {
            self.state.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.state.lose();
        }
    }

    /// Waits until all lines are written or lost, at most for `patience`.
    pub(super) fn flush(&self, patience: Duration) {
        let end = Instant::now() + patience;
        while self.state.waiting_bytes.load(Ordering::Acquire) > 0 && Instant::now() < end {
            thread::sleep(LOOK);
        }
    }
}

/// A formatter calls it once for each event, with a whole line.
impl Write for &Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // A thread that ends may log after its own storage is gone.
        let is_notice = NOTICE.try_with(|notice| match &mut *notice.borrow_mut() {
            Some(notice) => {
                notice.extend_from_slice(line);
                true
            }
            None => false,
        });
        if !is_notice.unwrap_or(false) {
            self.push(line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes queued lines until the last queue is dropped. Tells of losses behind the lines that were
/// queued before them.
fn write_lines(queued: &Receiver<Box<[u8]>>, state: &State, writer: &mut Writer, notice: fn(u64)) {
    let mut since_loss = 0;
    for line in queued {
        let written = writer.write(&line);
        if written.is_err() {
            state.lose();
        }
        let untold = state.untold.load(Ordering::Relaxed);
        since_loss = if untold > 0 { since_loss + 1 } else { 0 };
        let is_due = untold > 0 && (queued.is_empty() || since_loss > LOG_QUEUE_LINES_MAX);
        if written.is_ok() && is_due && writer.write(&format(notice, untold)).is_ok() {
            state.untold.fetch_sub(untold, Ordering::Relaxed);
            since_loss = 0;
        }
        state.waiting_bytes.fetch_sub(line.len(), Ordering::Release);
    }
}

/// Returns the line that a notice logs.
fn format(notice: fn(u64), lost: u64) -> Vec<u8> {
    NOTICE.set(Some(Vec::new()));
    notice(lost);
    NOTICE.take().unwrap_or_default()
}

/// The descriptor that lines are written to.
struct Writer {
    out: OwnedFd,
    /// Whether only a part of the last line could be written.
    is_line_cut: bool,
}

impl Writer {
    /// Writes a line. Waits while the pipe is full.
    fn write(&mut self, line: &[u8]) -> Result<(), Errno> {
        if self.is_line_cut {
            self.write_part(LINE_END)?;
            self.is_line_cut = false;
        }
        let mut rest = line;
        while !rest.is_empty() {
            let written = self.write_part(rest);
            self.is_line_cut = written.is_err() && rest.len() < line.len();
            rest = &rest[written?..];
        }
        Ok(())
    }

    fn write_part(&self, bytes: &[u8]) -> Result<usize, Errno> {
        loop {
            match rustix::io::write(&self.out, bytes) {
                Ok(0) => return Err(Errno::IO),
                Err(Errno::INTR) => {}
                // Another process may have made the pipe non-blocking for all that share it.
                Err(Errno::AGAIN) => {
                    let mut wait = [PollFd::new(&self.out, PollFlags::OUT)];
                    let _ = poll(&mut wait, None);
                }
                written => return written,
            }
        }
    }
}

/// Returns a descriptor of its own for standard error. Unlike the standard library's handle it
/// takes no lock.
///
/// # Errors
/// If the system gives no descriptor.
pub(super) fn standard_error() -> io::Result<OwnedFd> {
    io::stderr().as_fd().try_clone_to_owned()
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::{BufRead as _, BufReader, pipe};

    use super::*;

    fn start(out: impl Into<OwnedFd>) -> Queue {
        Queue::start(out.into(), |lost| {
            // As a subscriber's formatter writes.
            NOTICE.with_borrow_mut(|notice| {
                let text = format!("lost {lost}\n");
                notice.as_mut().unwrap().extend_from_slice(text.as_bytes());
            });
        })
        .unwrap()
    }

    #[test]
    fn lines_keep_their_order_and_those_without_room_are_told_of() {
        let (reader, writer) = pipe().unwrap();
        let queue = start(writer);
        let long = "x".repeat(1_000);
        let pushed = 100 + LOG_QUEUE_BYTES_MAX / 1_000;
        for number in 0..pushed {
            queue.push(format!("{number} {long}\n").as_bytes());
        }
        // The pipe and the queue are full, and the callers have not waited.
        queue.flush(Duration::from_millis(20));
        let lost = queue.state.untold.load(Ordering::Relaxed);
        assert!((1..pushed as u64).contains(&lost), "{lost} lost");
        let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
        for number in 0..pushed - lost as usize {
            assert_eq!(lines.next().unwrap(), format!("{number} {long}"));
        }
        assert_eq!(lines.next().unwrap(), format!("lost {lost}"));
        queue.push(b"last\n");
        assert_eq!(lines.next().unwrap(), "last");
        queue.flush(Duration::from_secs(10));
        assert_eq!(queue.state.waiting_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn lines_that_cannot_be_written_are_lost() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let queue = start(full);
        for _ in 0..10 {
            queue.push(b"line\n");
        }
        queue.flush(Duration::from_secs(10));
        assert_eq!(queue.state.untold.load(Ordering::Relaxed), 10);
    }

    #[test]
    fn a_reader_that_left_ends_nothing() {
        let (reader, writer) = pipe().unwrap();
        let queue = start(writer);
        drop(reader);
        queue.push(b"line\n");
        queue.flush(Duration::from_secs(10));
        assert_eq!(queue.state.untold.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_pipe_that_does_not_block_is_waited_for() {
        let (reader, writer) = pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let queue = start(writer);
        let line = [&[b'x'; 9_999][..], b"\n"].concat();
        for _ in 0..20 {
            queue.push(&line);
        }
        drop(queue);
        let lines = BufReader::new(reader).lines().map(Result::unwrap);
        assert_eq!(lines.map(|line| line.len()).collect::<Vec<_>>(), [9_999; 20]);
    }
}
