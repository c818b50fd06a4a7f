//! Sends batches through a ring that serves nothing else.
//!
//! A batch is one SEND or SENDMSG for each connection, and one system call for all. Against a loop
//! of plain sends that costs 0.87 to 0.93 at 1,000 to 10,000 sockets; below four connections plain
//! sends are as cheap. Receiving through a ring gained nothing and cost the kernel 864 bytes for
//! each idle connection instead of 208, so it stays with the poller.
//!
//! What the kernel was seen to do, and what follows:
//!
//! - With `MSG_DONTWAIT` a send never waits in the kernel: once the batch is submitted, each send
//!   is over. So bytes are borrowed only for the call, and each connection has one send under way.
//! - With `CQE_SKIP_SUCCESS` a send has a completion only if it failed. Without `MSG_WAITALL` a
//!   short send would count as a success and have none, and its rest would be lost in silence. With
//!   it, a short send completes with the bytes that were taken. [`Ring::try_out`] makes sure that
//!   this kernel does both.
//! - A completion names its connection with the generation of its slot. Should one come after its
//!   batch was settled, the connection is closed, because part of its stream is missing.
//! - A send without copying (`IORING_OP_SEND_ZC`) always has a completion, and a second one when
//!   the kernel reads the frame no longer; `lent.rs` keeps the frame until then. Over loopback the
//!   kernel copies such frames nevertheless, so that it costs more there, and it is off by default.
//! - The kernel may take only a part of a batch. The rest is submitted again; if that fails as
//!   well, the ring is given up and the rest is sent by plain sends.

mod lent;

use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use io_uring::{IoUring, opcode, squeue, types};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair, sockopt};

use self::lent::{Lent, Said};
use super::{Direct, Loans, Offer, Offers, Outcome, Transmit, bytes, send_slices};
use crate::limits::SEND_BATCH_MAX;
use crate::message::{ConnId, WorkerId};

/// Connections below which plain sends are as cheap as a batch.
const BATCH_MIN: usize = 4;
/// How often a batch that the kernel took in part is submitted again without progress.
const SUBMITS_MAX: usize = 3;
const FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
/// More than a socket with the least buffer takes at once, so that a send of it comes to be short.
const TRIAL_BYTES: usize = 64 * 1024;
const TRIAL_FRAME_BYTES: usize = 4 * 1024;
/// How often, a millisecond apart, a trial looks whether the kernel has given the frame back.
const TRIAL_LOOKS_MAX: usize = 1_000;

/// The flag of a send without copying that has the kernel note whether it copied nevertheless
/// (`IORING_SEND_ZC_REPORT_USAGE`).
const REPORT_USAGE: u16 = 1 << 3;
/// The flag of `io_uring_enter` that has completions published (`IORING_ENTER_GETEVENTS`).
const GET_EVENTS: u32 = 1;

/// A worker's ring.
pub struct Ring {
    ring: IoUring,
    /// The headers of a batch's vectored sends. They stay where they are until it is submitted.
    headers: Vec<libc::msghdr>,
    /// From how many bytes on frames are lent to the kernel.
    lend_min: usize,
    lent: Lent,
    /// The frames that a batch lends: the places of their connections in it, and their names in
    /// completions.
    lending: Vec<(usize, u64)>,
    /// What became of frames that were lent.
    loans: Loans,
    /// Connections whose completions came too late, since the last batch.
    late: Vec<ConnId>,
    /// The worker of the last batch.
    worker: WorkerId,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").finish_non_exhaustive()
    }
}

impl Ring {
    /// Creates a ring for sends from this thread, which lends the kernel frames of at least
    /// `lend_min` bytes.
    ///
    /// # Errors
    /// If the kernel denies it or has no memory.
    pub fn new(lend_min: usize) -> io::Result<Self> {
        let entries = u32::try_from(SEND_BATCH_MAX).expect("a batch is small");
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_coop_taskrun().setup_defer_taskrun().setup_submit_all();
        let ring = builder.build(entries)?;
        Ok(Self {
            ring,
            headers: Vec::with_capacity(SEND_BATCH_MAX),
            lend_min,
            lent: Lent::default(),
            lending: Vec::new(),
            loans: Loans::default(),
            late: Vec::new(),
            worker: WorkerId(0),
        })
    }

    /// Sends on a ring, and makes sure that a short send is reported with its length and a whole
    /// one not at all.
    ///
    /// # Errors
    /// What this kernel, or a container's confinement, denies.
    pub fn try_out() -> io::Result<()> {
        let mut ring = Self::new(usize::MAX)?;
        let pair =
            || socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let ((whole, whole_end), (short, short_end)) = (pair()?, pair()?);
        sockopt::set_socket_send_buffer_size(&short, 1)?;
        let bytes = vec![0; TRIAL_BYTES];
        let id = |slot| ConnId { worker: WorkerId(0), slot, generation: 0 };
        let ids = [id(0), id(1)];
        let mut offers = Offers::new(&ids);
        offers.add(&whole, [&bytes[..1]].into_iter());
        offers.add(&short, [&bytes[..]].into_iter());
        let mut outcome = Outcome::default();
        ring.send_batch(&offers, &mut outcome)?;
        match outcome.taken[..] {
            [Ok(1), Ok(taken)]
                if taken < TRIAL_BYTES
                    && received(&whole_end)? == 1
                    && received(&short_end)? == taken =>
            {
                Ok(())
            }
            _ => Err(io::Error::other("this kernel does not report short sends")),
        }
    }

    /// Lends the kernel a frame, and makes sure that it is sent and given back.
    ///
    /// # Errors
    /// What this kernel denies.
    pub fn try_out_lending() -> io::Result<()> {
        let mut ring = Self::new(1)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let peer = OwnedFd::from(TcpStream::connect(listener.local_addr()?)?);
        let socket = OwnedFd::from(listener.accept()?.0);
        let frame = Arc::from([0; TRIAL_FRAME_BYTES]);
        let ids = [ConnId { worker: WorkerId(0), slot: 0, generation: 0 }];
        let mut offers = Offers::new(&ids);
        offers.lend(&socket, &frame, &frame);
        let mut outcome = Outcome::default();
        ring.send_batch(&offers, &mut outcome)?;
        if outcome.taken != [Ok(frame.len())] || received(&peer)? != frame.len() {
            return Err(io::Error::other("this kernel does not send without copying"));
        }
        for _ in 0..TRIAL_LOOKS_MAX {
            ring.take_back();
            if !ring.lent.is_any() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(1));
        }
        Err(io::Error::other("this kernel does not give back what it was lent"))
    }

    /// Returns from how many bytes on a frame is to be lent to the kernel.
    pub fn lend_min(&self) -> usize {
        self.lend_min
    }

    /// Takes back the frames that the kernel reads no longer. Returns what became of them since the
    /// last call.
    pub fn take_back(&mut self) -> Loans {
        if self.lent.is_any() {
            self.publish_completions();
            self.settle(&[], &mut []);
        }
        std::mem::take(&mut self.loans)
    }

    /// Offers each connection's bytes to its socket without waiting, and replaces `outcome`.
    ///
    /// # Errors
    /// If the ring is broken. The outcome holds nevertheless.
    pub fn transmit(&mut self, offers: &Offers<'_>, outcome: &mut Outcome) -> io::Result<()> {
        if offers.ids().len() < BATCH_MIN {
            Direct.transmit(offers, outcome);
            return Ok(());
        }
        self.send_batch(offers, outcome)
    }

    fn send_batch(&mut self, offers: &Offers<'_>, outcome: &mut Outcome) -> io::Result<()> {
        self.queue(offers);
        let submitted = self.submit();
        if self.lent.is_any() {
            self.publish_completions();
        }
        let tried = offers.ids().len() - self.ring.submission().len();
        let taken = &mut outcome.taken;
        taken.clear();
        taken.extend(offers.iter().map(|offer| Ok(bytes(offer.slices))));
        for (place, name) in self.lending.drain(..) {
            // Unlike other sends, one of these has a completion also if all was taken.
            taken[place] = Err(Errno::IO);
            if place >= tried {
                self.lent.forget(name);
            }
        }
        self.worker = offers.ids().first().map_or(self.worker, |id| id.worker);
        self.settle(offers.ids(), &mut outcome.taken);
        outcome.failed_late.clear();
        outcome.failed_late.append(&mut self.late);
        for (offer, taken) in offers.iter().zip(&mut outcome.taken).skip(tried) {
            *taken = send_slices(offer.socket, offer.slices);
        }
        submitted
    }

    /// Notes what the completions say of the connections of a batch, and of earlier ones.
    fn settle(&mut self, ids: &[ConnId], taken: &mut [Result<usize, Errno>]) {
        let Self { ring, lent, loans, worker, .. } = self;
        let mut late = Vec::new();
        let completions = ring.completion().filter_map(|one| {
            let (data, result) = (one.user_data(), one.result());
            match lent.settle((data, result, one.flags()), loans) {
                None => Some((data, result)),
                Some(Said::Took(id)) => Some((name(id), result)),
                Some(Said::Late(id)) => {
                    late.push(id);
                    None
                }
                Some(Said::GivenBack) => None,
            }
        });
        settle((ids, *worker), completions, taken, &mut self.late);
        self.late.append(&mut late);
    }

    /// Has the kernel publish completions that came outside of a submission.
    fn publish_completions(&self) {
        // SAFETY: no argument is passed, and nothing is submitted.
        #[allow(unsafe_code, reason = "the crate has no function for it")]
        let entered = unsafe { self.ring.submitter().enter::<()>(0, 0, GET_EVENTS, None) };
        // If this fails, the frames stay until the next time.
        drop(entered);
    }

    /// Puts a batch into the submission queue.
    fn queue(&mut self, offers: &Offers<'_>) {
        self.headers.clear();
        self.lend(offers);
        for offer in offers.iter() {
            if offer.slices.len() > 1 {
                self.headers.push(header(offer.slices));
            }
        }
        let mut headers = self.headers.iter();
        let mut lending = self.lending.iter().peekable();
        let mut queue = self.ring.submission();
        for (place, Offer { id, socket, slices }) in offers.iter().enumerate() {
            let socket = types::Fd(socket.as_raw_fd());
            let lent = lending.next_if(|lent| lent.0 == place);
            let entry = match (slices, lent) {
                ([one], Some((_, name))) => {
                    let send = opcode::SendZc::new(socket, one.as_ptr(), length(one));
                    send.flags(FLAGS).zc_flags(REPORT_USAGE).build().user_data(*name)
                }
                ([one], None) => {
                    let send = opcode::Send::new(socket, one.as_ptr(), length(one));
                    silent(send.flags(FLAGS).build(), id)
                }
                _ => {
                    let header = headers.next().expect("one was made for each vectored send");
                    let send = opcode::SendMsg::new(socket, header);
                    silent(send.flags(FLAGS.cast_unsigned()).build(), id)
                }
            };
            // SAFETY: the bytes are borrowed and the headers stay in place until `submit` returns.
            // A send with `MSG_DONTWAIT` is over then, but for a frame that is lent, which is kept
            // until its notice. What was not submitted is never looked at, because the caller gives
            // up a ring whose queue is not empty.
            #[allow(unsafe_code, reason = "the queue does not know how long buffers must live")]
            let pushed = unsafe { queue.push(&entry) };
            pushed.expect("the queue has room for the longest batch");
        }
    }

    /// Notes the frames that a batch lends.
    fn lend(&mut self, offers: &Offers<'_>) {
        self.lending.clear();
        self.lent.begin_batch();
        for (place, frame) in &offers.lendable {
            match self.lent.lend(frame, offers.ids[*place]) {
                Some(name) => self.lending.push((*place, name)),
                None => self.loans.refused += 1,
            }
        }
    }

    /// Submits what is in the queue.
    ///
    /// # Errors
    /// If the kernel takes nothing of it repeatedly.
    fn submit(&mut self) -> io::Result<()> {
        let mut fruitless = 0;
        loop {
            let before = self.ring.submission().len();
            let result = self.ring.submit();
            let left = self.ring.submission().len();
            if left == 0 {
                return Ok(());
            }
            fruitless = if left < before { 0 } else { fruitless + 1 };
            if fruitless == SUBMITS_MAX {
                return Err(result.err().unwrap_or_else(|| io::Error::other("nothing submitted")));
            }
        }
    }
}

/// Returns a send of a connection that has a completion only if not all was taken.
fn silent(send: squeue::Entry, id: ConnId) -> squeue::Entry {
    send.user_data(name(id)).flags(squeue::Flags::SKIP_SUCCESS)
}

/// Returns the length of a slice, which is shorter than 4 GiB, because frames are.
fn length(slice: &[u8]) -> u32 {
    u32::try_from(slice.len()).unwrap_or(u32::MAX)
}

/// Returns the header of a vectored send.
fn header(slices: &[IoSlice<'_>]) -> libc::msghdr {
    libc::msghdr {
        msg_name: ptr::null_mut(),
        msg_namelen: 0,
        // `IoSlice` has the layout of `iovec`, and a send only reads it.
        msg_iov: slices.as_ptr().cast_mut().cast(),
        msg_iovlen: slices.len(),
        msg_control: ptr::null_mut(),
        msg_controllen: 0,
        msg_flags: 0,
    }
}

/// Returns the name of a connection in completions.
fn name(id: ConnId) -> u64 {
    u64::from(id.generation) << 32 | u64::from(id.slot)
}

/// Returns the connection of this name at a worker.
fn named(name: u64, worker: WorkerId) -> ConnId {
    let [generation, slot] = [name >> 32, name & u64::from(u32::MAX)];
    let part = |part| u32::try_from(part).expect("half of 64 bits");
    ConnId { worker, slot: part(slot), generation: part(generation) }
}

/// Notes what became of a batch from the completions of the sends that failed or were short.
/// `taken` has the bytes that were offered to each connection, and then how many it took.
fn settle(
    (ids, worker): (&[ConnId], WorkerId),
    completions: impl Iterator<Item = (u64, i32)>,
    taken: &mut [Result<usize, Errno>],
    failed_late: &mut Vec<ConnId>,
) {
    // Completions mostly come in the order of the batch.
    let mut next = 0;
    let mut settled = Vec::new();
    for (data, result) in completions {
        let mut places = (next..ids.len()).chain(0..next);
        let Some(at) = places.find(|at| name(ids[*at]) == data) else {
            failed_late.push(named(data, worker));
            continue;
        };
        next = at;
        let took = usize::try_from(result).map_err(|_| Errno::from_raw_os_error(-result));
        let is_too_much = matches!((took, taken[at]), (Ok(took), Ok(offered)) if took > offered);
        if settled.contains(&at) || is_too_much {
            failed_late.push(ids[at]);
        } else {
            taken[at] = took;
        }
        settled.push(at);
    }
}

/// Returns how many bytes can be received.
fn received(socket: &OwnedFd) -> io::Result<usize> {
    let mut all = 0;
    let mut buffer = [0; 4096];
    loop {
        match recv(socket, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((length, _)) if length > 0 => all += length,
            Ok(_) | Err(Errno::AGAIN) => return Ok(all),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests;
