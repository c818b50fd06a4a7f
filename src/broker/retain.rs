//! Publications that a channel keeps for later subscribers: none, the last one, or those of some
//! seconds.

use std::collections::HashSet;
use std::sync::Arc;

use super::budget::{Budget, Deflated};
use super::channel_log::ChannelLogs;
use super::window::Window;
use crate::limits::{REPLAY_TOTAL_BYTES_MAX, RETAINED_BYTES_MAX, RETAINED_OVERHEAD_BYTES};
use crate::message::{
    Content, MessageId, Millis, Publication, Replay, ReplayWish, Retain, Retained,
};

/// The budgets of all channels of a node.
#[derive(Debug)]
pub struct Budgets {
    /// The bytes of windows.
    pub windows: Budget,
    /// The bytes of retained values.
    pub values: Budget,
    /// What is kept for streams.
    pub logs: ChannelLogs,
}

impl Budgets {
    /// Creates budgets of at most `bytes_max` bytes each, even if their own bounds are higher.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            windows: Budget::new(REPLAY_TOTAL_BYTES_MAX.min(bytes_max)),
            values: Budget::new(RETAINED_BYTES_MAX.min(bytes_max)),
            logs: ChannelLogs::new(0, 0),
        }
    }

    /// Lets compressed frames count.
    pub fn with_deflated(self, deflated: Deflated) -> Self {
        let logs = ChannelLogs { budget: self.logs.budget.with_deflated(deflated), ..self.logs };
        Self {
            windows: self.windows.with_deflated(deflated),
            values: self.values.with_deflated(deflated),
            logs,
        }
    }
}

impl Default for Budgets {
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

/// The publications that one channel keeps, as its [`Retain`] says. Clear it before it is dropped,
/// because the budgets count its bytes.
#[derive(Debug, Default)]
pub enum Kept {
    /// Nothing. If the channel keeps its last publication, the value is unknown.
    #[default]
    Nothing,
    /// The channel has no value: its last publication was a deletion.
    Absent,
    /// The last publication, which counts against [`Budgets::values`].
    Value(Arc<Publication>),
    /// The publications of some seconds.
    Window(Box<Window>),
}

impl Kept {
    /// Keeps a publication if the options of its channel say so. Returns true if it will expire.
    pub fn publish(&mut self, publication: &Arc<Publication>, budgets: &Budgets) -> bool {
        match publication.options.retain {
            Retain::None => {
                if !matches!(self, Self::Nothing) {
                    self.clear(budgets);
                }
                false
            }
            Retain::Last => {
                if let Content::Document { audience: None, exists, .. } = publication.content {
                    self.set(Retained::of(publication, exists), budgets);
                }
                false
            }
            Retain::Window { .. } => {
                self.window(budgets).push(publication, &budgets.windows);
                true
            }
        }
    }

    /// Puts earlier publications, in their order, before those of the window. They must reach up to
    /// these without a hole; those that the window has already are left out. Returns true if some
    /// will expire.
    pub fn fill(&mut self, earlier: &[Arc<Publication>], budgets: &Budgets) -> bool {
        if earlier.is_empty() {
            return false;
        }
        let known = match self {
            Self::Window(window) => window.all(),
            Self::Nothing | Self::Absent | Self::Value(_) => Vec::new(),
        };
        self.clear(budgets);
        let ids: HashSet<_> = known.iter().map(|one| one.id).collect();
        let earlier = earlier.iter().filter(|one| !ids.contains(&one.id));
        let mut expires = false;
        for one in earlier.chain(&known) {
            expires |= self.publish(one, budgets);
        }
        expires
    }

    /// Returns the publications of the window that a new subscriber asks for. Until `missing_until`
    /// earlier ones may be missing in it.
    pub fn replay(&self, wish: ReplayWish, now: Millis, missing_until: Millis) -> Replay {
        match self {
            Self::Window(window) => window.replay(wish, now, missing_until),
            Self::Nothing | Self::Absent | Self::Value(_) => {
                let may_lack = wish.seconds > 0 && wish.after.is_some() && now < missing_until;
                Replay { has_gap: may_lack, ..Replay::default() }
            }
        }
    }

    /// Returns whether the channel has a window with this publication.
    pub fn has(&self, id: MessageId) -> bool {
        matches!(self, Self::Window(window) if window.has(id))
    }

    /// Returns the retained value.
    pub fn value(&self) -> Retained {
        match self {
            Self::Nothing | Self::Window(_) => Retained::Unknown,
            Self::Absent => Retained::Absent,
            Self::Value(publication) => Retained::Value(publication.clone()),
        }
    }

    /// Retains a value if it is unknown.
    pub fn learn(&mut self, value: Retained, budgets: &Budgets) {
        if matches!(self, Self::Nothing) {
            self.set(value, budgets);
        }
    }

    /// Retains a value in place of everything that was kept. A value that exceeds the budget is not
    /// retained, and becomes unknown.
    pub fn set(&mut self, value: Retained, budgets: &Budgets) {
        self.clear(budgets);
        match value {
            Retained::Unknown => {}
            Retained::Absent => *self = Self::Absent,
            Retained::Value(publication)
                if budgets.values.take(value_weight(&publication, budgets)) =>
            {
                *self = Self::Value(publication);
            }
            Retained::Value(_) => budgets.values.count_evicted(),
        }
    }

    /// Drops expired publications, and the window once it is empty and has no loss to report.
    pub fn expire(&mut self, now: Millis, budgets: &Budgets) {
        if let Self::Window(window) = self
            && window.expire(now, &budgets.windows)
        {
            *self = Self::Nothing;
        }
    }

    /// Drops everything and returns its bytes to the budgets.
    pub fn clear(&mut self, budgets: &Budgets) {
        match std::mem::take(self) {
            Self::Nothing | Self::Absent => {}
            Self::Value(publication) => budgets.values.give(value_weight(&publication, budgets)),
            Self::Window(mut window) => window.clear(&budgets.windows),
        }
    }

    /// Returns whether the channel goes on keeping this without subscribers. A value is also in the
    /// store, and is dropped with the last subscriber.
    pub fn outlives_subscribers(&self) -> bool {
        matches!(self, Self::Window(_))
    }

    fn window(&mut self, budgets: &Budgets) -> &mut Window {
        if !matches!(self, Self::Window(_)) {
            self.clear(budgets);
            *self = Self::Window(Box::default());
        }
        let Self::Window(window) = self else { unreachable!("it was made a window above") };
        window
    }
}

impl Retained {
    /// Returns the value of a channel whose last publication is this one.
    fn of(publication: &Arc<Publication>, exists: bool) -> Self {
        if exists { Self::Value(publication.clone()) } else { Self::Absent }
    }
}

/// Returns the bytes that a retained value counts for.
fn value_weight(publication: &Publication, budgets: &Budgets) -> usize {
    let bytes = publication.content.bytes();
    RETAINED_OVERHEAD_BYTES + bytes + budgets.values.deflated.bytes(&publication.channel, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::directory::Directory;
    use crate::limits::REPLAY_OVERHEAD_BYTES;
    use crate::message::{Channel, ChannelOptions, MessageId, Sender};

    fn under(retain: Retain, content: Content) -> Arc<Publication> {
        let options = ChannelOptions { retain, ..ChannelOptions::default() };
        let publication = Publication::new(MessageId::nil(), Channel::from("c"), 0, content);
        Arc::new(publication.under(options))
    }

    #[test]
    fn compressed_frames_count_in_every_budget() {
        let budgets = |deflated| Budgets::new(1 << 20).with_deflated(deflated);
        for (deflated, forms) in [(Deflated::default(), 1), (Deflated::from(1), 2)] {
            let budgets = budgets(deflated);
            let (mut window, mut value) = (Kept::default(), Kept::default());
            window.publish(&message(Retain::window(10)), &budgets);
            assert_eq!(budgets.windows.bytes(), REPLAY_OVERHEAD_BYTES + forms);
            value.publish(&document(None, 7, true), &budgets);
            assert_eq!(budgets.values.bytes(), RETAINED_OVERHEAD_BYTES + forms * 10);
            let directory = Directory::new(budgets).with_logs(10_000, 1 << 20);
            let logs = &directory.budgets().logs;
            assert_eq!(logs.budget.deflated, deflated);
            [window, value].iter_mut().for_each(|kept| kept.clear(directory.budgets()));
            let left = directory.budgets();
            assert_eq!((left.windows.bytes(), left.values.bytes()), (0, 0));
        }
    }

    fn message(retain: Retain) -> Arc<Publication> {
        let (event, payload) = ("e".into(), "1".into());
        under(retain, Content::Message { event, payload, sender: Sender::System })
    }

    fn document(audience: Option<&str>, version: Millis, exists: bool) -> Arc<Publication> {
        let (audience, frame) = (audience.map(Into::into), [0; 10].into());
        under(Retain::Last, Content::Document { audience, version, exists, frame })
    }

    /// Returns the version of the retained value; `None` if it is unknown, 0 if it is absent.
    fn version(kept: &Kept) -> Option<Millis> {
        match kept.value() {
            Retained::Unknown => None,
            Retained::Absent => Some(0),
            Retained::Value(one) => match one.content {
                Content::Document { version, .. } => Some(version),
                _ => panic!("{one:?}"),
            },
        }
    }

    #[test]
    fn the_last_document_for_everybody_is_retained() {
        let (mut kept, budgets) = (Kept::default(), Budgets::default());
        assert_eq!(version(&kept), None);
        assert!(!kept.publish(&document(None, 7, true), &budgets), "time does not end it");
        assert!(!kept.publish(&document(Some("u"), 8, true), &budgets));
        assert_eq!(version(&kept), Some(7), "a user's own document is not everybody's");
        kept.learn(Retained::Absent, &budgets);
        assert_eq!(version(&kept), Some(7), "what was published is newer than the store's answer");
        assert_eq!(budgets.values.bytes(), RETAINED_OVERHEAD_BYTES + 10);
        kept.publish(&document(None, 9, false), &budgets);
        assert_eq!((version(&kept), budgets.values.bytes()), (Some(0), 0));
        kept.clear(&budgets);
        kept.learn(Retained::Value(document(None, 3, true)), &budgets);
        assert_eq!(version(&kept), Some(3));
        kept.clear(&budgets);
        assert_eq!((version(&kept), budgets.values.bytes()), (None, 0));
    }

    #[test]
    fn a_value_beyond_the_budget_is_unknown_and_counted() {
        let bytes = RETAINED_OVERHEAD_BYTES + 10;
        let budgets = Budgets { values: Budget::new(2 * bytes - 1), ..Budgets::default() };
        let [mut first, mut second] = [Kept::default(), Kept::default()];
        first.publish(&document(None, 1, true), &budgets);
        second.publish(&document(None, 1, true), &budgets);
        assert_eq!((version(&first), version(&second)), (Some(1), None));
        assert_eq!((budgets.values.bytes(), budgets.values.evicted()), (bytes, 1));
        first.publish(&document(None, 2, true), &budgets);
        assert_eq!(version(&first), Some(2), "a value makes room for the next one");
    }

    #[test]
    fn a_changed_option_ends_what_was_kept() {
        let window = Retain::Window { seconds: 9 };
        for (before, after) in [
            (message(window), message(Retain::None)),
            (document(None, 1, true), message(Retain::None)),
            (document(None, 1, true), message(window)),
            (message(window), document(None, 1, true)),
        ] {
            let (mut kept, budgets) = (Kept::default(), Budgets::default());
            kept.publish(&before, &budgets);
            assert!(!matches!(kept, Kept::Nothing));
            let is_ended_by_time = kept.publish(&after, &budgets);
            assert_eq!(is_ended_by_time, after.options.retain == window);
            assert_eq!(kept.outlives_subscribers(), is_ended_by_time);
            assert_eq!(version(&kept).is_some(), after.options.retain == Retain::Last);
            kept.clear(&budgets);
            assert_eq!((budgets.windows.bytes(), budgets.values.bytes()), (0, 0));
        }
    }
}
