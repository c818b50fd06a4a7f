//! The headers of a request, copied out of the input buffer.

use crate::limits::HTTP_HEAD_BYTES_MAX;

const _: () = assert!(HTTP_HEAD_BYTES_MAX <= u16::MAX as usize, "offsets in a head have 16 bits");

/// All headers in one text and one list of places. They cost two allocations, whatever their
/// number; only headers whose values are not UTF-8 cost more.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Headers {
    text: Box<str>,
    places: Box<[Place]>,
    /// The names, in lower case, of the headers whose values are not UTF-8 and are not kept.
    pub(super) unreadable: Box<[Box<str>]>,
}

/// The offsets in the text at which a header's name, in lower case, and then its value end. Each
/// begins at the end of the one before it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    name_end: u16,
    value_end: u16,
}

impl Headers {
    pub(super) fn copy(headers: &[httparse::Header<'_>]) -> Self {
        let bytes = headers.iter().map(|header| header.name.len() + header.value.len()).sum();
        let mut text = String::with_capacity(bytes);
        let mut places = Vec::with_capacity(headers.len());
        let mut unreadable = Vec::new();
        for header in headers {
            let Ok(value) = str::from_utf8(header.value.trim_ascii()) else {
                unreadable.push(header.name.to_ascii_lowercase().into());
                continue;
            };
            let name_start = text.len();
            text.push_str(header.name);
            text[name_start..].make_ascii_lowercase();
            let name_end = place(text.len());
            text.push_str(value);
            places.push(Place { name_end, value_end: place(text.len()) });
        }
        let (text, places) = (text.into_boxed_str(), places.into_boxed_slice());
        Self { text, places, unreadable: unreadable.into_boxed_slice() }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut start = 0;
        self.places.iter().map(move |place| {
            let (name_end, end) = (usize::from(place.name_end), usize::from(place.value_end));
            let header = (&self.text[start..name_end], &self.text[name_end..end]);
            start = end;
            header
        })
    }
}

fn place(at: usize) -> u16 {
    u16::try_from(at).expect("a head is bounded far below 64 KiB")
}
