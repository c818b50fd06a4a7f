use proptest::prelude::*;

use super::*;
use crate::message::{Channel, Publication};

/// A frame, which is a delivery if its first byte is even.
#[derive(Debug, PartialEq)]
struct Bytes(Vec<u8>);

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Outgoing for Bytes {
    fn is_delivery(&self) -> bool {
        self.0[0].is_multiple_of(2)
    }
    fn expendable(&self) -> Option<&Publication> {
        None
    }
    fn gap(&self) -> Option<(&Channel, u64)> {
        None
    }
    fn notice(&self, _: &Channel, _: u64) -> Self {
        unreachable!("nothing is expendable")
    }
}

#[test]
fn an_idle_outbox_is_small() {
    assert!(size_of::<Outbox<Box<Bytes>>>() <= 24);
}

#[test]
fn refuses_at_the_bound_of_bytes_and_stays_as_it_was() {
    let (mut outbox, mut spares) = (Outbox::default(), Spares::default());
    outbox
        .push(Bytes(vec![0; OUTBOX_BYTES_MAX]), OUTBOX_BYTES_MAX, &mut spares)
        .expect("the first always fits");
    let refused = outbox.push(Bytes(vec![1]), OUTBOX_BYTES_MAX, &mut spares);
    assert_eq!(refused, Err(Full(Bytes(vec![1]))));
    assert_eq!(outbox.shed(&Bytes(vec![1]), OUTBOX_BYTES_MAX), None, "nothing may go");
    assert_eq!(outbox.len(), 1);
}

#[test]
fn refuses_at_the_bound_of_frames() {
    let (mut outbox, mut spares) = (Outbox::default(), Spares::default());
    for _ in 0..OUTBOX_FRAMES_MAX {
        outbox.push(Bytes(vec![0]), OUTBOX_BYTES_MAX, &mut spares).expect("below the bound");
    }
    assert_eq!(
        outbox.push(Bytes(vec![0]), OUTBOX_BYTES_MAX, &mut spares),
        Err(Full(Bytes(vec![0])))
    );
}

proptest! {
    #[test]
    fn whatever_the_kernel_takes_the_bytes_come_out_in_order(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 1..20),
        takes in prop::collection::vec(1usize..60, 1..400),
    ) {
        let (mut outbox, mut spares) = (Outbox::default(), Spares::default());
        let expected = frames.concat();
        let all = Gone {
            frames: frames.len() as u64,
            deliveries: frames.iter().filter(|frame| frame[0] % 2 == 0).count() as u64,
        };
        for frame in frames {
            outbox.push(Bytes(frame), OUTBOX_BYTES_MAX, &mut spares).expect("far below the bounds");
        }
        let (mut out, mut finished) = (Vec::new(), Gone::default());
        for take in takes {
            let waiting: Vec<u8> = outbox.slices().flatten().copied().collect();
            let taken = take.min(waiting.len());
            out.extend_from_slice(&waiting[..taken]);
            let now = outbox.advance(taken, &mut spares);
            finished.frames += now.frames;
            finished.deliveries += now.deliveries;
        }
        prop_assert_eq!(&expected[..out.len()], &out[..]);
        let dropped = outbox.clear(&mut spares);
        prop_assert_eq!(finished.frames + dropped.frames, all.frames);
        prop_assert_eq!(finished.deliveries + dropped.deliveries, all.deliveries);
        prop_assert!(outbox.is_empty() && !outbox.is_partly_sent());
        prop_assert_eq!(outbox.bytes, 0);
        prop_assert_eq!(dropped.frames == 0, out.len() == expected.len());
    }
}
