// Shared by the Forge programs: signed contexts, invocations, the modules that the node serves, and
// publishing over plain HTTP.
import { createHmac, randomUUID } from 'node:crypto';
import http from 'node:http';
import https from 'node:https';
import WebSocket from 'ws';
import {
  apiKey, assert, everyNode, jwtSecret, nextNode, otherNode, sleep, token, until, url, within,
} from './harness.mjs';

const API = '/forge/realtime/v1';

export const seconds = (from) => Math.floor(Date.now() / 1000) + from;

/** Returns the context of a page in an installation that no other case uses. */
export function freshContext(more = {}) {
  return {
    installationId: `inst-${randomUUID()}`,
    moduleKey: 'my-panel',
    extension: { issue: { id: '10001' }, project: { id: '10000' } },
    ...more,
  };
}

/**
 * Returns a realtime token, signed with the key that the node derives for them. The node's own
 * tokens live for at least a minute, which is too long for a test to wait.
 */
export function channelToken(context, name, claims, lifetime) {
  const key = createHmac('sha256', jwtSecret).update('fanfare forge: realtime tokens, 1').digest();
  const { installationId } = context;
  const channel = { name, claims };
  const payload = { aud: 'realtime-channel', exp: seconds(lifetime), installationId, channel };
  return token(payload, { secret: key });
}

export function contextToken(context, lifetime = 600) {
  return token({ aud: 'realtime', sub: 'account-1', exp: seconds(lifetime), ...context });
}

/** Returns a signed invocation of that page, which needs no registration. */
export function invocationToken(context, more = {}) {
  return token({ aud: 'realtime-invocation', exp: seconds(600), ...context, ...more });
}

/**
 * Registers an invocation of that page and returns its id. In a cluster, each node has its own
 * invocations.
 */
export async function register(context, { id = randomUUID(), ui = true } = {}) {
  for (const node of everyNode()) {
    const response = await fetch(`${node}/admin/v1/invocations/${id}`, {
      method: 'PUT',
      headers: { authorization: `Bearer ${apiKey}`, 'content-type': 'application/json' },
      body: JSON.stringify({ ...context, ui, ttlSeconds: 600 }),
    });
    assert.equal(response.status, 201, await response.text());
  }
  return id;
}

/** Returns the text of a module that the node serves. */
export async function served(name) {
  const response = await fetch(otherNode() + API + name);
  assert.equal(response.status, 200, name);
  return response.text();
}

/** Returns a specifier to import that module by, so that the served text is what is tested. */
export async function specifier(name) {
  return dataUrl(await served(name));
}

export function dataUrl(text) {
  return `data:text/javascript;base64,${Buffer.from(text).toString('base64')}`;
}

export async function importServed(name) {
  return import(await specifier(name));
}

const { createRealtime } = await importServed('/client.js');

/**
 * Creates a client that records its frames, connections and states. It lives until the program ends
 * or its `close` is called. Frames for which `loses` returns true do not arrive, as if the
 * connection had been lost.
 */
export function connect(context, { at = nextNode(), ...options } = {}) {
  const client = { states: [], sent: [], received: [], sockets: [], tokens: 0, loses: () => false };
  class Recorded extends WebSocket {
    constructor(...args) {
      super(...args);
      client.sockets.push(this);
      super.on('message', (data) => client.received.push(JSON.parse(data)));
    }

    emit(event, data, ...more) {
      const isLost = event === 'message' && client.loses(JSON.parse(data));
      return isLost || super.emit(event, data, ...more);
    }

    send(text) {
      client.sent.push(JSON.parse(text));
      super.send(text);
    }
  }
  const realtime = createRealtime({
    url: at,
    WebSocket: Recorded,
    getContextToken() {
      client.tokens += 1;
      return contextToken(context);
    },
    onStateChange: (state, error) => client.states.push(error ? [state, error] : [state]),
    ...options,
  });
  const has = (direction, type) => client[direction].filter((frame) => frame.type === type);
  return Object.assign(client, realtime, {
    frames: (type) => has('sent', type),
    answers: (type) => has('received', type),
    state: () => client.states.at(-1)?.[0],
    comesBack: async (count) => {
      const isBack = () => client.states.filter(([state]) => state === 'connected').length > count;
      await until('the client is back', isBack);
    },
  });
}

/** Subscribes and collects payloads in `heard` and errors in `errors`. */
export async function listen(client, channel, options, { globally = false } = {}) {
  const ear = { heard: [], errors: [] };
  const hear = (payload, error) => (error ? ear.errors.push(error) : ear.heard.push(payload));
  const subscribe = globally ? client.subscribeGlobal : client.subscribe;
  const subscription = await within('a subscription', subscribe(channel, hear, options));
  return Object.assign(ear, subscription);
}

/**
 * Checks that a publish reaches nobody: at once on one node. Other nodes of a cluster learn a moment
 * later that a subscriber has left.
 */
export async function reachesNobody(publish, isNobody = (answer) => answer === null) {
  const end = Date.now() + 30_000;
  for (let answer = await publish(); !isNobody(answer); answer = await publish()) {
    const mayBeLate = everyNode().length > 1 && Date.now() < end;
    assert.ok(mayBeLate, `it reaches somebody: ${JSON.stringify(answer)}`);
  }
}

export async function hears(ear, payloads) {
  const what = `${payloads.length} payloads are heard`;
  // The comparison shows best what is missing.
  await until(what, () => ear.heard.length >= payloads.length).catch(() => {});
  assert.deepEqual(ear.heard, payloads);
}

/** Returns a result without `detail`, whose text is only for people. */
export function told({ errors, ...result }) {
  return { ...result, errors: errors.map(({ detail, ...error }) => error) };
}

/** Returns the error of a promise that must be rejected. */
export function rejection(promise) {
  const refused = promise.then(() => assert.fail('it was not refused'), (error) => error);
  return within('a refusal', refused);
}

/** The nodes speak the same. */
const protocol = url.startsWith('https:') ? https : http;

/**
 * A publisher over plain HTTP. It does not use `fetch`, because that of Node 20 may hang forever if
 * its connection is reset before the request was written. In a cluster, each request goes to a node
 * that the newest client does not have, unless there is a `node` for all.
 */
export class Publisher {
  #agent = new protocol.Agent({ keepAlive: true });

  constructor(context, { node, ...more } = {}) {
    this.node = node;
    this.headers = {
      'content-type': 'application/json',
      'forge-proxy-authorization': `Forge as=app,id=${invocationToken(context)}`,
      ...more,
    };
  }

  /** Returns the answer with its status, or null if no node listens or the node ends meanwhile. */
  post(path, body) {
    const answer = new Promise((resolve) => {
      const options = { method: 'POST', headers: this.headers, agent: this.#agent };
      const request = protocol.request((this.node ?? otherNode()) + API + path, options, (response) => {
        let text = '';
        response.on('data', (chunk) => (text += chunk)).on('error', () => resolve(null));
        response.on('end', () => resolve({ status: response.statusCode, ...JSON.parse(text) }));
      });
      request.on('error', () => resolve(null)).end(JSON.stringify(body));
    });
    return within(`the answer to ${path}`, answer);
  }

  /**
   * Publishes a payload as the SDK does. Returns the event's id, or null if nobody is subscribed.
   */
  async publish(name, payload, options, path = '/publish') {
    const answer = await this.post(path, { name, payload: JSON.stringify(payload), options });
    assert.equal(answer?.status, 200, JSON.stringify(answer));
    assert.equal(answer.errors, null);
    return answer.eventId;
  }

  publishGlobal(name, payload, options) {
    return this.publish(name, payload, options, '/publish/global');
  }

  async sign(channelName, claims, permissions) {
    const answer = await this.post('/token', { channelName, claims, permissions });
    assert.equal(answer?.status, 200, JSON.stringify(answer));
    return answer.token;
  }
}

/** Less than a node keeps of one topic: a client that missed this many events receives them all. */
export const MISSED_MOST = 200;

/** Waits until nobody is subscribed: then the answer to a publish contains no event id. */
export async function leftAlone(publisher, channel) {
  const leave = async () => {
    while (await publisher.publish(channel, 'is anybody there?')) await sleep(5);
  };
  await within(`all to leave ${channel}`, leave());
}

/**
 * Publishes increasing numbers until it is stopped. `counted` are those whose answer contained an
 * event id, which promises that a subscriber receives them.
 */
export class Ticker {
  counted = [];
  /** Numbers without an answer, because the node ended meanwhile. */
  unknown = new Set();
  /** The ticker pauses when it has counted this many. */
  most = Infinity;
  #isOver = false;

  constructor(publisher, channel, { pauseMs = 5, options } = {}) {
    this.done = this.#run(publisher, { name: channel, options }, pauseMs);
  }

  async stop() {
    this.#isOver = true;
    await this.done;
  }

  /** Checks that all counted numbers arrived once and in order, and no others but unknown ones. */
  check(heard) {
    assert.deepEqual(heard.filter((number) => !this.unknown.has(number)), this.counted);
    const numbers = heard.map(Number);
    assert.ok(numbers.every((number, place) => place === 0 || number > numbers[place - 1]));
  }

  async #run(publisher, event, pauseMs) {
    for (let number = 0; !this.#isOver; number += 1) {
      const payload = JSON.stringify(String(number));
      const answer = await publisher.post('/publish', { ...event, payload });
      // A node that stops or is overloaded answers 503.
      const isTaken = answer === null || answer.status === 200 || answer.status === 503;
      assert.ok(isTaken, JSON.stringify(answer));
      if (answer === null) this.unknown.add(String(number));
      else if (answer.eventId) this.counted.push(String(number));
      await sleep(pauseMs);
      while (this.counted.length >= this.most && !this.#isOver) await sleep(pauseMs);
    }
  }
}
