//! Stopping nodes and starting them again.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpStream};
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{Node, wait_until};

const POLL: Duration = Duration::from_millis(2);

impl Node {
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.pid().try_into().ok().and_then(Pid::from_raw);
        let pid = pid.expect("the id of a process is a positive number");
        kill_process(pid, signal).expect("a child that was not waited for can be signalled");
    }

    /// Sends the node this signal and waits until it accepts no new connections.
    pub(crate) fn begin_to_stop(&self, signal: Signal) {
        self.signal(signal);
        wait_until("connections are refused", || !self.lets_in());
    }

    /// Whether the node accepts new connections.
    pub(crate) fn lets_in(&self) -> bool {
        match TcpStream::connect((Ipv4Addr::LOCALHOST, self.port())) {
            // The listener was closed while this connection waited to be accepted.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => false,
            Err(error) => panic!("connecting to the node: {error}"),
            Ok(_) => true,
        }
    }

    /// Waits for the node's end and returns its status. Panics if it takes longer than `limit`.
    pub(crate) fn exit_status(&mut self, limit: Duration) -> ExitStatus {
        self.require_alone();
        let end = Instant::now() + limit;
        loop {
            let status = self.process.child.try_wait();
            let status = status.expect("the node is a child of this process");
            if let Some(status) = status {
                return status;
            }
            assert!(Instant::now() < end, "the node runs on after {limit:?}");
            thread::sleep(POLL);
        }
    }

    /// Whether the process still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.require_alone();
        let status = self.process.child.try_wait();
        status.expect("the node is a child of this process").is_none()
    }

    /// Starts a node that has ended again, with its data, on this port.
    pub(crate) fn start_again(&mut self, port: u16) {
        self.require_alone();
        self.process = self.launch.start(port);
    }
}
