//! Property tests of arbitrary streams, cut at arbitrary places.

use proptest::prelude::*;

use super::*;

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let opcode = prop_oneof![
        6 => prop::sample::select(vec![CONTINUE, TEXT, BINARY, CLOSE, PING, PONG]),
        1 => 0..16_u8,
    ];
    let first = (prop::bool::weighted(0.6), prop::bool::weighted(0.02), opcode);
    let text = "[a-zé€𝄞]{0,60}".prop_map(String::into_bytes);
    let payload = prop_oneof![
        6 => text,
        2 => prop::collection::vec(any::<u8>(), 0..150),
        1 => (1000..1016_u16).prop_map(|code| code.to_be_bytes().to_vec()),
    ];
    (first, payload).prop_map(|((is_final, reserved, opcode), payload)| {
        let bits = u8::from(is_final) << 7 | u8::from(reserved) << 6;
        client(bits | opcode, &payload)
    })
}

/// Generates a valid message in arbitrary fragments with pings between them, and the messages that
/// a decoder must return.
fn fragmented() -> impl Strategy<Value = (Vec<u8>, Vec<Seen>)> {
    let cuts = prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..5);
    ("[ -~é€𝄞]{0,200}", any::<bool>(), cuts).prop_map(|(text, is_text, cuts)| {
        let data = text.as_bytes();
        let cuts = cuts.iter().map(|(at, ping)| (at.index(data.len() + 1), *ping));
        let mut cuts: Vec<_> = cuts.collect();
        cuts.sort_unstable();
        let (mut bytes, mut seen, mut start) = (Vec::new(), Vec::new(), 0);
        let mut opcode = if is_text { TEXT } else { BINARY };
        for (end, ping) in cuts {
            bytes.extend(client(opcode, &data[start..end]));
            (opcode, start) = (CONTINUE, end);
            if ping {
                bytes.extend(client(FINAL | PING, b"?"));
                seen.push(Seen::Ping(b"?".to_vec()));
            }
        }
        bytes.extend(client(FINAL | opcode, &data[start..]));
        let whole = if is_text { Seen::Text(text) } else { Seen::Binary(text.into_bytes()) };
        seen.push(whole);
        (bytes, seen)
    })
}

fn pieces<'a>(bytes: &'a [u8], sizes: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let (mut rest, mut sizes) = (bytes, sizes.iter().cycle());
    std::iter::from_fn(move || {
        let size = (*sizes.next()?).min(rest.len());
        let piece = rest.split_off(..size)?;
        (!piece.is_empty()).then_some(piece)
    })
}

proptest! {
    #[test]
    fn any_split_of_a_stream_gives_the_same(
        frames in prop::collection::vec(any_frame(), 0..12),
        cut in 0..20_usize,
        sizes in prop::collection::vec(1..40_usize, 1..8),
    ) {
        let mut bytes = frames.concat();
        bytes.truncate(bytes.len().saturating_sub(cut));
        let whole = feed_whole(&bytes);
        let split = feed_pieces(&mut Decoder::default(), pieces(&bytes, &sizes));
        prop_assert_eq!(&split, &whole);
        let single = feed_pieces(&mut Decoder::default(), bytes.chunks(1));
        prop_assert_eq!(&single, &whole);
        prop_assert_eq!(&feed_to_heirs(&bytes), &whole);
    }

    #[test]
    fn any_fragmentation_of_messages_gives_the_messages(
        messages in prop::collection::vec(fragmented(), 0..6),
        sizes in prop::collection::vec(1..90_usize, 1..8),
    ) {
        let (bytes, seen): (Vec<_>, Vec<_>) = messages.into_iter().unzip();
        let (bytes, expected) = (bytes.concat(), (seen.concat(), Ok(())));
        let mut decoder = Decoder::default();
        prop_assert_eq!(feed_pieces(&mut decoder, pieces(&bytes, &sizes)), expected);
        prop_assert!(decoder.kept.is_none());
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        size in 1..50_usize,
    ) {
        let whole = feed_whole(&bytes);
        let split = feed_pieces(&mut Decoder::default(), bytes.chunks(size));
        prop_assert_eq!(split, whole);
    }
}
