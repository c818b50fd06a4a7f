//! What happens to a line when its server or the way to it does.

use std::time::{Duration, Instant};

use fanfare::background::cluster::line::{Event, Line, Reason, Unsent};
use fanfare::background::cluster::protocol::Publish;

use crate::owner::{PATIENCE, down, line_to, message, settings, settle, until, up};
use crate::support::nats::{Nats, Setup};
use crate::support::proxy::{Proxy, Way};

const QUIET: Duration = Duration::from_millis(2_500);
/// Longer than a line waits for the answer to a PING.
const TIMEOUT: Duration = Duration::from_secs(4);

#[tokio::test]
async fn a_server_that_restarts_is_found_again() {
    let mut nats = Nats::one();
    let mut line = line_to(nats.port());
    let first = up(&mut line).await;
    for keep_data in [true, false] {
        nats.kill();
        assert_eq!(down(&mut line).await.fault.reason, Reason::Closed);
        assert_eq!(line.subscribe("a", 1), Err(Unsent::Down));
        let fault = until(&mut line, |event| match event {
            Event::Failed { fault, .. } => Some(fault.clone()),
            event => panic!("{event:?}"),
        });
        assert_eq!(fault.await.reason, Reason::Unreachable);
        nats.start_again(keep_data);
        let again = up(&mut line).await;
        assert_ne!(again.info.server_id, first.info.server_id);
        // The line has forgotten subscriptions, and takes new ones.
        line.subscribe("a", 1).unwrap();
        line.publish(&Publish { subject: "a", payload: &[b"x"], ..Publish::default() }).unwrap();
        assert_eq!(&*message(&mut line).await.payload(), b"x");
    }
}

#[tokio::test]
async fn the_next_server_takes_over() {
    let mut servers = [Nats::one(), Nats::one()];
    let urls = servers.each_ref().map(Nats::url);
    let mut line = Line::new(settings(&urls));
    let first = up(&mut line).await.address;
    let at = usize::from(servers[1].port() == first.port);
    servers[at].kill();
    let lost = down(&mut line).await;
    assert_eq!((lost.fault.reason, &lost.address), (Reason::Closed, &first));
    let start = Instant::now();
    assert_eq!(up(&mut line).await.address.port, servers[1 - at].port());
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_server_that_stands_still_is_left_and_found_again() {
    let nats = Nats::one();
    let mut line = line_to(nats.port());
    up(&mut line).await;
    settle(&mut line).await;
    nats.freeze();
    let start = Instant::now();
    let lost = down(&mut line).await;
    assert_eq!(lost.fault.reason, Reason::Timeout, "{:?}", lost.fault);
    assert!(start.elapsed() > Duration::from_secs(2), "{:?}", start.elapsed());
    nats.thaw();
    up(&mut line).await;
    settle(&mut line).await;
}

#[tokio::test]
async fn an_idle_line_stays() {
    let nats = Nats::one();
    let mut line = line_to(nats.port());
    up(&mut line).await;
    let quiet = tokio::time::timeout(QUIET, line.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    settle(&mut line).await;
    // An owner that was away for long finds the answers of its server, and not a silence.
    std::thread::sleep(TIMEOUT + QUIET);
    settle(&mut line).await;
}

#[tokio::test]
async fn a_way_that_is_half_open_is_noticed() {
    let nats = Nats::one();
    for way in [Way::ToServer, Way::ToClient] {
        let proxy = Proxy::to(nats.port());
        let mut line = line_to(proxy.port());
        up(&mut line).await;
        settle(&mut line).await;
        proxy.withhold(way, true);
        let lost = down(&mut line).await;
        assert_eq!(lost.fault.reason, Reason::Timeout, "{:?}", lost.fault);
        proxy.withhold(way, false);
        up(&mut line).await;
        settle(&mut line).await;
    }
}

#[tokio::test]
async fn a_way_that_is_cut_or_slow_is_gone_on_with() {
    let nats = Nats::one();
    let proxy = Proxy::to(nats.port());
    let mut line = line_to(proxy.port());
    up(&mut line).await;
    for _ in 0..3 {
        settle(&mut line).await;
        proxy.cut();
        assert_eq!(down(&mut line).await.fault.reason, Reason::Closed);
        up(&mut line).await;
    }
    proxy.delay(Way::ToClient, Duration::from_millis(300));
    proxy.delay(Way::ToServer, Duration::from_millis(300));
    let start = Instant::now();
    settle(&mut line).await;
    assert!(start.elapsed() >= Duration::from_millis(600), "{:?}", start.elapsed());
    let quiet = tokio::time::timeout(QUIET, line.next()).await;
    assert!(quiet.is_err(), "a slow way is no silent one: {quiet:?}");
}

#[tokio::test]
async fn a_server_that_retires_is_left_for_another() {
    let lame = || Setup {
        more: "lame_duck_duration: 30s\nlame_duck_grace_period: 20s".into(),
        ..Setup::default()
    };
    let servers = [Nats::set_up(lame()), Nats::set_up(lame())];
    let urls = servers.each_ref().map(Nats::url);
    let mut line = Line::new(settings(&urls));
    let first = up(&mut line).await.address;
    let at = usize::from(servers[1].port() == first.port);
    servers[at].retire();
    until(&mut line, |event| match event {
        Event::LameDuck => Some(()),
        event => panic!("{event:?}"),
    })
    .await;
    // What is on its way still arrives.
    settle(&mut line).await;
    assert_eq!(down(&mut line).await.fault.reason, Reason::LameDuck);
    assert_eq!(up(&mut line).await.address.port, servers[1 - at].port());
}

#[tokio::test]
async fn an_only_server_that_retires_is_kept_to_its_end() {
    let mut nats = Nats::with("lame_duck_duration: 30s\nlame_duck_grace_period: 20s");
    let mut line = line_to(nats.port());
    up(&mut line).await;
    nats.retire();
    until(&mut line, |event| matches!(event, Event::LameDuck).then_some(())).await;
    let quiet = tokio::time::timeout(QUIET, line.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    nats.kill();
    assert_eq!(down(&mut line).await.fault.reason, Reason::LameDuck);
}

#[tokio::test]
async fn an_owner_may_ask_for_a_new_connection_and_end_the_line() {
    let nats = Nats::one();
    let mut line = line_to(nats.port());
    up(&mut line).await;
    line.renew("nothing was heard");
    let lost = down(&mut line).await;
    assert_eq!((lost.fault.reason, &*lost.fault.text), (Reason::Asked, "nothing was heard"));
    up(&mut line).await;

    let mut other = line_to(nats.port());
    up(&mut other).await;
    other.subscribe("a", 1).unwrap();
    settle(&mut other).await;
    line.publish(&Publish { subject: "a", payload: &[b"last"], ..Publish::default() }).unwrap();
    line.close(PATIENCE).await;
    assert_eq!(&*message(&mut other).await.payload(), b"last");
}
