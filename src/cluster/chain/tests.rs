use proptest::prelude::*;

use super::*;

type Heard = Vec<Told<Seq>>;

fn placed(seq: Seq, last: Seq) -> Placed<Seq> {
    Placed { seq, last, bytes: 100, message: seq }
}

fn deliver(seq: Seq) -> Told<Seq> {
    Told::Deliver(seq, seq)
}

fn lost(after: Seq, before: Seq) -> Told<Seq> {
    Told::Lost(Missing { after, before })
}

#[test]
fn an_attached_channel_costs_24_bytes() {
    assert_eq!(size_of::<Chain<[u64; 9]>>(), 24);
}

#[test]
fn what_is_at_or_before_the_bound_is_history() {
    let (mut chain, mut out) = (Chain::at_bound(10), Heard::new());
    assert!(!chain.live(placed(9, 0), 10, &mut out));
    assert!(!chain.live(placed(10, 9), 10, &mut out));
    assert_eq!(out, [], "the message at the bound itself is history, too");
    assert!(!chain.live(placed(11, 10), 10, &mut out));
    assert!(!chain.live(placed(14, 11), 10, &mut out));
    assert!(!chain.live(placed(14, 11), 10, &mut out), "a message that comes twice");
    assert_eq!(out, [deliver(11), deliver(14)]);
}

#[test]
fn the_first_message_behind_the_bound_may_have_any_older_one_before_it() {
    for last in [0, 3, 10] {
        let (mut chain, mut out) = (Chain::at_bound(10), Heard::new());
        assert!(!chain.live(placed(12, last), 10, &mut out));
        assert_eq!(out, [deliver(12)]);
    }
    let (mut chain, mut out) = (Chain::at_bound(10), Heard::new());
    assert!(chain.live(placed(12, 11), 10, &mut out), "11 is behind the bound");
    assert_eq!(chain.missing(), Some(Missing { after: 10, before: 12 }));
}

#[test]
fn a_hole_is_read_from_the_last_one_that_was_heard() {
    let (mut chain, mut out) = (Chain::at_bound(10), Heard::new());
    chain.live(placed(11, 0), 10, &mut out);
    assert!(chain.live(placed(15, 13), 10, &mut out));
    assert!(!chain.live(placed(16, 15), 10, &mut out), "one read is enough");
    let missing = chain.missing().unwrap();
    assert_eq!(missing, Missing { after: 11, before: 15 });
    assert_eq!(out, [deliver(11)]);
    assert!(!chain.read(missing, [placed(12, 0), placed(13, 0)], 1, &mut out));
    assert_eq!(out, [11, 12, 13, 15, 16].map(deliver));
    assert_eq!(chain.missing(), None);
}

#[test]
fn a_quiet_channel_is_whole_if_the_line_was() {
    let attach = || {
        let (mut chain, mut out) = (Chain::at_bound(10), Heard::new());
        chain.live(placed(11, 0), 10, &mut out);
        (chain, out)
    };
    let (mut chain, mut out) = attach();
    assert!(!chain.live(placed(90, 0), 80, &mut out));
    assert_eq!(out, [11, 90].map(deliver));
    // Heard since the line was last known to be whole, and no longer in the stream.
    let (mut chain, mut out) = attach();
    assert!(chain.live(placed(90, 0), 10, &mut out));
    let missing = chain.missing().unwrap();
    assert!(!chain.read(missing, [], 80, &mut out));
    assert_eq!(out, [deliver(11), lost(11, 80), deliver(90)]);
    // The one before is still there, and is not the one that was heard.
    let (mut chain, mut out) = attach();
    assert!(chain.live(placed(90, 5), 80, &mut out));
}

#[test]
fn what_the_stream_has_no_more_is_told_to_be_lost() {
    let begin = || {
        let (mut chain, mut out) = (Chain::at_bound(10), Heard::new());
        chain.live(placed(15, 13), 10, &mut out);
        (chain.missing().unwrap(), chain, out)
    };
    let (missing, mut chain, mut out) = begin();
    chain.read(missing, [placed(13, 0)], 13, &mut out);
    assert_eq!(out, [lost(10, 13), deliver(13), deliver(15)]);
    let (missing, mut chain, mut out) = begin();
    chain.read(missing, [placed(11, 0)], 1, &mut out);
    assert_eq!(out, [deliver(11), lost(11, 14), deliver(15)], "13 was named and did not come");
    let (_, mut chain, mut out) = begin();
    assert!(!chain.give_up(&mut out));
    assert_eq!(out, [lost(10, 15), deliver(15)]);
}

#[test]
fn messages_wait_up_to_a_bound_and_are_read_beyond_it() {
    let (mut chain, mut out) = (Chain::at_bound(0), Heard::new());
    let most = WAITING_MESSAGES_MAX as Seq;
    chain.hold();
    for seq in 1..=most + 10 {
        assert!(!chain.live(placed(seq, seq - 1), 0, &mut out));
    }
    assert_eq!((chain.missing(), out.len()), (None, 0));
    assert!(chain.release(&mut out));
    assert_eq!(out.len(), WAITING_MESSAGES_MAX);
    let missing = chain.missing().unwrap();
    assert_eq!(missing, Missing { after: most, before: most + 11 });
    // A message that comes while the rest is read needs no second read.
    chain.live(placed(most + 11, most + 10), 0, &mut out);
    let rest = (most + 1..=most + 10).map(|seq| placed(seq, 0));
    assert!(!chain.read(missing, rest, 1, &mut out));
    assert_eq!(out, (1..=most + 11).map(deliver).collect::<Vec<_>>());
    let (mut chain, mut out) = (Chain::at_bound(0), Heard::new());
    chain.hold();
    for seq in 1..=3 {
        chain.live(Placed { bytes: WAITING_BYTES_MAX / 2, ..placed(seq, seq - 1) }, 0, &mut out);
    }
    assert!(chain.release(&mut out));
    assert_eq!(out.len(), 2);
}

#[test]
fn a_message_that_others_were_heard_behind_is_asked_for() {
    let (mut chain, mut out) = (Chain::at_bound(10), Heard::new());
    assert!(!chain.expect(10));
    assert!(chain.expect(20));
    assert!(!chain.expect(19));
    let missing = chain.missing().unwrap();
    assert_eq!(missing, Missing { after: 10, before: 21 });
    assert!(!chain.read(missing, [placed(15, 0), placed(20, 0)], 1, &mut out));
    assert_eq!(out, [15, 20].map(deliver));
}

/// What happens to the next message of the stream, or meanwhile.
#[derive(Clone, Debug)]
enum Fate {
    Comes,
    /// It does not come live.
    IsLost,
    /// It comes, and the one before it comes again.
    ComesTwice,
    /// Another channel's message.
    Elsewhere,
    /// The oldest messages leave the stream.
    Expires(Seq),
    /// What is missing is read.
    Read,
    GiveUp,
    Hold,
    Release,
    /// Everything is read from this far back.
    Fill(Seq),
    Echo,
    /// The node can no longer rely on having received everything.
    Breaks,
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let fate = prop_oneof![
        8 => Just(Fate::Comes),
        3 => Just(Fate::IsLost),
        1 => Just(Fate::ComesTwice),
        2 => Just(Fate::Elsewhere),
        1 => (1..6_u64).prop_map(Fate::Expires),
        4 => Just(Fate::Read),
        1 => Just(Fate::GiveUp),
        1 => Just(Fate::Hold),
        2 => Just(Fate::Release),
        2 => (0..20_u64).prop_map(Fate::Fill),
        3 => Just(Fate::Echo),
        1 => Just(Fate::Breaks),
    ];
    proptest::collection::vec(fate, 0..80)
}

#[test]
fn a_lost_message_that_has_expired_is_told_although_the_next_one_waited() {
    let (chain, all, told) = (Chain::at_bound(5), Vec::new(), Vec::new());
    let mut world = World { chain, all, oldest: 1, next: 6, whole: 5, told };
    let fates = [Fate::Breaks, Fate::IsLost, Fate::Expires(6), Fate::Hold, Fate::Comes];
    fates.iter().chain([&Fate::Release, &Fate::Read]).for_each(|fate| world.step(fate));
    assert_eq!(world.told, [Told::Lost(Missing { after: 5, before: 7 }), Told::Deliver(7, 7)]);
}

/// A stream with one channel of interest, and a node that is attached to it at 5.
struct World {
    chain: Chain<Seq>,
    /// The channel's messages since the node attached.
    all: Vec<Seq>,
    oldest: Seq,
    next: Seq,
    /// Up to here the node has received everything that it was subscribed to, or filled it.
    whole: Seq,
    told: Heard,
}

impl World {
    fn kept(&self) -> impl Iterator<Item = Placed<Seq>> {
        self.all.iter().filter(|seq| **seq >= self.oldest).map(|seq| placed(*seq, 0))
    }

    fn publish(&mut self) -> Placed<Seq> {
        let last = self.all.last().copied().filter(|last| *last >= self.oldest).unwrap_or(0);
        self.all.push(self.next);
        self.next += 1;
        placed(self.next - 1, last)
    }

    fn step(&mut self, fate: &Fate) {
        let mut out = Heard::new();
        match fate {
            Fate::Comes => {
                let message = self.publish();
                self.chain.live(message, self.whole, &mut out);
            }
            Fate::IsLost => {
                self.publish();
            }
            Fate::ComesTwice => {
                let message = self.publish();
                self.chain.live(message.clone(), self.whole, &mut out);
                self.chain.live(message, self.whole, &mut out);
            }
            Fate::Elsewhere => self.next += 1,
            Fate::Expires(count) => {
                // While the line is whole, messages are kept for longer than echoes take.
                let most = if self.whole == 0 { self.next } else { self.whole + 1 };
                self.oldest = most.min(self.oldest + count).max(self.oldest);
            }
            Fate::Read => {
                if let Some(missing) = self.chain.missing() {
                    let range = missing.after + 1..missing.before;
                    let found: Vec<_> =
                        self.kept().filter(|one| range.contains(&one.seq)).collect();
                    self.chain.read(missing, found, self.oldest, &mut out);
                }
            }
            Fate::GiveUp => {
                self.chain.give_up(&mut out);
            }
            Fate::Hold => self.chain.hold(),
            Fate::Release => {
                self.chain.release(&mut out);
            }
            Fate::Fill(back) => {
                // As a read of everything does: it begins at or before what was heard, and at a
                // message that the stream still has.
                let from = self.chain.heard().saturating_sub(*back);
                if from + 1 >= self.oldest {
                    let found: Vec<_> = self.kept().filter(|one| one.seq > from).collect();
                    for message in found {
                        self.chain.fill(message, &mut out);
                    }
                }
            }
            // An own heartbeat comes back: true only if everything before it came.
            Fate::Echo => {
                let has_all = self.all.iter().all(|seq| *seq <= self.chain.heard());
                if has_all && self.chain.missing().is_none() {
                    self.whole = self.next - 1;
                }
            }
            Fate::Breaks => {
                self.chain.release(&mut out);
                self.whole = 0;
            }
        }
        self.told.extend(out);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn each_message_is_delivered_once_in_order_or_told_to_be_lost(fates in fates()) {
        let chain = Chain::at_bound(5);
        let (all, told) = (Vec::new(), Vec::new());
        let mut world = World { chain, all, oldest: 1, next: 6, whole: 5, told };
        let reads = std::iter::repeat_n(&Fate::Read, fates.len());
        for fate in fates.iter().chain([&Fate::Release]).chain(reads) {
            world.step(fate);
        }
        let mut place = 5;
        let mut passed = world.all.iter().copied().filter(|seq| *seq <= world.chain.heard());
        for told in &world.told {
            let (until, is_lost) = match told {
                Told::Deliver(seq, message) => {
                    prop_assert_eq!(seq, message);
                    prop_assert!(*seq > place, "{seq} behind {place}: {:?}", world.told);
                    (*seq, false)
                }
                Told::Lost(missing) => (missing.before - 1, true),
            };
            // What lies between was told of by this, or was delivered before.
            while place < until && let Some(next) = passed.clone().next() {
                if next > until {
                    break;
                }
                prop_assert!(is_lost || next == until, "{next} passed over: {:?}", world.told);
                passed.next();
            }
            place = place.max(until);
        }
        prop_assert_eq!(passed.next(), None, "passed over at the end: {:?}", world.told);
        prop_assert_eq!(world.chain.missing(), None, "one read for each hole is enough");
    }
}
