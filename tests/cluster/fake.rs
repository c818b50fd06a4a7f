//! Servers that are none: they say what a test wants.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;

/// What listens on a port and answers each connection with fixed bytes.
pub(crate) struct Fake {
    port: u16,
    accepted: Arc<AtomicU64>,
}

impl Fake {
    /// Starts one that sends `greeting`, waits for bytes, sends `answer` and ends the connection.
    pub(crate) fn new(greeting: impl Into<Vec<u8>>, answer: impl Into<Vec<u8>>) -> Self {
        let (greeting, answer) = (greeting.into(), answer.into());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let accepted = Arc::new(AtomicU64::new(0));
        let counted = accepted.clone();
        // It ends with the test's process.
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                counted.fetch_add(1, SeqCst);
                // The client may have left.
                let _ = serve(&mut stream, &greeting, &answer);
            }
        });
        Self { port, accepted }
    }

    /// Starts one that is a NATS server as far as its INFO, with these members.
    pub(crate) fn with_info(info: &serde_json::Value) -> Self {
        Self::new(format!("INFO {info}\r\n"), "")
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Returns how many connections there were.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(SeqCst)
    }
}

fn serve(stream: &mut TcpStream, greeting: &[u8], answer: &[u8]) -> std::io::Result<()> {
    stream.write_all(greeting)?;
    let mut received = [0; 4096];
    if stream.read(&mut received)? > 0 {
        stream.write_all(answer)?;
    }
    Ok(())
}
