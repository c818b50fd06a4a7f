// Forge Realtime for browsers and Node: `subscribe`, `subscribeGlobal`, `publish` and
// `publishGlobal` as `@forge/bridge` has them, over one WebSocket to a Fanfare node. It needs no
// build step and no other module:
//
//     const realtime = createRealtime({ url, getContextToken: async () => '…' });
//     const subscription = await realtime.subscribe('my-channel', (payload, error) => { … });
//
// A lost connection is replaced and what was missed meanwhile is replayed. Three classes share the
// work: `Client` knows what is wanted, `Link` is one connection, `Subscription` knows what one
// callback has heard. Every type and option is explained in `client.d.ts`.

const SUBPROTOCOL = 'forge-realtime.v1';
const PATH = '/forge/realtime/v1/ws';

// The first try to come back is quick, because most connections are lost one at a time; later ones
// are not, because a node that starts again is asked by all its clients at once.
const RETRY_FIRST_MS = 200;
const RETRY_MOST_MS = 10_000;
// A connection that lasted for less does not make the next attempt a first one.
const SETTLED_MS = 5_000;
const ANSWER_MS = 10_000;
const UNSENT_MS = 30_000;
// With the time for an answer this is less than a node keeps events for replay by default.
const SILENCE_MS = 40_000;
// Asked for after a reconnect, where the last event heard says from where; a node clamps it.
const REPLAY_SECONDS_MOST = 3_600;
// No event has it: whoever has heard none says so, and is told when the first ones are gone.
const NO_EVENT = '00000000-0000-0000-0000-000000000000';
// More than a node keeps of one topic, so that whatever it repeats is recognised.
const EVENT_IDS_MOST = 1_024;
// So many attempts in a row are worth a word to people, and fewer are everyday life.
const FAILURES_TOLD = 3;
// How a node says that it stops, once what it had to send is sent.
const GOING_AWAY = 1001;

const NO_WEBSOCKET =
  'There is no WebSocket here: pass one as an option (npm install ws, then ' +
  "import WebSocket from 'ws' and createRealtime({ WebSocket, … }))";

export const Jira = Object.freeze({ Board: 'board', Issue: 'issue', Project: 'project' });
export const Confluence = Object.freeze({ Content: 'content', Space: 'space' });
export const Bitbucket = Object.freeze({ PullRequest: 'pullRequest', Repository: 'repository' });

/** Connects when it is asked for something. */
export function createRealtime(options) {
  const client = new Client(options);
  return {
    subscribe: (...args) => client.subscribe(false, ...args),
    subscribeGlobal: (...args) => client.subscribe(true, ...args),
    publish: (...args) => client.publish(false, ...args),
    publishGlobal: (...args) => client.publish(true, ...args),
    close: () => client.close(),
  };
}

/** What is wanted, over however many connections it takes. */
class Client {
  subscriptions = new Set();
  /** Publications that there was no connection for. */
  unsent = new Set();
  link = null;
  retry = null;
  failures = 0;
  isClosed = false;
  isWarned = false;

  constructor({ url, getContextToken, onStateChange, silenceMs, WebSocket }) {
    this.url = socketUrl(url);
    this.getContextToken = getContextToken;
    this.onStateChange = onStateChange;
    this.silenceMs = silenceMs ?? SILENCE_MS;
    this.WebSocket = WebSocket ?? globalThis.WebSocket;
    if (!isFunction(getContextToken)) throw new TypeError('getContextToken is missing');
    if (!this.WebSocket) throw new TypeError(NO_WEBSOCKET);
  }

  subscribe(global, channel, callback, options) {
    return new Promise((resolve, reject) => {
      if (!isFunction(callback)) throw new TypeError('callback is not a function');
      if (this.isClosed) throw closedError();
      const subscription = new Subscription({ global, channel, callback, options, reject });
      subscription.resolve = () => resolve({ unsubscribe: () => this.unsubscribe(subscription) });
      this.subscriptions.add(subscription);
      if (this.link?.isReady) this.link.establish(subscription);
      else this.connect();
    });
  }

  async unsubscribe(subscription) {
    if (!this.subscriptions.delete(subscription)) return;
    subscription.isOver = true;
    await this.link?.leave(subscription);
  }

  /** Ends a subscription that cannot be had: who waits for it is told, or else its callback. */
  refuse(subscription, error) {
    if (!this.subscriptions.delete(subscription)) return;
    subscription.isOver = true;
    if (subscription.isEstablished) subscription.tell(error);
    else subscription.reject(error);
  }

  /** Returns what went wrong, as the package does that it is shaped like. */
  async publish(global, channel, payload, options) {
    const frame = { type: 'publish', global, channel, payload: JSON.stringify(payload) };
    // Awaited only where it has to be: publications leave in the order of the calls.
    const token = isFunction(options?.token) ? await options.token() : options?.token;
    frame.options = wireOptions(frame, token, options);
    return new Promise((resolve) => {
      const done = (error, published) => resolve(publishResult(error, published));
      if (this.isClosed) done(closedError());
      else if (this.link?.canSend) this.link.ask(frame, done);
      else this.postpone({ frame, done });
    });
  }

  /** Keeps a publication for the next connection, but not until nobody expects it any more. */
  postpone(publication) {
    publication.timer = setTimeout(() => {
      this.unsent.delete(publication);
      publication.done(failure('There is no connection', 'NOT_CONNECTED'));
    }, UNSENT_MS);
    this.unsent.add(publication);
    this.connect();
  }

  takeUnsent() {
    const publications = [...this.unsent];
    this.unsent.clear();
    for (const { timer } of publications) clearTimeout(timer);
    return publications;
  }

  close() {
    if (this.isClosed) return;
    this.isClosed = true;
    clearTimeout(this.retry);
    this.refuseNew(closedError());
    // Said before the connection ends, it is a farewell: otherwise a node may take them for cut off.
    for (const subscription of this.subscriptions) this.unsubscribe(subscription);
    this.link?.end(closedError());
    this.tell('closed');
  }

  connect() {
    if (this.link || this.retry || this.isClosed) return;
    const link = new Link(this);
    this.link = link;
    this.tell('connecting');
    link.open();
  }

  ready(link) {
    for (const subscription of this.subscriptions) link.establish(subscription);
    for (const { frame, done } of this.takeUnsent()) link.ask(frame, done);
    this.tell('connected');
  }

  lost(link, error) {
    this.link = null;
    if (this.isClosed) return;
    if (Date.now() - link.readyAt > SETTLED_MS && link.isReady) {
      this.failures = 0;
      this.isWarned = false;
    }
    if (link.isReady && error.closeCode !== GOING_AWAY) {
      for (const subscription of this.subscriptions) subscription.lostNode ??= link.node;
    }
    if (this.subscriptions.size + this.unsent.size === 0) return this.tell('idle', error);
    this.retry = setTimeout(() => {
      this.retry = null;
      this.connect();
    }, backOff(this.failures));
    this.failures += 1;
    if (this.failures === FAILURES_TOLD) this.warn(error);
    this.tell('waiting', error);
  }

  /** There is no good context token, for now. */
  refused(error) {
    this.refuseNew(error);
    // Whoever is offline gets no token either, and mostly has one again at the next attempt.
    if (error.code !== 'UNAUTHORIZED' && this.failures < FAILURES_TOLD) return;
    for (const subscription of this.subscriptions) subscription.tellUnauthorized(error);
    if (this.subscriptions.size > 0) this.warn(error);
  }

  /** Nothing new can be had; what was had before may come back once there is a better context. */
  refuseNew(error) {
    for (const subscription of this.subscriptions) {
      if (!subscription.isEstablished) this.refuse(subscription, error);
    }
    for (const { done } of this.takeUnsent()) done(error);
  }

  tell(state, error) {
    if (this.onStateChange) call(this.onStateChange, state, error);
  }

  /** Once until a connection has lasted, where nobody else is told. */
  warn({ message, detail }) {
    if (this.onStateChange || this.isWarned) return;
    this.isWarned = true;
    const reason = detail ? `${message} (${detail})` : message;
    console.warn(`Fanfare: no connection to ${this.url} yet: ${reason}; trying on`);
  }
}

/** One connection, from the context token to its end. */
class Link {
  isReady = false;
  isOver = false;
  readyAt = 0;
  heardAt = 0;
  lastId = 0;
  /** For how long the node keeps events. */
  keptMs = Infinity;
  /** Which start of which node this leads to. */
  node = undefined;
  /** What awaits an answer, by the id of the request. */
  asked = new Map();
  /** Topics that the node sends here: who listens, and who waits for the node to end it. */
  topics = new Map();
  /** How many subscribe requests await an answer. */
  subscribing = 0;
  timers = {};

  constructor(client) {
    this.client = client;
  }

  get canSend() {
    return this.isReady && this.socket.readyState === 1;
  }

  async open() {
    if (this.isOver) return;
    const late = () => this.end(failure('The node does not answer', 'TIMEOUT'));
    this.timers.open = setTimeout(late, ANSWER_MS);
    try {
      const contextToken = await this.client.getContextToken();
      if (this.isOver) return;
      this.socket = new this.client.WebSocket(this.client.url, [SUBPROTOCOL]);
      this.socket.onopen = () => this.introduce(contextToken);
      this.socket.onmessage = ({ data }) => this.receive(parse(data));
      this.socket.onerror = () => this.end(failure('The connection failed', 'CONNECTION_LOST'));
      this.socket.onclose = ({ code, reason }) => {
        const error = failure(`The connection was closed: ${code} ${reason}`, 'CONNECTION_LOST');
        this.end(Object.assign(error, { closeCode: code }));
      };
    } catch (thrown) {
      this.refused(thrown instanceof Error ? thrown : new Error(String(thrown)));
    }
  }

  introduce(contextToken) {
    this.ask({ type: 'connect', contextToken }, (error, connected) => {
      if (error) return this.refused(error);
      clearTimeout(this.timers.open);
      this.isReady = true;
      this.readyAt = Date.now();
      this.keptMs = connected.replaySeconds * 1_000;
      this.node = connected.node;
      this.refreshBefore(connected.expiresAt);
      this.probe();
      this.client.ready(this);
    });
  }

  refused(error) {
    if (!this.isOver && !isTemporary(error)) this.client.refused(error);
    this.end(error);
  }

  /** In good time before the context token ends; where the clock is wrong, now and then. */
  refreshBefore(expiresAt) {
    const left = expiresAt * 1_000 - Date.now();
    const due = left > 0 ? Math.max(left - Math.min(60_000, left / 4), 1_000) : 30_000;
    this.timers.refresh = setTimeout(() => this.refresh(expiresAt), Math.min(due, 3_600_000));
  }

  async refresh(expiresAt) {
    try {
      const contextToken = await this.client.getContextToken();
      if (this.isOver) return;
      this.ask({ type: 'connect', contextToken }, (error, connected) => {
        // What belongs to another context takes another connection.
        if (error?.code === 'CONTEXT_MISMATCH') this.end(error);
        else if (!this.isOver) this.refreshBefore(connected?.expiresAt ?? expiresAt);
      });
    } catch {
      // The connection stays for as long as the node takes the old one.
      if (!this.isOver) this.refreshBefore(expiresAt);
    }
  }

  /**
   * Scripts do not see the node's pings, so after a silence they ask for a sign of life: for an end
   * of what there is not, because any answer will do.
   */
  probe() {
    const left = this.client.silenceMs - (Date.now() - this.heardAt);
    if (left <= 0) this.ask({ type: 'unsubscribe', topic: '' }, () => {});
    const due = left > 0 ? Math.min(left, this.client.silenceMs) : this.client.silenceMs;
    this.timers.silence = setTimeout(() => this.probe(), due);
  }

  /** Sends a request and calls `done(error, answer)` once: at the latest when the link ends. */
  ask(frame, done) {
    this.lastId += 1;
    const late = () => this.end(failure('The node does not answer', 'TIMEOUT'));
    this.asked.set(this.lastId, { done, timer: setTimeout(late, ANSWER_MS) });
    this.socket.send(JSON.stringify({ ...frame, id: this.lastId }));
    return this.lastId;
  }

  receive(frame) {
    this.heardAt = Date.now();
    if (frame?.type === 'event') return this.hear(frame);
    if (frame?.type === 'subscription_error') return this.interrupt(frame);
    const request = this.asked.get(frame?.id);
    if (!request) return;
    this.asked.delete(frame.id);
    clearTimeout(request.timer);
    if (frame.type === 'error') request.done(failureOf(frame));
    else request.done(null, frame);
  }

  /** Asks the node for a subscription; what is replayed for this request goes to this one only. */
  async establish(subscription) {
    const { global, channel, options } = subscription;
    let token = options?.token;
    try {
      if (isFunction(token)) token = await token();
    } catch (error) {
      return this.notEstablished(subscription, error, true);
    }
    if (this.isOver || subscription.isOver) return;
    const frame = { type: 'subscribe', global, channel };
    frame.options = { ...wireOptions(frame, token, options), ...subscription.replay() };
    this.subscribing += 1;
    const done = (error, subscribed) => this.established(subscription, error, subscribed);
    subscription.request = this.ask(frame, done);
  }

  established(subscription, error, subscribed) {
    this.subscribing -= 1;
    if (this.isOver) return;
    if (error) {
      this.notEstablished(subscription, error, isTemporary(error));
    } else {
      const { topic } = subscribed;
      if (!this.topics.has(topic)) this.topics.set(topic, { listeners: new Set(), farewells: [] });
      // Who has left meanwhile leaves a topic without listeners, which is given back next.
      if (!subscription.isOver) {
        this.topics.get(topic).listeners.add(subscription);
        subscription.established(subscribed, this);
      }
    }
    this.release();
  }

  /** What was had before is worth some patience; what is new is better refused at once. */
  notEstablished(subscription, error, isForNow) {
    if (!isForNow || !subscription.isEstablished) return this.client.refuse(subscription, error);
    subscription.attempts += 1;
    const again = () => !this.isOver && this.establish(subscription);
    setTimeout(again, backOff(subscription.attempts));
  }

  hear(event) {
    for (const subscription of this.topics.get(event.topic)?.listeners ?? []) {
      const isForIt = event.replay === undefined || event.replay === subscription.request;
      if (isForIt) subscription.hear(event);
    }
  }

  interrupt(frame) {
    const { listeners = [] } = this.topics.get(frame.topic) ?? {};
    for (const subscription of [...listeners]) {
      if (frame.error.code !== 'TOKEN_EXPIRED') {
        subscription.tell(failureOf(frame));
        continue;
      }
      // The node has ended the subscription; another token brings it back.
      listeners.delete(subscription);
      subscription.lost(this.heardAt);
      if (isFunction(subscription.options?.token)) this.establish(subscription);
      else this.client.refuse(subscription, failureOf(frame));
    }
    this.release();
  }

  /** Resolves when the node sends nothing more for this subscription's sake. */
  leave(subscription) {
    const { listeners, farewells } = this.topics.get(subscription.topic) ?? {};
    if (!listeners?.delete(subscription) || listeners.size > 0) return undefined;
    return new Promise((resolve) => {
      farewells.push(resolve);
      this.release();
    });
  }

  /**
   * Gives back the topics that nobody here listens to. While a subscribe is under way it waits,
   * because only the answer says whether that one shares such a topic.
   */
  release() {
    if (this.subscribing > 0 || this.isOver) return;
    for (const [topic, { listeners, farewells }] of this.topics) {
      const done = () => farewells.splice(0).forEach((farewell) => farewell());
      if (listeners.size === 0) {
        this.topics.delete(topic);
        this.ask({ type: 'unsubscribe', topic }, done);
      } else done();
    }
  }

  /** Once, for whatever reason comes first; it does not wait for the other side's goodbye. */
  end(error) {
    if (this.isOver) return;
    this.isOver = true;
    for (const timer of Object.values(this.timers)) clearTimeout(timer);
    if (this.socket) {
      // To some implementations it is an error to close a socket that is still opening.
      Object.assign(this.socket, { onopen: null, onmessage: null, onclose: null, onerror() {} });
      this.socket.close();
    }
    this.client.lost(this, error);
    for (const { done, timer } of this.asked.values()) {
      clearTimeout(timer);
      done(failure('The connection was lost: what became of the request is unknown', 'UNKNOWN'));
    }
    for (const { listeners, farewells } of this.topics.values()) {
      for (const subscription of listeners) subscription.lost(this.heardAt);
      farewells.forEach((farewell) => farewell());
    }
  }
}

/** One callback, and what it has heard. */
class Subscription {
  isEstablished = false;
  isOver = false;
  attempts = 0;
  topic = null;
  /** The request that the replay of the moment answers. */
  request = null;
  /** The newest event that is not to be heard (again); null where there was none. */
  position = null;
  /** Up to when nothing is missing, where it has been lost since. */
  heardUntil = 0;
  /** The newest event of a replay that is still to come; null once all is there. */
  awaited = null;
  establishedAt = 0;
  /** The node that was lost without a farewell, and with it what it may have kept. */
  lostNode = undefined;
  isToldUnauthorized = false;
  eventIds = new Set();

  constructor(wish) {
    Object.assign(this, wish);
    this.replaySeconds = wish.options?.replaySeconds || 0;
  }

  /** What to ask for so that all since its beginning is heard, and nothing older. */
  replay() {
    const seconds = this.replaySeconds;
    if (!this.isEstablished) {
      this.askedAt = Date.now();
      return seconds ? { replaySeconds: seconds } : {};
    }
    if (this.position) return { replaySeconds: REPLAY_SECONDS_MOST, after: this.position };
    if (!seconds) return { replaySeconds: REPLAY_SECONDS_MOST, after: NO_EVENT };
    // Nothing was heard of a replay so far: the same span, and the time since it was asked for.
    const since = Math.ceil((Date.now() - this.askedAt) / 1_000);
    return { replaySeconds: Math.min(seconds + since, REPLAY_SECONDS_MOST), after: NO_EVENT };
  }

  established({ topic, last }, { node, keptMs }) {
    const now = Date.now();
    if (this.isEstablished) this.resume(node, now - keptMs);
    else this.heardUntil = now - Math.min(this.replaySeconds * 1_000, keptMs);
    // Another context or other claims: what was said there before is not for this one.
    const isElsewhere = this.isEstablished && topic !== this.topic;
    if (isElsewhere) Object.assign(this, { request: null, replaySeconds: 0 });
    if (isElsewhere || (!this.isEstablished && !this.replaySeconds)) this.position = last;
    const isAll = last === null || last === this.position || this.eventIds.has(last);
    this.awaited = isAll ? null : last;
    this.topic = topic;
    this.attempts = 0;
    this.establishedAt = now;
    this.lostNode = undefined;
    this.isToldUnauthorized = false;
    this.isEstablished = true;
    this.resolve();
  }

  /** Tells what no replay can bring back: what was let go of, or was kept by a node that is gone. */
  resume(node, keptSince) {
    const isAnother = this.lostNode !== undefined && this.lostNode !== node;
    const isLate = this.heardUntil < keptSince;
    if (isAnother || isLate) this.tell(failure('Events may have been missed', 'GAP'));
    this.heardUntil = Math.max(this.heardUntil, keptSince);
  }

  /**
   * The connection ends on which something came last at that time. A replay that did not come whole
   * leaves things as they were before it; after a while it is whole, whatever was to come of it.
   */
  lost(heardAt) {
    const isWhole = this.awaited === null || heardAt - this.establishedAt >= SETTLED_MS;
    if (isWhole) this.heardUntil = heardAt;
  }

  hear({ eventId, payload, replay }) {
    // What is new comes after all that is replayed.
    if (replay === undefined || eventId === this.awaited) this.awaited = null;
    if (this.isOver || this.eventIds.has(eventId)) return;
    this.position = eventId;
    this.eventIds.add(eventId);
    const [oldest] = this.eventIds;
    if (this.eventIds.size > EVENT_IDS_MOST) this.eventIds.delete(oldest);
    call(this.callback, delivered(payload));
  }

  /** Says once per absence why nothing comes, to who would wait in vain otherwise. */
  tellUnauthorized({ message, code, detail }) {
    if (this.isToldUnauthorized) return;
    this.isToldUnauthorized = true;
    const isRefused = code === 'UNAUTHORIZED';
    const reason = isRefused ? detail : `getContextToken failed: ${message}`;
    this.tell(failure('Unauthorized request', 'UNAUTHORIZED', reason));
  }

  tell(error) {
    call(this.callback, undefined, error);
  }
}

/** Anywhere up to a bound that doubles, so that many who were lost together come back apart. */
function backOff(attempts) {
  return Math.random() * Math.min(RETRY_FIRST_MS * 2 ** attempts, RETRY_MOST_MS);
}

function failure(message, code, detail) {
  return Object.assign(new Error(message), { code, ...(detail && { detail }) });
}

function failureOf({ error: { message, code, detail } }) {
  return failure(message, code, detail);
}

function closedError() {
  return failure('This client is closed', 'CLOSED');
}

function isTemporary({ code }) {
  return code === 'OVERLOADED' || code === 'RATE_LIMIT_EXCEEDED';
}

/** Calls what was handed in; when that fails, nothing here is to blame or to suffer. */
function call(callback, ...args) {
  const report = globalThis.reportError ?? console.error;
  try {
    const outcome = callback(...args);
    if (isFunction(outcome?.catch)) outcome.catch(report);
  } catch (error) {
    report(error);
  }
}

/** No overrides is not the same as an empty list; globally there is nothing to override. */
function wireOptions({ global }, token, options) {
  const overrides = global ? undefined : options?.contextOverrides;
  return { ...(token && { token }), ...(overrides && { contextOverrides: overrides }) };
}

function isFunction(value) {
  return typeof value === 'function';
}

function publishResult(error, published) {
  const { eventId, eventTimestamp } = published ?? { eventId: null, eventTimestamp: null };
  if (!error) return { eventId, eventTimestamp };
  const { message, code, detail } = error;
  return { eventId, eventTimestamp, errors: [{ message, code, ...(detail && { detail }) }] };
}

/** Some publishers send JSON and some plain text: what is no object and no string is plain text. */
function delivered(payload) {
  const value = parse(payload);
  return typeof value === 'string' || (value && typeof value === 'object') ? value : payload;
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function socketUrl(base) {
  const url = new URL(base, globalThis.location?.href);
  url.protocol = url.protocol.replace('http', 'ws');
  url.pathname = url.pathname.replace(/\/+$/, '') + PATH;
  return url.href;
}
