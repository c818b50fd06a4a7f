//! Room for a publication at every worker, set aside before anybody knows who will need it.

use std::cell::Cell;

use super::Router;
use super::mail::Mail;
use super::mailbox::Slot;
use crate::limits::WORKERS_MAX;
use crate::message::{Delivery, WorkerId};

/// A slot for one publication in every worker's mailbox. A document is committed between this and
/// its fan-out, which cannot fail any more then. What was not used is given back with it.
#[derive(Debug)]
pub struct Room<'r> {
    router: &'r Router,
    /// A bit for each worker whose slot was used.
    used: Cell<[u64; 4]>,
}

const _: () = assert!(WORKERS_MAX <= 256, "every worker has a bit");

impl<'r> Room<'r> {
    /// `None` where a mailbox is full.
    pub(super) fn reserve(router: &'r Router) -> Option<Self> {
        for (reserved, mailbox) in router.workers.iter().enumerate() {
            if !mailbox.reserve(Slot::Publication) {
                let earlier = &router.workers[..reserved];
                earlier.iter().for_each(|mailbox| mailbox.release(Slot::Publication));
                return None;
            }
        }
        Some(Self { router, used: Cell::default() })
    }

    /// Where it is.
    pub fn router(&self) -> &'r Router {
        self.router
    }

    /// Uses the slot at a worker; once.
    pub fn deliver(&self, worker: WorkerId, delivery: Delivery) {
        let mut used = self.used.get();
        used[worker.index() / 64] |= 1 << (worker.index() % 64);
        self.used.set(used);
        self.router.worker(worker).post(Mail::Deliver(delivery));
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        let used = self.used.get();
        for (index, mailbox) in self.router.workers.iter().enumerate() {
            if used[index / 64] & (1 << (index % 64)) == 0 {
                mailbox.release(Slot::Publication);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use uuid::Uuid;

    use super::*;
    use crate::message::{Channel, Content, Publication};

    #[test]
    fn what_is_not_used_is_given_back_and_half_a_room_is_none() {
        let (router, inboxes) = Router::new(2, 1, 1).unwrap();
        let (first, second) = (&router.workers[0], &router.workers[1]);
        assert!(second.reserve(Slot::Publication));
        assert!(router.room().is_none());
        second.release(Slot::Publication);
        let content = Content::Event { payload: "1".into() };
        let publication = Arc::new(Publication::new(Uuid::nil(), Channel::from("c"), 0, content));
        let room = router.room().expect("nobody has any of it");
        assert!(router.room().is_none());
        room.deliver(WorkerId(0), Delivery { publication, offset: 1 });
        drop(room);
        assert_eq!((first.free(Slot::Publication), second.free(Slot::Publication)), (0, 1));
        assert!(inboxes.workers[0].take(Mail::slot).is_some());
        assert!(router.room().is_some());
    }
}
