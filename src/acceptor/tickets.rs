//! Requests that wait for another thread's answer.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::mailbox::{Answer, AnswerBody, Mailbox, Reservation, Ticket};

/// The requests of one acceptor that wait. Whoever is asked answers each ticket once; an answer
/// that nobody waits for any more is dropped.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    places: RefCell<Places>,
}

#[derive(Debug, Default)]
struct Places {
    all: Vec<Place>,
    free: Vec<u32>,
}

#[derive(Debug, Default)]
struct Place {
    generation: u32,
    answer: Option<AnswerBody>,
    waker: Option<Waker>,
}

/// A request that waits: a future of its answer. Dropping it gives up.
#[derive(Debug)]
pub(super) struct Pending<'t> {
    tickets: &'t Tickets,
    ticket: Ticket,
    /// The place of the answer, until the question is put.
    place: Option<Reservation<'t, Mailbox<Answer>>>,
}

impl Tickets {
    /// Creates a request, whose answer has this place in the acceptor's mailbox.
    pub(super) fn issue<'t>(&'t self, place: Reservation<'t, Mailbox<Answer>>) -> Pending<'t> {
        let mut places = self.places.borrow_mut();
        let slot = match places.free.pop() {
            Some(slot) => slot,
            None => {
                places.all.push(Place::default());
                // Bounded by HTTP_CONNECTIONS_MAX: a connection waits for one answer at a time.
                u32::try_from(places.all.len() - 1).unwrap_or(u32::MAX)
            }
        };
        let generation = places.all[slot as usize].generation;
        Pending { tickets: self, ticket: Ticket { slot, generation }, place: Some(place) }
    }

    /// Hands an answer to whoever waits for it.
    pub(super) fn settle(&self, answer: Answer) {
        let mut places = self.places.borrow_mut();
        let Some(place) = places.all.get_mut(answer.ticket.slot as usize) else { return };
        if place.generation != answer.ticket.generation {
            return;
        }
        place.answer = Some(answer.body);
        if let Some(waker) = place.waker.take() {
            waker.wake();
        }
    }
}

impl Pending<'_> {
    /// Its name towards other threads.
    pub(super) fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// Leaves the place of the answer to the thread that the question was put to.
    pub(super) fn promise(&mut self) {
        if let Some(place) = self.place.take() {
            place.promise();
        }
    }
}

impl Future for Pending<'_> {
    type Output = AnswerBody;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<AnswerBody> {
        let mut places = self.tickets.places.borrow_mut();
        let place = &mut places.all[self.ticket.slot as usize];
        match place.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                place.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        let mut places = self.tickets.places.borrow_mut();
        let place = &mut places.all[self.ticket.slot as usize];
        *place = Place { generation: place.generation.wrapping_add(1), answer: None, waker: None };
        places.free.push(self.ticket.slot);
    }
}
