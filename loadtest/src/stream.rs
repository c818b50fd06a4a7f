//! Server-Sent Events (WHATWG HTML, section 9.2) as a client reads them.

use anyhow::{Result, bail, ensure};
use memchr::{memchr, memchr2_iter};

/// Longest block that a server may send. A longer one is an error.
const BLOCK_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Returns the block at the start of `bytes`, up to its empty line, and the length of both; `None`
/// if it is incomplete. A carriage return is an error: it may end a line, and these servers never
/// send any.
pub(crate) fn read_block(bytes: &[u8]) -> Result<Option<(&[u8], usize)>> {
    for end in memchr2_iter(b'\n', b'\r', bytes) {
        if bytes[end] == b'\r' {
            bail!("the server ended a line with a carriage return");
        }
        // The line is empty if it begins where it ends.
        if end == 0 || bytes[end - 1] == b'\n' {
            return Ok(Some((&bytes[..end], end + 1)));
        }
    }
    ensure!(bytes.len() <= BLOCK_BYTES_MAX, "the server sent an endless block");
    Ok(None)
}

/// Returns the fields of a block. A comment is a field without a name.
pub(crate) fn fields(block: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = block;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = memchr(b'\n', rest).unwrap_or(rest.len());
        let line = &rest[..end];
        rest = rest.get(end + 1..).unwrap_or_default();
        let Some(colon) = memchr(b':', line) else {
            return Some((line, &[][..]));
        };
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        Some((name, value.strip_prefix(b" ").unwrap_or(value)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_ends_with_an_empty_line() {
        let bytes = b"event: a\ndata: 1\n\n:\n\n\n";
        let (block, whole) = read_block(bytes).unwrap().unwrap();
        assert_eq!((block, whole), (&b"event: a\ndata: 1\n"[..], 18));
        assert_eq!(read_block(&bytes[18..]).unwrap(), Some((&b":\n"[..], 3)));
        assert_eq!(read_block(&bytes[21..]).unwrap(), Some((&b""[..], 1)));
    }

    #[test]
    fn a_block_cut_anywhere_waits_for_the_rest() {
        let bytes = b"event: a\ndata: 1\n\n";
        for cut in 0..bytes.len() {
            assert_eq!(read_block(&bytes[..cut]).unwrap(), None, "cut at {cut}");
        }
    }

    #[test]
    fn a_carriage_return_and_an_endless_block_are_errors() {
        assert!(read_block(b"data: 1\r\n\r\n").is_err());
        assert!(read_block(&vec![b'a'; BLOCK_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn fields_have_a_name_and_a_value() {
        let block = b"event: a b\ndata:{\"c\": 1}\n: said\ndata:  x\nretry\n";
        let expected: [(&[u8], &[u8]); 5] = [
            (b"event", b"a b"),
            (b"data", b"{\"c\": 1}"),
            (b"", b"said"),
            (b"data", b" x"),
            (b"retry", b""),
        ];
        assert_eq!(fields(block).collect::<Vec<_>>(), expected);
        assert_eq!(fields(b"").count(), 0);
    }
}
