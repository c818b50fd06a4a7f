//! The smallest program that can let clients join: it accepts them, answers the upgrade, the
//! CONNECT and the subscribe with as many bytes as a node, and closes when they leave.

use std::net::TcpStream;

use anyhow::{Result, bail, ensure};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use crate::api::{Api, insforge};
use crate::floor::frame::framed;
use crate::floor::port::{Port, Ready, read_order};
use crate::floor::session::{read_masked, upgraded};

const SCRATCH_BYTES: usize = 16 * 1024;

/// The clients that are connected, and the places that have become free.
#[derive(Default)]
struct Clients {
    places: Vec<Option<TcpStream>>,
    free: Vec<usize>,
}

/// Lets clients join until the orders end.
pub(super) fn serve() -> Result<()> {
    let mut port = Port::open()?;
    port.announce()?;
    let opened = upgraded(None).into_bytes();
    let opened = [opened, framed(Api::InsForge, insforge::GREETING)].concat();
    let mut scratch = vec![0; SCRATCH_BYTES];
    let mut clients = Clients::default();
    loop {
        port.wait(None)?;
        let mut at = 0;
        while let Some(ready) = port.ready(at)? {
            at += 1;
            match ready {
                Ready::Clients => {
                    while let Some(stream) = port.next_client()? {
                        let at = clients.add(stream);
                        if let Some(stream) = &clients.places[at] {
                            port.watch(stream, at)?;
                        }
                    }
                }
                Ready::Publishers => drop(port.next_publisher()?),
                Ready::Orders if read_order()?.is_none() => return Ok(()),
                Ready::Orders => {}
                Ready::Connection(at, _) => {
                    let client = clients.places[at].as_ref();
                    if client.is_some_and(|it| answer(it, &opened, &mut scratch).is_err()) {
                        clients.remove(at);
                    }
                }
            }
        }
    }
}

impl Clients {
    fn add(&mut self, stream: TcpStream) -> usize {
        let Some(at) = self.free.pop() else {
            self.places.push(Some(stream));
            return self.places.len() - 1;
        };
        self.places[at] = Some(stream);
        at
    }

    fn remove(&mut self, at: usize) {
        self.places[at] = None;
        self.free.push(at);
    }
}

/// Answers what a client says. Each of its messages arrives whole, because it waits for the answer
/// to the one before. An error means that the connection is over.
fn answer(client: &TcpStream, opened: &[u8], scratch: &mut [u8]) -> Result<()> {
    let count = match rustix::net::recv(client, &mut *scratch, RecvFlags::DONTWAIT) {
        Ok((_, 0)) => bail!("the client has left"),
        Ok((_, count)) => count,
        Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let bytes = &scratch[..count];
    if bytes.starts_with(b"GET ") {
        ensure!(bytes.ends_with(b"\r\n\r\n"), "half a request");
        return send(client, opened);
    }
    let Some((text, _)) = read_masked(bytes)? else {
        bail!("half a frame");
    };
    let reply = Api::InsForge.reply(&text);
    reply.map_or(Ok(()), |reply| send(client, &framed(Api::InsForge, &reply.text)))
}

fn send(client: &TcpStream, bytes: &[u8]) -> Result<()> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let sent = rustix::net::send(client, bytes, flags)?;
    ensure!(sent == bytes.len(), "the client does not read");
    Ok(())
}
