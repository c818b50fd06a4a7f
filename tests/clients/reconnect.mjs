// Clients that outlive the node: they reconnect by themselves and subscribe again. Prints `ready`
// when all are subscribed; then the test kills the node and starts it again.
import { createClient } from '@insforge/sdk';
import { io } from 'socket.io-client';
import * as harness from './harness.mjs';
import { anonKey, ask, assert, collect, publish, url } from './harness.mjs';

const CHANNEL = harness.freshChannel('reconnect');

/** A stock client that subscribes on each connect, as its documentation advises. */
function stockClient(name, options) {
  const auth = { token: harness.userToken(harness.freshUser()) };
  const socket = io(url, { auth, forceNew: true, reconnectionDelay: 100, ...options });
  const client = { name, subscriptions: 0, lost: 0, heard: collect(socket, 'note') };
  socket.on('connect', async () => {
    const answer = await ask(socket, 'REALTIME_SUBSCRIBE', { channel: CHANNEL });
    assert.equal(answer.ok, true, JSON.stringify(answer));
    client.subscriptions += 1;
  });
  socket.on('disconnect', () => (client.lost += 1));
  return client;
}

/** A client of the SDK, which subscribes to its channels again by itself. */
async function sdkClient() {
  const { realtime } = createClient({ baseUrl: url, anonKey });
  const client = { name: 'SDK', subscriptions: 0, lost: 0, heard: [] };
  realtime.on('note', ({ meta, ...payload }) => client.heard.push({ payload }));
  realtime.on('disconnect', () => (client.lost += 1));
  const answer = await realtime.subscribe(CHANNEL);
  assert.equal(answer.ok, true, JSON.stringify(answer));
  client.subscriptions = 1;
  realtime.on('connect', async () => {
    const subscribed = () => realtime.getSubscribedChannels().length === 1;
    await harness.until('the SDK is subscribed', subscribed);
    client.subscriptions += 1;
  });
  return client;
}

await harness.run(90, async () => {
  await harness.createChannel(CHANNEL);
  const clients = [
    stockClient('default transports', {}),
    stockClient('polling only', { transports: ['polling'] }),
    await sdkClient(),
  ];
  // The patience is long because the SDK waits up to five seconds between its attempts.
  const all = async (what, condition) => {
    const lagging = () => clients.filter((client) => !condition(client));
    const done = () => lagging().length === 0;
    await harness.until(`all clients ${what}`, done, 40_000).catch((error) => {
      console.error(JSON.stringify(lagging()));
      throw error;
    });
  };

  await all('are subscribed', (client) => client.subscriptions === 1);
  await publish(CHANNEL, 'note', { n: 1 });
  await all('hear the first note', (client) => client.heard.length === 1);
  console.log('ready');

  await all('have lost the node', (client) => client.lost === 1);
  await all('are subscribed again', (client) => client.subscriptions === 2);
  await publish(CHANNEL, 'note', { n: 2 });
  await all('hear the next note', (client) => client.heard.length === 2);
  for (const { name, heard, lost } of clients) {
    assert.deepEqual(heard.map((message) => message.payload), [{ n: 1 }, { n: 2 }], name);
    assert.equal(lost, 1, name);
  }
});
