//! DEFLATE (RFC 1951) as the specification describes it: a reader bit by bit, and a writer of
//! blocks without matches.

/// The first length of each length code from 257 on, and its extra bits.
const LENGTHS: [(usize, u32); 29] = {
    let mut table = [(0, 0); 29];
    let (mut code, mut base) = (0, 3);
    while code < 28 {
        let extra = if code < 8 { 0 } else { (code as u32 - 4) / 4 };
        table[code] = (base, extra);
        base += 1 << extra;
        code += 1;
    }
    table[28] = (258, 0);
    table
};
/// The order in which a dynamic block gives the lengths of its code for lengths.
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// A block of a compressed message, and whether it is marked as the final one.
#[derive(Clone, Debug)]
pub(super) enum Block {
    Stored(Vec<u8>, bool),
    /// Literals in the fixed code.
    Fixed(Vec<u8>, bool),
}

impl Block {
    pub(super) fn data(&self) -> &[u8] {
        let (Self::Stored(data, _) | Self::Fixed(data, _)) = self;
        data
    }
}

/// Returns blocks as a message, without the tail that a flush leaves. A block that is marked as
/// final ends a stream, behind which another one begins.
pub(super) fn write_blocks(blocks: &[Block]) -> Vec<u8> {
    let mut bits = Bits::default();
    for block in blocks {
        let (Block::Stored(_, is_final) | Block::Fixed(_, is_final)) = block;
        bits.push(u32::from(*is_final), 1);
        match block {
            Block::Stored(data, _) => {
                bits.push(0, 2);
                bits.align();
                let length = data.len() as u16;
                bits.bytes.extend(length.to_le_bytes());
                bits.bytes.extend((!length).to_le_bytes());
                bits.bytes.extend(data);
            }
            Block::Fixed(data, _) => {
                bits.push(1, 2);
                data.iter().for_each(|byte| bits.push_literal(*byte));
                // The end of the block.
                bits.push_code(0, 7);
            }
        }
        if *is_final {
            bits.align();
        }
    }
    // The empty stored block whose last four bytes are left out.
    bits.push(0, 3);
    bits.align();
    bits.bytes
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    free: u32,
}

impl Bits {
    /// Writes a number, lowest bit first.
    fn push(&mut self, value: u32, count: u32) {
        for at in 0..count {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            let last = self.bytes.len() - 1;
            self.bytes[last] |= ((value >> at & 1) as u8) << (8 - self.free);
            self.free -= 1;
        }
    }

    /// Writes a code, highest bit first.
    fn push_code(&mut self, code: u32, count: u32) {
        (0..count).rev().for_each(|at| self.push(code >> at & 1, 1));
    }

    fn push_literal(&mut self, byte: u8) {
        match byte {
            0..144 => self.push_code(0x30 + u32::from(byte), 8),
            _ => self.push_code(0x190 + u32::from(byte) - 144, 9),
        }
    }

    fn align(&mut self) {
        self.free = 0;
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn bit(&mut self) -> Option<usize> {
        let byte = *self.bytes.get(self.at / 8)?;
        let bit = byte >> (self.at % 8) & 1;
        self.at += 1;
        Some(bit.into())
    }

    fn bits(&mut self, count: u32) -> Option<usize> {
        let mut value = 0;
        for at in 0..count {
            value |= self.bit()? << at;
        }
        Some(value)
    }

    /// Reads a symbol of the canonical code with these lengths (RFC 1951 section 3.2.2).
    fn symbol(&mut self, lengths: &[usize]) -> Option<usize> {
        let (mut code, mut first) = (0, 0);
        for length in 1..16 {
            code = code << 1 | self.bit()?;
            first <<= 1;
            let with: Vec<_> =
                (0..lengths.len()).filter(|symbol| lengths[*symbol] == length).collect();
            if let Some(symbol) = code.checked_sub(first).and_then(|place| with.get(place)) {
                return Some(*symbol);
            }
            first += with.len();
        }
        None
    }
}

/// Inflates blocks until the input ends; `None` if it ends within a block, or is not DEFLATE.
pub(super) fn puff(bytes: &[u8]) -> Option<Vec<u8>> {
    let (mut reader, mut out) = (Reader { bytes, at: 0 }, Vec::new());
    while reader.at < 8 * bytes.len() {
        let is_final = reader.bit()? == 1;
        match reader.bits(2)? {
            0 => stored(&mut reader, &mut out)?,
            1 => {
                let length = |symbol| match symbol {
                    0..144 | 280..288 => 8,
                    144..256 => 9,
                    _ => 7,
                };
                let literals: Vec<_> = (0..288).map(length).collect();
                coded(&mut reader, &mut out, &literals, &[5; 30])?;
            }
            2 => {
                let (literals, distances) = codes(&mut reader)?;
                coded(&mut reader, &mut out, &literals, &distances)?;
            }
            _ => return None,
        }
        if is_final {
            reader.at = reader.at.next_multiple_of(8);
        }
    }
    Some(out)
}

fn stored(reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Option<()> {
    reader.at = reader.at.next_multiple_of(8);
    let (length, inverse) = (reader.bits(16)?, reader.bits(16)?);
    (length ^ inverse == 0xffff).then_some(())?;
    for _ in 0..length {
        out.push(reader.bits(8)? as u8);
    }
    Some(())
}

/// Reads the code lengths of a dynamic block: of literals and lengths, and of distances.
fn codes(reader: &mut Reader<'_>) -> Option<(Vec<usize>, Vec<usize>)> {
    let literals = reader.bits(5)? + 257;
    let distances = reader.bits(5)? + 1;
    let count = reader.bits(4)? + 4;
    let mut of_lengths = [0; 19];
    for place in &ORDER[..count] {
        of_lengths[*place] = reader.bits(3)?;
    }
    let mut lengths = Vec::new();
    while lengths.len() < literals + distances {
        let (length, times) = match reader.symbol(&of_lengths)? {
            16 => (*lengths.last()?, reader.bits(2)? + 3),
            17 => (0, reader.bits(3)? + 3),
            18 => (0, reader.bits(7)? + 11),
            length => (length, 1),
        };
        lengths.extend(vec![length; times]);
    }
    let distances = lengths.split_off(literals);
    Some((lengths, distances))
}

/// Reads literals and matches up to the end of the block.
fn coded(
    reader: &mut Reader<'_>,
    out: &mut Vec<u8>,
    literals: &[usize],
    distances: &[usize],
) -> Option<()> {
    loop {
        let symbol = reader.symbol(literals)?;
        if symbol < 256 {
            out.push(symbol as u8);
            continue;
        }
        if symbol == 256 {
            return Some(());
        }
        let (base, extra) = *LENGTHS.get(symbol - 257)?;
        let length = base + reader.bits(extra)?;
        let code = reader.symbol(distances)?;
        let extra = (code as u32 / 2).saturating_sub(1);
        let base = if code < 4 { code + 1 } else { ((2 + code % 2) << extra) + 1 };
        let distance = base + reader.bits(extra)?;
        for _ in 0..length {
            out.push(*out.get(out.len().checked_sub(distance)?)?);
        }
    }
}
