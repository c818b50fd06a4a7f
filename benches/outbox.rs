//! Outboxes to sockets (`broker::outbox`, `runtime::sender`): this takes nearly all the time of a
//! delivery.
//!
//! A publication reaches 1,000 subscribers of one worker over loopback TCP, each with a socket of
//! its own, read by another thread. `push` puts the pointer into each outbox. `fanfare` is that and
//! the worker's own drain, with one frame for each subscriber or with eight, which then go out in
//! one vectored send. `bare send` is the floor: only one `send` of the same bytes from one buffer.
//! Divided by deliveries (the reciprocal of the throughput), eight against one shows what
//! coalescing saves, and `fanfare` against `bare send` what the product adds.

mod support;

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use criterion::{BenchmarkId, SamplingMode, Throughput};
use fanfare::broker::outbox::{Outbox, Spares};
use fanfare::broker::outgoing::Outgoing;
use fanfare::interface::encode::encode;
use fanfare::limits::OUTBOX_BYTES_MAX;
use fanfare::message::{Channel, Encoding, FrameBytes, Publication};
use fanfare::metrics::Counters;
use fanfare::runtime::sender::{Sent, send_waiting};
use rustix::net::{SendFlags, send};

use support::audience::Audience;
use support::cpu_time;

const SUBSCRIBERS: usize = 1_000;
const COALESCED: usize = 8;

/// A frame as a worker holds it: one pointer, counted without atomics, to the bytes and the
/// publication.
#[derive(Clone, Debug)]
struct Frame(Rc<(FrameBytes, Option<Arc<Publication>>)>);

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        &self.0.0
    }
}

impl Outgoing for Frame {
    fn is_delivery(&self) -> bool {
        self.0.1.is_some()
    }

    fn expendable(&self) -> Option<&Publication> {
        self.0.1.as_deref()
    }

    fn gap(&self) -> Option<(&Channel, u64)> {
        None
    }

    fn notice(&self, _: &Channel, _: u64) -> Self {
        unreachable!("the outboxes stay far below their bounds")
    }
}

fn main() {
    let mut criterion = support::by_cpu_time();
    let publication = Arc::new(support::publication());
    let bytes = publication.frame(Encoding::Documented, encode);
    let mut worker = Worker::new(Frame(Rc::new((bytes, Some(publication)))));
    let mut group = criterion.benchmark_group("outbox");
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(SUBSCRIBERS as u64));
    group.bench_function("push", |bencher| {
        bencher.iter_custom(|times| (0..times).map(|_| worker.push()).sum());
    });
    for frames in [1, COALESCED] {
        group.throughput(Throughput::Elements((SUBSCRIBERS * frames) as u64));
        group.bench_function(BenchmarkId::new("fanfare", frames), |bencher| {
            bencher.iter_custom(|times| (0..times).map(|_| worker.deliver(frames)).sum());
        });
        group.bench_function(BenchmarkId::new("bare send", frames), |bencher| {
            bencher.iter_custom(|times| (0..times).map(|_| worker.send(frames)).sum());
        });
    }
    group.finish();
    criterion.final_summary();
}

/// The measured parts of a worker: outboxes and sockets.
struct Worker {
    frame: Frame,
    outboxes: Vec<Outbox<Frame>>,
    sockets: Vec<OwnedFd>,
    spares: Spares<Frame>,
    counters: Counters,
    reader: Reader,
}

impl Worker {
    fn new(frame: Frame) -> Self {
        let (sockets, reader) = connect();
        Self {
            frame,
            outboxes: (0..SUBSCRIBERS).map(|_| Outbox::default()).collect(),
            sockets,
            spares: Spares::default(),
            counters: Counters::default(),
            reader,
        }
    }

    fn push(&mut self) -> Duration {
        let start = cpu_time();
        self.push_to_all();
        let spent = cpu_time() - start;
        for outbox in &mut self.outboxes {
            outbox.clear(&mut self.spares);
        }
        spent
    }

    fn deliver(&mut self, frames: usize) -> Duration {
        let start = cpu_time();
        for _ in 0..frames {
            self.push_to_all();
        }
        for (socket, outbox) in self.sockets.iter().zip(&mut self.outboxes) {
            let sent = send_waiting(socket, outbox, &mut self.spares, &self.counters);
            assert_eq!(sent, Sent::All, "the sockets are empty");
        }
        let spent = cpu_time() - start;
        self.reader.wait_for(frames * self.frame.as_ref().len());
        spent
    }

    fn send(&mut self, frames: usize) -> Duration {
        let bytes = self.frame.as_ref().repeat(frames);
        let start = cpu_time();
        for socket in &self.sockets {
            let sent = send(socket, &bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
            assert_eq!(sent, Ok(bytes.len()), "the sockets are empty");
        }
        let spent = cpu_time() - start;
        self.reader.wait_for(bytes.len());
        spent
    }

    fn push_to_all(&mut self) {
        for outbox in &mut self.outboxes {
            outbox
                .push(self.frame.clone(), OUTBOX_BYTES_MAX, &mut self.spares)
                .expect("far below the bounds");
        }
    }
}

/// The thread that reads the subscribers' ends. It ends when all sockets are closed.
struct Reader {
    read: Arc<AtomicU64>,
    expected: u64,
    thread: JoinHandle<()>,
}

impl Reader {
    /// Waits until every subscriber has read `bytes` more, so that no socket ever fills.
    fn wait_for(&mut self, bytes: usize) {
        self.expected += (SUBSCRIBERS * bytes) as u64;
        while self.read.load(Ordering::Acquire) < self.expected {
            assert!(!self.thread.is_finished(), "the reader reads on");
            thread::yield_now();
        }
    }
}

/// Returns the worker's ends of the connections, and the reader of the other ends.
fn connect() -> (Vec<OwnedFd>, Reader) {
    support::raise_descriptor_limit();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    let address = listener.local_addr().expect("it is bound");
    let (mut sockets, mut others) = (Vec::new(), Vec::new());
    for _ in 0..SUBSCRIBERS {
        others.push(TcpStream::connect(address).expect("the listener is there"));
        let (socket, _) = listener.accept().expect("somebody has connected");
        socket.set_nodelay(true).expect("TCP_NODELAY can be set");
        sockets.push(socket.into());
    }
    let read = Arc::new(AtomicU64::new(0));
    let total = read.clone();
    let thread = thread::spawn(move || {
        let mut audience = Audience::new(others);
        while audience.open() > 0 {
            total.fetch_add(audience.hear() as u64, Ordering::Release);
        }
    });
    (sockets, Reader { read, expected: 0, thread })
}
