//! The way in: any thread may hand a call over, and none waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::{Call, Settled};
use crate::limits::{WEBHOOK_HANDOVER_MAX, WEBHOOK_WAITING_MAX};
use crate::message::{ChannelDefinition, Content, MessageId, Publication};

/// Takes calls from any thread. Clones share one queue.
#[derive(Clone)]
pub struct Intake {
    shared: Arc<Shared>,
    handover: Sender<Handover>,
}

/// The state that offering threads and the thread of webhooks share.
pub(super) struct Shared {
    pub(super) room: Arc<Room>,
    /// Calls dropped by offering threads, by [`Loss`], until the thread of webhooks counts them.
    losses: [AtomicU64; Loss::ALL.len()],
    /// Notified when there are losses.
    pub(super) lost: Notify,
    settled: Box<dyn Fn(Settled) + Send + Sync>,
}

/// A publication on its way to the thread of webhooks, for every URL of a definition.
pub(super) struct Handover {
    pub(super) parcel: Arc<Parcel>,
    pub(super) definition: Arc<ChannelDefinition>,
}

/// A publication that holds its bytes of the room until the last of its calls is settled.
pub(super) struct Parcel {
    publication: Arc<Publication>,
    room: Arc<Room>,
}

/// Why a call was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Loss {
    /// The bound on calls that wait was reached.
    #[error("too many calls wait")]
    Waiting,
    /// The bound on bytes of calls that wait was reached.
    #[error("the payloads of the calls that wait are too long together")]
    Bytes,
    /// The thread of webhooks does not keep up.
    #[error("the thread of webhooks does not keep up")]
    Handover,
    /// The bound on calls that wait for the target was reached.
    #[error("too many calls wait for one target")]
    Target,
    /// The node stops, so no further call is made.
    #[error("the node stops")]
    Stopped,
}

impl Loss {
    pub(super) const ALL: [Self; 5] =
        [Self::Waiting, Self::Bytes, Self::Handover, Self::Target, Self::Stopped];
}

/// The calls that wait and their payloads' bytes, with their bounds.
pub(super) struct Room {
    calls_max: usize,
    bytes_max: usize,
    calls: AtomicUsize,
    bytes: AtomicUsize,
}

impl Intake {
    /// Creates the way in. Returns it with the shared state and the receiver, for the thread of
    /// webhooks.
    pub(super) fn new(
        waiting_bytes: usize,
        settled: impl Fn(Settled) + Send + Sync + 'static,
    ) -> (Self, Arc<Shared>, Receiver<Handover>) {
        let (handover, taken) = mpsc::channel(WEBHOOK_HANDOVER_MAX);
        let shared = Arc::new(Shared {
            room: Arc::new(Room::new(WEBHOOK_WAITING_MAX, waiting_bytes)),
            losses: Default::default(),
            lost: Notify::new(),
            settled: Box::new(settled),
        });
        (Self { shared: shared.clone(), handover }, shared, taken)
    }

    /// Takes a call without waiting, or drops and counts it: see
    /// [`Webhooks::offer`](super::Webhooks::offer).
    pub fn offer(&self, call: Call) {
        let Call { publication, definition } = call;
        let Content::Message { payload, .. } = &publication.content else { return };
        let (message, bytes) = (publication.id, payload.len());
        let urls = definition.webhook_urls.as_ref().map_or(0, Vec::len);
        if urls == 0 {
            return;
        }
        if let Err(loss) = self.shared.room.take(urls, bytes) {
            return self.lose(message, urls, loss);
        }
        let parcel = Arc::new(Parcel { publication, room: self.shared.room.clone() });
        if let Err(refused) = self.handover.try_send(Handover { parcel, definition }) {
            self.shared.room.give_calls_back(urls);
            let loss = match refused {
                mpsc::error::TrySendError::Full(_) => Loss::Handover,
                mpsc::error::TrySendError::Closed(_) => Loss::Stopped,
            };
            self.lose(message, urls, loss);
        }
    }

    fn lose(&self, message: MessageId, urls: usize, loss: Loss) {
        self.shared.losses[loss as usize].fetch_add(urls as u64, Ordering::Relaxed);
        self.shared.lost.notify_one();
        for _ in 0..urls {
            self.shared.settle(message, false);
        }
    }
}

impl Shared {
    /// Reports the end of a call to the callback of [`Webhooks::start`](super::Webhooks::start).
    pub(super) fn settle(&self, message: MessageId, delivered: bool) {
        (self.settled)(Settled { message, delivered });
    }

    /// Returns the losses since the last time, for the one thread that counts, and resets them.
    pub(super) fn take_losses(&self) -> impl Iterator<Item = (Loss, u64)> {
        Loss::ALL.into_iter().filter_map(|loss| {
            let count = self.losses[loss as usize].swap(0, Ordering::Relaxed);
            (count > 0).then_some((loss, count))
        })
    }
}

impl Parcel {
    pub(super) fn publication(&self) -> &Publication {
        &self.publication
    }

    pub(super) fn event(&self) -> &str {
        self.message().0
    }

    pub(super) fn payload(&self) -> &[u8] {
        self.message().1.as_bytes()
    }

    /// Returns the payload without copying it.
    pub(super) fn body(self: &Arc<Self>) -> Bytes {
        struct Payload(Arc<Parcel>);
        impl AsRef<[u8]> for Payload {
            fn as_ref(&self) -> &[u8] {
                self.0.payload()
            }
        }
        Bytes::from_owner(Payload(self.clone()))
    }

    fn message(&self) -> (&str, &str) {
        match &self.publication.content {
            Content::Message { event, payload, .. } => (event, payload),
            _ => unreachable!("only messages are taken"),
        }
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        self.room.bytes.fetch_sub(self.payload().len(), Ordering::Relaxed);
    }
}

impl Room {
    fn new(calls_max: usize, bytes_max: usize) -> Self {
        Self { calls_max, bytes_max, calls: AtomicUsize::new(0), bytes: AtomicUsize::new(0) }
    }

    fn take(&self, calls: usize, bytes: usize) -> Result<(), Loss> {
        add_within(&self.calls, calls, self.calls_max).map_err(|()| Loss::Waiting)?;
        add_within(&self.bytes, bytes, self.bytes_max).map_err(|()| {
            self.give_calls_back(calls);
            Loss::Bytes
        })
    }

    pub(super) fn give_calls_back(&self, calls: usize) {
        self.calls.fetch_sub(calls, Ordering::Relaxed);
    }
}

/// Adds `more` unless the sum would exceed `max`. Relaxed ordering is enough, because calls are
/// handed over by a channel.
fn add_within(held: &AtomicUsize, more: usize, max: usize) -> Result<(), ()> {
    let sum = |held: usize| held.checked_add(more).filter(|sum| *sum <= max);
    held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum).map(drop).map_err(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::background::webhook::tests::{call, call_with};

    /// The ends of calls that were reported.
    type Told = Arc<Mutex<Vec<Settled>>>;

    /// Returns a way in with this room, and its other end.
    fn intake(room: Room) -> (Intake, Arc<Shared>, Receiver<Handover>, Told) {
        let told = Told::default();
        let tell = told.clone();
        let (intake, _, taken) = Intake::new(usize::MAX, |_| {});
        let shared = Arc::new(Shared {
            room: Arc::new(room),
            losses: Default::default(),
            lost: Notify::new(),
            settled: Box::new(move |settled| tell.lock().unwrap().push(settled)),
        });
        let intake = Intake { shared: shared.clone(), ..intake };
        (intake, shared, taken, told)
    }

    fn held(count: &AtomicUsize) -> usize {
        count.load(Ordering::Relaxed)
    }

    fn losses(shared: &Shared) -> Vec<(Loss, u64)> {
        shared.take_losses().collect()
    }

    #[test]
    fn calls_beyond_their_bound_are_dropped_and_told_for_each_url() {
        let (intake, shared, _taken, told) = intake(Room::new(3, 1_000));
        intake.offer(call(&["http://a/", "http://b/"]));
        let dropped = call(&["http://a/", "http://b/"]);
        let message = dropped.publication.id;
        intake.offer(dropped);
        intake.offer(call(&["http://a/"]));
        assert_eq!(losses(&shared), [(Loss::Waiting, 2)]);
        assert_eq!(losses(&shared), [], "they are taken once");
        assert_eq!(*told.lock().unwrap(), [Settled { message, delivered: false }; 2]);
        assert_eq!(held(&shared.room.calls), 3);
    }

    #[test]
    fn bytes_count_once_for_a_publication_and_until_its_last_call() {
        let (intake, shared, mut taken, _) = intake(Room::new(100, 10));
        intake.offer(call_with("123456", &["http://a/", "http://b/"]));
        intake.offer(call_with("12345", &["http://a/"]));
        assert_eq!(losses(&shared), [(Loss::Bytes, 1)]);
        assert_eq!(held(&shared.room.calls), 2, "what was dropped holds no room");
        intake.offer(call_with("1234", &["http://a/"]));
        assert_eq!(losses(&shared), []);
        let (first, body) = {
            let Handover { parcel, .. } = taken.try_recv().unwrap();
            (parcel.clone(), parcel.body())
        };
        assert_eq!(&body[..], b"123456");
        drop(first);
        assert_eq!(held(&shared.room.bytes), 10, "it is still being sent");
        drop(body);
        assert_eq!(held(&shared.room.bytes), 4);
    }

    #[test]
    fn a_thread_that_does_not_keep_up_costs_calls() {
        let (intake, shared, mut taken, told) = intake(Room::new(usize::MAX, usize::MAX));
        for _ in 0..WEBHOOK_HANDOVER_MAX {
            intake.offer(call(&["http://a/"]));
        }
        assert_eq!((losses(&shared), told.lock().unwrap().len()), (vec![], 0));
        intake.offer(call(&["http://a/", "http://b/"]));
        assert_eq!(losses(&shared), [(Loss::Handover, 2)]);
        assert_eq!(told.lock().unwrap().len(), 2);
        assert_eq!(held(&shared.room.calls), WEBHOOK_HANDOVER_MAX);
        taken.close();
        intake.offer(call(&["http://a/"]));
        assert_eq!(losses(&shared), [(Loss::Stopped, 1)]);
    }

    #[test]
    fn what_has_no_webhooks_is_nobodys_loss() {
        let (intake, shared, mut taken, told) = intake(Room::new(0, 0));
        intake.offer(call(&[]));
        assert_eq!(losses(&shared), []);
        assert!(taken.try_recv().is_err() && told.lock().unwrap().is_empty());
    }
}
