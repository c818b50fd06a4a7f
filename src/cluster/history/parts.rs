//! Answers in parts, because NATS takes no message as long as a page of history may be.

use bytes::{Buf as _, BufMut as _, Bytes};

use crate::limits::{CLUSTER_HISTORY_ANSWER_BYTES_MAX, CLUSTER_HISTORY_PART_BYTES};

/// What a node says while it looks for an answer.
pub const WORKING: &[u8] = &[0; HEAD_BYTES];

/// Bytes of the number of a part, from 0, and of the number of all parts, before each part.
const HEAD_BYTES: usize = 8;

/// Cuts an answer into messages.
pub fn cut(answer: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let chunks = answer.chunks(CLUSTER_HISTORY_PART_BYTES);
    let count = u32::try_from(chunks.len()).unwrap_or(u32::MAX);
    (0..).zip(chunks).map(move |(number, chunk)| {
        let mut part = Vec::with_capacity(HEAD_BYTES + chunk.len());
        part.put_u32(number);
        part.put_u32(count);
        part.put_slice(chunk);
        part
    })
}

/// The parts of an answer that have come.
#[derive(Debug, Default)]
pub struct Parts {
    bytes: Vec<u8>,
    count: u32,
}

/// What has come of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Come {
    /// Not all of it.
    Part,
    /// All of it.
    Whole(Vec<u8>),
    /// It is too long, or a part is missing.
    Broken,
}

impl Parts {
    /// Takes the next message.
    pub fn take(&mut self, mut message: Bytes) -> Come {
        if *message == *WORKING {
            return Come::Part;
        }
        if message.len() < HEAD_BYTES {
            return Come::Broken;
        }
        let (number, count) = (message.get_u32(), message.get_u32());
        let bytes = self.bytes.len() + message.len();
        if number != self.count || bytes > CLUSTER_HISTORY_ANSWER_BYTES_MAX {
            return Come::Broken;
        }
        self.count += 1;
        self.bytes.extend_from_slice(&message);
        match self.count == count {
            true => Come::Whole(std::mem::take(&mut self.bytes)),
            false => Come::Part,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_the_answer() {
        for length in [1, CLUSTER_HISTORY_PART_BYTES, 3 * CLUSTER_HISTORY_PART_BYTES + 1] {
            let answer: Vec<_> = (0..length).map(|at| at.to_le_bytes()[0]).collect();
            let mut parts = Parts::default();
            let mut come: Vec<_> = Vec::new();
            for part in cut(&answer) {
                assert_eq!(parts.take(Bytes::from_static(WORKING)), Come::Part);
                come.push(parts.take(part.into()));
            }
            assert_eq!(come.pop(), Some(Come::Whole(answer)));
            assert!(come.iter().all(|come| *come == Come::Part));
        }
    }

    #[test]
    fn what_is_not_whole_is_noticed() {
        let answer = vec![1; 3 * CLUSTER_HISTORY_PART_BYTES];
        let all: Vec<_> = cut(&answer).collect();
        let mut parts = Parts::default();
        assert_eq!(parts.take(all[0].clone().into()), Come::Part);
        assert_eq!(parts.take(all[2].clone().into()), Come::Broken);
        assert_eq!(parts.take(Bytes::from_static(b"short")), Come::Broken);
        let mut parts = Parts::default();
        let long = vec![1; CLUSTER_HISTORY_ANSWER_BYTES_MAX + 1];
        let last = cut(&long).map(|part| parts.take(part.into())).last();
        assert_eq!(last, Some(Come::Broken));
    }
}
