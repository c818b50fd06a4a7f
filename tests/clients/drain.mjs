// Clients that are sent away by a stopping node and reconnect to its successor: `drain.mjs CHANNEL
// COUNT TRANSPORT...` starts COUNT clients with the transports in turn (`default` is the client's
// own choice). Publishes all the while and ignores failures while no node runs. Prints `ready` when
// all clients are subscribed and on their final transport. Ends when all have subscribed again and
// have received the event `after`. Its last line is JSON: when each client lost its connection, in
// milliseconds since the epoch, and for what reason.
import http from 'node:http';
import { io } from 'socket.io-client';
import * as harness from './harness.mjs';
import { anonKey, apiKey, ask, assert, sleep, url } from './harness.mjs';

const [channel, count, ...transports] = process.argv.slice(2);
const PATIENCE_MS = 40_000;

function connect(number) {
  const transport = transports[number % transports.length];
  const options = transport === 'default' ? {} : { transports: [transport] };
  const socket = io(url, { auth: { token: anonKey }, forceNew: true, ...options });
  const client = { transport, socket, subscriptions: 0, losses: [], notes: [], hasHeardAfter: false };
  // The documentation of stock clients advises to subscribe on each connect.
  socket.on('connect', async () => {
    const answer = await ask(socket, 'REALTIME_SUBSCRIBE', { channel });
    assert.equal(answer.ok, true, JSON.stringify(answer));
    client.subscriptions += 1;
  });
  socket.on('disconnect', (reason) => client.losses.push({ at: Date.now(), reason, transport }));
  socket.on('note', (message) => client.notes.push(message.payload.number));
  socket.on('after', () => (client.hasHeardAfter = true));
  return client;
}

function isSettled({ transport, socket, subscriptions }) {
  const due = transport === 'polling' ? 'polling' : 'websocket';
  return subscriptions === 1 && socket.io.engine.transport.name === due;
}

/** Returns the status of an answer, or null if no node listens or the node ends meanwhile. */
function post(agent, body) {
  const headers = { authorization: `Bearer ${apiKey}`, 'content-type': 'application/json' };
  return new Promise((resolve) => {
    const options = { method: 'POST', headers, agent };
    const request = http.request(`${url}/api/realtime/messages`, options, (response) => {
      response.on('error', () => resolve(null)).on('end', () => resolve(response.statusCode));
      response.resume();
    });
    request.on('error', () => resolve(null)).end(JSON.stringify(body));
  });
}

// Without `fetch`, because that of Node 20 may hang forever if its connection is reset before the
// request was written.
async function publish(isOver) {
  const agent = new http.Agent({ keepAlive: true });
  for (let number = 0; !isOver(); number += 1) {
    const answer = post(agent, { channel, event: 'note', payload: { number } });
    const status = await harness.within(`the answer to note ${number}`, answer);
    assert.ok(status === null || status === 201, `note ${number}: ${status}`);
    await sleep(20);
  }
}

await harness.run(100, async () => {
  const clients = Array.from({ length: Number(count) }, (_, number) => connect(number));
  const all = async (what, condition) => {
    const lagging = () => clients.filter((client) => !condition(client));
    const done = () => lagging().length === 0;
    await harness.until(`all clients ${what}`, done, PATIENCE_MS).catch((error) => {
      console.error(lagging().map(({ socket, ...client }) => JSON.stringify(client)).join('\n'));
      throw error;
    });
  };
  await all('are subscribed', isSettled);
  let isOver = false;
  const publishing = publish(() => isOver);
  console.log('ready');

  await all('have lost the node', (client) => client.losses.length > 0);
  await all('are subscribed again', (client) => client.subscriptions === 2);
  console.log('back');
  await all('hear the successor', (client) => client.hasHeardAfter);
  isOver = true;
  await publishing;
  for (const { losses, notes } of clients) {
    assert.equal(losses.length, 1, JSON.stringify(losses));
    const rises = notes.every((number, place) => place === 0 || number > notes[place - 1]);
    assert.ok(rises, `out of order or twice: ${notes}`);
  }
  console.log(JSON.stringify(clients.flatMap((client) => client.losses)));
});
