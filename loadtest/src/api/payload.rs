//! Payloads that are JSON objects: a stamp, and padding up to the requested size.

use anyhow::{Context, Result};

use crate::stamp::{STAMP_BYTES, Template};

/// The text before the stamp, between the stamp and the padding, and after the padding.
const HEAD: &str = r#"{"t":""#;
const MIDDLE: &str = r#"","pad":""#;
const TAIL: &str = r#"""#;

/// The size of the smallest payload that has room for a stamp, in bytes.
pub(crate) const PAYLOAD_BYTES_MIN: usize =
    HEAD.len() + STAMP_BYTES + MIDDLE.len() + TAIL.len() + 1;

/// Returns a payload object of `payload_bytes` bytes between `before` and `after`. The `members`
/// are appended to the object and do not count in its size.
pub(crate) fn payload(
    before: &str,
    payload_bytes: usize,
    members: &str,
    after: &str,
) -> Result<Template> {
    let padding = payload_bytes.checked_sub(PAYLOAD_BYTES_MIN);
    let padding = padding.with_context(|| format!("less than {PAYLOAD_BYTES_MIN} bytes"))?;
    let padding = "x".repeat(padding);
    let before = format!("{before}{HEAD}");
    let after = format!("{MIDDLE}{padding}{TAIL}{members}}}{after}");
    Ok(Template::new(&before, &after))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::stamp::Stamp;

    #[test]
    fn the_payload_has_the_asked_for_size_and_is_json() {
        for bytes in [48, 49, 4_096] {
            let mut template = payload("", bytes, "", "").unwrap();
            let text = template.stamped(Stamp { sequence: 5, due_ns: 6 });
            assert_eq!(text.len(), bytes);
            serde_json::from_slice::<Value>(text).unwrap();
        }
        assert!(payload("", 47, "", "").is_err());
    }
}
