//! Resource, stamp and version of a document, from a frame or from the answer to a write.

use std::str::FromStr;

use anyhow::{Context, Error, Result, ensure};
use serde::Deserialize;

use crate::api::m2::Resource;
use crate::stamp::Stamp;

/// The format of a version; digits may be any others.
const VERSION_FORM: &str = "0000-00-00T00:00:00.000Z";

/// The members of a document that are checked. Our documents contain nothing that JSON escapes, so
/// all of it can be borrowed.
#[derive(Deserialize, Debug)]
pub(crate) struct Document<'a> {
    #[serde(borrow)]
    resource: ResourceName<'a>,
    data: Option<Data<'a>>,
    version: &'a str,
}

#[derive(Deserialize, Debug)]
struct ResourceName<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    id: &'a str,
}

#[derive(Deserialize, Debug)]
struct Data<'a> {
    t: Option<&'a str>,
}

impl<'a> Document<'a> {
    /// Reads the document in a frame.
    pub(crate) fn read(text: &'a [u8]) -> Result<Self> {
        serde_json::from_slice(text).context("not a valid document")
    }

    pub(crate) fn resource(&self) -> Resource<'a> {
        Resource { kind: self.resource.kind, id: self.resource.id }
    }

    /// Returns the stamp in its data, if it has one.
    pub(crate) fn stamp(&self) -> Option<Stamp> {
        self.data.as_ref()?.t.and_then(Stamp::of)
    }

    pub(crate) fn version(&self) -> Result<Version> {
        self.version.parse()
    }
}

/// The member of the answer to a write that is read.
#[derive(Deserialize)]
struct Answer<'a> {
    version: &'a str,
}

/// Returns the version in the answer to a write.
pub(crate) fn written_version(answer: &[u8]) -> Result<Version> {
    let answer: Answer<'_> =
        serde_json::from_slice(answer).context("an answer without a version")?;
    answer.version.parse()
}

/// A time to the millisecond, as a number that grows with it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Version(u64);

impl FromStr for Version {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let alike = |(byte, sample): (u8, u8)| match sample {
            b'0'..=b'9' => byte.is_ascii_digit(),
            sample => byte == sample,
        };
        let fits =
            text.len() == VERSION_FORM.len() && text.bytes().zip(VERSION_FORM.bytes()).all(alike);
        ensure!(fits, "`{text}` is not a version");
        let digits = text.bytes().filter(u8::is_ascii_digit);
        Ok(Self(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The update that a node sends for a write of `{"t":…,"pad":…}`.
    const DELIVERED: &str = concat!(
        r#"{"userId":null,"resource":{"type":"kvStore","id":"load:1"},"data":"#,
        r#"{"t":"@0000000012:0000000000000000345","pad":"xxxxxxxxxxxxxxxx"},"#,
        r#""version":"2024-01-30T15:50:35.742Z"}"#
    );

    #[test]
    fn documents_say_what_they_are() {
        let document = Document::read(DELIVERED.as_bytes()).unwrap();
        assert_eq!(document.resource(), Resource { kind: "kvStore", id: "load:1" });
        assert_eq!(document.stamp(), Some(Stamp { sequence: 12, due_ns: 345 }));
        assert_eq!(document.version().unwrap(), Version(20_240_130_155_035_742));
        let deleted = r#"{"userId":"u","resource":{"type":"collection","id":"x"},"data":null,"#;
        let deleted = format!(r#"{deleted}"version":"2024-01-30T15:50:35.743Z"}}"#);
        let deleted = Document::read(deleted.as_bytes()).unwrap();
        assert_eq!(deleted.stamp(), None);
        assert!(deleted.version().unwrap() > document.version().unwrap());
        assert!(Document::read(br#"{"warning":"resource_not_found"}"#).is_err());
    }

    #[test]
    fn versions_are_times_of_one_form() {
        let answer = br#"{"version":"2024-01-30T15:50:35.742Z","durability":"stored"}"#;
        assert_eq!(written_version(answer).unwrap(), Version(20_240_130_155_035_742));
        for bad in
            ["", "2024-01-30T15:50:35Z", "2024-01-30T15:50:35.742", "2024-01-30 15:50:35.742Z"]
        {
            assert!(bad.parse::<Version>().is_err(), "{bad}");
        }
        assert!(written_version(b"{}").is_err());
    }
}
