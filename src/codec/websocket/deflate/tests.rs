//! Round trips with an inflater and a writer of blocks that share no code with the codec.

use proptest::prelude::*;

use super::super::{Decoder, Message, Opcode, frame, payload};
use super::*;

mod puff;
use puff::{Block, puff, write_blocks};

const MASK: [u8; 4] = [0x11, 0xf0, 0x5a, 0x3c];
const FINAL: u8 = 0x80;
const DEFLATED: u8 = 0x40;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const PING: u8 = 9;

fn json(items: usize) -> String {
    let item = |at| format!(r#"{{"id":{at},"name":"item {}","price":{}}}"#, at * 7919, at * at);
    let items: Vec<_> = (0..items).map(item).collect();
    format!("[{}]", items.join(","))
}

/// Returns a client's masked frame.
fn client(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = frame(Opcode::Binary, &[payload]);
    bytes[0] = first;
    bytes[1] |= 0x80;
    let header = bytes.len() - payload.len();
    bytes.splice(header..header, MASK);
    let masked = bytes[header + MASK.len()..].iter_mut().zip(MASK.iter().cycle());
    masked.for_each(|(byte, mask)| *byte ^= mask);
    bytes
}

/// Returns a message in fragments of at most `size` bytes, with a ping behind each but the last.
fn fragments(opcode: u8, payload: &[u8], size: usize) -> Vec<u8> {
    let count = payload.len().div_ceil(size).max(1);
    let mut bytes = Vec::new();
    for index in 0..count {
        let part = &payload[index * size..payload.len().min((index + 1) * size)];
        let first = if index == 0 { opcode | DEFLATED } else { 0 };
        let last = if index + 1 == count { FINAL } else { 0 };
        bytes.extend(client(first | last, part));
        if last == 0 {
            bytes.extend(client(FINAL | PING, b"?"));
        }
    }
    bytes
}

/// Returns the data messages in `bytes`, which arrive in pieces of at most `piece` bytes.
fn decode(bytes: &[u8], piece: usize, bytes_max: usize) -> Result<Vec<Vec<u8>>, FrameError> {
    let (mut decoder, mut inflater, mut heard) = (Decoder::default(), Inflater::default(), vec![]);
    for piece in bytes.chunks(piece) {
        let (mut piece, mut at) = (piece.to_vec(), 0);
        loop {
            let inflater = Some(&mut inflater);
            match decoder.next_inflated(&mut piece, &mut at, bytes_max, inflater)? {
                Some(Message::Text(text)) => heard.push(text.as_bytes().to_vec()),
                Some(Message::Joined(text)) => heard.push(text.as_bytes().to_vec()),
                Some(Message::Binary(data)) => heard.push(data.to_vec()),
                Some(Message::Ping(_)) => {}
                Some(other) => panic!("{other:?}"),
                None => break,
            }
        }
    }
    Ok(heard)
}

#[test]
fn a_compressed_frame_holds_the_same_message() {
    let (mut deflater, text) = (Deflater::default(), json(60));
    for opcode in [Opcode::Text, Opcode::Binary, Opcode::Text] {
        let plain = frame(opcode, &[text.as_bytes()]);
        let deflated = deflater.frame(&plain).unwrap();
        assert_eq!(deflated[0], plain[0] | DEFLATED);
        assert!(deflated.len() < plain.len() / 3, "{} of {}", deflated.len(), plain.len());
        let message = [payload(&deflated), &TAIL].concat();
        assert_eq!(puff(&message).unwrap(), text.as_bytes());
    }
    let bytes = 3 * text.len() as u64;
    let tally = deflater.take_tally();
    assert_eq!((tally.messages, tally.plain_bytes), (3, bytes));
    assert!(tally.deflated_bytes < bytes / 3);
    assert_eq!(deflater.take_tally(), Tally::default());
}

#[test]
fn what_does_not_become_shorter_stays_as_it_is() {
    let mut deflater = Deflater::default();
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    };
    let noise: Vec<u8> = (0..2_000).map(|_| random()).collect();
    for plain in [&b""[..], b"a", b"abc", &noise] {
        assert_eq!(deflater.frame(&frame(Opcode::Binary, &[plain])), None);
    }
    assert_eq!(deflater.take_tally(), Tally::default());
    assert!(deflater.frame(&frame(Opcode::Binary, &[&[0; 64]])).is_some());
}

/// The examples of RFC 7692 section 7.2.3.
#[test]
fn the_rfcs_examples() {
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let stored = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
    let final_block = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    let two_blocks = [0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
    for deflated in [&hello[..], &stored, &final_block, &two_blocks] {
        let bytes = client(FINAL | TEXT | DEFLATED, deflated);
        assert_eq!(decode(&bytes, 1_000, 5), Ok(vec![b"Hello".to_vec()]));
        for size in 1..deflated.len() {
            let bytes = fragments(TEXT, deflated, size);
            assert_eq!(decode(&bytes, 3, 5), Ok(vec![b"Hello".to_vec()]));
        }
    }
    for empty in [&[0x00][..], &[]] {
        let bytes = client(FINAL | TEXT | DEFLATED, empty);
        assert_eq!(decode(&bytes, 1_000, 5), Ok(vec![vec![]]));
    }
    // Without the bit, the same bytes are a message of their own.
    let bytes = [client(FINAL | BINARY, &hello), client(FINAL | TEXT | DEFLATED, &hello)].concat();
    assert_eq!(decode(&bytes, 1_000, 7), Ok(vec![hello.to_vec(), b"Hello".to_vec()]));
}

#[test]
fn the_bit_is_for_the_first_frame_of_a_data_message() {
    for bytes in [
        client(FINAL | PING | DEFLATED, b"?"),
        [client(TEXT | DEFLATED, b"\0"), client(FINAL | DEFLATED, b"")].concat(),
        [client(TEXT, b""), client(FINAL | DEFLATED, b"")].concat(),
        client(FINAL | TEXT | DEFLATED | 0x20, b"\0"),
        client(FINAL | TEXT | 0x10, b"\0"),
    ] {
        assert_eq!(decode(&bytes, 1_000, 100), Err(FrameError::ReservedBits));
    }
    assert_eq!(FrameError::ReservedBits.close_code(), 1002);
}

#[test]
fn bytes_that_are_not_deflate_are_refused() {
    for garbage in [&[0x06][..], &[0x00, 0x05, 0x00, 0x00, 0x00, 0x48], &[0xff; 40]] {
        let bytes = client(FINAL | BINARY | DEFLATED, garbage);
        assert_eq!(decode(&bytes, 1_000, 100), Err(FrameError::Deflate), "{garbage:?}");
    }
    let not_utf8 = write_blocks(&[Block::Stored(b"a\xffb".to_vec(), false)]);
    let bytes = client(FINAL | TEXT | DEFLATED, &not_utf8);
    assert_eq!(decode(&bytes, 1_000, 100), Err(FrameError::InvalidUtf8));
    assert_eq!(FrameError::Deflate.close_code(), 1007);
}

#[test]
fn a_message_is_refused_when_it_has_become_too_long() {
    let text = "a".repeat(100_000);
    let bomb =
        payload(&Deflater::default().frame(&frame(Opcode::Text, &[text.as_bytes()])).unwrap())
            .to_vec();
    assert!(bomb.len() < 500);
    for bytes in [client(FINAL | TEXT | DEFLATED, &bomb), fragments(TEXT, &bomb, 50)] {
        assert_eq!(decode(&bytes, 7, 100_000), Ok(vec![text.clone().into_bytes()]));
        assert_eq!(decode(&bytes, 7, 99_999), Err(FrameError::MessageTooLong));
    }
    let (mut decoder, mut inflater) = (Decoder::default(), Inflater::default());
    let mut bytes = client(FINAL | TEXT | DEFLATED, &bomb);
    let refused = decoder.next_inflated(&mut bytes, &mut 0, 20_000, Some(&mut inflater)).err();
    assert_eq!(refused, Some(FrameError::MessageTooLong));
    let start = decoder.start_of_too_long();
    assert!(!start.is_empty() && start.iter().all(|byte| *byte == b'a'));
    assert!(inflater.out.len() <= 20_001, "no more than the bound is inflated");
    assert_eq!(inflater.take_tally(), Tally::default());
    // Compressed bytes without end are refused, too, although they inflate to nothing.
    let nothing = [0x00, 0x00, 0x00, 0xff, 0xff].repeat(100);
    let refused = decode(&fragments(TEXT, &nothing, 20), 1_000, 100);
    assert_eq!(refused, Err(FrameError::MessageTooLong));
}

/// Blocks cost time, with and without content, and whether they are final or not.
#[test]
fn a_message_of_far_more_blocks_than_a_compressor_makes_is_refused() {
    let (empty, last) = ([0x02, 0x08, 0x20, 0x80, 0x00], [0x03, 0x00]);
    for blocks in [empty.repeat(100_000), last.repeat(100_000)] {
        let mut inflater = Inflater::default();
        assert_eq!(inflater.inflate(&blocks, 1_000_000).err(), Some(FrameError::Blocks));
        let work = inflater.take_work();
        assert!(work >= BLOCKS_MIN * BLOCK_WORK, "{work}: refused messages cost, too");
        assert!(work < 2 * BLOCKS_MIN * BLOCK_WORK, "{work}: the first blocks are enough");
        assert_eq!(inflater.take_work(), 0);
        let bytes = client(FINAL | TEXT | DEFLATED, &blocks);
        assert_eq!(decode(&bytes, 4_096, 1_000_000), Err(FrameError::Blocks));
    }
    let small = |bytes: usize, count| vec![Block::Fixed(vec![b'a'; bytes], false); count];
    for blocks in [small(127, 7_000), small(9, 60)] {
        assert!(Inflater::default().inflate(&write_blocks(&blocks), 1_000_000).is_ok());
    }
    let tiny = write_blocks(&small(9, 1_000));
    assert_eq!(Inflater::default().inflate(&tiny, 1_000_000).err(), Some(FrameError::Blocks));
    assert_eq!(FrameError::Blocks.close_code(), 1007);
}

#[test]
fn work_is_what_was_read_and_made_and_some_for_each_block() {
    let mut inflater = Inflater::default();
    let stored = write_blocks(&[Block::Stored(vec![7; 5_000], false)]);
    assert_eq!(inflater.inflate(&stored, 10_000).map(<[u8]>::len), Ok(5_000));
    let work = inflater.take_work();
    // The tail ends one more block, or the last.
    let read = stored.len() + TAIL.len();
    let rest = work - read - 5_000;
    assert!(rest.is_multiple_of(BLOCK_WORK) && (1..=2).contains(&(rest / BLOCK_WORK)), "{work}");
}

#[test]
fn an_unfinished_message_holds_its_compressed_bytes_and_a_finished_one_none() {
    let (mut decoder, mut inflater) = (Decoder::default(), Inflater::default());
    let text = json(500);
    let deflated = Deflater::default().frame(&frame(Opcode::Text, &[text.as_bytes()])).unwrap();
    let bytes = client(FINAL | TEXT | DEFLATED, payload(&deflated));
    let (first, last) = bytes.split_at(bytes.len() - 1);
    let mut next = |decoder: &mut Decoder, bytes: &[u8]| {
        let (mut bytes, mut at) = (bytes.to_vec(), 0);
        let next = decoder.next_inflated(&mut bytes, &mut at, 1 << 20, Some(&mut inflater));
        next.unwrap().is_some()
    };
    assert!(!next(&mut decoder, first));
    assert!((1..=bytes.len()).contains(&decoder.held_bytes()), "{}", decoder.held_bytes());
    assert!(next(&mut decoder, last));
    assert!(!next(&mut decoder, &[]));
    assert_eq!(decoder.held_bytes(), 0);
}

fn blocks() -> impl Strategy<Value = Vec<Block>> {
    let data = prop::collection::vec(any::<u8>(), 0..300);
    let block = (data, any::<bool>(), any::<bool>()).prop_map(|(data, is_stored, is_final)| {
        if is_stored { Block::Stored(data, is_final) } else { Block::Fixed(data, is_final) }
    });
    prop::collection::vec(block, 0..6)
}

proptest! {
    #[test]
    fn any_blocks_in_any_pieces_are_inflated(
        blocks in blocks(), size in 1..200_usize, piece in 1..200_usize,
    ) {
        let expected: Vec<u8> = blocks.iter().flat_map(|block| block.data().to_vec()).collect();
        let deflated = write_blocks(&blocks);
        let bytes = [fragments(BINARY, &deflated, size), client(FINAL | TEXT, b"next")].concat();
        prop_assert_eq!(decode(&bytes, piece, 4_000), Ok(vec![expected, b"next".to_vec()]));
    }

    #[test]
    fn what_is_compressed_is_read_by_others(
        words in prop::collection::vec("[a-z]{1,12}|[0-9]{1,6}|\\PC{1,4}", 0..600),
        size in 1..3_000_usize,
    ) {
        let text = words.join(" ");
        let plain = frame(Opcode::Text, &[text.as_bytes()]);
        if let Some(deflated) = Deflater::default().frame(&plain) {
            prop_assert!(deflated.len() <= plain.len());
            let message = [payload(&deflated), &TAIL].concat();
            prop_assert_eq!(puff(&message).unwrap(), text.as_bytes());
            let bytes = fragments(TEXT, payload(&deflated), size);
            prop_assert_eq!(decode(&bytes, size, text.len()), Ok(vec![text.into_bytes()]));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&client(FINAL | BINARY | DEFLATED, &bytes), 1_000, 1_000);
    }
}
