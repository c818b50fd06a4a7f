//! A client that checks every message against what it has received before.

use std::collections::{HashMap, HashSet};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::{Error, Message, WebSocket};

use super::{Dice, Key, PATIENCE, Resource, SCOPES, Scope, Shared, credential};
use crate::overload::try_narrow;

/// Pause between two attempts to connect to a node that does not listen.
const RETRY: Duration = Duration::from_millis(20);
/// How long `look` waits for a message.
const LOOK: Duration = Duration::from_millis(10);
/// Most resources that a client subscribes to.
const WISHES_MAX: usize = 45;
/// How long it may take until all documents have arrived after the last write.
const CONVERGENCE: Duration = Duration::from_secs(40);
/// The warning for a kind that the test never writes. It serves as a fence: it comes after all
/// answers to earlier messages.
const FENCE: &str = "LiveConfig resource doesn't currently exist, subscription was still made \
                     successfully";
/// Number of subscriptions that are repeated one by one in the end.
const ASKED_AGAIN: usize = 5;

pub(crate) struct Client {
    port: u16,
    scope: Scope,
    user: Option<&'static str>,
    /// Whether it reads slowly and sometimes pauses.
    is_slow: bool,
    dice: Dice,
    websocket: WebSocket<TcpStream>,
    /// The resources that it wants to be subscribed to, also after a reconnect.
    wishes: HashSet<Resource>,
    /// Resources that it has unsubscribed from, with the number of the fence after which no
    /// document of them may come.
    ending: HashMap<Resource, usize>,
    /// Resources that it subscribed to again before the unsubscribe took effect. If a document was
    /// deleted in between, the client received neither the deletion nor a warning.
    blurred: HashSet<Resource>,
    /// Resources that it has subscribed to on this connection.
    asked: HashSet<Resource>,
    fences: usize,
    passed: usize,
    known: HashMap<(Resource, bool), Known>,
    words: usize,
}

/// A client's knowledge of a document.
#[derive(Clone, Debug, Default)]
struct Known {
    /// Version and data; null data after a deletion.
    now: Option<(String, Value)>,
    /// The latest version that it has ever received.
    ever: String,
    /// Whether it was received on this connection.
    is_told: bool,
    /// How often the same version may come again, because the client subscribed again.
    repeats: usize,
}

/// The error that means the end of the connection.
struct Ended;

impl Client {
    pub(crate) fn new(port: u16, number: usize, seed: u64) -> Self {
        let mut dice = Dice::new(seed, number);
        let (scope, user, is_slow) = (dice.one_of(&SCOPES), dice.user(), number.is_multiple_of(3));
        let websocket = dial(port, scope, user, is_slow);
        Self { is_slow, dice, ..Self::of(websocket, scope, user) }
    }

    /// Creates a client on an open TCP connection.
    pub(crate) fn over(stream: TcpStream, scope: Scope, user: Option<&'static str>) -> Self {
        Self::of(upgrade(stream, scope, user).expect("the node upgrades"), scope, user)
    }

    fn of(websocket: WebSocket<TcpStream>, scope: Scope, user: Option<&'static str>) -> Self {
        let port = websocket.get_ref().peer_addr().expect("it is connected").port();
        Self {
            port,
            scope,
            user,
            is_slow: false,
            dice: Dice::new(0, 0),
            websocket,
            wishes: HashSet::new(),
            ending: HashMap::new(),
            blurred: HashSet::new(),
            asked: HashSet::new(),
            fences: 0,
            passed: 0,
            known: HashMap::new(),
            words: 0,
        }
    }

    /// Acts at random until the truth is known. Then checks that it converges to it, and that
    /// repeated subscribes are answered with it.
    pub(crate) fn live(mut self, shared: &Shared) {
        while shared.truth.get().is_none() {
            let before = self.words;
            if self.act().is_err() {
                self.reconnect();
            }
            shared.words.fetch_add(self.words - before, Ordering::Relaxed);
        }
        let truth = shared.truth.get().expect("it was there");
        self.converge(truth);
        self.ask_again(truth);
    }

    fn act(&mut self) -> Result<(), Ended> {
        match self.dice.below(100) {
            0..25 if self.wishes.len() < WISHES_MAX => {
                let resource = self.dice.resource(self.scope);
                self.subscribe(resource);
            }
            25..30 => self.some_wish().into_iter().for_each(|wish| self.subscribe(wish)),
            30..36 => self.some_wish().into_iter().for_each(|wish| self.unsubscribe(wish)),
            36..42 => {
                if let Some(wish) = self.some_wish() {
                    self.unsubscribe(wish);
                    self.subscribe(wish);
                }
            }
            42 => return Err(Ended),
            43..46 if self.is_slow => thread::sleep(self.dice.pause(300, 4_000)),
            _ => {
                let end = Instant::now() + self.dice.pause(10, 60);
                while Instant::now() < end {
                    self.look()?;
                }
            }
        }
        Ok(())
    }

    fn some_wish(&mut self) -> Option<Resource> {
        let mut wishes: Vec<_> = self.wishes.iter().copied().collect();
        wishes.sort_unstable_by_key(|wish| (wish.kind, wish.number));
        (!wishes.is_empty()).then(|| self.dice.one_of(&wishes))
    }

    pub(crate) fn subscribe(&mut self, resource: Resource) {
        if !self.asked.insert(resource) {
            for is_personal in [false, true] {
                self.known.entry((resource, is_personal)).or_default().repeats += 1;
            }
        }
        if self.ending.remove(&resource).is_some() {
            self.blurred.insert(resource);
        }
        self.wishes.insert(resource);
        self.say("subscribe", resource.kind, &resource.id());
    }

    fn unsubscribe(&mut self, resource: Resource) {
        self.wishes.remove(&resource);
        self.blurred.remove(&resource);
        self.say("unsubscribe", resource.kind, &resource.id());
        let fence = self.fence();
        self.ending.insert(resource, fence);
    }

    /// Subscribes to a fence, whose answer comes after everything that was under way. Returns the
    /// fence's number.
    fn fence(&mut self) -> usize {
        self.say("subscribe", "liveConfig", "fence");
        self.fences += 1;
        self.fences
    }

    /// Waits until all earlier messages have been handled.
    pub(crate) fn pass_fence(&mut self) {
        let fence = self.fence();
        let end = Instant::now() + PATIENCE;
        while self.passed < fence {
            assert!(Instant::now() < end, "the answer does not come");
            self.look().unwrap_or_else(|Ended| panic!("the connection ends"));
        }
    }

    /// Sends a message. Failures are ignored, because the next read notices them.
    fn say(&mut self, action: &str, kind: &str, id: &str) {
        let message = json!({ "action": action, "resource": { "type": kind, "id": id } });
        let _ = self.websocket.send(Message::text(message.to_string()));
    }

    /// Reconnects and subscribes to all wishes again. Known documents may have changed meanwhile.
    fn reconnect(&mut self) {
        self.websocket = dial(self.port, self.scope, self.user, self.is_slow);
        for known in self.known.values_mut() {
            *known = Known { ever: std::mem::take(&mut known.ever), ..Known::default() };
        }
        self.ending.clear();
        self.blurred.clear();
        self.asked.clear();
        (self.fences, self.passed) = (0, 0);
        let mut wishes: Vec<_> = self.wishes.iter().copied().collect();
        wishes.sort_unstable_by_key(|wish| (wish.kind, wish.number));
        wishes.into_iter().for_each(|wish| self.subscribe(wish));
    }

    /// Handles the messages that come within `LOOK`.
    fn look(&mut self) -> Result<(), Ended> {
        match self.websocket.read() {
            Ok(Message::Text(text)) => self.hear(&text),
            Ok(Message::Close(_)) => return Err(Ended),
            Ok(_) => {}
            Err(Error::Io(error))
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return Err(Ended),
        }
        Ok(())
    }

    fn hear(&mut self, text: &str) {
        self.words += 1;
        let word: Value =
            serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        if word["message"] == FENCE {
            self.passed += 1;
            let ended = self.ending.extract_if(|_, fence| *fence <= self.passed);
            for (resource, _) in ended {
                for is_personal in [false, true] {
                    self.known.entry((resource, is_personal)).or_default().now = None;
                }
            }
            return;
        }
        if word["warning"] == "resource_not_found" {
            return;
        }
        if word["error"] == "Overloaded" {
            // The node stops and will end this connection soon. If it does not, the refused
            // subscription is missed in the end.
            return;
        }
        assert!(word.get("error").is_none() && word.get("resource").is_some(), "{text:.200}");
        self.hear_document(word);
    }

    fn hear_document(&mut self, mut word: Value) {
        let text = |value: &Value| value.as_str().expect("it is text").to_owned();
        let (kind, id) = (text(&word["resource"]["type"]), text(&word["resource"]["id"]));
        let resource = Resource::named(self.scope, &kind, &id).expect("it is one of them");
        let is_personal = !word["userId"].is_null();
        assert!(!is_personal || word["userId"] == json!(self.user), "another user's: {id}");
        assert!(is_personal || !resource.is_private(), "what is private is a user's own");
        let (version, data) = (text(&word["version"]), word["data"].take());
        if let Some(written) = data["written"].as_str() {
            let scope = format!("{:?} of ", self.scope);
            assert!(written.starts_with(&scope), "{written} is told in {:?}", self.scope);
        }
        let is_theirs = self.wishes.contains(&resource) || self.ending.contains_key(&resource);
        assert!(is_theirs, "nobody asked for {resource:?}");
        let known = self.known.entry((resource, is_personal)).or_default();
        assert!(version >= known.ever, "{resource:?}: {version} after {}", known.ever);
        if known.is_told && version == known.ever {
            assert!(known.repeats > 0, "{resource:?}: {version} twice");
            known.repeats -= 1;
        }
        let (now, ever) = (Some((version.clone(), data)), version);
        *known = Known { now, ever, is_told: true, repeats: known.repeats };
    }

    /// Reads until it knows the true state of all documents of its wishes.
    pub(crate) fn converge(&mut self, truth: &HashMap<Key, (String, Value)>) {
        let end = Instant::now() + CONVERGENCE;
        loop {
            let differing = self.differing(truth);
            if differing.is_none() && self.passed == self.fences {
                return;
            }
            assert!(Instant::now() < end, "after {CONVERGENCE:?}: {differing:?}");
            if self.look().is_err() {
                self.reconnect();
            }
        }
    }

    /// Returns a document whose known state differs from the truth.
    fn differing(&self, truth: &HashMap<Key, (String, Value)>) -> Option<String> {
        self.wishes.iter().find_map(|resource| {
            let mine = self.user.map(Some);
            [Some(None), mine].into_iter().flatten().find_map(|owner| {
                let known = self.known.get(&(*resource, owner.is_some()));
                let known = known.and_then(|known| known.now.as_ref());
                let is_so = match (truth.get(&(*resource, owner)), known) {
                    (Some(true_one), Some(known)) => true_one == known,
                    (None, Some((_, data))) => data.is_null() || self.blurred.contains(resource),
                    (truth, None) => truth.is_none(),
                };
                let version =
                    |one: Option<&(String, Value)>| one.map(|(version, _)| version.clone());
                (!is_so).then(|| {
                    let truth = version(truth.get(&(*resource, owner)));
                    let known = version(known);
                    format!("{resource:?} of {owner:?}: {truth:?} is true, {known:?} is known")
                })
            })
        })
    }

    /// Repeats some of its subscribes, one at a time, and checks each answer.
    fn ask_again(&mut self, truth: &HashMap<Key, (String, Value)>) {
        for _ in 0..ASKED_AGAIN {
            let Some(wish) = self.some_wish() else { return };
            let before = self.words;
            self.subscribe(wish);
            let end = Instant::now() + CONVERGENCE;
            while self.words == before {
                assert!(Instant::now() < end, "{wish:?}: no answer");
                if self.look().is_err() {
                    self.reconnect();
                }
            }
        }
        self.converge(truth);
    }
}

/// Connects and upgrades, and waits until the node listens.
fn dial(port: u16, scope: Scope, user: Option<&str>, is_slow: bool) -> WebSocket<TcpStream> {
    let end = Instant::now() + PATIENCE;
    loop {
        let connected = if is_slow { try_narrow(port) } else { try_wide(port) };
        let answer = connected.map_err(|error| error.to_string());
        match answer.and_then(|stream| upgrade(stream, scope, user)) {
            Ok(websocket) => return websocket,
            Err(answer) => assert!(Instant::now() < end, "the node does not upgrade: {answer}"),
        }
        thread::sleep(RETRY);
    }
}

fn try_wide(port: u16) -> io::Result<TcpStream> {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port))
}

fn upgrade(
    stream: TcpStream,
    scope: Scope,
    user: Option<&str>,
) -> Result<WebSocket<TcpStream>, String> {
    let port = stream.peer_addr().map_err(|error| error.to_string())?.port();
    stream.set_nodelay(true).expect("TCP_NODELAY can be set");
    stream.set_read_timeout(Some(PATIENCE)).expect("the timeout is not zero");
    let url = format!("ws://127.0.0.1:{port}/api/realtime/");
    let mut request = url.into_client_request().expect("the URL is one");
    let (name, proof) = credential(user);
    let proof = [(name, proof)].into_iter();
    let headers = scope.headers().map(|(name, value)| (name, value.to_owned())).chain(proof);
    for (name, value) in headers {
        let value = HeaderValue::from_str(&value).expect("the value is one");
        request.headers_mut().append(name, value);
    }
    let (websocket, _) = tungstenite::client(request, stream).map_err(|error| error.to_string())?;
    websocket.get_ref().set_read_timeout(Some(LOOK)).expect("the timeout is not zero");
    Ok(websocket)
}
