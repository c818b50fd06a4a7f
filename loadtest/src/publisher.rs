//! The open-loop publisher: each publication is sent at its due time, whether or not earlier ones
//! have been answered.
//!
//! One connection carries all publications, so the server receives them in the order of their
//! numbers. A publication that is sent late keeps its due time in its stamp: a stall of the server
//! shows in the latencies instead of thinning out the load.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use rustix::event::poll;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::api::{Access, Api};
use crate::clock::{nanos, now_ns, timespec};
use crate::fate::{ANSWER_PATIENCE, Answers, Broken, rest_patience};
use crate::heard::histogram;
use crate::http::{Pipe, Response};
use crate::interrupt;
use crate::procfs::Busy;
use crate::stamp::{Stamp, Template};
use crate::table::plural;
use crate::tally::Outcome;
use crate::target::Target;

const POLL_MAX: Duration = Duration::from_millis(100);

/// Content and timing of the publications.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Schedule {
    pub(crate) channel: String,
    /// The event's name; only InsForge has one.
    pub(crate) event: String,
    /// Size of the payload in bytes.
    pub(crate) payload_bytes: usize,
    /// Publications per second, due at even intervals.
    pub(crate) rate: f64,
    /// Number of publications in all.
    pub(crate) publications: u64,
}

impl Schedule {
    /// Returns when publication `sequence` is due in a run that starts at `start_ns`.
    pub(crate) fn due_ns(&self, start_ns: u64, sequence: u64) -> u64 {
        start_ns + nanos(Duration::from_secs_f64(sequence as f64 / self.rate))
    }
}

/// The server, the credentials and the schedule of a publisher.
pub(crate) struct Plan {
    pub(crate) target: Target,
    /// The API and the credentials.
    pub(crate) access: Access,
    pub(crate) schedule: Schedule,
    /// Unanswered publications that are allowed at once; 1 for servers that do not support
    /// pipelining.
    pub(crate) unanswered_max: u64,
}

/// The result of publishing.
pub(crate) struct Published {
    /// The outcomes by sequence number.
    pub(crate) outcomes: Vec<Outcome>,
    /// The longest delay of a publication after its due time, in ns.
    pub(crate) late_ns_max: u64,
    /// When answers came, and why there are no more; `None` if the server itself publishes.
    pub(crate) answers: Option<Answers>,
}

/// Counters of a publisher at work.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Publications that were due earlier do not count as late.
    measure_from_ns: u64,
    sent: AtomicU64,
    refused: AtomicU64,
    lateness: OnceLock<Lateness>,
    busy: OnceLock<Busy>,
}

/// How late publications were sent, in ns.
#[derive(Clone, Debug)]
pub(crate) struct Lateness {
    /// By the publisher's own fault; 0 for publications that were held up.
    pub(crate) own: Histogram<u64>,
    /// Because the server had not answered `unanswered_max` earlier ones; 0 for all others.
    pub(crate) held: Histogram<u64>,
}

impl Lateness {
    pub(crate) fn new() -> Self {
        Self { own: histogram(), held: histogram() }
    }

    /// Counts a publication that was sent `late_ns` after its due time; `held` if the server was
    /// the reason.
    pub(crate) fn note(&mut self, late_ns: u64, held: bool) {
        self.own.saturating_record(if held { 0 } else { late_ns });
        self.held.saturating_record(if held { late_ns } else { 0 });
    }
}

impl Pace {
    /// Returns the counters of a publisher that has not begun.
    pub(crate) fn new(measure_from_ns: u64) -> Self {
        Self {
            measure_from_ns,
            sent: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            lateness: OnceLock::new(),
            busy: OnceLock::new(),
        }
    }

    /// Returns when the measured window begins.
    pub(crate) fn measure_from_ns(&self) -> u64 {
        self.measure_from_ns
    }

    /// Returns how many publications were sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Returns how many of them were answered with 503.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Returns how busy the publisher's thread was; `None` before it is done.
    pub(crate) fn busy(&self) -> Option<&Busy> {
        self.busy.get()
    }

    /// Returns how late the publications were; `None` before the publisher is done.
    pub(crate) fn lateness(&self) -> Option<&Lateness> {
        self.lateness.get()
    }
}

/// Publishes everything, the first publication at `start_ns`, and counts in `pace`. After a Ctrl-C,
/// sends nothing more and waits a little for the answers. Ends early if `stop` is set, if the server
/// takes no connection any longer, or if it does not answer for long. Returns an error if it answers
/// with anything but 2xx and 503.
pub(crate) fn publish(
    plan: &Plan,
    start_ns: u64,
    stop: &AtomicBool,
    pace: &Pace,
) -> Result<Published> {
    let mut line = Line::new(plan, start_ns, pace)?;
    let began = Busy::so_far();
    while !stop.load(Ordering::Relaxed) && line.answers.broken.is_none() {
        line.send_due();
        let alive = line.pipe.exchange()?;
        line.collect()?;
        if !alive {
            line.reconnect();
        }
        if line.is_done() {
            break;
        }
        line.wait()?;
    }
    line.give_up();
    // Only this publisher sets it.
    let _ = pace.lateness.set(line.lateness);
    let _ = pace.busy.set(began.until_now());
    let (outcomes, late_ns_max) = (line.outcomes, line.late_ns_max);
    Ok(Published { outcomes, late_ns_max, answers: Some(line.answers) })
}

struct Line<'a> {
    plan: &'a Plan,
    pace: &'a Pace,
    lateness: Lateness,
    /// The last moment at which `unanswered_max` publications were unanswered.
    full_ns: u64,
    start_ns: u64,
    template: Template,
    pipe: Pipe,
    /// The number of the next publication to send. Answers come in order, so the publications from
    /// `outcomes.len()` to this one are unanswered.
    next: u64,
    outcomes: Vec<Outcome>,
    late_ns_max: u64,
    answers: Answers,
    /// When Ctrl-C was noticed.
    interrupted_ns: Option<u64>,
}

impl<'a> Line<'a> {
    fn new(plan: &'a Plan, start_ns: u64, pace: &'a Pace) -> Result<Self> {
        let capacity = usize::try_from(plan.schedule.publications)?;
        Ok(Self {
            plan,
            pace,
            lateness: Lateness::new(),
            full_ns: 0,
            start_ns,
            template: plan.access.request(&plan.target, &plan.schedule)?,
            pipe: Pipe::connect(&plan.target)?,
            next: 0,
            outcomes: Vec::with_capacity(capacity),
            late_ns_max: 0,
            answers: Answers::new(pace.measure_from_ns),
            interrupted_ns: None,
        })
    }

    fn unanswered(&self) -> u64 {
        self.next - self.outcomes.len() as u64
    }

    fn is_done(&mut self) -> bool {
        if interrupt::requested() {
            let now_ns = now_ns();
            let since_ns = *self.interrupted_ns.get_or_insert(now_ns);
            return self.unanswered() == 0 || now_ns - since_ns > nanos(rest_patience());
        }
        self.outcomes.len() as u64 == self.plan.schedule.publications
    }

    /// Counts publications that have no answer at the end.
    fn give_up(&mut self) {
        let sent = self.outcomes.len() + usize::try_from(self.unanswered()).unwrap_or_default();
        self.outcomes.resize(sent, Outcome::Unanswered);
    }

    fn may_send(&self) -> bool {
        self.next < self.plan.schedule.publications
            && self.unanswered() < self.plan.unanswered_max
            && !interrupt::requested()
    }

    fn send_due(&mut self) {
        while self.may_send() {
            let due_ns = self.plan.schedule.due_ns(self.start_ns, self.next);
            let now_ns = now_ns();
            if due_ns > now_ns {
                return;
            }
            self.note_late(due_ns, now_ns - due_ns);
            let stamp = Stamp { sequence: self.next, due_ns };
            self.pipe.send(self.template.stamped(stamp));
            self.next += 1;
            self.pace.sent.store(self.next, Ordering::Relaxed);
            self.answers.note(now_ns, false, true);
        }
    }

    fn note_late(&mut self, due_ns: u64, late_ns: u64) {
        self.late_ns_max = self.late_ns_max.max(late_ns);
        if due_ns >= self.pace.measure_from_ns {
            self.lateness.note(late_ns, due_ns < self.full_ns);
        }
    }

    /// Takes the answers that have arrived.
    fn collect(&mut self) -> Result<()> {
        while let Some(response) = self.pipe.take()? {
            let outcome = judge(self.plan.access.api, &response, self.outcomes.len())?;
            let was_full = self.unanswered() >= self.plan.unanswered_max;
            self.outcomes.push(outcome);
            let now_ns = now_ns();
            self.answers.note(now_ns, true, self.unanswered() > 0);
            self.full_ns = if was_full { now_ns } else { self.full_ns };
            let refused = u64::from(outcome == Outcome::Refused);
            self.pace.refused.fetch_add(refused, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Reconnects. The publications without an answer stay unanswered.
    fn reconnect(&mut self) {
        self.give_up();
        self.answers.note(now_ns(), false, false);
        match Pipe::connect(&self.plan.target) {
            Ok(pipe) => self.pipe = pipe,
            Err(error) => self.answers.broken = Some(Broken::Connection(format!("{error:#}"))),
        }
    }

    fn wait(&mut self) -> Result<()> {
        let now_ns = now_ns();
        self.answers.note(now_ns, false, self.unanswered() > 0);
        if self.answers.silent_for(now_ns, ANSWER_PATIENCE) {
            let count = plural(usize::try_from(self.unanswered())?, "unanswered publication");
            let seconds = ANSWER_PATIENCE.as_secs();
            let silence = format!("for {seconds} s no answer came to any of {count}");
            self.answers.broken = Some(Broken::Silence(silence));
        }
        let mut timeout = POLL_MAX;
        if self.may_send() {
            let due_ns = self.plan.schedule.due_ns(self.start_ns, self.next);
            timeout = timeout.min(Duration::from_nanos(due_ns.saturating_sub(now_ns)));
        }
        let mut fds = [self.pipe.poll()];
        match poll(&mut fds, Some(&timespec(timeout))) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error).context("poll failed"),
        }
    }
}

fn judge(api: Api, response: &Response, sequence: usize) -> Result<Outcome> {
    match response.status {
        200..300 if api.reached_nobody(&response.body) => {
            bail!("publication {sequence} was answered that nobody is subscribed")
        }
        200..300 => Ok(Outcome::Accepted),
        503 => Ok(Outcome::Refused),
        status => bail!("publication {sequence} was answered {status}: {}", response.excerpt()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Write};
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use serde_json::Value;

    use super::*;
    use crate::http::tests::read_whole_request;

    fn plan(listener: &TcpListener, publications: u64) -> Plan {
        Plan {
            target: format!("http://{}", listener.local_addr().unwrap()).parse().unwrap(),
            access: access(Api::InsForge, "ik_test"),
            schedule: Schedule {
                channel: "load:\"1\"".to_owned(),
                event: "load".to_owned(),
                payload_bytes: 64,
                rate: 1_000.0,
                publications,
            },
            unanswered_max: 16,
        }
    }

    fn access(api: Api, publisher: &str) -> Access {
        Access { publisher: Some(publisher.to_owned()), ..Access::anonymous(api) }
    }

    /// Reads one request and returns the sequence number of its stamp.
    fn read_request(stream: &mut BufReader<TcpStream>) -> u64 {
        let (head, body) = read_whole_request(stream);
        assert!(head.starts_with("POST /api/realtime/messages HTTP/1.1\r\n"));
        assert!(head.contains("\r\nAuthorization: Bearer ik_test\r\n"));
        assert_eq!(body["channel"], "load:\"1\"");
        assert_eq!(body["payload"].to_string().len(), 64);
        body["payload"]["t"].as_str().unwrap()[1..11].parse().unwrap()
    }

    #[test]
    fn publications_do_not_wait_for_answers_and_keep_their_order() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let plan = plan(&listener, 8);
        let server = thread::spawn(move || {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            let numbers: Vec<u64> = (0..8).map(|_| read_request(&mut stream)).collect();
            // The publisher sent all eight although none of them was answered.
            for number in 0..8 {
                let status = if number == 3 { "503 Busy" } else { "201 Created" };
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}");
                stream.get_mut().write_all(answer.as_bytes()).unwrap();
            }
            numbers
        });
        let published = publish(&plan, now_ns(), &AtomicBool::new(false), &Pace::new(0)).unwrap();
        assert_eq!(server.join().unwrap(), (0..8).collect::<Vec<_>>());
        let mut expected = [Outcome::Accepted; 8];
        expected[3] = Outcome::Refused;
        assert_eq!(published.outcomes, expected);
    }

    #[test]
    fn a_lost_connection_leaves_its_publications_unanswered_and_is_replaced() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let plan = Plan { unanswered_max: 1, ..plan(&listener, 2) };
        let server = thread::spawn(move || {
            let mut dying = BufReader::new(listener.accept().unwrap().0);
            assert_eq!(read_request(&mut dying), 0);
            drop(dying);
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            let number = read_request(&mut stream);
            let answer = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";
            stream.get_mut().write_all(answer).unwrap();
            number
        });
        let published = publish(&plan, now_ns(), &AtomicBool::new(false), &Pace::new(0)).unwrap();
        assert_eq!(server.join().unwrap(), 1);
        assert_eq!(published.outcomes, [Outcome::Unanswered, Outcome::Accepted]);
    }

    #[test]
    fn a_run_that_is_called_off_ends_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let plan = plan(&listener, 1_000_000);
        let called_off = AtomicBool::new(true);
        let published = publish(&plan, now_ns(), &called_off, &Pace::new(0)).unwrap();
        assert_eq!(published.outcomes, []);
    }

    #[test]
    fn a_server_that_is_gone_ends_the_publishing_with_what_there_is() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let plan = plan(&listener, 1_000_000);
        let server = thread::spawn(move || {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            drop(listener);
            read_request(&mut stream);
            let answer = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";
            stream.get_mut().write_all(answer).unwrap();
            // Read, so that the answer is not discarded with the connection.
            read_request(&mut stream);
        });
        let published = publish(&plan, now_ns(), &AtomicBool::new(false), &Pace::new(0)).unwrap();
        server.join().unwrap();
        assert_eq!(published.outcomes.first(), Some(&Outcome::Accepted));
        assert!(published.outcomes[1..].iter().all(|outcome| *outcome == Outcome::Unanswered));
        let broken = published.answers.unwrap().broken;
        assert!(matches!(broken, Some(Broken::Connection(_))), "{broken:?}");
    }

    #[test]
    fn an_answer_that_means_a_mistake_ends_the_run() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let plan = plan(&listener, 1);
        let server = thread::spawn(move || {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            read_request(&mut stream);
            let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 7\r\n\r\nnothing";
            stream.get_mut().write_all(answer).unwrap();
        });
        let error = publish(&plan, now_ns(), &AtomicBool::new(false), &Pace::new(0))
            .err()
            .unwrap()
            .to_string();
        assert_eq!(error, "publication 0 was answered 404: nothing");
        server.join().unwrap();
    }

    /// Publishes once in Forge, with this as the body of the server's answer. Returns the result
    /// and the request.
    fn publish_in_forge(answer: &str) -> (Result<Published>, String, Value) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let plan = Plan { access: access(Api::Forge, "inv-1"), ..plan(&listener, 1) };
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
        let server = thread::spawn(move || {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            let (head, body) = read_whole_request(&mut stream);
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
            (head, body)
        });
        let published = publish(&plan, now_ns(), &AtomicBool::new(false), &Pace::new(0));
        let (head, body) = server.join().unwrap();
        (published, head, body)
    }

    #[test]
    fn forge_is_asked_with_an_invocation_and_a_payload_that_is_a_string() {
        let answer = r#"{"eventId":"e","eventTimestamp":"1719999999999","errors":null}"#;
        let (published, head, body) = publish_in_forge(answer);
        assert_eq!(published.unwrap().outcomes, [Outcome::Accepted]);
        assert!(head.starts_with("POST /forge/realtime/v1/publish HTTP/1.1\r\n"));
        assert!(head.contains("\r\nforge-proxy-authorization: Forge as=app,id=inv-1\r\n"));
        assert!(!head.contains("\r\nAuthorization:"));
        assert_eq!(body["name"], "load:\"1\"");
        let payload = body["payload"].as_str().unwrap();
        assert_eq!((payload.len(), &payload[..12]), (64, "@0000000000:"));
    }

    #[test]
    fn a_publication_that_nobody_is_subscribed_to_ends_the_run() {
        let answer = r#"{"eventId":null,"eventTimestamp":null,"errors":null}"#;
        let error = publish_in_forge(answer).0.err().unwrap().to_string();
        assert_eq!(error, "publication 0 was answered that nobody is subscribed");
    }
}
