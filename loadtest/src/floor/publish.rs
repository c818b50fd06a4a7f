//! The smallest program that can answer publications over HTTP: it reads, finds the ends of the
//! requests, and sends the answers.

use anyhow::Result;
use rustix::event::epoll::EventFlags;

use crate::api::insforge;
use crate::floor::port::{Port, Ready, read_order};
use crate::floor::requests::{Answers, Requests};

const SCRATCH_BYTES: usize = 64 * 1024;

/// Answers publishers until the orders end.
pub(super) fn serve() -> Result<()> {
    let mut port = Port::open()?;
    port.announce()?;
    let answers = Answers::new(&insforge::accepted(0));
    let mut scratch = vec![0; SCRATCH_BYTES];
    let mut publishers: Vec<Option<Requests>> = Vec::new();
    loop {
        port.wait(None)?;
        let mut at = 0;
        while let Some(ready) = port.ready(at)? {
            at += 1;
            match ready {
                Ready::Clients => drop(port.next_client()?),
                Ready::Publishers => {
                    while let Some(stream) = port.next_publisher()? {
                        stream.set_nodelay(true)?;
                        port.watch(&stream, publishers.len())?;
                        publishers.push(Some(Requests::new(stream)));
                    }
                }
                Ready::Orders if read_order()?.is_none() => return Ok(()),
                Ready::Orders => {}
                Ready::Connection(at, flags) => {
                    let place = &mut publishers[at];
                    let answered = place.as_mut().map(|requests| {
                        answer(&port, requests, (at, flags), &answers, &mut scratch)
                    });
                    if answered.is_some_and(|answered| answered.is_err()) {
                        *place = None;
                    }
                }
            }
        }
    }
}

fn answer(
    port: &Port,
    requests: &mut Requests,
    (at, flags): (usize, EventFlags),
    answers: &Answers,
    scratch: &mut [u8],
) -> Result<()> {
    if flags.contains(EventFlags::OUT) && requests.flush()? {
        port.watch_writable(&*requests, at, false)?;
    }
    let count = requests.read(scratch, |_| Ok(()))?;
    if count > 0 && !requests.answer(answers, count)? {
        port.watch_writable(&*requests, at, true)?;
    }
    Ok(())
}
