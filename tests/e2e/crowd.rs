//! Many subscribers that one thread reads.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use uuid::Uuid;

use crate::socket::{Heard, Socket};
use crate::tcp::PATIENCE;
use crate::witness::END;

/// Subscribers that only read.
pub(crate) struct Crowd {
    sockets: Vec<Socket>,
    /// The publications that each has received, in order.
    pub(crate) heard: Vec<Vec<Uuid>>,
}

impl Crowd {
    pub(crate) fn subscribe(port: u16, channel: &str, token: &str, count: usize) -> Self {
        let subscribe = |_| {
            let mut socket = Socket::connect(port, token);
            socket.subscribe(channel);
            socket.never_wait();
            socket
        };
        let sockets = (0..count).map(subscribe).collect();
        Self { sockets, heard: vec![Vec::new(); count] }
    }

    /// Reads until each subscriber has received [`END`].
    pub(crate) fn listen(&mut self) {
        let mut listening: Vec<_> = (0..self.sockets.len()).collect();
        while !listening.is_empty() {
            let ready = self.wait(&listening);
            let ended: Vec<_> = ready.into_iter().filter(|place| self.hear(*place)).collect();
            listening.retain(|place| !ended.contains(place));
        }
    }

    /// Returns those of `listening` whose sockets are readable.
    fn wait(&self, listening: &[usize]) -> Vec<usize> {
        let patience = Timespec::try_from(PATIENCE).expect("it is a few seconds");
        let watch = |place: &usize| PollFd::new(&self.sockets[*place], PollFlags::IN);
        let mut watched: Vec<_> = listening.iter().map(watch).collect();
        let ready = poll(&mut watched, Some(&patience)).expect("sockets can be polled");
        assert!(ready > 0, "{} of the crowd hear nothing for {PATIENCE:?}", listening.len());
        let all = listening.iter().zip(watched);
        all.filter(|(_, one)| !one.revents().is_empty()).map(|(place, _)| *place).collect()
    }

    /// Reads what has arrived. Returns whether [`END`] was part of it.
    fn hear(&mut self, place: usize) -> bool {
        loop {
            match self.sockets[place].look() {
                Heard::Event(event) => {
                    self.heard[place].push(event.id);
                    if event.is_named(END) {
                        return true;
                    }
                }
                Heard::Nothing => return false,
                heard => panic!("unexpected: {heard:?}"),
            }
        }
    }
}
