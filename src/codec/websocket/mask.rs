//! Masking of client frames (RFC 6455 section 5.3).

/// Bytes that one step of the loop unmasks: two vector registers of 128 bits.
const LANE_BYTES: usize = 32;
const MASK_BYTES: usize = 4;

/// Removes `mask` in place, or applies it, which is the same operation. `offset` is the position of
/// `bytes` in the frame's payload, for payloads that arrive in pieces.
pub(super) fn unmask(bytes: &mut [u8], mask: [u8; MASK_BYTES], offset: usize) {
    let mask: [u8; MASK_BYTES] = std::array::from_fn(|at| mask[(offset + at) % MASK_BYTES]);
    let wide: [u8; LANE_BYTES] = std::array::from_fn(|at| mask[at % MASK_BYTES]);

    // Arrays of a fixed size let the compiler use vector instructions without unsafe code.
    let (lanes, rest) = bytes.as_chunks_mut::<LANE_BYTES>();
    for lane in lanes {
        for (byte, mask) in lane.iter_mut().zip(wide) {
            *byte ^= mask;
        }
    }
    // Most client messages are short, so the rest is unmasked by words before single bytes.
    let (words, rest) = rest.as_chunks_mut::<MASK_BYTES>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(mask)).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    fn naive(bytes: &mut [u8], offset: usize) {
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte ^= MASK[(offset + at) % 4];
        }
    }

    #[test]
    fn equals_the_naive_loop_at_every_alignment_length_and_offset() {
        let source: Vec<u8> = (0..=255).collect();
        for start in 0..LANE_BYTES {
            for length in 0..=3 * LANE_BYTES + 1 {
                for offset in 0..5 {
                    let (mut fast, mut slow) = (source.clone(), source.clone());
                    unmask(&mut fast[start..start + length], MASK, offset);
                    naive(&mut slow[start..start + length], offset);
                    assert_eq!(fast, slow, "start {start} length {length} offset {offset}");
                }
            }
        }
    }

    #[test]
    fn pieces_equal_the_whole() {
        let source: Vec<u8> = (0..200).collect();
        let mut whole = source.clone();
        unmask(&mut whole, MASK, 0);
        for cut in 0..source.len() {
            let mut pieces = source.clone();
            let (left, right) = pieces.split_at_mut(cut);
            unmask(left, MASK, 0);
            unmask(right, MASK, cut);
            assert_eq!(pieces, whole, "cut at {cut}");
        }
    }
}
