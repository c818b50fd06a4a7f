//! Tests of sessions on long-polling.

use super::*;

#[test]
fn a_poll_waits_for_packets_and_a_second_one_ends_the_session() {
    let mut room = Room::new();
    let mut session = room.polling();
    assert!(session.is_polling() && !session.may_end(false));
    let first = room.ticket(1);
    assert!(session.on_poll(&mut room.ctx(), first).is_stay());
    assert!(room.answers().is_empty() && session.may_end(false) && !session.may_end(true));
    room.text(&mut session, CONNECT);
    session.on_output(&mut room.ctx());
    assert!(matches!(&*room.payloads(), [(1, text)] if text.starts_with("40{")));
    let (second, third) = (room.ticket(2), room.ticket(3));
    assert!(session.on_poll(&mut room.ctx(), second).is_stay());
    assert!(is_closed(&session.on_poll(&mut room.ctx(), third), Reason::Protocol));
    let answers = room.answers();
    assert!(matches!(&*answers, [(3, Err(PollRefusal::BadRequest))]));
    room.end(&mut session, Reason::Protocol);
    assert_eq!(room.payloads(), [(2, "1".into())]);
}

#[test]
fn a_poll_ends_with_a_noop_if_its_client_leaves_and_a_close_if_it_is_made_to() {
    let mut room = Room::new();
    let mut session = room.polling();
    let poll = room.ticket(1);
    assert!(session.on_poll(&mut room.ctx(), poll).is_stay());
    assert!(is_closed(&room.try_text(&mut session, "1").unwrap(), Reason::Client));
    room.end(&mut session, Reason::Client);
    assert_eq!(room.payloads(), [(1, "6".into())]);
    assert!(is_closed(&session.on_poll_gone(), Reason::Client));
}

#[test]
fn a_released_poll_ends_with_a_noop_and_the_session_takes_the_next_one() {
    let mut room = Room::new();
    let mut session = room.polling();
    session.on_poll_release(&room.ctx());
    let poll = room.ticket(1);
    assert!(session.on_poll(&mut room.ctx(), poll).is_stay());
    session.on_poll_release(&room.ctx());
    assert_eq!(room.payloads(), [(1, "6".into())]);
    let next = room.ticket(2);
    assert!(session.on_poll(&mut room.ctx(), next).is_stay());
    room.text(&mut session, CONNECT);
    session.on_output(&mut room.ctx());
    assert!(matches!(&*room.payloads(), [(2, text)] if text.starts_with("40{")));
}

#[test]
fn a_websocket_takes_a_polling_session_over() {
    let mut room = Room::new();
    let mut session = room.polling();
    let [probe, other] = [1, 2].map(|slot| ConnId { slot, ..room.id });
    let poll = room.ticket(1);
    assert!(session.on_poll(&mut room.ctx(), poll).is_stay());
    let offer = |room: &mut Room, session: &mut Session, probe, step| {
        session.on_offer(&mut room.ctx(), probe, step)
    };
    assert_eq!(offer(&mut room, &mut session, probe, OfferStep::Open), Ok(Offered::Noted));
    assert!(offer(&mut room, &mut session, other, OfferStep::Open).is_err());
    assert!(offer(&mut room, &mut session, other, OfferStep::Upgrade).is_err());
    assert_eq!(offer(&mut room, &mut session, probe, OfferStep::Probed), Ok(Offered::Probed));
    assert_eq!(room.payloads(), [(1, "6".into())], "the client stops polling");
    session.on_offer_withdrawn(other);
    let step = OfferStep::Upgrade;
    assert_eq!(offer(&mut room, &mut session, probe, step), Ok(Offered::TakeOver));
    assert!(session.take_over().is_none());
    assert!(!session.is_polling() && session.may_end(true));
    let late = room.ticket(2);
    assert!(session.on_poll(&mut room.ctx(), late).is_stay());
    assert!(matches!(room.answers()[..], [(2, Err(PollRefusal::BadRequest))]));
    assert!(offer(&mut room, &mut session, other, OfferStep::Open).is_err());
}
