//! Limits the log lines about targets that fail: a line now and then for each, and never a path or
//! a password.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::limits::{WEBHOOK_WARNED_AT_START_MAX, WEBHOOK_WARNED_MAX, WEBHOOK_WARNING_MS};
use crate::message::ChannelDefinition;
use crate::message::webhook_url::{Refusal, origin, parse};

const QUIET: Duration = Duration::from_millis(WEBHOOK_WARNING_MS);

/// The targets that the log has named lately.
#[derive(Default)]
pub(super) struct Warnings {
    named: HashMap<Box<str>, Named>,
}

struct Named {
    at: Instant,
    /// Warnings withheld since then.
    suppressed: u64,
}

impl Warnings {
    /// Returns how many warnings about this target were withheld since the last one, or `None` if
    /// this one is to be withheld, too.
    pub(super) fn due(&mut self, origin: &str, now: Instant) -> Option<u64> {
        let is_over = |named: &Named| now.duration_since(named.at) >= QUIET;
        if let Some(named) = self.named.get_mut(origin) {
            if !is_over(named) {
                named.suppressed += 1;
                return None;
            }
            named.at = now;
            return Some(std::mem::take(&mut named.suppressed));
        }
        if self.named.len() >= WEBHOOK_WARNED_MAX {
            self.named.retain(|_, named| !is_over(named));
        }
        if self.named.len() >= WEBHOOK_WARNED_MAX {
            return None;
        }
        self.named.insert(origin.into(), Named { at: now, suppressed: 0 });
        Some(0)
    }
}

/// Warns of each webhook that is never called, up to [`WEBHOOK_WARNED_AT_START_MAX`], and then of
/// how many more there are. They are those of earlier releases, and those that were defined while
/// private addresses were allowed.
pub fn warn_of_never_called(definitions: &[ChannelDefinition], allow_private: bool) {
    let all = definitions.iter().flat_map(|definition| {
        let urls = (0..).zip(definition.webhook_urls.iter().flatten());
        urls.filter_map(move |(at, url): (usize, _)| {
            Refusal::of(url, allow_private).map(|refusal| (definition, at, url, refusal))
        })
    });
    let mut more = 0_u64;
    for (number, (definition, at, url, why)) in all.enumerate() {
        if number >= WEBHOOK_WARNED_AT_START_MAX {
            more += 1;
            continue;
        }
        let target = parse(url).map_or_else(|_| "unknown".to_owned(), |url| origin(&url));
        let setting = matches!(why, Refusal::Address).then_some("webhooks.allow_private");
        tracing::warn!(
            id = %definition.id,
            pattern = definition.pattern,
            url = format_args!("webhookUrls.{at}"),
            target,
            %why,
            setting,
            "a webhook is never called; change its URL, or the setting that is named here"
        );
    }
    if more > 0 {
        tracing::warn!(more, "further webhooks are never called");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_named_once_in_a_while() {
        let (mut warnings, start) = (Warnings::default(), Instant::now());
        assert_eq!(warnings.due("a", start), Some(0));
        assert_eq!(warnings.due("b", start), Some(0));
        assert_eq!(warnings.due("a", start + QUIET / 2), None);
        assert_eq!(warnings.due("a", start + QUIET / 2), None);
        assert_eq!(warnings.due("a", start + QUIET), Some(2));
        assert_eq!(warnings.due("a", start + QUIET), None);
    }

    #[test]
    fn targets_that_were_named_are_forgotten_in_time() {
        let (mut warnings, start) = (Warnings::default(), Instant::now());
        for at in 0..WEBHOOK_WARNED_MAX {
            assert_eq!(warnings.due(&at.to_string(), start), Some(0));
        }
        assert_eq!(warnings.due("one more", start), None);
        assert_eq!(warnings.due("one more", start + QUIET), Some(0));
        assert_eq!(warnings.named.len(), 1);
    }
}
