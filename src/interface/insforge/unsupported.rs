//! What clients of Socket.IO ask for that the node does not serve. Each is refused with a text that
//! names it, and logged: one line now and then for each kind, which counts the clients.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::message::Millis;

/// Time between two log lines about the same kind, in milliseconds.
const EVERY_MS: Millis = 10_000;
/// Longest part of a client's text that a log line shows, in characters.
const SHOWN_CHARS_MAX: usize = 64;

/// Something that a client asks for and the node does not serve.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unsupported {
    /// Another version of Engine.IO than 4: the clients of Socket.IO 1 and 2.
    Version,
    /// Another transport than long-polling and WebSocket.
    Transport,
    /// A WebSocket without the headers of an upgrade.
    NoUpgrade,
    /// Long-polling by script elements.
    Jsonp,
    /// Engine.IO at another path.
    Path,
    /// Another namespace than `/`.
    Namespace,
    /// Another encoding of packets than Socket.IO's own.
    Parser,
}

/// How many kinds there are.
const KINDS: usize = Unsupported::Parser as usize + 1;

impl Unsupported {
    /// Returns what is not supported, by the names of the clients' options, and what to do.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Version => {
                "EIO must be 4: use socket.io-client 3 or 4, or another client of Socket.IO \
                 protocol 5"
            }
            Self::Transport => "The transports are polling and websocket",
            Self::NoUpgrade => {
                "A WebSocket needs the headers Connection: Upgrade and Upgrade: websocket; if the \
                 client sends them, a proxy has removed them"
            }
            Self::Jsonp => {
                "JSONP is not supported: do not set the client's option forceJSONP, or use \
                 transports: ['websocket']"
            }
            Self::Path => {
                "Socket.IO is served at /socket.io/: do not set the client's option path, or let a \
                 proxy rewrite it"
            }
            Self::Namespace => {
                "The only namespace is /: connect to the address of the node without a path"
            }
            Self::Parser => {
                "Only the default parser of Socket.IO is supported: do not set the client's option \
                 parser, and do not load socket.io.msgpack.min.js"
            }
        }
    }
}

/// Limits the log lines about unsupported requests. All threads share it.
#[derive(Debug, Default)]
pub struct Log([Throttle; KINDS]);

#[derive(Debug, Default)]
struct Throttle {
    /// When the next line is due, in milliseconds since the node started.
    due: AtomicU64,
    /// Refusals since the last line.
    count: AtomicU64,
}

impl Log {
    /// Counts a refusal, and writes a log line if one is due. `asked` is what the client asked for;
    /// it must not hold a credential.
    pub fn refused(&self, what: Unsupported, asked: &str, now: Millis) {
        if let Some(count) = self.0[what as usize].add(now) {
            let asked: String = asked.chars().take(SHOWN_CHARS_MAX).collect();
            let advice = what.advice();
            tracing::info!(asked, count, "refused clients of Socket.IO: {advice}");
        }
    }
}

impl Throttle {
    /// Counts one more refusal. Returns how many there were since the last line if the next one is
    /// due.
    fn add(&self, now: Millis) -> Option<u64> {
        // Only numbers for people depend on these, and each thread's own operations stay in order.
        self.count.fetch_add(1, Ordering::Relaxed);
        let due = self.due.load(Ordering::Relaxed);
        if now < due {
            return None;
        }
        let next = now + EVERY_MS;
        self.due.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).ok()?;
        Some(self.count.swap(0, Ordering::Relaxed)).filter(|count| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_others_together() {
        let throttle = Throttle::default();
        assert_eq!(throttle.add(5), Some(1));
        assert_eq!(throttle.add(6), None);
        assert_eq!(throttle.add(5 + EVERY_MS - 1), None);
        assert_eq!(throttle.add(5 + EVERY_MS), Some(3));
        assert_eq!(throttle.add(6 + EVERY_MS), None);
    }
}
