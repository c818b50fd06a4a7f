//! Questions of acceptors to other threads, and the tickets under which their answers come back.

use std::cell::RefCell;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::answers::{Changed, Gathered, Health, PollRefusal, Polled, StoreResult, Written};
use super::inbox::{Mailbox, Slot};
use super::reservation::Reservation;
use crate::message::{
    ChannelDefinition, Document, Durability, Ordered, Permissions, Stats, StoredMessage,
};

/// A thread's role that serves HTTP, counted from 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AcceptorId(pub u8);

/// The right to answer one question with a `T`, once, by [`Mailboxes::answer`].
///
/// It is plain data, which another thread can hold for as long as it likes; the acceptor may have
/// given up its request meanwhile.
///
/// [`Mailboxes::answer`]: super::Mailboxes::answer
#[must_use = "the request waits until its ticket is used"]
#[derive(PartialEq, Eq, Debug)]
pub struct Ticket<T> {
    acceptor: AcceptorId,
    name: Name,
    answer: PhantomData<fn(T)>,
}

/// A place in an acceptor's table, and the request in that place that is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Name {
    place: u32,
    generation: u32,
}

impl<T: Answer> Ticket<T> {
    /// Splits the ticket into the acceptor that asked, and the mail that answers it.
    pub(super) fn answered(self, answer: T) -> (AcceptorId, Answered) {
        (self.acceptor, Answered { name: self.name, body: answer.into_body() })
    }
}

/// Mail for an acceptor: the answer to a question.
#[derive(Debug)]
pub struct Answered {
    name: Name,
    body: Body,
}

/// The type of an answer to an acceptor's question.
pub trait Answer: Travels {}

/// Conversion into the body of an acceptor's mail, which holds answers of all types.
pub trait Travels: Sized {
    fn into_body(self) -> Body;
    /// Returns `None` if the body holds another type.
    fn from_body(body: Body) -> Option<Self>;
}

macro_rules! answers {
    ($($variant:ident($type:ty),)+) => {
        #[derive(Debug)]
        pub enum Body {
            $($variant($type),)+
        }

        $(
            impl Answer for $type {}

            impl Travels for $type {
                fn into_body(self) -> Body {
                    Body::$variant(self)
                }

                fn from_body(body: Body) -> Option<Self> {
                    match body {
                        Body::$variant(answer) => Some(answer),
                        _ => None,
                    }
                }
            }
        )+
    };
}

answers! {
    Kept(Durability),
    Definition(StoreResult<Changed<Box<ChannelDefinition>>>),
    Permissions(StoreResult<Changed<Permissions>>),
    Cleared(StoreResult<Changed<u64>>),
    Retention(StoreResult<Option<u32>>),
    RetentionSet(StoreResult<Changed<Option<u32>>>),
    Invoked(StoreResult<Changed<()>>),
    Messages(StoreResult<Gathered<Vec<StoredMessage>>>),
    Stats(StoreResult<Gathered<Box<Stats>>>),
    Written(StoreResult<Written>),
    Document(StoreResult<Option<Box<Document>>>),
    Health(Health),
    Polled(Result<Polled, PollRefusal>),
    Ordered(Ordered),
}

/// The requests of one acceptor that wait for an answer.
#[derive(Debug)]
pub struct Tickets {
    acceptor: AcceptorId,
    mailbox: Arc<Mailbox<Answered>>,
    table: RefCell<Table>,
}

#[derive(Debug, Default)]
struct Table {
    places: Vec<Place>,
    free: Vec<u32>,
}

#[derive(Debug, Default)]
struct Place {
    generation: u32,
    answer: Option<Body>,
    waker: Option<Waker>,
}

/// A question that is still to be put. The place of its answer is reserved; dropping the inquiry
/// releases it.
#[derive(Debug)]
pub struct Inquiry<'t, T> {
    pending: Pending<'t, T>,
    place: Reservation<'t, Mailbox<Answered>>,
}

/// A question that was put: a future of its answer. Dropping it gives up the question; the answer
/// is discarded when it comes.
#[derive(Debug)]
pub struct Pending<'t, T> {
    tickets: &'t Tickets,
    name: Name,
    answer: PhantomData<fn() -> T>,
}

impl Tickets {
    /// Creates the table of an acceptor without requests. Answers come into `mailbox`.
    pub fn new(acceptor: AcceptorId, mailbox: Arc<Mailbox<Answered>>) -> Self {
        Self { acceptor, mailbox, table: RefCell::default() }
    }

    /// Prepares a question. Returns `None` if the mailbox has no free place for another answer.
    pub fn inquiry<T: Answer>(&self) -> Option<Inquiry<'_, T>> {
        let place = self.mailbox.reserve(Slot::Control)?;
        let name = self.table.borrow_mut().issue();
        let pending = Pending { tickets: self, name, answer: PhantomData };
        Some(Inquiry { pending, place })
    }

    /// Gives an answer to the request that waits for it. Discards the answer if the request was
    /// given up.
    pub fn settle(&self, answered: Answered) {
        let mut table = self.table.borrow_mut();
        let Some(place) = table.places.get_mut(answered.name.place as usize) else { return };
        if place.generation != answered.name.generation {
            return;
        }
        place.answer = Some(answered.body);
        if let Some(waker) = place.waker.take() {
            waker.wake();
        }
    }
}

impl Table {
    fn issue(&mut self) -> Name {
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                self.places.push(Place::default());
                // Bounded by HTTP_CONNECTIONS_MAX, the places of an acceptor's mailbox.
                u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX)
            }
        };
        Name { place, generation: self.places[place as usize].generation }
    }
}

impl<'t, T: Answer> Inquiry<'t, T> {
    /// Puts the question: `put` passes the ticket to the thread that is to answer. Returns what
    /// `put` returns, and the future of the answer.
    ///
    /// # Errors
    /// Those of `put`. Then the question was not put, and no answer comes.
    pub fn put<R, E>(
        self,
        put: impl FnOnce(Ticket<T>) -> Result<R, E>,
    ) -> Result<(R, Pending<'t, T>), E> {
        let Self { pending, place } = self;
        let Pending { tickets: Tickets { acceptor, .. }, name, .. } = pending;
        let put = put(Ticket { acceptor: *acceptor, name, answer: PhantomData })?;
        place.promise();
        Ok((put, pending))
    }
}

impl<T: Answer> Pending<'_, T> {
    /// Takes the answer, if it has come.
    pub fn take(&mut self) -> Option<T> {
        let mut table = self.tickets.table.borrow_mut();
        let body = table.places[self.name.place as usize].answer.take()?;
        Some(T::from_body(body).expect("a ticket is answered with the type of its question"))
    }
}

impl<T: Answer> Future for Pending<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        if let Some(answer) = self.take() {
            return Poll::Ready(answer);
        }
        let mut table = self.tickets.table.borrow_mut();
        table.places[self.name.place as usize].waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl<T> Drop for Pending<'_, T> {
    fn drop(&mut self) {
        let mut table = self.tickets.table.borrow_mut();
        let place = &mut table.places[self.name.place as usize];
        *place = Place { generation: place.generation.wrapping_add(1), ..Place::default() };
        table.free.push(self.name.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::Mailboxes;
    use crate::message::Refused;

    const _: () = assert!(size_of::<Ticket<Health>>() == 12, "sessions and questions hold tickets");
    const _: () = assert!(size_of::<Answered>() <= 80, "an acceptor's mailbox holds thousands");

    fn put<'t>(tickets: &'t Tickets, kept: &mut Vec<Ticket<Health>>) -> Pending<'t, Health> {
        let inquiry = tickets.inquiry().expect("there is a place");
        let put = inquiry.put(|ticket| {
            kept.push(ticket);
            Ok::<(), Refused>(())
        });
        put.expect("it was taken").1
    }

    #[test]
    fn an_answer_reaches_its_request_and_no_later_one() {
        let (mailboxes, inboxes) = Mailboxes::new(1, 1, 1, usize::MAX).unwrap();
        let (mailbox, inbox) = (&mailboxes.acceptors[0], &inboxes.acceptors[0]);
        let tickets = Tickets::new(AcceptorId(0), mailbox.clone());
        let mut kept = Vec::new();
        let given_up = put(&tickets, &mut kept);
        drop(given_up);
        let mut waiting = put(&tickets, &mut kept);
        let mut context = Context::from_waker(Waker::noop());
        for answer in [Err("too late"), Ok(())] {
            assert_eq!(Pin::new(&mut waiting).poll(&mut context), Poll::Pending);
            mailboxes.answer(kept.remove(0), answer);
            tickets.settle(inbox.take(|_| Slot::Control).expect("it was answered"));
        }
        assert_eq!(Pin::new(&mut waiting).poll(&mut context), Poll::Ready(Ok(())));
    }

    #[test]
    fn a_question_that_is_not_put_keeps_no_place() {
        let (mailboxes, _inboxes) = Mailboxes::new(1, 1, 1, usize::MAX).unwrap();
        let mailbox = &mailboxes.acceptors[0];
        let all = mailbox.free(Slot::Control);
        let tickets = Tickets::new(AcceptorId(0), mailbox.clone());
        drop(tickets.inquiry::<Health>());
        assert_eq!(mailbox.free(Slot::Control), all);
        let inquiry = tickets.inquiry::<Health>().expect("there is a place");
        assert_eq!(mailbox.free(Slot::Control), all - 1);
        let refused = inquiry.put(|_ticket| Err::<(), _>(Refused::Overloaded));
        assert_eq!(refused.err(), Some(Refused::Overloaded));
        assert_eq!(mailbox.free(Slot::Control), all);
        let mut kept = Vec::new();
        drop(put(&tickets, &mut kept));
        assert_eq!(mailbox.free(Slot::Control), all - 1, "the answer is still to come");
    }
}
