// Subscribers of a node that is killed and started again after this program has printed `ready`.
// The events that it kept for absent subscribers are lost, so each subscriber gets one `GAP` error.
import * as harness from './harness.mjs';
import { assert, until } from './harness.mjs';
import * as forge from './forge.mjs';

const CHANNEL = 'my-channel';
// A node starts slowly on a loaded machine.
const RESTART_MS = 60_000;

await harness.run(85, async () => {
  const context = forge.freshContext();
  const [client, publisher] = [forge.connect(context), new forge.Publisher(context)];
  const ears = [
    await forge.listen(client, CHANNEL),
    await forge.listen(client, CHANNEL),
    await forge.listen(client, 'another'),
  ];
  await publisher.publish(CHANNEL, 'before');
  for (const ear of ears.slice(0, 2)) await forge.hears(ear, ['before']);
  console.log('ready');
  const areTold = () => ears.every(({ errors }) => errors.length > 0);
  await until('all are told', areTold, RESTART_MS);
  await publisher.publish(CHANNEL, 'after');
  for (const ear of ears.slice(0, 2)) await forge.hears(ear, ['before', 'after']);
  for (const { errors } of ears) assert.deepEqual(errors.map(({ code }) => code), ['GAP']);

  // This time the node does not restart, so it still has all events.
  const times = client.states.filter(([state]) => state === 'connected').length;
  client.sockets.at(-1).terminate();
  await client.comesBack(times);
  const areBack = () => client.answers('subscribed').length >= 3 * ears.length;
  await until('they subscribed again', areBack);
  await publisher.publish(CHANNEL, 'in the end');
  for (const ear of ears.slice(0, 2)) await forge.hears(ear, ['before', 'after', 'in the end']);
  for (const { errors } of ears) assert.equal(errors.length, 1);
});
