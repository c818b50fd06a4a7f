//! Publishes over a WebSocket at a fixed rate, without answers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::api::Script;
use crate::client::Client;
use crate::clock::{nanos, now_ns, timespec};
use crate::connection::Dial;
use crate::heard::{Heard, histogram};
use crate::meter::{Counts, Meter};
use crate::posting::{Posted, Span, Starts};
use crate::stamp::{Stamp, Template};
use crate::tally::Outcome;
use crate::target::Target;
use crate::timeline::Recent;

const SCRATCH_BYTES: usize = 64 * 1024;
const POLL_MAX: Duration = Duration::from_millis(50);
/// How long the connection may take to become ready.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// Parameters of the publishing.
pub(crate) struct Shouting {
    pub(crate) target: Target,
    /// What the publisher does before it publishes: the same as the clients.
    pub(crate) script: Script,
    pub(crate) template: Template,
    pub(crate) rate: f64,
}

impl Shouting {
    /// Connects, publishes until the end of the span, and reads what comes meanwhile. A publication
    /// counts as accepted when it was sent. Counts in `meter`.
    pub(crate) fn run(
        mut self,
        mut span: Span,
        meter: &Meter,
        stop: &AtomicBool,
    ) -> Result<Posted> {
        let dial = Dial { server: self.target.address, source: None, receive_bytes: None };
        let mut client = Client::dial(dial)?;
        let mut heard = Heard::new();
        let mut scratch = vec![0; SCRATCH_BYTES];
        let mut outcomes = Vec::new();
        let mut late_ns_max = 0;
        let mut starts = Starts::of(1);
        loop {
            span.end_if_interrupted();
            let due_ns = self.due_ns(span, outcomes.len());
            let now_ns = now_ns();
            if due_ns >= span.end_ns {
                let (outcomes, latency) = (vec![outcomes], histogram());
                return Ok(Posted { outcomes, latency, late_ns_max, starts, answers: None });
            }
            if stop.load(Ordering::Relaxed) {
                bail!("the run was called off");
            }
            if client.is_ready() && due_ns <= now_ns {
                let sequence = outcomes.len() as u64;
                let text = self.template.stamped(Stamp { sequence, due_ns });
                client.publish(text, &mut heard)?;
                outcomes.push(Outcome::Accepted);
                if let Some(after_ns) = due_ns.checked_sub(span.measure_from_ns) {
                    starts.note(0, after_ns, sequence);
                }
                let begun = outcomes.len() as u64;
                meter.show(Counts { begun, ..Counts::default() }, &mut Recent::default());
                late_ns_max = late_ns_max.max(now_ns - due_ns);
                continue;
            }
            if !client.is_ready() && now_ns > span.start_ns + nanos(CONNECT_PATIENCE) {
                bail!("the publisher's connection is not ready after 10 s");
            }
            let wait = if client.is_ready() { due_ns - now_ns } else { u64::MAX };
            self.listen(&mut client, &mut heard, &mut scratch, Duration::from_nanos(wait))
                .context("the publisher's connection failed")?;
        }
    }

    fn due_ns(&self, span: Span, number: usize) -> u64 {
        span.start_ns + nanos(Duration::from_secs_f64(number as f64 / self.rate))
    }

    fn listen(
        &self,
        client: &mut Client,
        heard: &mut Heard,
        scratch: &mut [u8],
        wait: Duration,
    ) -> Result<()> {
        let dialling = client.is_dialling();
        let interest = if dialling { PollFlags::OUT } else { PollFlags::IN };
        let mut fds = [PollFd::new(&*client, interest)];
        match poll(&mut fds, Some(&timespec(wait.min(POLL_MAX)))) {
            Ok(0) | Err(Errno::INTR) => Ok(()),
            Ok(_) if dialling => client.begin(&self.script),
            Ok(_) => client.read(scratch, &self.script, heard),
            Err(error) => Err(error).context("poll failed"),
        }
    }
}
