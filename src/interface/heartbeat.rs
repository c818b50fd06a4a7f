//! Pings clients when it is time, and ends the connections of clients that do not answer.

use super::context::Context;
use super::next::{Next, Reason};
pub use crate::config::EngineIo as Timings;
use crate::message::Millis;

/// Pings the client if it is time, or ends the connection if an earlier ping was not answered in
/// time. `ping` makes the bytes of a ping.
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

/// A session's heartbeat. The deadline of a pong is computed from when its ping was due, not from
/// when the session looked at the clock, so that a late look does not shift it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    due: Millis,
    state: Beat,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Beat {
    /// The next ping is sent at `due`.
    Resting,
    /// A ping was sent, and its pong must arrive before `due`.
    Asked,
    /// The same, but another packet has put `due` off once already.
    Extended,
}

/// The step of the heartbeat that is due now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pulse {
    /// Neither a ping nor the end is due.
    Steady,
    /// A ping must be sent.
    Ping,
    /// The client did not answer in time.
    Dead,
}

impl Heartbeat {
    /// Creates the heartbeat of a session that opens now; the first ping is due after an interval.
    pub fn new(now: Millis, timings: &Timings) -> Self {
        Self { due: now + timings.ping_interval_ms, state: Beat::Resting }
    }

    /// Returns when [`Self::beat`] must be called, in milliseconds since the node started.
    pub fn due(&self) -> Millis {
        self.due
    }

    /// Returns what is due now. The caller repeats the call until it returns [`Pulse::Steady`].
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

    /// Handles a pong. A pong without a ping changes nothing.
    pub fn pong(&mut self, now: Millis, timings: &Timings) {
        if self.state != Beat::Resting {
            *self = Self::new(now, timings);
        }
    }

    /// Handles any other packet. It puts the deadline of the pong off, but only once for each ping.
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
        client_dir: None,
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
