use proptest::prelude::*;
use rustix::net::{SendFlags, send, sockopt};

use super::*;
use crate::limits::LENT_FRAMES_MAX;

/// Returns the ids of so many connections, with different generations.
fn ids(count: u32) -> Vec<ConnId> {
    let id = |slot| ConnId { worker: WorkerId(3), slot, generation: slot.wrapping_mul(7) };
    (0..count).map(id).collect()
}

fn settled(
    ids: &[ConnId],
    offered: &[usize],
    completions: &[(u64, i32)],
) -> (Vec<Result<usize, Errno>>, Vec<ConnId>) {
    let mut taken: Vec<_> = offered.iter().copied().map(Ok).collect();
    let mut failed_late = Vec::new();
    settle((ids, WorkerId(3)), completions.iter().copied(), &mut taken, &mut failed_late);
    (taken, failed_late)
}

#[test]
fn what_has_no_completion_was_taken() {
    let ids = ids(3);
    let completions = [(name(ids[2]), -libc::EAGAIN), (name(ids[0]), 4)];
    let (taken, late) = settled(&ids, &[10, 20, 30], &completions);
    assert_eq!(taken, [Ok(4), Ok(20), Err(Errno::AGAIN)]);
    assert_eq!(late, []);
}

#[test]
fn a_completion_of_an_earlier_batch_fails_its_connection() {
    let ids = ids(3);
    let other = ConnId { generation: 1, ..ids[1] };
    let (taken, late) = settled(&ids, &[10, 20, 30], &[(name(other), -libc::EPIPE)]);
    assert_eq!((taken, late), (vec![Ok(10), Ok(20), Ok(30)], vec![other]));
}

proptest! {
    /// Whatever a kernel answers, no connection counts as having taken more than it was offered,
    /// and one with contradicting answers is failed.
    #[test]
    fn any_completions_are_settled(
        offered in prop::collection::vec(1..5_000usize, 1..40),
        answers in prop::collection::vec((0..50u32, -133..6_000i32), 0..80),
    ) {
        let known = ids(u32::try_from(offered.len()).unwrap());
        let all = ids(50);
        let answer = |(slot, result): &(u32, i32)| (name(all[*slot as usize]), *result);
        let named: Vec<_> = answers.iter().map(answer).collect();
        let (taken, late) = settled(&known, &offered, &named);
        for (at, id) in known.iter().enumerate() {
            let own = named.iter().filter(|one| one.0 == name(*id));
            let own: Vec<_> = own.map(|one| one.1).collect();
            let errno = |result: i32| Err(Errno::from_raw_os_error(-result));
            prop_assert!(taken[at].is_err() || taken[at].unwrap() <= offered[at]);
            match own[..] {
                [] => prop_assert_eq!(taken[at], Ok(offered[at])),
                [one] if one < 0 => prop_assert_eq!(taken[at], errno(one)),
                [one] if one as usize <= offered[at] => {
                    prop_assert_eq!(taken[at], Ok(one as usize));
                }
                _ => prop_assert!(late.contains(id)),
            }
        }
        for (name, _) in &named {
            let id = self::named(*name, WorkerId(3));
            prop_assert!(known.contains(&id) || late.contains(&id));
        }
    }
}

/// A socket with the bytes that it was to be sent and those that its peer received.
struct Stream {
    socket: OwnedFd,
    peer: OwnedFd,
    bytes: Vec<u8>,
    sent: usize,
    received: Vec<u8>,
}

impl Stream {
    fn new(number: usize, length: usize) -> Self {
        let (socket, peer) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::empty(), None)
                .unwrap();
        sockopt::set_socket_send_buffer_size(&socket, 1).unwrap();
        let bytes = (0..length).map(|at| (at * 31 + number) as u8).collect();
        Self { socket, peer, bytes, sent: 0, received: Vec::new() }
    }

    /// Receives at most so many bytes.
    fn receive(&mut self, most: usize) {
        let mut buffer = vec![0; most];
        if let Ok((length, _)) = recv(&self.peer, &mut buffer[..], RecvFlags::DONTWAIT) {
            self.received.extend_from_slice(&buffer[..length]);
        }
    }
}

/// Sends through a ring of this kernel to sockets that take little at once.
#[test]
fn streams_arrive_whole_and_in_order() {
    if let Err(error) = Ring::try_out() {
        // A machine without io_uring sends directly.
        eprintln!("not tested here: {error}");
        return;
    }
    let mut ring = Ring::new(usize::MAX).unwrap();
    let mut streams: Vec<_> = (0..100).map(|at| Stream::new(at, 1 + at * at * 17)).collect();
    let all = ids(100);
    let (mut short, mut full) = (0, 0);
    for round in 0.. {
        let open: Vec<usize> =
            (0..100).filter(|at| streams[*at].sent < streams[*at].bytes.len()).collect();
        if open.is_empty() {
            break;
        }
        assert!(round < 20_000, "streams stand still: {open:?}");
        let ids: Vec<_> = open.iter().map(|at| all[*at]).collect();
        let mut offers = Offers::new(&ids);
        let mut offered = Vec::new();
        for at in &open {
            let Stream { socket, bytes, sent, .. } = &streams[*at];
            let piece = 1 + (round * 37 + at) % 9_000;
            offered.push(offers.add(socket, bytes[*sent..].chunks(piece).take(1 + at % 9)));
        }
        let mut outcome = Outcome::default();
        ring.send_batch(&offers, &mut outcome).unwrap();
        assert_eq!(outcome.failed_late, []);
        for ((at, offered), taken) in open.iter().zip(offered).zip(outcome.taken) {
            let stream = &mut streams[*at];
            match taken {
                Ok(taken) => {
                    short += usize::from(taken < offered);
                    stream.sent += taken;
                }
                Err(error) => {
                    assert_eq!(error, Errno::AGAIN);
                    full += 1;
                }
            }
            stream.receive((round * 13 + at) % 6_000);
        }
    }
    assert!(short > 0 && full > 0, "{short} short and {full} refused sends");
    for stream in &mut streams {
        while stream.received.len() < stream.bytes.len() {
            let before = stream.received.len();
            stream.receive(1 << 16);
            assert!(stream.received.len() > before, "bytes are missing");
        }
        assert!(stream.received == stream.bytes);
    }
}

#[test]
fn a_closed_peer_fails_its_own_connection_only() {
    if Ring::try_out().is_err() {
        return;
    }
    let mut streams: Vec<_> = (0..8).map(|at| Stream::new(at, 100)).collect();
    let (gone, _) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::empty(), None).unwrap();
    streams[3].peer = gone;
    let ids = ids(8);
    let mut offers = Offers::new(&ids);
    for stream in &streams {
        offers.add(&stream.socket, [&stream.bytes[..]].into_iter());
    }
    let mut outcome = Outcome::default();
    Ring::new(usize::MAX).unwrap().send_batch(&offers, &mut outcome).unwrap();
    let expected: Vec<_> =
        (0..8).map(|at| if at == 3 { Err(Errno::PIPE) } else { Ok(100) }).collect();
    assert_eq!(outcome.taken, expected);
    assert_eq!(send(&streams[0].socket, b"!", SendFlags::DONTWAIT), Ok(1), "the others go on");
}

/// Returns the two ends of a TCP connection, the first of which takes little at once.
fn tcp_pair() -> (OwnedFd, OwnedFd) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let peer = OwnedFd::from(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    let socket = OwnedFd::from(listener.accept().unwrap().0);
    sockopt::set_socket_send_buffer_size(&socket, 1).unwrap();
    (socket, peer)
}

#[test]
fn frames_that_are_lent_arrive_whole_and_are_given_back() {
    const LENGTH: usize = 300_000;
    if let Err(error) = Ring::try_out_lending() {
        assert!(Ring::try_out().is_err(), "only a machine without io_uring is excused: {error}");
        return;
    }
    let mut ring = Ring::new(1).unwrap();
    let frame: Arc<[u8]> = (0..LENGTH).map(|at| (at * 31 % 251) as u8).collect();
    let pairs: Vec<_> = (0..8).map(|_| tcp_pair()).collect();
    let (all, mut sent, mut received) = (ids(8), [0; 8], vec![Vec::new(); 8]);
    let (mut counts, mut lends, mut short) = (Loans::default(), 0, 0);
    let mut buffer = vec![0; 70_000];
    while received.iter().any(|bytes| bytes.len() < LENGTH) {
        let open: Vec<_> = (0..8).filter(|at| sent[*at] < LENGTH).collect();
        let ids: Vec<_> = open.iter().map(|at| all[*at]).collect();
        let mut offers = Offers::new(&ids);
        for at in &open {
            offers.lend(&pairs[*at].0, &frame[sent[*at]..], &frame);
        }
        let mut outcome = Outcome::default();
        ring.send_batch(&offers, &mut outcome).unwrap();
        assert_eq!(outcome.failed_late, []);
        let loans = ring.take_back();
        counts.spared += loans.spared;
        counts.copied += loans.copied;
        lends += open.len();
        for (at, taken) in open.iter().zip(outcome.taken) {
            match taken {
                Ok(taken) => {
                    short += usize::from(sent[*at] + taken < LENGTH);
                    sent[*at] += taken;
                }
                Err(error) => assert_eq!(error, Errno::AGAIN),
            }
        }
        for ((_, peer), bytes) in pairs.iter().zip(&mut received) {
            if let Ok((length, _)) = recv(peer, &mut buffer[..], RecvFlags::DONTWAIT) {
                bytes.extend_from_slice(&buffer[..length]);
            }
        }
    }
    assert!(short > 0, "a socket takes less than a frame at once");
    assert!(received.iter().all(|bytes| **bytes == *frame));
    while ring.lent.is_any() {
        let loans = ring.take_back();
        counts.spared += loans.spared;
        counts.copied += loans.copied;
    }
    assert_eq!(Arc::strong_count(&frame), 1, "nothing keeps the frame");
    assert!(counts.spared + counts.copied <= lends as u64, "{counts:?} of {lends}");
    assert!(counts.spared + counts.copied >= 8, "{counts:?}");
}

#[test]
fn as_many_frames_are_lent_as_may_be() {
    let mut lent = Lent::default();
    let frame: Arc<[u8]> = Arc::from([0; 4]);
    let id = ids(1)[0];
    lent.begin_batch();
    let names: Vec<_> = (0..LENT_FRAMES_MAX).map(|_| lent.lend(&frame, id).unwrap()).collect();
    assert_eq!(lent.lend(&frame, id), None);
    let (more, notice) = (1 << 1, 1 << 3);
    let mut counts = Loans::default();
    let mut say = |lent: &mut Lent, one| lent.settle(one, &mut counts);
    assert_eq!(say(&mut lent, (names[0], 4, more)), Some(Said::Took(id)));
    assert_eq!(lent.lend(&frame, id), None, "the notice is to come");
    assert_eq!(say(&mut lent, (names[0], 0, notice)), Some(Said::GivenBack));
    assert_eq!(say(&mut lent, (names[0], 0, notice)), None, "it was given back before");
    assert_eq!(say(&mut lent, (names[1], -libc::EAGAIN, 0)), Some(Said::Took(id)));
    lent.begin_batch();
    assert_eq!(say(&mut lent, (names[2], 4, more)), Some(Said::Late(id)));
    assert_eq!(say(&mut lent, (names[2], i32::MIN, notice)), Some(Said::GivenBack));
    assert_eq!(say(&mut lent, (name(id), 4, 0)), None, "this is no frame that was lent");
    assert_eq!(counts, Loans { spared: 1, copied: 1, refused: 0 });
    for name in &names[3..] {
        lent.forget(*name);
    }
    assert!(!lent.is_any());
    assert_eq!(Arc::strong_count(&frame), 1);
}
