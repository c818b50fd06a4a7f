// Clients of every interface at FANFARE_URL, which leads to a node through a proxy, perhaps below a
// path. Meanwhile, others do nothing for longer than the proxy waits for a connection that is
// silent, so that only what the node sends by itself keeps them.
import WebSocket from 'ws';
import { io } from 'socket.io-client';
import * as harness from './harness.mjs';
import { anonKey, apiKey, ask, assert, next, sleep, until, url, within } from './harness.mjs';
import { Publisher, connect, freshContext, hears, listen } from './forge.mjs';
import * as m2 from './m2.mjs';

const IDLE_MS = Number(process.env.FANFARE_IDLE_MS);
const { origin, pathname } = new URL(url);
const path = `${pathname.replace(/\/$/, '')}/socket.io/`;
/** The longest payload that is sent, and one that is too long for a node. */
const LONG = 'x'.repeat(900_000);
const TOO_LONG = 'x'.repeat(1_100_000);

// A request on a kept connection fails if the proxy is about to close it, as any server may.
const { fetch } = globalThis;
globalThis.fetch = (target, { headers, ...options } = {}) =>
  fetch(target, { ...options, headers: { ...headers, connection: 'close' } });

/** Connects a stock client, and checks that it has the transport that it ends up with. */
async function socket(transports) {
  const options = transports === 'default' ? {} : { transports: [transports] };
  const auth = { token: harness.userToken(harness.freshUser()) };
  const client = io(origin, { auth, path, forceNew: true, reconnection: false, ...options });
  await next(client, 'connect');
  const expected = transports === 'default' ? 'websocket' : transports;
  await until(`${transports} is on ${expected}`, () => client.io.engine.transport.name === expected);
  return client;
}

async function channel() {
  const name = harness.freshChannel();
  await harness.createChannel(name);
  return name;
}

async function subscribed(transports, name) {
  const client = await socket(transports);
  const answer = await ask(client, 'REALTIME_SUBSCRIBE', { channel: name });
  assert.equal(answer.ok, true, JSON.stringify(answer));
  return client;
}

async function servesSockets(transports) {
  const name = await channel();
  const [one, other] = [await subscribed(transports, name), await subscribed(transports, name)];
  for (const payload of [{ from: 'a back end' }, { long: LONG }]) {
    const heard = next(one, 'tick');
    await harness.publish(name, 'tick', payload);
    assert.deepEqual((await heard).payload, payload);
  }
  const heard = next(other, 'tock');
  const publication = { channel: name, event: 'tock', payload: { long: LONG } };
  const answer = await ask(one, 'REALTIME_PUBLISH', publication);
  assert.equal(answer.ok, true, JSON.stringify(answer));
  assert.deepEqual((await heard).payload, publication.payload);
  one.disconnect();
  other.disconnect();
}

/** Listens to a channel. Returns the events as they come, and a function that leaves. */
async function stream(name) {
  const leave = new AbortController();
  const query = new URLSearchParams({ channel: name, token: anonKey });
  const options = { signal: leave.signal };
  const response = await globalThis.fetch(`${url}/api/realtime/events?${query}`, options);
  assert.equal(response.status, 200);
  const ear = { text: '', isOver: false, leave: () => leave.abort() };
  (async () => {
    for await (const part of response.body.pipeThrough(new TextDecoderStream())) ear.text += part;
  })().catch(() => {}).finally(() => (ear.isOver = true));
  await until('the stream says that it is subscribed', () => ear.text.includes('realtime:subscribed'));
  return ear;
}

/** Checks that events come one by one: a proxy that keeps them back until there are many does not. */
async function servesStreams() {
  const name = await channel();
  const ear = await stream(name);
  for (const number of [1, 2, 3]) {
    await harness.publish(name, 'tick', { number });
    await until(`event ${number} is heard`, () => ear.text.includes(`{"number":${number}}`));
  }
  ear.leave();
}

async function servesForge() {
  const context = freshContext();
  const client = connect(context);
  const ear = await listen(client, 'room');
  await new Publisher(context).publish('room', { from: 'a back end' });
  await client.publish('room', 'from a page');
  await hears(ear, [{ from: 'a back end' }, 'from a page']);
  client.close();
}

/** A client of M2 that sends its scope as a subprotocol, like a browser. */
async function document() {
  const heard = [];
  const scope = m2.lines({ ...m2.place, authorization: m2.bearer('fakeUserId') });
  const client = new WebSocket(m2.socketUrl(), [m2.base58(scope)]);
  client.on('message', (bytes) => heard.push(bytes.toString()));
  const opened = new Promise((resolve, reject) => client.on('open', resolve).on('error', reject));
  await within('the handshake of M2', opened);
  return {
    client,
    hear: async () => {
      await until('a message of M2', () => heard.length > 0);
      return JSON.parse(heard.shift());
    },
  };
}

async function hearsDocuments({ client, hear }) {
  const resource = { type: 'kvStore', id: harness.freshUser() };
  client.send(JSON.stringify({ action: 'subscribe', resource }));
  assert.equal((await hear()).warning, 'resource_not_found');
  for (const data of ['short', LONG]) {
    await m2.put(resource, data);
    assert.equal((await hear()).data, data);
  }
}

async function servesDocuments() {
  const reader = await document();
  await hearsDocuments(reader);
  reader.client.close();
}

async function refusesBodiesThatAreTooLong() {
  const response = await globalThis.fetch(`${url}/api/realtime/messages`, {
    method: 'POST',
    headers: { 'x-api-key': apiKey, 'content-type': 'application/json' },
    body: JSON.stringify({ channel: 'any', event: 'any', payload: TOO_LONG }),
  });
  assert.equal(response.status, 413);
  await response.text();
}

/** Checks that clients who have nothing to say stay, and can still do everything afterwards. */
async function keepsIdleClients() {
  const name = await channel();
  const sockets = await Promise.all(
    ['default', 'websocket', 'polling'].map((transports) => subscribed(transports, name)),
  );
  const ear = await stream(name);
  const [context, reader] = [freshContext(), await document()];
  const page = connect(context);
  const pageEar = await listen(page, 'room');
  await sleep(IDLE_MS);
  assert.equal(ear.isOver, false, 'the stream has ended');
  assert.equal(reader.client.readyState, WebSocket.OPEN, 'the WebSocket of M2 has ended');
  assert.deepEqual(page.states, [['connecting'], ['connected']]);
  const heard = sockets.map((client) => next(client, 'tick'));
  await harness.publish(name, 'tick', { late: true });
  for (const message of await Promise.all(heard)) assert.deepEqual(message.payload, { late: true });
  await until('the late event is heard', () => ear.text.includes('{"late":true}'));
  await new Publisher(context).publish('room', 'late');
  await hears(pageEar, ['late']);
  await hearsDocuments(reader);
  for (const client of sockets) client.disconnect();
  ear.leave();
  page.close();
  reader.client.close();
}

await harness.run(80, async () => {
  const idle = keepsIdleClients();
  // Its failure is told when it is waited for.
  idle.catch(() => {});
  for (const transports of ['default', 'websocket', 'polling']) await servesSockets(transports);
  await servesStreams();
  await servesForge();
  await servesDocuments();
  await refusesBodiesThatAreTooLong();
  await idle;
  // Clients on long-polling leave by requests. They are done when nothing is left to do; should
  // something be, the node counts these clients a little longer.
  const isDone = new Promise((resolve) => process.once('beforeExit', resolve));
  await Promise.race([isDone, sleep(5_000, null, { ref: false })]);
});
