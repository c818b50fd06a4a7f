// Stock clients behind a proxy that cuts their connections with resets, again and again, while the
// test publishes. Prints `ready` when all are subscribed, `cut` when all cuts are made and the
// clients are back, and at the end a line of JSON for each client: the events that it received in
// each channel.
//
// If `FANFARE_URLS` names several nodes, a client goes to the next one after each cut. If all are
// behind one address, `FANFARE_BEHIND` names them.
//
//   recovery.mjs <cuts> <milliseconds away> <channels, comma-separated> <transports of each client>
import net from 'node:net';
import { io } from 'socket.io-client';
import * as harness from './harness.mjs';
import { ask, assert, sleep, url } from './harness.mjs';

const [cuts, away, channels] = [
  Number(process.argv[2]),
  Number(process.argv[3]),
  process.argv[4].split(','),
];
const FIRST_CUT_WITHOUT_EVENTS = process.env.FIRST_CUT_WITHOUT_EVENTS === '1';

const nodes = (process.env.FANFARE_URLS ?? url).split(',');
const behind = process.env.FANFARE_BEHIND?.split(',') ?? nodes;

/** Passes bytes on. A cut resets all connections and refuses new ones for some time. */
class Proxy {
  #pairs = new Set();
  #isOpen = true;
  #cuts = 0;

  async listen() {
    this.server = net.createServer((near) => {
      if (!this.#isOpen) return near.resetAndDestroy();
      const { hostname, port } = new URL(nodes[this.#cuts % nodes.length]);
      const far = net.connect(Number(port), hostname);
      const pair = [near, far];
      this.#pairs.add(pair);
      for (const [one, other] of [pair, [far, near]]) {
        one.setNoDelay(true);
        one.on('error', () => {});
        one.on('close', () => {
          other.destroy();
          this.#pairs.delete(pair);
        });
        one.pipe(other);
      }
    });
    await new Promise((done) => this.server.listen(0, '127.0.0.1', done));
    return `${new URL(nodes[0]).protocol}//127.0.0.1:${this.server.address().port}`;
  }

  async cut(ms) {
    this.#isOpen = false;
    this.#cuts += 1;
    for (const pair of this.#pairs) for (const socket of pair) socket.resetAndDestroy();
    await sleep(ms);
    this.#isOpen = true;
  }
}

async function client(transports) {
  const proxy = new Proxy();
  const socket = io(await proxy.listen(), {
    auth: { token: harness.userToken(harness.freshUser()) },
    transports: transports === 'default' ? undefined : [transports],
    forceNew: true,
    reconnectionDelay: 5,
    reconnectionDelayMax: 20,
    randomizationFactor: 0,
  });
  const heard = Object.fromEntries(channels.map((channel) => [channel, []]));
  const state = { transports, proxy, socket, heard, recovered: [], ended: 0, ids: [], synced: new Set() };
  socket.on('connect', () => {
    state.recovered.push(socket.recovered);
    state.ids.push(socket.id);
  });
  socket.on('disconnect', () => state.synced.clear());
  socket.on('presence:sync', ({ channel, meta }) => {
    assert.equal(channel, meta.channel);
    state.synced.add(channel);
  });
  socket.on('n', ({ channel, payload }) => heard[channel].push(payload.n));
  socket.on('end', () => (state.ended += 1));
  await harness.next(socket, 'connect');
  for (const channel of channels) {
    const answer = await ask(socket, 'REALTIME_SUBSCRIBE', { channel });
    assert.equal(answer.ok, true, JSON.stringify(answer));
  }
  return state;
}

/** Whoever is recovered is told the members of each channel once more. */
async function membersAreTold({ transports, socket, synced }) {
  if (!socket.recovered) return;
  const all = () => synced.size === channels.length;
  await harness.until(`${transports} hears the members of all channels`, all, 60_000);
}

/**
 * Cuts a client and waits until it is back. Every third cut is followed by another one while the
 * client reconnects.
 */
async function cutAndComeBack(state, number) {
  const before = state.recovered.length;
  // Between two polls there is no connection to cut.
  do {
    await state.proxy.cut(away);
    await sleep(1);
  } while (state.socket.connected);
  if (number % 3 === 0) {
    await sleep(Math.random() * 25);
    await state.proxy.cut(away);
  }
  const isBack = () => state.socket.connected && state.recovered.length > before;
  await harness.until(`${state.transports} is back after cut ${number}`, isBack, 60_000);
  // After the other half of the cuts, the next one may come before the members do.
  if (number % 2 === 0) await membersAreTold(state);
  await sleep(Math.random() * 40);
}

/** Waits until the nodes know of so many sessions: a busy one may take longer than they wait. */
async function areShared(count) {
  const pattern = /^fanfare_cluster_sessions_total\{outcome="shared"\} (\d+)/m;
  for (let shared = 0; shared < count; await sleep(20)) {
    const all = behind.map(async (node) => (await fetch(`${node}/metrics`)).text());
    const counts = (await Promise.all(all)).map((metrics) => Number(metrics.match(pattern)[1]));
    shared = counts.reduce((sum, one) => sum + one);
  }
}

await harness.run(240 + 5 * cuts, async () => {
  const clients = await Promise.all(process.argv.slice(5).map(client));
  if (behind.length > 1) await areShared(clients.length);
  let made = 0;
  if (FIRST_CUT_WITHOUT_EVENTS) {
    await Promise.all(clients.map((state) => cutAndComeBack(state, 1)));
    made = 1;
  }
  console.log('ready');
  await Promise.all(
    clients.map(async (state) => {
      for (let number = made; number < cuts; number += 1) await cutAndComeBack(state, number);
    }),
  );
  await Promise.all(clients.map(membersAreTold));
  console.log('cut');
  const all = () => clients.every((state) => state.ended >= channels.length);
  await harness.until('everybody heard the end', all, 30_000).catch((error) => {
    for (const { transports, socket, ended, recovered, heard } of clients) {
      const counts = Object.values(heard).map((list) => list.length);
      console.error(transports, socket.connected, ended, counts, recovered.length, recovered);
    }
    throw error;
  });
  for (const { transports, heard, recovered, ids } of clients) {
    const sameId = ids.every((id) => id === ids[0]);
    console.log(JSON.stringify({ transports, heard, recovered: recovered.slice(1), sameId }));
  }
});
