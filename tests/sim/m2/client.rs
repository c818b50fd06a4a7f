//! A client, which compares each message with those before it.

use std::collections::HashMap;

use fanfare::limits::REPEATED_SUBSCRIBES_MAX;

use super::resource::{Resource, User};
use super::store::Store;
use super::word::{Mark, Said, Word};
use super::world::Common;
use super::{Rule, Wrong};
use crate::frames::{Frame, PONG, TEXT};

/// The scope and the user that a client is connected for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Party {
    pub(super) scope: usize,
    pub(super) user: Option<User>,
}

pub(super) struct Client {
    pub(super) party: Party,
    /// The warnings and errors since the last mark, which the next mark assigns to a resource.
    nameless: Vec<fn(Resource) -> Word>,
    views: HashMap<Resource, View>,
}

/// A client's knowledge of a resource.
#[derive(Clone, Debug, Default)]
struct View {
    is_subscribed: bool,
    /// How often the client has subscribed.
    asked: u32,
    /// How often it received the warning that there is no document.
    not_found: u32,
    /// Subscribes without an answer. A document answers all subscribes before it.
    unanswered: u16,
    /// Whether the client was told that the store could not be read. It may subscribe again.
    is_excused: bool,
    shared: Known,
    personal: Known,
}

/// A client's knowledge of a document.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// The version that the client knows, and whether the document exists.
    now: Option<(u64, bool)>,
    /// The latest version that it received since its subscription began.
    told: Option<u64>,
    /// The latest version that it ever received.
    ever: u64,
    /// How often it may receive the same version again, because it has subscribed again.
    repeats: u32,
}

impl Client {
    pub(super) fn new(party: Party) -> Self {
        Self { party, nameless: Vec::new(), views: HashMap::new() }
    }

    /// Returns the same client on another connection. It remembers which versions it has received.
    pub(super) fn comes_back(&self) -> Self {
        let ever = |known: &Known| Known { ever: known.ever, ..Known::default() };
        let again = |view: &View| View {
            shared: ever(&view.shared),
            personal: ever(&view.personal),
            ..View::default()
        };
        let views = self.views.iter().map(|(resource, view)| (*resource, again(view))).collect();
        Self { views, ..Self::new(self.party.clone()) }
    }

    /// Checks a frame from the node. Fails if it breaks a rule.
    pub(super) fn take(
        &mut self,
        common: &Common<'_>,
        (opcode, payload): Frame,
    ) -> Result<(), Wrong> {
        match opcode {
            PONG => self.pass(common, Mark::read(&payload, self.party.scope)),
            TEXT => match Said::read(str::from_utf8(&payload).expect("it is text")) {
                Said::Document(document) => self.hear(common, &document),
                Said::Nameless(word) => {
                    self.nameless.push(word);
                    Ok(())
                }
                Said::Refused => Ok(()),
            },
            other => panic!("nothing is sent in frames of kind {other}"),
        }
    }

    fn pass(&mut self, common: &Common<'_>, mark: Mark) -> Result<(), Wrong> {
        match mark {
            Mark::Began { resource, is_again } => {
                self.hear(common, &Word::Began { resource, is_again })
            }
            Mark::Ended(resource) => self.hear(common, &Word::Ended(resource)),
            Mark::About(resource) => {
                let words = std::mem::take(&mut self.nameless);
                words.into_iter().try_for_each(|word| self.hear(common, &word(resource)))
            }
            Mark::Nudge => Ok(()),
        }
    }

    fn hear(&mut self, common: &Common<'_>, word: &Word) -> Result<(), Wrong> {
        let resource = word.resource();
        let wrong = |rule, view: &View| Err(Wrong::new(rule, format!("{word:?} after {view:?}")));
        if resource.scope != self.party.scope {
            return wrong(Rule::Scope, &View::default());
        }
        let view = self.views.entry(resource).or_default();
        match word {
            Word::Began { is_again, .. } => {
                view.begin(*is_again);
                return Ok(());
            }
            Word::Ended(_) => {
                view.is_subscribed = false;
                return Ok(());
            }
            _ if !view.is_subscribed => return wrong(Rule::Subscribed, view),
            Word::NotFound(_) => {
                common.note("not found", 1);
                (view.shared.now, view.personal.now) = (None, None);
                view.not_found += 1;
                view.unanswered = view.unanswered.saturating_sub(1);
                if view.not_found > view.asked {
                    return wrong(Rule::Answered, view);
                }
            }
            Word::Unavailable(_) => {
                view.is_excused = true;
                view.unanswered = view.unanswered.saturating_sub(1);
            }
            Word::Document { audience, version, exists, .. } => {
                let is_theirs = match audience {
                    None => !resource.is_private(),
                    Some(user) => Some(user) == self.party.user.as_ref(),
                };
                let known = if audience.is_none() { &mut view.shared } else { &mut view.personal };
                let rule = if is_theirs { known.hear(*version, *exists) } else { Err(Rule::Scope) };
                match rule {
                    Err(rule) => return wrong(rule, view),
                    Ok(is_again) => common.note("told again", is_again.into()),
                }
                view.unanswered = 0;
            }
        }
        Ok(())
    }

    /// Checks a client that has taken all its frames and has `subscribed` subscriptions: it must
    /// know what the store has.
    pub(super) fn check(
        &self,
        subscribed: usize,
        store: &Store,
        notify_deletes: bool,
    ) -> Result<(), Wrong> {
        let thinks = || self.views.iter().filter(|(_, view)| view.is_subscribed);
        assert_eq!(thinks().count(), subscribed, "it was told where each begins and ends");
        for (resource, view) in thinks().filter(|(_, view)| !view.is_excused) {
            if view.unanswered > 0 {
                return Err(Wrong::new(Rule::Answered, format!("{resource:?}: {view:?}")));
            }
            let none = (0, false);
            let shared = if resource.is_private() { none } else { store.stands(*resource, None) };
            let user = self.party.user.as_ref();
            let personal = user.map_or(none, |user| store.stands(*resource, Some(user)));
            for (known, stands) in [(view.shared, shared), (view.personal, personal)] {
                if !known.agrees(stands, notify_deletes) {
                    let what = format!("{resource:?}: {view:?}, and the store has {stands:?}");
                    return Err(Wrong::new(Rule::LastWord, what));
                }
            }
        }
        Ok(())
    }
}

impl View {
    fn begin(&mut self, is_again: bool) {
        for known in [&mut self.shared, &mut self.personal] {
            *known = match is_again {
                true => Known { repeats: known.repeats + 1, ..*known },
                false => Known { ever: known.ever, ..Known::default() },
            };
        }
        if !is_again {
            (self.asked, self.not_found, self.unanswered) = (0, 0, 0);
        }
        (self.is_subscribed, self.is_excused) = (true, false);
        self.asked += 1;
        self.unanswered = (self.unanswered + 1).min(REPEATED_SUBSCRIBES_MAX);
    }
}

impl Known {
    /// Records a version, and returns whether the client has received it before.
    fn hear(&mut self, version: u64, exists: bool) -> Result<bool, Rule> {
        if version < self.ever.max(self.told.unwrap_or_default()) {
            return Err(Rule::Forward);
        }
        let is_again = self.told == Some(version);
        if is_again {
            self.repeats = self.repeats.checked_sub(1).ok_or(Rule::Once)?;
        }
        (self.now, self.told, self.ever) = (Some((version, exists)), Some(version), version);
        Ok(is_again)
    }

    /// Returns whether this agrees with the store. If clients are not notified of deletions, they
    /// may take a deleted document for an existing one.
    fn agrees(&self, (version, exists): (u64, bool), notify_deletes: bool) -> bool {
        match self.now {
            Some((known, true)) if exists => known == version,
            Some((known, true)) => !notify_deletes && known < version,
            Some((_, false)) | None => !exists,
        }
    }
}
