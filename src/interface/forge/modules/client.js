// Forge Realtime for browsers and Node: `subscribe`, `subscribeGlobal`, `publish` and
// `publishGlobal` as `@forge/bridge` has them, over one WebSocket to a Fanfare node. It needs no
// build step and no other module:
//
//     const realtime = createRealtime({ url, getContextToken: async () => '…' });
//     const subscription = await realtime.subscribe('my-channel', (payload, error) => { … });
//
// A lost connection is replaced, and missed events are replayed. Three classes share the work:
// `Client` holds subscriptions and publications over all connections, `Link` is one connection, and
// `Subscription` knows which events its callback has received. `client.d.ts` explains every type
// and option.

const SUBPROTOCOL = 'forge-realtime.v1';
const PATH = '/forge/realtime/v1/ws';

// The first attempt to reconnect is quick, because most connections are lost one at a time. Later
// attempts are slower, because all clients of a restarted node reconnect at once.
const RETRY_FIRST_MS = 200;
const RETRY_MOST_MS = 10_000;
// A connection that lasted for less does not reset the count of failed attempts.
const SETTLED_MS = 5_000;
const ANSWER_MS = 10_000;
const UNSENT_MS = 30_000;
// Together with ANSWER_MS this is less than the time for which a node keeps events by default.
const SILENCE_MS = 40_000;
// Sent after a reconnect together with the last received event. The node lowers it to its bound.
const REPLAY_SECONDS_MOST = 3_600;
// The id of no event. A subscription that has received no event sends it, so that the node reports
// a gap if the first events are gone.
const NO_EVENT = '00000000-0000-0000-0000-000000000000';
// More events than a node keeps of one topic, so that every repeated event is recognised.
const EVENT_IDS_MOST = 1_024;
// Failed attempts in a row after which the module warns. Fewer are normal.
const FAILURES_TOLD = 3;
// The close code of a node that stops after it has sent everything.
const GOING_AWAY = 1001;

const NO_WEBSOCKET =
  'There is no WebSocket here: pass one as an option (npm install ws, then ' +
  "import WebSocket from 'ws' and createRealtime({ WebSocket, … }))";

export const Jira = Object.freeze({ Board: 'board', Issue: 'issue', Project: 'project' });
export const Confluence = Object.freeze({ Content: 'content', Space: 'space' });
export const Bitbucket = Object.freeze({ PullRequest: 'pullRequest', Repository: 'repository' });

/** Returns a client, which connects at the first subscription or publication. */
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

/** The subscriptions and publications of one client, over all its connections. */
class Client {
  subscriptions = new Set();
  /** Publications that wait for a connection. */
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

  /** Ends a refused subscription: rejects a new one, tells the callback of an established one. */
  refuse(subscription, error) {
    if (!this.subscriptions.delete(subscription)) return;
    subscription.isOver = true;
    if (subscription.isEstablished) subscription.tell(error);
    else subscription.reject(error);
  }

  /** Resolves with `errors` instead of rejecting, as `@forge/bridge` does. */
  async publish(global, channel, payload, options) {
    const frame = { type: 'publish', global, channel, payload: JSON.stringify(payload) };
    // Without `await` for a string, so that publications are sent in the order of the calls.
    const token = isFunction(options?.token) ? await options.token() : options?.token;
    frame.options = wireOptions(frame, token, options);
    return new Promise((resolve) => {
      const done = (error, published) => resolve(publishResult(error, published));
      if (this.isClosed) done(closedError());
      else if (this.link?.canSend) this.link.ask(frame, done);
      else this.postpone({ frame, done });
    });
  }

  /** Keeps a publication for the next connection, for at most UNSENT_MS. */
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
    // Unsubscribes before the connection ends. Otherwise the node keeps them for a reconnect.
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

  /** Handles the lack of a valid context token. */
  refused(error) {
    this.refuseNew(error);
    // An offline client has no token either, and usually gets one at the next attempt.
    if (error.code !== 'UNAUTHORIZED' && this.failures < FAILURES_TOLD) return;
    for (const subscription of this.subscriptions) subscription.tellUnauthorized(error);
    if (this.subscriptions.size > 0) this.warn(error);
  }

  /** Refuses new subscriptions and all publications. Established subscriptions may recover. */
  refuseNew(error) {
    for (const subscription of this.subscriptions) {
      if (!subscription.isEstablished) this.refuse(subscription, error);
    }
    for (const { done } of this.takeUnsent()) done(error);
  }

  tell(state, error) {
    if (this.onStateChange) call(this.onStateChange, state, error);
  }

  /** Warns on the console, once until a connection lasts, if there is no `onStateChange`. */
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
  /** For how many milliseconds the node keeps events. */
  keptMs = Infinity;
  /** Names the start of the node at the other end. */
  node = undefined;
  /** Requests that wait for an answer, by id. */
  asked = new Map();
  /** Subscribed topics by id: their subscriptions, and calls that wait for the unsubscribe. */
  topics = new Map();
  /** Number of subscribe requests that wait for an answer. */
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

  /** Schedules a refresh before the context token expires; every 30 s if the clock says it has. */
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
        // Another context needs another connection.
        if (error?.code === 'CONTEXT_MISMATCH') this.end(error);
        else if (!this.isOver) this.refreshBefore(connected?.expiresAt ?? expiresAt);
      });
    } catch {
      // The connection stays open for as long as the node accepts the old token.
      if (!this.isOver) this.refreshBefore(expiresAt);
    }
  }

  /**
   * Probes the node after a silence, because scripts do not see the node's pings. Unsubscribes from
   * a topic that does not exist, because any answer will do.
   */
  probe() {
    const left = this.client.silenceMs - (Date.now() - this.heardAt);
    if (left <= 0) this.ask({ type: 'unsubscribe', topic: '' }, () => {});
    const due = left > 0 ? Math.min(left, this.client.silenceMs) : this.client.silenceMs;
    this.timers.silence = setTimeout(() => this.probe(), due);
  }

  /** Sends a request. Calls `done(error, answer)` once, at the latest when the link ends. */
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

  /** Subscribes. Events replayed for this request go to this subscription only. */
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
      // If the subscription has ended meanwhile, `release` leaves a topic without listeners.
      if (!subscription.isOver) {
        this.topics.get(topic).listeners.add(subscription);
        subscription.established(subscribed, this);
      }
    }
    this.release();
  }

  /** Retries an established subscription after a temporary error. Otherwise refuses it. */
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
      // The node has ended the subscription. A function can return a new token for it.
      listeners.delete(subscription);
      subscription.lost(this.heardAt);
      if (isFunction(subscription.options?.token)) this.establish(subscription);
      else this.client.refuse(subscription, failureOf(frame));
    }
    this.release();
  }

  /** Resolves when the node sends nothing more for this subscription. */
  leave(subscription) {
    const { listeners, farewells } = this.topics.get(subscription.topic) ?? {};
    if (!listeners?.delete(subscription) || listeners.size > 0) return undefined;
    return new Promise((resolve) => {
      farewells.push(resolve);
      this.release();
    });
  }

  /**
   * Unsubscribes from topics without listeners. Does nothing while a subscribe is under way,
   * because only its answer says whether it shares such a topic.
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

  /** Ends the link, once, with the first error. Does not wait for the node's close frame. */
  end(error) {
    if (this.isOver) return;
    this.isOver = true;
    for (const timer of Object.values(this.timers)) clearTimeout(timer);
    if (this.socket) {
      // Some implementations report an error if a socket is closed while it opens.
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

/** One callback, and the events that it has received. */
class Subscription {
  isEstablished = false;
  isOver = false;
  attempts = 0;
  topic = null;
  /** The id of the latest subscribe request, which the events of its replay carry. */
  request = null;
  /** The id of the newest event before those still to be received; null if there is none. */
  position = null;
  /** The time up to which no event is missing. */
  heardUntil = 0;
  /** The id of the last event of a replay that is under way; null if it is complete. */
  awaited = null;
  establishedAt = 0;
  /** The start of the node whose connection was lost without GOING_AWAY. */
  lostNode = undefined;
  isToldUnauthorized = false;
  eventIds = new Set();

  constructor(wish) {
    Object.assign(this, wish);
    this.replaySeconds = wish.options?.replaySeconds || 0;
  }

  /** Returns the options that replay all events since the subscription began, and no older ones. */
  replay() {
    const seconds = this.replaySeconds;
    if (!this.isEstablished) {
      this.askedAt = Date.now();
      return seconds ? { replaySeconds: seconds } : {};
    }
    if (this.position) return { replaySeconds: REPLAY_SECONDS_MOST, after: this.position };
    if (!seconds) return { replaySeconds: REPLAY_SECONDS_MOST, after: NO_EVENT };
    // No event was received so far: asks for the same span and the time since the first request.
    const since = Math.ceil((Date.now() - this.askedAt) / 1_000);
    return { replaySeconds: Math.min(seconds + since, REPLAY_SECONDS_MOST), after: NO_EVENT };
  }

  established({ topic, last }, { node, keptMs }) {
    const now = Date.now();
    if (this.isEstablished) this.resume(node, now - keptMs);
    else this.heardUntil = now - Math.min(this.replaySeconds * 1_000, keptMs);
    // The context or the claims have changed: events before that are not for this subscription.
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

  /** Reports a gap if the node no longer has the missed events, or if it has started again. */
  resume(node, keptSince) {
    const isAnother = this.lostNode !== undefined && this.lostNode !== node;
    const isLate = this.heardUntil < keptSince;
    if (isAnother || isLate) this.tell(failure('Events may have been missed', 'GAP'));
    this.heardUntil = Math.max(this.heardUntil, keptSince);
  }

  /**
   * Notes that the connection, which last received a message at `heardAt`, has ended. Nothing is
   * missing until then, unless a replay was incomplete. After SETTLED_MS a replay counts as
   * complete.
   */
  lost(heardAt) {
    const isWhole = this.awaited === null || heardAt - this.establishedAt >= SETTLED_MS;
    if (isWhole) this.heardUntil = heardAt;
  }

  hear({ eventId, payload, replay }) {
    // Live events follow the replayed ones.
    if (replay === undefined || eventId === this.awaited) this.awaited = null;
    if (this.isOver || this.eventIds.has(eventId)) return;
    this.position = eventId;
    this.eventIds.add(eventId);
    const [oldest] = this.eventIds;
    if (this.eventIds.size > EVENT_IDS_MOST) this.eventIds.delete(oldest);
    call(this.callback, delivered(payload));
  }

  /** Tells the callback why no events arrive, once until the subscription is established again. */
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

/** Returns a random delay below a bound that doubles, so that clients reconnect spread out. */
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

/** Calls a callback of the application. Reports its errors and does not pass them on. */
function call(callback, ...args) {
  const report = globalThis.reportError ?? console.error;
  try {
    const outcome = callback(...args);
    if (isFunction(outcome?.catch)) outcome.catch(report);
  } catch (error) {
    report(error);
  }
}

/** An empty list of overrides is sent, because it differs from none. Global channels have none. */
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

/** Parses JSON that is an object or a string. Returns any other payload as plain text. */
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
