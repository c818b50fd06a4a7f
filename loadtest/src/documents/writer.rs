//! The writer: each write is sent at its due time, whether or not earlier ones have been answered.
//! The writes are spread over connections, because a node answers a write only when it is kept, and
//! answers those of one connection in order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use rustix::event::{PollFlags, poll};
use rustix::io::Errno;

use crate::api::m2::{self, Caller, Scope, Version, written_version};
use crate::clock::{nanos, now_ns, timespec};
use crate::documents::field::{self, Field};
use crate::documents::signals::Signals;
use crate::fate::{ANSWER_PATIENCE, Answers, Broken, rest_patience};
use crate::heard;
use crate::http::{Pipe, Response};
use crate::interrupt;
use crate::publisher::Lateness;
use crate::stamp::{Stamp, Template};
use crate::table::plural;
use crate::target::Target;

const POLL_MAX: Duration = Duration::from_millis(100);

/// Content and timing of the writes.
pub(crate) struct Plan {
    pub(crate) target: Target,
    /// Organization and project of the documents.
    pub(crate) scope: Scope,
    /// The credential of the writer.
    pub(crate) writer: String,
    /// The documents, and the order in which they are written.
    pub(crate) field: Field,
    /// Size of a document's data in bytes.
    pub(crate) payload_bytes: usize,
    /// Writes per second, over all connections together.
    pub(crate) rate: f64,
    /// Number of writes in all.
    pub(crate) writes: u64,
    /// Number of connections that the writes are spread over.
    pub(crate) connections: usize,
    /// Unanswered writes that are allowed at once on each connection.
    pub(crate) unanswered_max: usize,
}

/// The outcome of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// The server kept the write, as this version.
    Version(Version),
    /// 503: no client may receive it.
    Refused,
    /// Another 5xx, or no answer: the server may have kept it or not.
    Unknown,
}

/// The outcomes of all writes.
pub(crate) struct Writes {
    /// In the order of the writes.
    pub(super) outcomes: Vec<Outcome>,
    /// Time from due time to answer, in ns. Only writes that were due in the measured window count.
    pub(crate) latency: Histogram<u64>,
    /// Number of answers other than 2xx, by status.
    pub(crate) failures: BTreeMap<u16, u64>,
    /// Writes without an answer, because their connection broke.
    pub(crate) unanswered: u64,
    /// The longest delay of a write after its due time, in ns.
    pub(crate) late_ns_max: u64,
    /// How late the writes were that were due in the measured window.
    pub(crate) lateness: Lateness,
    /// When answers came, and why there are no more.
    pub(crate) answers: Answers,
}

impl Plan {
    /// Returns when write `sequence` is due in a run that starts at `start_ns`.
    pub(crate) fn due_ns(&self, start_ns: u64, sequence: u64) -> u64 {
        start_ns + nanos(Duration::from_secs_f64(sequence as f64 / self.rate))
    }
}

impl Writes {
    /// Returns the outcome of no writes.
    pub(crate) fn nothing() -> Self {
        Self {
            outcomes: Vec::new(),
            latency: heard::histogram(),
            failures: BTreeMap::new(),
            unanswered: 0,
            late_ns_max: 0,
            lateness: Lateness::new(),
            answers: Answers::new(0),
        }
    }

    /// Returns the number of all writes.
    pub(crate) fn sent(&self) -> u64 {
        self.outcomes.len() as u64
    }

    /// Returns the number of writes that the server kept.
    pub(crate) fn accepted(&self) -> u64 {
        let kept = self.outcomes.iter().filter(|one| matches!(one, Outcome::Version(_)));
        kept.count() as u64
    }
}

/// Writes everything, the first write at `start_ns`. After a Ctrl-C, sends nothing more and waits a
/// little for the answers. Ends early if the clients are dismissed, if the server takes no
/// connection any longer, or if it does not answer for long. Returns an error if it answers with
/// another status than 2xx and 5xx.
pub(crate) fn write(plan: &Plan, start_ns: u64, signals: &Signals) -> Result<Writes> {
    let mut desk = Desk::new(plan, start_ns)?;
    let mut interrupted_ns = None;
    while !signals.stop.load(Ordering::Relaxed) && desk.writes.answers.broken.is_none() {
        let measure_from_ns = signals.measure_from_ns.load(Ordering::Relaxed);
        desk.writes.answers.measure_from(measure_from_ns);
        desk.send_due(measure_from_ns)?;
        desk.wait()?;
        desk.collect(measure_from_ns)?;
        if interrupt::requested() {
            interrupted_ns.get_or_insert_with(now_ns);
        }
        let all_sent = desk.next == plan.writes || interrupted_ns.is_some();
        let is_waited_for =
            interrupted_ns.is_none_or(|since_ns| now_ns() - since_ns <= nanos(rest_patience()));
        if all_sent && (desk.unanswered() == 0 || !is_waited_for) {
            break;
        }
    }
    desk.writes.unanswered += desk.unanswered() as u64;
    desk.writes.outcomes.truncate(usize::try_from(desk.next)?);
    Ok(desk.writes)
}

/// One connection and its unanswered writes.
struct Lane {
    pipe: Pipe,
    /// Number and due time of the unanswered writes, in order.
    unanswered: VecDeque<(u64, u64)>,
    /// Whether the connection may have something to send or to read.
    ready: bool,
}

struct Desk<'a> {
    plan: &'a Plan,
    start_ns: u64,
    body: Template,
    lanes: Vec<Lane>,
    next: u64,
    writes: Writes,
    /// The last moment at which all connections had reached `unanswered_max`.
    full_ns: u64,
}

impl<'a> Desk<'a> {
    fn new(plan: &'a Plan, start_ns: u64) -> Result<Self> {
        let lane = |_| {
            let pipe = Pipe::connect(&plan.target)?;
            Ok(Lane { pipe, unanswered: VecDeque::new(), ready: false })
        };
        Ok(Self {
            plan,
            start_ns,
            body: m2::put_body(plan.payload_bytes)?,
            lanes: (0..plan.connections).map(lane).collect::<Result<_>>()?,
            next: 0,
            writes: Writes {
                outcomes: vec![Outcome::Unknown; usize::try_from(plan.writes)?],
                ..Writes::nothing()
            },
            full_ns: 0,
        })
    }

    fn unanswered(&self) -> usize {
        self.lanes.iter().map(|lane| lane.unanswered.len()).sum()
    }

    /// Returns the connection for the next write: the one with the fewest unanswered writes, or
    /// `None` if all have reached `unanswered_max`.
    fn lane(&self) -> Option<usize> {
        let waiting = |at: &usize| self.lanes[*at].unanswered.len();
        let least = (0..self.lanes.len()).min_by_key(waiting)?;
        (waiting(&least) < self.plan.unanswered_max).then_some(least)
    }

    fn send_due(&mut self, measure_from_ns: u64) -> Result<()> {
        let caller = Caller { scope: &self.plan.scope, credential: Some(&self.plan.writer) };
        while self.next < self.plan.writes
            && !interrupt::requested()
            && let Some(at) = self.lane()
        {
            let due_ns = self.plan.due_ns(self.start_ns, self.next);
            let now_ns = now_ns();
            if due_ns > now_ns {
                return Ok(());
            }
            self.writes.late_ns_max = self.writes.late_ns_max.max(now_ns - due_ns);
            if due_ns >= measure_from_ns {
                self.writes.lateness.note(now_ns - due_ns, due_ns < self.full_ns);
            }
            let number = self.plan.field.written(self.next);
            let id = field::id(number);
            let resource = field::resource(number, &id);
            let body = self.body.stamped(Stamp { sequence: self.next, due_ns });
            let head = caller.put_head(&self.plan.target, resource, body.len())?;
            let lane = &mut self.lanes[at];
            lane.pipe.send(head.as_bytes());
            lane.pipe.send(body);
            lane.unanswered.push_back((self.next, due_ns));
            lane.ready = true;
            self.writes.answers.note(now_ns, false, true);
            self.next += 1;
        }
        if self.lane().is_none() {
            self.full_ns = now_ns();
        }
        Ok(())
    }

    /// Waits until a write is due or a connection is ready.
    fn wait(&mut self) -> Result<()> {
        let now_ns = now_ns();
        let unanswered = self.unanswered();
        let answers = &mut self.writes.answers;
        answers.note(now_ns, false, unanswered > 0);
        if answers.silent_for(now_ns, ANSWER_PATIENCE) {
            let count = plural(unanswered, "unanswered write");
            let seconds = ANSWER_PATIENCE.as_secs();
            let silence = format!("for {seconds} s no answer came to any of {count}");
            answers.broken = Some(Broken::Silence(silence));
        }
        let mut timeout = POLL_MAX;
        if self.lanes.iter().any(|lane| lane.ready) {
            timeout = Duration::ZERO;
        } else if self.next < self.plan.writes && self.lane().is_some() {
            let due_ns = self.plan.due_ns(self.start_ns, self.next);
            timeout = timeout.min(Duration::from_nanos(due_ns.saturating_sub(now_ns)));
        }
        let mut fds: Vec<_> = self.lanes.iter().map(|lane| lane.pipe.poll()).collect();
        match poll(&mut fds, Some(&timespec(timeout))) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("poll failed"),
        }
        let ready: Vec<_> = fds.iter().map(|fd| fd.revents() != PollFlags::empty()).collect();
        for (lane, ready) in self.lanes.iter_mut().zip(ready) {
            lane.ready |= ready;
        }
        Ok(())
    }

    /// Sends what is queued on ready connections and takes their answers.
    fn collect(&mut self, measure_from_ns: u64) -> Result<()> {
        for at in 0..self.lanes.len() {
            if !std::mem::take(&mut self.lanes[at].ready) {
                continue;
            }
            let alive = self.lanes[at].pipe.exchange()?;
            while let Some(response) = self.lanes[at].pipe.take()? {
                self.on_answer(at, &response, measure_from_ns)?;
            }
            if !alive {
                self.reconnect(at);
            }
        }
        Ok(())
    }

    fn on_answer(&mut self, at: usize, response: &Response, measure_from_ns: u64) -> Result<()> {
        let answered = self.lanes[at].unanswered.pop_front();
        let (sequence, due_ns) = answered.context("an answer to nothing")?;
        let heard_ns = now_ns();
        let is_waiting = self.unanswered() > 0;
        self.writes.answers.note(heard_ns, true, is_waiting);
        let outcome = match response.status {
            200..300 => Outcome::Version(written_version(&response.body)?),
            503 => Outcome::Refused,
            500..600 => Outcome::Unknown,
            status => bail!("write {sequence} was answered {status}: {}", response.excerpt()),
        };
        if !matches!(outcome, Outcome::Version(_)) {
            *self.writes.failures.entry(response.status).or_default() += 1;
        }
        self.writes.outcomes[usize::try_from(sequence)?] = outcome;
        if due_ns >= measure_from_ns {
            self.writes.latency.saturating_record(heard_ns.saturating_sub(due_ns));
        }
        Ok(())
    }

    /// Reconnects. The writes without an answer stay unanswered.
    fn reconnect(&mut self, at: usize) {
        let lane = &mut self.lanes[at];
        self.writes.unanswered += lane.unanswered.len() as u64;
        lane.unanswered.clear();
        match Pipe::connect(&self.plan.target) {
            Ok(pipe) => lane.pipe = pipe,
            Err(error) => {
                self.writes.answers.broken = Some(Broken::Connection(format!("{error:#}")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Write};
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use super::*;
    use crate::http::tests::read_whole_request;

    fn plan(listener: &TcpListener, writes: u64) -> Plan {
        Plan {
            target: format!("http://{}", listener.local_addr().unwrap()).parse().unwrap(),
            scope: Scope::default(),
            writer: "ik_1".to_owned(),
            field: Field { seed: 1, resources: 1_000, subscriptions: 1 },
            payload_bytes: 64,
            rate: 1_000.0,
            writes,
            connections: 2,
            unanswered_max: 2,
        }
    }

    /// Returns signals with which all writes are timed.
    fn signals() -> Signals {
        let signals = Signals::new();
        signals.measure_from(0);
        signals
    }

    fn version(millisecond: u64) -> String {
        format!("2024-01-30T15:50:35.{millisecond:03}Z")
    }

    /// Reads a write, checks that it is for the document whose turn it is, and returns its number.
    fn read_write(stream: &mut BufReader<TcpStream>, field: Field) -> u64 {
        let (head, body) = read_whole_request(stream);
        let stamp = body["data"]["t"].as_str().and_then(Stamp::of).unwrap();
        let number = field.written(stamp.sequence);
        let id = field::id(number);
        let kind = field::resource(number, &id).kind;
        let line = format!("PUT /api/realtime/resources/{kind}/{id} HTTP/1.1\r\n");
        assert!(head.starts_with(&line), "{head}");
        for header in
            ["x-m2-organization: load", "x-m2-project: test", "authorization: Bearer ik_1"]
        {
            assert!(head.contains(&format!("\r\n{header}\r\n")), "{header} in {head}");
        }
        assert_eq!(body["data"].to_string().len(), 64);
        stamp.sequence
    }

    fn answer(stream: &mut BufReader<TcpStream>, status: u16, body: &str) {
        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}", body.len());
        stream.get_mut().write_all(format!("{head}\r\n\r\n{body}").as_bytes()).unwrap();
    }

    fn kept(millisecond: u64) -> String {
        format!(r#"{{"version":"{}","durability":"stored"}}"#, version(millisecond))
    }

    #[test]
    fn writes_are_spread_and_wait_for_no_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let plan = plan(&listener, 4);
        let field = plan.field;
        let server = thread::spawn(move || {
            let mut lanes = [0, 1].map(|_| BufReader::new(listener.accept().unwrap().0));
            let read =
                lanes.each_mut().map(|lane| [read_write(lane, field), read_write(lane, field)]);
            // No write was answered before this point.
            for (number, lane) in (0..).zip(&mut lanes) {
                answer(lane, 200, &kept(number));
                answer(lane, if number == 0 { 503 } else { 500 }, "");
            }
            (read, lanes)
        });
        let writes = write(&plan, now_ns(), &signals()).unwrap();
        assert_eq!(server.join().unwrap().0, [[0, 2], [1, 3]]);
        let kept = |number| Outcome::Version(version(number).parse().unwrap());
        assert_eq!(writes.outcomes, [kept(0), kept(1), Outcome::Refused, Outcome::Unknown]);
        assert_eq!((writes.sent(), writes.accepted(), writes.latency.len()), (4, 2, 4));
        assert_eq!(writes.failures, [(503, 1), (500, 1)].into());
    }

    #[test]
    fn a_lost_connection_leaves_its_writes_unanswered_and_is_replaced() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let plan = Plan { connections: 1, unanswered_max: 1, ..plan(&listener, 2) };
        let field = plan.field;
        let server = thread::spawn(move || {
            let mut dying = BufReader::new(listener.accept().unwrap().0);
            assert_eq!(read_write(&mut dying, field), 0);
            drop(dying);
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            assert_eq!(read_write(&mut stream, field), 1);
            answer(&mut stream, 200, &kept(1));
            stream
        });
        let writes = write(&plan, now_ns(), &signals()).unwrap();
        server.join().unwrap();
        assert_eq!((writes.unanswered, writes.accepted()), (1, 1));
        assert_eq!(writes.outcomes[0], Outcome::Unknown);
    }

    #[test]
    fn an_answer_that_means_a_mistake_ends_the_run_and_so_do_signals() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let plan = plan(&listener, 1_000_000);
        let field = plan.field;
        let dismissed = signals();
        dismissed.dismiss();
        assert_eq!(write(&plan, now_ns(), &dismissed).unwrap().sent(), 0);
        let server = thread::spawn(move || {
            // Two of the connections are not used.
            let mut lanes = [0; 4].map(|_| BufReader::new(listener.accept().unwrap().0));
            read_write(&mut lanes[2], field);
            answer(&mut lanes[2], 403, "no writer");
            lanes
        });
        let error = write(&plan, now_ns(), &signals()).err().unwrap().to_string();
        assert_eq!(error, "write 0 was answered 403: no writer");
        server.join().unwrap();
    }
}
