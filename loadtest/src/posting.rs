//! Publishes over HTTP on several connections with pipelining, on one thread: as fast as answers
//! come, or at a fixed rate whether or not they come.

use std::collections::VecDeque;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use memchr::memmem;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use crate::clock::{nanos, now_ns, timespec};
use crate::fate::{ANSWER_PATIENCE, Answers, Broken, REST_PATIENCE, rest_patience};
use crate::heard::histogram;
use crate::interrupt;
use crate::meter::{Counts, Meter};
use crate::stamp::{Stamp, Template};
use crate::table::plural;
use crate::tally::Outcome;
use crate::target::Target;
use crate::timeline::{Recent, SECOND_NS};

const EVENTS_MAX: usize = 256;
const SCRATCH_BYTES: usize = 64 * 1024;
/// Longest response; those to publications have a few hundred bytes.
const RESPONSE_BYTES_MAX: usize = 64 * 1024;
const POLL_MAX: Duration = Duration::from_millis(100);

/// The times of a run, in ns of CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    /// When the first publication is due.
    pub(crate) start_ns: u64,
    /// Publications that were due before this are not timed.
    pub(crate) measure_from_ns: u64,
    /// From here on nothing more is published.
    pub(crate) end_ns: u64,
}

impl Span {
    /// Ends it now if Ctrl-C was pressed.
    pub(crate) fn end_if_interrupted(&mut self) {
        if interrupt::requested() {
            self.end_ns = self.end_ns.min(now_ns());
        }
    }
}

/// Parameters of the publishing.
pub(crate) struct Posting {
    pub(crate) target: Target,
    /// The request of each channel. Channels take turns.
    pub(crate) templates: Vec<Template>,
    /// Connections, of which a channel uses one if there are several channels. If there is one, it uses
    /// all and its publications have no order.
    pub(crate) connections: usize,
    /// Unanswered publications on each connection; 1 prevents pipelining.
    pub(crate) depth: usize,
    /// Publications per second; `None` for as fast as they are answered.
    pub(crate) rate: Option<f64>,
    pub(crate) span: Span,
}

/// The result of publishing.
pub(crate) struct Posted {
    /// The outcomes by channel, then by sequence number within the channel.
    pub(crate) outcomes: Vec<Vec<Outcome>>,
    /// Time from a publication's due time to its answer, in ns. At full speed it is due when it is
    /// sent.
    pub(crate) latency: Histogram<u64>,
    /// The longest delay of a publication after its due time, in ns.
    pub(crate) late_ns_max: u64,
    pub(crate) starts: Starts,
    /// When answers came, and why there are no more; `None` if the server gives none.
    pub(crate) answers: Option<Answers>,
}

/// Where the seconds of the measured window begin among the publications of each channel.
pub(crate) struct Starts(Vec<Vec<u64>>);

impl Starts {
    /// Returns the starts of this many channels before the first publication.
    pub(crate) fn of(channels: usize) -> Self {
        Self(vec![Vec::new(); channels])
    }

    /// Notes the next publication of a channel, which was due `after_ns` after the start of the
    /// measured window.
    pub(crate) fn note(&mut self, channel: usize, after_ns: u64, sequence: u64) {
        let second = usize::try_from(after_ns / SECOND_NS).unwrap_or(usize::MAX);
        let starts = &mut self.0[channel];
        while starts.len() <= second {
            starts.push(sequence);
        }
    }

    /// Returns the first publications of a channel that were due at these seconds of the window or
    /// later, and `sent` as the end of the last.
    pub(crate) fn at(&self, channel: usize, seconds: &[f64], sent: u64) -> Vec<u64> {
        let start = |second: &f64| self.0[channel].get(*second as usize).copied().unwrap_or(sent);
        seconds.iter().map(start).chain([sent]).collect()
    }
}

impl Posted {
    /// Returns how many publications had this outcome.
    pub(crate) fn count(&self, outcome: Outcome) -> u64 {
        self.outcomes.iter().flatten().filter(|it| **it == outcome).count() as u64
    }
}

impl Posting {
    /// Publishes until the end of the span and waits for the last answers, but not for long. Counts
    /// in `meter`. Ends early if `stop` is set, if a connection fails, or if no answer comes for
    /// long. Returns an error if the server answers with anything but 2xx, 429 and 503.
    pub(crate) fn run(self, meter: &Meter, stop: &AtomicBool) -> Result<Posted> {
        let mut desk = Desk::new(self)?;
        let mut answers = Answers::new(desk.posting.span.measure_from_ns);
        let mut before = 0;
        while !stop.load(Ordering::Relaxed) && answers.broken.is_none() {
            desk.posting.span.end_if_interrupted();
            let now_ns = desk.send_due()?;
            if desk.is_over(now_ns) {
                break;
            }
            answers.note(now_ns, false, desk.unanswered > 0);
            desk.wait(now_ns)?;
            let now_ns = crate::clock::now_ns();
            answers.note(now_ns, desk.counts.done > before, desk.unanswered > 0);
            before = desk.counts.done;
            meter.show(desk.counts, &mut desk.recent);
            answers.broken = desk.broken.take().or_else(|| desk.silence(&answers, now_ns));
        }
        desk.give_up();
        meter.finish(desk.counts, &mut desk.recent);
        Ok(Posted { answers: Some(answers), ..desk.posted })
    }
}

/// All connections and what is known of the publications.
struct Desk {
    posting: Posting,
    epoll: OwnedFd,
    events: Vec<Event>,
    scratch: Vec<u8>,
    lines: Vec<Line>,
    /// The next sequence number of each channel.
    sequences: Vec<u64>,
    /// At a fixed rate: the number of publications that have become due.
    due: u64,
    unanswered: u64,
    counts: Counts,
    /// Latencies since they were last shared.
    recent: Recent,
    posted: Posted,
    /// Set when a connection fails.
    broken: Option<Broken>,
}

/// A publication: its channel and its due time.
#[derive(Clone, Copy)]
struct Item {
    channel: usize,
    due_ns: u64,
}

/// One connection.
struct Line {
    stream: TcpStream,
    /// Requests, or the rest of one, that the socket has not accepted.
    outbox: Vec<u8>,
    inbox: Vec<u8>,
    /// Publications that are due but may not be sent yet.
    pending: VecDeque<Item>,
    /// Publications without an answer, in their order.
    underway: VecDeque<Item>,
    /// At full speed: the channel that is next on this connection.
    channel: usize,
    /// Where Content-Length was in the last response.
    length_at: usize,
}

impl Desk {
    fn new(posting: Posting) -> Result<Self> {
        let channels = posting.templates.len();
        ensure!(channels > 0, "no channel to publish on");
        // A channel always has the same connection, which keeps its publications in order.
        let most = if channels == 1 { posting.connections } else { channels };
        let connections = posting.connections.min(most);
        let epoll = epoll::create(CreateFlags::CLOEXEC).context("no epoll")?;
        let lines = (0..connections).map(|at| {
            let line = Line::connect(&posting.target, at % channels)?;
            epoll::add(&epoll, &line.stream, EventData::new_u64(at as u64), EventFlags::IN)?;
            anyhow::Ok(line)
        });
        let lines = lines.collect::<Result<_>>()?;
        Ok(Self {
            epoll,
            events: Vec::with_capacity(EVENTS_MAX),
            scratch: vec![0; SCRATCH_BYTES],
            lines,
            sequences: vec![0; channels],
            due: 0,
            unanswered: 0,
            counts: Counts::default(),
            recent: Recent::default(),
            posted: Posted {
                outcomes: vec![Vec::new(); channels],
                latency: histogram(),
                late_ns_max: 0,
                starts: Starts::of(channels),
                answers: None,
            },
            broken: None,
            posting,
        })
    }

    /// Sends what may be sent now. Returns the time.
    fn send_due(&mut self) -> Result<u64> {
        let now_ns = now_ns();
        let Span { start_ns, end_ns, .. } = self.posting.span;
        if now_ns < start_ns {
            return Ok(now_ns);
        }
        if let Some(rate) = self.posting.rate {
            loop {
                let due_ns = due_ns(start_ns, rate, self.due);
                if due_ns > now_ns || due_ns >= end_ns {
                    break;
                }
                let channel = usize::try_from(self.due)? % self.sequences.len();
                let turn =
                    if self.sequences.len() > 1 { channel } else { usize::try_from(self.due)? };
                let at = turn % self.lines.len();
                self.lines[at].pending.push_back(Item { channel, due_ns });
                self.due += 1;
            }
        }
        let full_speed = self.posting.rate.is_none() && now_ns < end_ns;
        for at in 0..self.lines.len() {
            self.fill(at, full_speed, now_ns)?;
        }
        Ok(now_ns)
    }

    /// Sends as many requests on a connection as may be unanswered, all together.
    fn fill(&mut self, at: usize, full_speed: bool, now_ns: u64) -> Result<()> {
        let step = self.lines.len();
        let channels = self.sequences.len();
        let line = &mut self.lines[at];
        if !line.outbox.is_empty() {
            return Ok(());
        }
        while line.underway.len() < self.posting.depth {
            let item = match line.pending.pop_front() {
                Some(item) => item,
                None if full_speed => {
                    let channel = line.channel;
                    line.channel += step;
                    if line.channel >= channels {
                        line.channel = at % channels;
                    }
                    Item { channel, due_ns: now_ns }
                }
                None => break,
            };
            self.posted.late_ns_max = self.posted.late_ns_max.max(now_ns - item.due_ns);
            let sequence = self.sequences[item.channel];
            self.sequences[item.channel] += 1;
            if let Some(after_ns) = item.due_ns.checked_sub(self.posting.span.measure_from_ns) {
                self.posted.starts.note(item.channel, after_ns, sequence);
            }
            let stamp = Stamp { sequence, due_ns: item.due_ns };
            line.outbox.extend_from_slice(self.posting.templates[item.channel].stamped(stamp));
            line.underway.push_back(item);
            self.unanswered += 1;
            self.counts.begun += 1;
        }
        self.flush(at);
        self.listen(at)
    }

    /// Returns whether nothing more is published, and the last answers have come or have been waited
    /// for long enough.
    fn is_over(&self, now_ns: u64) -> bool {
        let end_ns = self.posting.span.end_ns;
        now_ns >= end_ns && (self.unanswered == 0 || now_ns - end_ns > nanos(rest_patience()))
    }

    /// Returns that the server is stuck, if no answer came for long.
    fn silence(&self, answers: &Answers, now_ns: u64) -> Option<Broken> {
        let end_ns = self.posting.span.end_ns;
        // It is the last look before the rest is given up.
        let is_last = now_ns > end_ns + nanos(REST_PATIENCE) && !interrupt::requested();
        let patience = if is_last { REST_PATIENCE } else { ANSWER_PATIENCE };
        answers.silent_for(now_ns, patience).then(|| {
            let count = usize::try_from(self.unanswered).unwrap_or(usize::MAX);
            let count = plural(count, "unanswered publication");
            Broken::Silence(format!(
                "for {} s no answer came to any of {count}",
                patience.as_secs()
            ))
        })
    }

    fn flush(&mut self, at: usize) {
        if let Err(error) = self.lines[at].flush() {
            self.broken.get_or_insert(Broken::Connection(format!("{error:#}")));
        }
    }

    /// Waits for writability of a connection that has not accepted everything.
    fn listen(&self, at: usize) -> Result<()> {
        let line = &self.lines[at];
        if !line.outbox.is_empty() {
            let interest = EventFlags::IN | EventFlags::OUT;
            epoll::modify(&self.epoll, &line.stream, EventData::new_u64(at as u64), interest)?;
        }
        Ok(())
    }

    /// Waits for answers, but not beyond the time at which the next publication is due.
    fn wait(&mut self, now_ns: u64) -> Result<()> {
        let Span { start_ns, end_ns, .. } = self.posting.span;
        let next_ns = match self.posting.rate {
            Some(rate) => due_ns(start_ns, rate, self.due),
            None if now_ns < start_ns => start_ns,
            None => end_ns,
        };
        let wait = if next_ns > now_ns { Duration::from_nanos(next_ns - now_ns) } else { POLL_MAX };
        let mut fds = [PollFd::new(&self.epoll, PollFlags::IN)];
        match poll(&mut fds, Some(&timespec(wait.min(POLL_MAX)))) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("poll failed"),
        }
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        let look = timespec(Duration::ZERO);
        match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&look)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("epoll failed"),
        }
        for event in &events {
            let (data, flags) = (event.data, event.flags);
            let at = usize::try_from(data.u64())?;
            if flags.contains(EventFlags::OUT) {
                self.flush(at);
                if self.lines[at].outbox.is_empty() {
                    let stream = &self.lines[at].stream;
                    epoll::modify(&self.epoll, stream, data, EventFlags::IN)?;
                }
            }
            self.collect(at)?;
        }
        self.events = events;
        Ok(())
    }

    /// Reads once and takes the answers that have arrived whole.
    fn collect(&mut self, at: usize) -> Result<()> {
        let line = &mut self.lines[at];
        let count = match rustix::net::recv(&line.stream, &mut *self.scratch, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => {
                let closed = "the server closed a publishing connection".to_owned();
                self.broken.get_or_insert(Broken::Connection(closed));
                return Ok(());
            }
            Ok((_, count)) => count,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(error) => {
                let failed = format!("a publishing connection failed: {error}");
                self.broken.get_or_insert(Broken::Connection(failed));
                return Ok(());
            }
        };
        let now_ns = now_ns();
        let news = &self.scratch[..count];
        let carried = std::mem::take(&mut line.inbox);
        let joined = if carried.is_empty() { None } else { Some([&carried[..], news].concat()) };
        let bytes = joined.as_deref().unwrap_or(news);
        let mut used = 0;
        while let Some((outcome, length)) = answer(&bytes[used..], &mut line.length_at)? {
            used += length;
            let item = line.underway.pop_front().context("an answer to no publication")?;
            self.posted.outcomes[item.channel].push(outcome);
            self.unanswered -= 1;
            self.counts.done += 1;
            self.counts.refused += u64::from(outcome == Outcome::Refused);
            let after_ns = item.due_ns.checked_sub(self.posting.span.measure_from_ns);
            if let Some(after_ns) = after_ns.filter(|_| outcome == Outcome::Accepted) {
                let latency_ns = now_ns.saturating_sub(item.due_ns);
                self.posted.latency.saturating_record(latency_ns);
                self.recent.record(after_ns, latency_ns);
            }
        }
        line.inbox = bytes[used..].to_vec();
        ensure!(line.inbox.len() <= RESPONSE_BYTES_MAX, "an endless response");
        Ok(())
    }

    /// Counts publications that have no answer at the end, and those that were due and could not be
    /// sent before.
    fn give_up(&mut self) {
        for line in &mut self.lines {
            for item in line.underway.drain(..).chain(line.pending.drain(..)) {
                self.posted.outcomes[item.channel].push(Outcome::Unanswered);
            }
        }
    }
}

impl Line {
    fn connect(target: &Target, channel: usize) -> Result<Self> {
        let stream = TcpStream::connect(target.address)
            .with_context(|| format!("cannot publish at {}", target.authority))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            outbox: Vec::new(),
            inbox: Vec::new(),
            pending: VecDeque::new(),
            underway: VecDeque::new(),
            channel,
            length_at: 0,
        })
    }

    fn flush(&mut self) -> Result<()> {
        if self.outbox.is_empty() {
            return Ok(());
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match rustix::net::send(&self.stream, &self.outbox, flags) {
            Ok(sent) if sent == self.outbox.len() => self.outbox.clear(),
            Ok(sent) => drop(self.outbox.drain(..sent)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error).context("a publishing connection failed"),
        }
        Ok(())
    }
}

fn due_ns(start_ns: u64, rate: f64, number: u64) -> u64 {
    start_ns + nanos(Duration::from_secs_f64(number as f64 / rate))
}

/// Returns the outcome in the response at the start of `bytes` and its length; `None` if it is
/// incomplete. `length_at` is where the last response had its Content-Length.
fn answer(bytes: &[u8], length_at: &mut usize) -> Result<Option<(Outcome, usize)>> {
    let Some(end) = memmem::find(bytes, b"\r\n\r\n") else {
        return Ok(None);
    };
    let (head, start) = (&bytes[..end + 2], end + 4);
    let body_bytes = content_length(head, length_at)?;
    let Some(body) = bytes.get(start..start + body_bytes) else {
        return Ok(None);
    };
    let status = head.get(9..12).and_then(|digits| str::from_utf8(digits).ok());
    let outcome = match status.and_then(|digits| digits.parse().ok()) {
        Some(200..300) => Outcome::Accepted,
        Some(429 | 503) => Outcome::Refused,
        _ => bail!(
            "a publication was answered {}: {:.300}",
            status.unwrap_or("without a status"),
            String::from_utf8_lossy(body)
        ),
    };
    Ok(Some((outcome, start + body_bytes)))
}

/// Returns the value of the Content-Length in a head that ends with a line break.
fn content_length(head: &[u8], length_at: &mut usize) -> Result<usize> {
    const NAME: &[u8] = b"\r\ncontent-length:";
    let is_name = |bytes: &[u8]| bytes.eq_ignore_ascii_case(NAME);
    let known = head.get(*length_at..*length_at + NAME.len()).is_some_and(is_name);
    if !known {
        *length_at = head.windows(NAME.len()).position(is_name).context("no Content-Length")?;
    }
    let value = &head[*length_at + NAME.len()..];
    let end = memchr::memchr(b'\r', value).context("a head without an end")?;
    let value = str::from_utf8(&value[..end])?.trim().parse();
    value.ok().filter(|bytes| *bytes <= RESPONSE_BYTES_MAX).context("no valid Content-Length")
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Write};
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use crate::http::tests::read_whole_request;

    #[test]
    fn answers_are_read_wherever_they_are_cut() {
        let one = "HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}";
        let two = "HTTP/1.1 503 Busy\r\nX: y\r\ncontent-length:0\r\n\r\n";
        let bytes = [one, two].concat();
        let mut at = 0;
        for cut in 0..one.len() {
            assert_eq!(answer(&bytes.as_bytes()[..cut], &mut at).unwrap(), None, "cut at {cut}");
        }
        assert_eq!(
            answer(bytes.as_bytes(), &mut at).unwrap(),
            Some((Outcome::Accepted, one.len()))
        );
        assert_eq!(answer(two.as_bytes(), &mut at).unwrap(), Some((Outcome::Refused, two.len())));
        for bad in [
            "HTTP/1.1 404 None\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",
        ] {
            assert!(answer(bad.as_bytes(), &mut at).is_err(), "{bad}");
        }
    }

    /// Answers each request, the fourth of all with 503, until the connections end. Returns the
    /// channel and the sequence number of each.
    fn serve(listener: &TcpListener, connections: usize) -> Vec<(String, u64)> {
        let answer_all = |stream: TcpStream| {
            let mut stream = BufReader::new(stream);
            let mut seen = Vec::new();
            while !std::io::BufRead::fill_buf(&mut stream).unwrap().is_empty() {
                let (_, body) = read_whole_request(&mut stream);
                let text = body["payload"]["t"].as_str().unwrap();
                let sequence = text[1..11].parse().unwrap();
                seen.push((body["channel"].as_str().unwrap().to_owned(), sequence));
                let status = if seen.len() == 4 { "503 Busy" } else { "201 Created" };
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}");
                stream.get_mut().write_all(answer.as_bytes()).unwrap();
            }
            seen
        };
        thread::scope(|scope| {
            let lines: Vec<_> = (0..connections)
                .map(|_| {
                    let stream = listener.accept().unwrap().0;
                    scope.spawn(move || answer_all(stream))
                })
                .collect();
            lines.into_iter().flat_map(|line| line.join().unwrap()).collect()
        })
    }

    fn posting(target: &str, channels: usize, rate: Option<f64>) -> Posting {
        let template = |at| {
            let body = format!(r#"{{"channel":"{at}","payload":{{"t":""#);
            let tail = r#""}}"#;
            let length = body.len() + crate::stamp::STAMP_BYTES + tail.len();
            let head = format!("POST / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n");
            Template::new(&format!("{head}{body}"), tail)
        };
        let start_ns = now_ns();
        Posting {
            target: target.parse().unwrap(),
            templates: (0..channels).map(template).collect(),
            connections: 2,
            depth: 3,
            rate,
            span: Span { start_ns, measure_from_ns: 0, end_ns: start_ns + 200_000_000 },
        }
    }

    #[test]
    fn publications_of_a_channel_are_numbered_in_the_order_in_which_they_are_sent() {
        for rate in [None, Some(500.0)] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let target = format!("http://{}", listener.local_addr().unwrap());
            let server = thread::spawn(move || serve(&listener, 2));
            let meter = Meter::default();
            let posted = posting(&target, 5, rate).run(&meter, &AtomicBool::new(false)).unwrap();
            let mut seen = server.join().unwrap();
            seen.sort();
            let expected = posted.outcomes.iter().enumerate().flat_map(|(channel, outcomes)| {
                (0..outcomes.len() as u64).map(move |sequence| (channel.to_string(), sequence))
            });
            assert_eq!(seen, expected.collect::<Vec<_>>());
            assert_eq!(posted.count(Outcome::Refused), 2);
            let accepted = posted.count(Outcome::Accepted);
            assert_eq!((accepted + 2, posted.latency.len()), (seen.len() as u64, accepted));
            let all = seen.len() as u64;
            let counts = Counts { begun: all, done: all, refused: 2, failed: 0 };
            assert_eq!(meter.counts(), counts);
            if rate.is_some() {
                assert_eq!(seen.len(), 100);
            }
        }
    }

    #[test]
    fn seconds_begin_at_the_first_publication_that_was_due_in_them() {
        let mut starts = Starts::of(2);
        for (after_s, sequence) in [(0, 40), (0, 41), (1, 42), (3, 43)] {
            starts.note(1, after_s * SECOND_NS + 999_999_999, sequence);
        }
        assert_eq!(starts.at(1, &[0.0, 1.0, 2.0, 3.0, 4.0], 44), [40, 42, 43, 43, 44, 44]);
        assert_eq!(starts.at(1, &[0.0, 2.0], 44), [40, 43, 44]);
        assert_eq!(starts.at(0, &[0.0], 7), [7, 7], "nothing was due in the window");
    }

    #[test]
    fn a_server_that_closes_the_connection_ends_the_run_with_what_it_has() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = format!("http://{}", listener.local_addr().unwrap());
        let server = thread::spawn(move || drop((listener.accept(), listener.accept())));
        let posted = posting(&target, 1, None).run(&Meter::default(), &AtomicBool::new(false));
        let posted = posted.unwrap();
        assert!(matches!(posted.answers.as_ref().unwrap().broken, Some(Broken::Connection(_))));
        assert!(posted.count(Outcome::Unanswered) > 0);
        assert_eq!(posted.count(Outcome::Accepted), 0);
        server.join().unwrap();
    }
}
