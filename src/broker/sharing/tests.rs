use super::*;
use crate::message::{MessageId, Role, WorkerId};

const ID: PrivateId = PrivateId { worker: WorkerId(3), start: 7, key: [1; 15] };

fn credential() -> Arc<Credential> {
    let (email, role) = (None, Role::Authenticated);
    Arc::new(Credential { id: "alice".into(), email, role, is_user: true, expires_at: None })
}

fn at(seq: Offset) -> MarkPlace {
    MarkPlace::new(5, seq)
}

/// Lets the nodes know what they lack.
fn share(sharing: &mut Sharing, place: Option<MarkPlace>) -> Option<SessionWish> {
    let (credential, policies) = (credential(), Ok(None));
    sharing.share(&Owner { socket_key: [2; 15], credential: &credential, policies, place })
}

fn shared(wish: Option<SessionWish>) -> (SharedSession, Offset) {
    match wish {
        Some(SessionWish::Share(Some(session), last)) => (*session, last),
        other => panic!("{other:?}"),
    }
}

fn joined(sharing: &mut Sharing, name: &str, seq: Offset) {
    sharing.joined(&Channel::from(name), Encoding::Sdk, Some(at(seq)));
}

#[test]
fn a_session_changes_only_once_the_nodes_know_that() {
    let mut sharing = Sharing::new(ID, None);
    assert_eq!((sharing.may_change(), sharing.end()), (MayChange::Now, None));
    joined(&mut sharing, "a", 10);
    let (session, last) = shared(share(&mut sharing, None));
    assert_eq!((session.channels.len(), last), (1, 0));
    assert_eq!(sharing.may_change(), MayChange::Answered, "a word is under way");
    assert_eq!(share(&mut sharing, None), None);
    assert!(sharing.answered(Ok(100)));
    assert_eq!(share(&mut sharing, None), None, "the nodes lack nothing");
    assert_eq!(sharing.may_change(), MayChange::Told);
    assert_eq!(sharing.tell_change(), SessionWish::Share(None, 100));
    assert_eq!(sharing.may_change(), MayChange::Answered);
    assert!(sharing.answered(Ok(101)));
    assert_eq!(sharing.may_change(), MayChange::Now);
    sharing.left(&Channel::from("a"));
    joined(&mut sharing, "b", 20);
    let (session, last) = shared(share(&mut sharing, None));
    assert_eq!((session.channels[0].channel.as_str(), last), ("b", 101));
    assert!(!sharing.answered(Err(NotShared::Moved)), "another node has it");
}

#[test]
fn a_word_that_may_be_lost_is_said_again() {
    let mut sharing = Sharing::new(ID, None);
    joined(&mut sharing, "a", 10);
    shared(share(&mut sharing, None));
    assert!(sharing.answered(Err(NotShared::Full)));
    assert_eq!(sharing.may_change(), MayChange::Now, "no node can resume it");
    shared(share(&mut sharing, None));
    assert!(sharing.answered(Err(NotShared::Unknown)));
    assert!(sharing.may_be_elsewhere());
    assert_eq!(sharing.may_change(), MayChange::Told);
    assert_eq!(sharing.tell_change(), SessionWish::Share(None, 0));
    assert!(sharing.answered(Err(NotShared::Unknown)));
    assert_eq!(sharing.may_change(), MayChange::Not, "once, to refuse the command");
    assert_eq!(sharing.may_change(), MayChange::Told);
}

#[test]
fn a_node_that_ends_says_what_is_behind_a_word_that_is_under_way() {
    let mut sharing = Sharing::new(ID, None);
    joined(&mut sharing, "a", 10);
    shared(share(&mut sharing, None));
    sharing.answered(Ok(1));
    sharing.tell_change();
    sharing.is_noted[0] = true;
    assert!(!sharing.ends(), "the word is under way");
    sharing.answered(Ok(2));
    assert!(!sharing.is_said());
    assert!(sharing.ends());
    assert!(!sharing.ends(), "it is begun once");
    sharing.is_due(false);
    shared(share(&mut sharing, None));
    assert!(!sharing.is_said());
    sharing.answered(Ok(3));
    assert!(sharing.is_said() && !sharing.is_changed());
}

#[test]
fn a_session_that_cannot_be_shared_is_not_resumed_elsewhere() {
    let mut sharing = Sharing::new(ID, None);
    sharing.joined(&Channel::from("local"), Encoding::Sdk, None);
    assert_eq!(share(&mut sharing, None), None, "no node knows of it");
    joined(&mut sharing, "a", 10);
    sharing.left(&Channel::from("local"));
    shared(share(&mut sharing, None));
    sharing.answered(Ok(1));
    sharing.joined(&Channel::from("local"), Encoding::Sdk, None);
    assert_eq!(share(&mut sharing, None), Some(SessionWish::Share(None, 1)));
    sharing.answered(Ok(2));
    assert_eq!(share(&mut sharing, None), None);
    assert_eq!(sharing.end(), Some(SessionWish::End(2)));
}

#[test]
fn a_replay_is_shared_once_its_place_is_known() {
    let mut sharing = Sharing::new(ID, None);
    joined(&mut sharing, "a", 10);
    assert_eq!(sharing.replayed(None), None);
    assert_eq!(share(&mut sharing, None), None);
    let (session, _) = shared(share(&mut sharing, Some(at(12))));
    assert_eq!(session.replayed_at, Some(at(12)));
    assert_eq!(sharing.replayed(Some(at(13))), Some(Mark::Replays(at(13), session.replays.next())));
}

#[test]
fn what_was_missed_is_behind_the_mark_and_the_subscription() {
    let mut sharing = Sharing::new(ID, Some(Mark::Place(at(3))));
    joined(&mut sharing, "a", 10);
    joined(&mut sharing, "b", 20);
    let (mut session, _) = shared(share(&mut sharing, None));
    let behind = |session: &SharedSession, offset| missed(session, offset).map(|one| one.behind);
    assert_eq!(behind(&session, None), Ok(vec![10, 20]));
    assert_eq!(behind(&session, Some(Mark::Place(at(3)))), Ok(vec![10, 20]), "an earlier session");
    assert_eq!(behind(&session, Some(Mark::Place(at(15)))), Ok(vec![15, 20]));
    assert!(missed(&session, Some(Mark::Id(MessageId::nil()))).is_err());
    // The stream has begun anew since the subscriptions began.
    let anew = MarkPlace::new(6, 2);
    let expected = Missed { epoch: 6, behind: vec![2, 2] };
    assert_eq!(missed(&session, Some(Mark::Place(anew))), Ok(expected));
    session.channels[1].since = anew;
    assert!(missed(&session, None).is_err());
    session.channels[1].since = at(20);
    (session.replays, session.replayed_at) = (Replays::default().next(), Some(at(20)));
    for lacks in [None, Some(Mark::Place(at(20))), Some(Mark::Replays(at(20), Replays::default()))]
    {
        assert!(missed(&session, lacks).is_err(), "{lacks:?}");
    }
    assert_eq!(behind(&session, Some(Mark::Place(at(21)))), Ok(vec![21, 21]));
    let all = Mark::Replays(at(20), session.replays);
    assert_eq!(behind(&session, Some(all)), Ok(vec![20, 20]));
    let again = Sharing::of(ID, &session, 50);
    assert_eq!((again.last_word(), again.is_changed()), (50, true));
}
