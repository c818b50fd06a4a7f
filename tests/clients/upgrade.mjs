// Fresh clients with default transports upgrade from long-polling to WebSocket during a flow of
// publications. They are compared with the record of one watcher: what a client receives between
// its subscription and its end must be a gapless part of that record, and the record must contain
// everything that each publisher sent, in order.
import { io } from 'socket.io-client';
import * as harness from './harness.mjs';
import { anonKey, apiKey, ask, assert, next, sleep, url } from './harness.mjs';

const COUNT = Number(process.env.COUNT ?? 1000);
const AT_ONCE = Number(process.env.AT_ONCE ?? 8);
// Publications that a client waits for on WebSocket before it leaves.
const AFTER_UPGRADE = 3;
const PACE_MS = 1;
// The socket's publisher sends this many at once, so that packets share requests and frames share
// sends.
const BURST = 4;
const CHANNEL = harness.freshChannel('upgrade');

/** Publishers number what they send; `sent[from]` is the last number sent. */
const sent = { http: 0, socket: 0 };
let publishing = true;

async function publishOverHttp() {
  while (publishing) {
    sent.http += 1;
    await harness.publish(CHANNEL, 'tick', { from: 'http', n: sent.http });
    await sleep(PACE_MS);
  }
}

async function publishOverSocket(socket) {
  const publishOne = () => {
    sent.socket += 1;
    const payload = { from: 'socket', n: sent.socket };
    return ask(socket, 'REALTIME_PUBLISH', { channel: CHANNEL, event: 'tick', payload });
  };
  while (publishing) {
    const answers = await Promise.all(Array.from({ length: BURST }, publishOne));
    assert.ok(answers.every((answer) => answer.ok), JSON.stringify(answers));
    await sleep(PACE_MS);
  }
}

function open(auth, options) {
  return io(url, { auth, forceNew: true, reconnection: false, ...options });
}

/**
 * `subscribed` runs during the acknowledgement itself; the continuation of a promise would run
 * later.
 */
async function subscribe(socket, subscribed = () => {}) {
  const acknowledged = new Promise((resolve) => {
    socket.emit('REALTIME_SUBSCRIBE', { channel: CHANNEL }, (answer) => {
      subscribed();
      resolve(answer);
    });
  });
  const answer = await harness.within('the subscription', acknowledged);
  assert.equal(answer.ok, true, JSON.stringify(answer));
}

/** Records the channel and its members from one connection that does not change. */
async function watch() {
  const socket = open({ apiKey }, { transports: ['websocket'] });
  await next(socket, 'connect');
  const record = { heard: [], place: new Map(), joins: new Map(), leaves: new Map() };
  const count = (map) => ({ member: { presenceId: id } }) => map.set(id, (map.get(id) ?? 0) + 1);
  socket.on('tick', ({ messageId, payload }) => {
    assert.ok(!record.place.has(messageId), `the watcher hears ${messageId} twice`);
    record.place.set(messageId, record.heard.length);
    record.heard.push(payload);
  });
  socket.on('presence:join', count(record.joins));
  socket.on('presence:leave', count(record.leaves));
  await subscribe(socket);
  return { socket, record };
}

/** Runs one client to its end. Returns what it received and what it had to receive. */
async function live(index) {
  const socket = open({ token: anonKey });
  const heard = [];
  const latest = { http: 0, socket: 0 };
  // The first numbers that it must receive: those sent after its subscribe was acknowledged.
  let first = null;
  socket.on('tick', ({ messageId, payload }) => {
    assert.ok(first, `client ${index} hears the channel before it is subscribed`);
    heard.push(messageId);
    latest[payload.from] = payload.n;
  });
  let upgraded = false;
  // The first probe starts as soon as the transport is open, so the listener is added before.
  socket.io.on('open', () => socket.io.engine.once('upgrade', () => (upgraded = true)));
  await next(socket, 'connect');
  const { id } = socket;
  // Some clients subscribe at once, others during the probe or after it.
  await sleep((index % 5) * 2);
  await subscribe(socket, () => (first = { http: sent.http + 1, socket: sent.socket + 1 }));
  await harness.until(`client ${index} is upgraded`, () => upgraded);
  const last = {
    http: sent.http + AFTER_UPGRADE,
    socket: sent.socket + AFTER_UPGRADE * BURST,
  };
  const caughtUp = () => latest.http >= last.http && latest.socket >= last.socket;
  await harness.until(`client ${index} hears its last publication`, caughtUp);
  const transport = socket.io.engine.transport.name;
  socket.disconnect();
  assert.equal(transport, 'websocket');
  return { index, id, heard, first, last };
}

function checkRecord({ heard }) {
  const expected = { http: 1, socket: 1 };
  for (const { from, n } of heard) {
    assert.equal(n, expected[from], `the watcher hears ${from} ${n} in place of ${expected[from]}`);
    expected[from] += 1;
  }
}

function checkLife({ heard, place }, life) {
  const places = life.heard.map((messageId) => place.get(messageId));
  const start = places[0];
  places.forEach((at, i) => {
    const was = `client ${life.index}: publication ${i} of ${places.length}`;
    assert.equal(at, start + i, `${was} is the watcher's ${at} in place of ${start + i}`);
  });
  const run = heard.slice(start, start + places.length);
  for (const from of ['http', 'socket']) {
    const numbers = run.filter((payload) => payload.from === from).map((payload) => payload.n);
    const was = `client ${life.index} hears ${from} from ${numbers[0]} to ${numbers.at(-1)}`;
    assert.ok(numbers[0] <= life.first[from], `${was}, had to from ${life.first[from]}`);
    assert.ok(numbers.at(-1) >= life.last[from], `${was}, had to until ${life.last[from]}`);
  }
}

async function checkPresence({ joins, leaves }, lives) {
  await harness.until('all clients have left', () => leaves.size >= lives.length);
  // A second join or leave would arrive within this time.
  await sleep(500);
  for (const [what, counts] of Object.entries({ joins, leaves })) {
    assert.equal(counts.size, lives.length, what);
    for (const { index, id } of lives) {
      assert.equal(counts.get(id), 1, `${what} of client ${index}`);
    }
  }
}

await harness.run(Number(process.env.SECONDS ?? 300), async () => {
  await harness.createChannel(CHANNEL);
  const { socket: watcher, record } = await watch();
  const publishers = Promise.all([publishOverHttp(), publishOverSocket(watcher)]);

  const lives = [];
  let started = 0;
  const lane = async () => {
    while (started < COUNT) {
      started += 1;
      lives.push(await live(started));
    }
  };
  const lanes = Promise.all(Array.from({ length: AT_ONCE }, lane));
  // The publishers end only when `publishing` is false, or when they fail.
  await Promise.race([lanes, publishers]);
  publishing = false;
  await publishers;

  await harness.until(
    'the watcher has heard everything',
    () => record.heard.length === sent.http + sent.socket,
  );
  checkRecord(record);
  assert.equal(lives.length, COUNT);
  for (const life of lives) checkLife(record, life);
  await checkPresence(record, lives);

  const deliveries = lives.reduce((sum, life) => sum + life.heard.length, 0);
  console.log(`${COUNT} upgrades, ${record.heard.length} publications, ${deliveries} deliveries`);
});
