// Subscribers for a test to publish to: `listen.mjs CHANNEL TRANSPORT...` starts one client per
// transport. Prints `ready` when all are subscribed, and then a line of JSON for each event: an
// array of the client's transport, the event's name and the message. Disconnects all clients and
// ends when its stdin ends.
import { io } from 'socket.io-client';
import * as harness from './harness.mjs';
import { anonKey, ask, assert, next, url } from './harness.mjs';

const [channel, ...transports] = process.argv.slice(2);

async function listen(transport) {
  const socket = io(url, { auth: { token: anonKey }, forceNew: true, transports: [transport] });
  socket.onAny((event, message) => {
    // Presence events of this program's own clients are not printed.
    if (!event.startsWith('presence:')) console.log(JSON.stringify([transport, event, message]));
  });
  await next(socket, 'connect');
  const answer = await ask(socket, 'REALTIME_SUBSCRIBE', { channel });
  assert.equal(answer.ok, true, JSON.stringify(answer));
  return socket;
}

await harness.run(60, async () => {
  const sockets = [];
  for (const transport of transports) sockets.push(await listen(transport));
  console.log('ready');
  process.stdin.resume();
  await new Promise((resolve) => process.stdin.once('end', resolve));
  for (const socket of sockets) socket.disconnect();
  // A disconnect by polling takes requests. They are done when this program has nothing left to do.
  await new Promise((resolve) => process.once('beforeExit', resolve));
});
