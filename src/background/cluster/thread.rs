//! The thread of the cluster: its runtime and its parts.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::unix::pipe;
use tokio::runtime;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::client::Client;
use super::documents::Service;
use super::joining::{Attempt, Member, Place};
use super::line::{self, Line};
use super::mirror::Mirror;
use super::owner::{Owner, Parts};
use super::reads::Reader;
use super::register::NotJoined;
use super::seat::Seat;
use super::sessions;
use super::settings::Settings;
use crate::cluster::ack::Refusal;
use crate::cluster::events::Published;
use crate::cluster::health::{Condition, Obstacle};
use crate::cluster::landing::{Ending, Landing};
use crate::cluster::name::{Prefix, Subjects};
use crate::limits::{
    CLUSTER_RESULTS_MAX, JOIN_LOOK_MS, JOIN_PATIENCE_MS, REGISTER_RETRY_MS, SEAT_ASKS_MAX,
    SEAT_NEWS_MAX, SESSION_ASKS_MAX,
};
use crate::mailbox::Doorbell;
use crate::metrics::Counters;

/// Runs a node's part in its cluster on the calling thread until the node ends: joins, serves, and
/// joins again under a new incarnation if it must. The bell must be rung whenever `landing` has
/// something.
///
/// # Errors
/// If the system gives no runtime.
pub fn serve<L: Landing>(
    member: Member,
    mut landing: L,
    bell: &Doorbell,
    counters: &Arc<Counters>,
) -> io::Result<()> {
    let member = Arc::new(member);
    runtime()?.block_on(async {
        while let Some(place) = wait(&member, &mut landing).await {
            // What was noted before may be lost with those that took it.
            landing.begin_again();
            let (asks, asked) = mpsc::channel(SEAT_ASKS_MAX);
            let (news, told) = mpsc::channel(SEAT_NEWS_MAX);
            let (peers, heard) = watch::channel(Vec::new());
            let seat = Seat { asks, news: told, peers };
            let settings = member.settings(&place, seat);
            let staying =
                tokio::spawn(member.clone().stay(place, asked, news, (heard, counters.clone())));
            serve_once(settings, &mut landing, bell, counters).await?;
            // It ends soon after the owner, unless NATS does not answer.
            let leaving = Duration::from_millis(REGISTER_RETRY_MS);
            let _ = timeout(leaving, staying).await;
            // Their publishers wait for answers, and history for their places.
            landing.begin_again();
            if landing.ending() == Ending::Over {
                break;
            }
        }
        Ok(())
    })
}

/// Waits until the node has joined. Refuses meanwhile what it is asked for; what clients ask for
/// waits first. Returns `None` if the node ends before.
async fn wait<L: Landing>(member: &Arc<Member>, landing: &mut L) -> Option<Place> {
    let (told, mut attempts) = mpsc::channel(1);
    let joining = tokio::spawn(member.clone().join(told));
    let patience = landing.now().monotonic() + JOIN_PATIENCE_MS;
    let mut refused = Vec::new();
    let mut last = String::new();
    let place = loop {
        if landing.ending() == Ending::Over {
            break None;
        }
        while let Some(departing) = landing.departing() {
            let refused = Published::Refused(Refusal::Unavailable);
            landing.settled(departing.token, refused, 0);
        }
        member.refuse_wishes();
        if patience <= landing.now().monotonic() {
            member.refuse_sessions();
            refused.extend(landing.noted());
            refused.retain(|channel| match landing.needed(channel) {
                Some(_) => landing.unattachable(channel),
                None => {
                    landing.detached(channel);
                    false
                }
            });
        }
        let look = Duration::from_millis(JOIN_LOOK_MS);
        let Ok(Some(attempt)) = timeout(look, attempts.recv()).await else { continue };
        let text = match attempt {
            Attempt::Joined(place) => break Some(*place),
            Attempt::Refused(NotJoined { obstacle, advice }) => {
                let text = format!("{obstacle}; {advice}");
                landing.condition(&Condition::NotJoined(obstacle));
                text
            }
            Attempt::Failed(error) => {
                let text = error.to_string();
                let obstacle = Obstacle::Failing(text.as_str().into());
                landing.condition(&Condition::NotJoined(obstacle));
                text
            }
        };
        if text != last {
            tracing::warn!("this node cannot join its cluster and goes on trying: {text}");
            last = text;
        }
    };
    joining.abort();
    place
}

/// Runs a node that has joined already, until the node ends.
///
/// # Errors
/// If the system gives no runtime, or the prefix is not one.
pub fn run<L: Landing>(
    settings: Settings,
    mut landing: L,
    bell: &Doorbell,
    counters: Arc<Counters>,
) -> io::Result<()> {
    runtime()?.block_on(serve_once(settings, &mut landing, bell, &counters))
}

fn runtime() -> io::Result<runtime::Runtime> {
    runtime::Builder::new_current_thread().enable_all().build()
}

/// Serves until the node ends, or its register says that it must join again.
async fn serve_once<L: Landing>(
    settings: Settings,
    landing: &mut L,
    bell: &Doorbell,
    counters: &Arc<Counters>,
) -> io::Result<()> {
    let Settings { prefix, origin, .. } = &settings;
    let subjects = Subjects::new(prefix, origin.node.clone(), origin.incarnation);
    let prefix = Prefix::read(prefix).zip(subjects);
    let (prefix, subjects) = prefix.ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "the prefix of the cluster is not valid")
    })?;
    // Not a pipe, but read like one.
    let ring = pipe::Receiver::from_owned_fd_unchecked(bell.descriptor().try_clone()?)?;
    let (results, found) = mpsc::channel(CLUSTER_RESULTS_MAX);
    let (claims, mirrored) = mpsc::channel(CLUSTER_RESULTS_MAX);
    let (again, asked) = mpsc::channel(1);
    let named = |what: &str| line::Settings {
        name: format!("{} ({what})", settings.line.name),
        ..settings.line.clone()
    };
    let client = Client::start(named("reads"));
    Mirror::start(named("claims"), subjects.clone(), claims, asked);
    let _documents = settings.documents.clone().map(|outside| {
        let node = origin.node.clone();
        Service::start(named, (&prefix, node), settings.patience, outside, counters.clone())
    });
    let (proof, proving) = sessions::proof();
    let (wishes, wished) = mpsc::channel(SESSION_ASKS_MAX);
    let asked = settings.sessions.clone();
    let desk = asked.clone().map(|asked| {
        let with = (Client::start(named("sessions")), proof);
        let me = (prefix.clone(), origin.node.clone());
        tokio::spawn(sessions::serve(asked, me, with, counters.clone(), wished))
    });
    let parts = Parts {
        line: Line::new(settings.line.clone()),
        reader: Reader::new(client, subjects.clone(), results),
        found,
        mirrored,
        again,
        proving,
        sessions: asked.clone().map(|asked| (asked, wishes.clone())),
        subjects,
        counters: counters.clone(),
    };
    Owner::new(settings, landing, parts).run(bell, &ring).await;
    asked.iter().for_each(|asked| asked.pass_on(&wishes));
    drop(wishes);
    if let Some(desk) = desk {
        // It ends by itself, with the last wish.
        let _ = desk.await;
    }
    Ok(())
}
