//! Whether clients are still there: a ping when it is due, and the end of a connection whose client
//! does not answer.

use super::context::Context;
use super::next::{Next, Reason};
pub use crate::config::EngineIo as Timings;
use crate::message::Millis;

/// Pings the client if that is due, or ends the connection because an earlier ping was not
/// answered. `ping` makes the bytes.
pub(super) fn beat(
    heartbeat: &mut Heartbeat,
    ctx: &mut Context<'_>,
    ping: impl Fn() -> Vec<u8>,
) -> Next {
    loop {
        match heartbeat.beat(ctx.now.monotonic(), &ctx.shared.timings) {
            Pulse::Steady => return Next::Stay,
            Pulse::Ping => ctx.send(ping()),
            Pulse::Dead => return Next::close(Reason::PingTimeout),
        }
    }
}

/// A session's heartbeat. Deadlines follow from deadlines, not from when they were noticed, so a
/// late look at the clock does not shift them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    due: Millis,
    state: Beat,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Beat {
    /// The next ping goes out when due.
    Resting,
    /// A pong must come before due.
    Asked,
    /// The same, and another packet has already won it time.
    Extended,
}

/// What a look at the clock asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pulse {
    /// Nothing is due.
    Steady,
    /// A ping is due.
    Ping,
    /// The client is gone.
    Dead,
}

impl Heartbeat {
    /// Creates the heartbeat of a session that opens now.
    pub fn new(now: Millis, timings: &Timings) -> Self {
        Self { due: now + timings.ping_interval_ms, state: Beat::Resting }
    }

    /// When to look again, at the latest.
    pub fn due(&self) -> Millis {
        self.due
    }

    /// Looks at the clock. To be repeated until steady.
    pub fn beat(&mut self, now: Millis, timings: &Timings) -> Pulse {
        if now < self.due {
            return Pulse::Steady;
        }
        if self.state != Beat::Resting {
            return Pulse::Dead;
        }
        self.state = Beat::Asked;
        self.due += timings.ping_timeout_ms;
        Pulse::Ping
    }

    /// A pong came. One that nobody asked for changes nothing.
    pub fn pong(&mut self, now: Millis, timings: &Timings) {
        if self.state != Beat::Resting {
            *self = Self::new(now, timings);
        }
    }

    /// Some other packet came: a sign of life that wins the pong some time, once.
    pub fn sign_of_life(&mut self, now: Millis, timings: &Timings) {
        if self.state == Beat::Asked {
            self.state = Beat::Extended;
            self.due = now + timings.ping_timeout_ms;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMINGS: Timings = Timings {
        ping_interval_ms: 300,
        ping_timeout_ms: 200,
        connect_timeout_ms: 1_000,
        upgrade_timeout_ms: 1_000,
    };

    #[test]
    fn a_silent_client_is_dead_after_interval_and_timeout_however_late_one_looks() {
        let mut heart = Heartbeat::new(1_000, &TIMINGS);
        assert_eq!(heart.beat(1_299, &TIMINGS), Pulse::Steady);
        assert_eq!(heart.beat(1_500, &TIMINGS), Pulse::Ping);
        assert_eq!(heart.beat(1_500, &TIMINGS), Pulse::Dead);
    }

    #[test]
    fn a_pong_starts_the_interval_again_and_a_stray_one_does_not() {
        let mut heart = Heartbeat::new(0, &TIMINGS);
        heart.pong(100, &TIMINGS);
        assert_eq!(heart.due(), 300);
        assert_eq!(heart.beat(300, &TIMINGS), Pulse::Ping);
        heart.pong(310, &TIMINGS);
        assert_eq!(heart.due(), 610);
    }

    #[test]
    fn other_packets_win_time_once() {
        let mut heart = Heartbeat::new(0, &TIMINGS);
        heart.beat(300, &TIMINGS);
        heart.sign_of_life(450, &TIMINGS);
        assert_eq!(heart.due(), 650);
        heart.sign_of_life(640, &TIMINGS);
        assert_eq!(heart.beat(650, &TIMINGS), Pulse::Dead);
    }
}
