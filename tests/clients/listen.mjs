// Subscribers for a test to publish to: `listen.mjs CHANNEL TRANSPORT...`, one client a transport.
// Says `ready` when all are subscribed and then, one JSON array a line, what each of them hears:
// its transport, the event, the message. Leaves when standard input ends.
import { io } from 'socket.io-client';
import * as harness from './harness.mjs';
import { anonKey, ask, assert, next, url } from './harness.mjs';

const [channel, ...transports] = process.argv.slice(2);

async function listen(transport) {
  const socket = io(url, { auth: { token: anonKey }, forceNew: true, transports: [transport] });
  socket.onAny((event, message) => {
    // Of the others that this program starts it need not tell.
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
  // By polling a goodbye takes requests; they are done when this program has nothing left to do.
  await new Promise((resolve) => process.once('beforeExit', resolve));
});
