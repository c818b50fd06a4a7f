//! The headers of a request, copied out of the input buffer.

use crate::limits::HTTP_HEAD_BYTES_MAX;

const _: () = assert!(HTTP_HEAD_BYTES_MAX <= u16::MAX as usize, "offsets in a head have 16 bits");

/// All headers in one text and one list of places, whose memory the next request uses again. Only
/// headers whose values are not UTF-8 cost an allocation each.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct Headers {
    text: String,
    places: Vec<Place>,
    /// The names, in lower case, of the headers whose values are not UTF-8 and are not kept.
    pub(super) unreadable: Vec<Box<str>>,
}

/// The offsets in the text at which a header's name, in lower case, and then its value end. Each
/// begins at the end of the one before it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    name_end: u16,
    value_end: u16,
}

impl Headers {
    /// Replaces all headers by those of another request.
    pub(super) fn copy(&mut self, headers: &[httparse::Header<'_>]) {
        let Self { text, places, unreadable } = self;
        text.clear();
        places.clear();
        unreadable.clear();
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
