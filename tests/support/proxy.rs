//! A TCP proxy that delays, withholds and cuts.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Pieces of a direction that are under way at most; then the proxy reads no more.
const UNDER_WAY_MAX: usize = 1_024;
const PIECE_BYTES: usize = 64 * 1024;
const LOOK: Duration = Duration::from_millis(2);

/// A proxy in front of a port of this machine. On drop, all of its connections are cut.
pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

/// A direction through a proxy.
#[derive(Clone, Copy)]
pub(crate) enum Way {
    ToServer,
    ToClient,
}

#[derive(Default)]
struct Shared {
    target: u16,
    ways: [Fault; 2],
    accepted: AtomicU64,
    is_over: AtomicBool,
    connections: Mutex<Vec<TcpStream>>,
}

/// What happens to the bytes of a direction.
#[derive(Default)]
struct Fault {
    delay_ms: AtomicU64,
    is_withheld: AtomicBool,
}

impl Proxy {
    /// Starts a proxy in front of this port.
    pub(crate) fn to(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let shared = Arc::new(Shared { target, ..Shared::default() });
        let accepting = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if accepting.is_over.load(SeqCst) {
                    return;
                }
                accepting.accepted.fetch_add(1, SeqCst);
                // A target that does not listen is a connection that ends at once.
                let _ = accepting.connect(client);
            }
        });
        Self { port, shared }
    }

    /// Returns the port that clients connect to.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns how many connections were accepted.
    pub(crate) fn accepted(&self) -> u64 {
        self.shared.accepted.load(SeqCst)
    }

    /// Delays everything that is read in this direction from now on.
    pub(crate) fn delay(&self, way: Way, by: Duration) {
        let millis = u64::try_from(by.as_millis()).expect("a delay is short");
        self.shared.ways[way as usize].delay_ms.store(millis, SeqCst);
    }

    /// Withholds everything of this direction, also the end of a connection, or lets it go on: the
    /// connection is half open.
    pub(crate) fn withhold(&self, way: Way, is_withheld: bool) {
        self.shared.ways[way as usize].is_withheld.store(is_withheld, SeqCst);
    }

    /// Cuts all connections.
    pub(crate) fn cut(&self) {
        self.shared.cut();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.is_over.store(true, SeqCst);
        self.cut();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

impl Shared {
    fn connect(self: &Arc<Self>, client: TcpStream) -> io::Result<()> {
        let server = TcpStream::connect((Ipv4Addr::LOCALHOST, self.target))?;
        server.set_nodelay(true)?;
        client.set_nodelay(true)?;
        {
            let mut connections = self.connections();
            connections.push(client.try_clone()?);
            connections.push(server.try_clone()?);
        }
        self.carry(Way::ToServer, client.try_clone()?, server.try_clone()?);
        self.carry(Way::ToClient, server, client);
        Ok(())
    }

    /// Carries one direction of a connection, on two threads.
    fn carry(self: &Arc<Self>, way: Way, from: TcpStream, to: TcpStream) {
        let (pieces, taken) = sync_channel(UNDER_WAY_MAX);
        let (reading, writing) = (self.clone(), self.clone());
        thread::spawn(move || reading.read(way, from, &pieces));
        thread::spawn(move || writing.write(way, &taken, to));
    }

    fn read(&self, way: Way, mut from: TcpStream, pieces: &SyncSender<(Instant, Vec<u8>)>) {
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            // An error is an end, too. An empty piece stands for it.
            let read = from.read(&mut buffer).unwrap_or(0);
            let delay = Duration::from_millis(self.ways[way as usize].delay_ms.load(SeqCst));
            let piece = (Instant::now() + delay, buffer[..read].to_vec());
            if pieces.send(piece).is_err() || read == 0 {
                return;
            }
        }
    }

    fn write(&self, way: Way, pieces: &Receiver<(Instant, Vec<u8>)>, mut to: TcpStream) {
        for (due, piece) in pieces {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            while self.ways[way as usize].is_withheld.load(SeqCst) && !self.is_over.load(SeqCst) {
                thread::sleep(LOOK);
            }
            if piece.is_empty() || to.write_all(&piece).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    }

    fn cut(&self) {
        for connection in self.connections().drain(..) {
            // It may have ended by itself.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    fn connections(&self) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
