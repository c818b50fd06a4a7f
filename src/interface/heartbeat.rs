//! Whether clients are still there: a ping when it is due, and the end of a connection whose client
//! does not answer.

use super::context::Context;
use super::next::{Next, Reason};
use crate::protocol::engineio::{Heartbeat, Pulse};

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
