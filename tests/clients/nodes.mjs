// Clients of every kind on all nodes of a cluster: each hears what is published on any node, whole,
// once and in one order.
import { createClient } from '@insforge/sdk';
import { io } from 'socket.io-client';
import * as harness from './harness.mjs';
import { anonKey, ask, assert, collect, everyNode, next, nextNode, publish, until } from './harness.mjs';
import * as forge from './forge.mjs';

/** Publications of each publisher. */
const EACH = 10;
const TRANSPORTS = [['polling', 'websocket'], ['websocket'], ['polling']];

const numbers = Array.from({ length: EACH }, (_, number) => number);

/** A client with the documented events or with those of the SDK, subscribed on the next node. */
async function stockClient(channel, transports, verb = 'REALTIME_SUBSCRIBE') {
  const socket = io(nextNode(), { auth: { token: anonKey }, forceNew: true, transports });
  await next(socket, 'connect');
  const answer = await ask(socket, verb, { channel });
  assert.equal(answer.ok, true, JSON.stringify(answer));
  const heard = collect(socket, 'tick');
  return {
    socket,
    heard: () => heard.map(({ messageId, meta }) => messageId ?? meta.messageId),
    publish: (payload) => socket.emit('REALTIME_PUBLISH', { channel, event: 'tick', payload }),
  };
}

/** A client of the SDK, subscribed on the next node. */
async function sdkClient(channel) {
  const { realtime } = createClient({ baseUrl: nextNode(), anonKey });
  const answer = await realtime.subscribe(channel);
  assert.equal(answer.ok, true, JSON.stringify(answer));
  const heard = collect(realtime, 'tick');
  return {
    heard: () => heard.map(({ meta }) => meta.messageId),
    publish: (payload) => realtime.publish(channel, 'tick', payload),
  };
}

/** A listener to Server-Sent Events on the next node. */
async function eventStream(channel) {
  const query = new URLSearchParams({ channel, token: anonKey });
  const response = await fetch(`${nextNode()}/api/realtime/events?${query}`);
  assert.equal(response.status, 200);
  let text = '';
  const read = async () => {
    for await (const bytes of response.body.pipeThrough(new TextDecoderStream())) text += bytes;
  };
  read().catch((error) => (text += `\n\nevent: tick\ndata: {"messageId":"${error}"}\n\n`));
  await until('the stream begins', () => text.includes('event: realtime:subscribed'));
  const ticks = () => text.matchAll(/^event: tick\n(?:id: .*\n)?data: (.*)\n\n/gm);
  return { heard: () => [...ticks()].map(([, data]) => JSON.parse(data).messageId) };
}

/** Returns what `create` makes for each node. */
async function onEveryNode(create) {
  const created = [];
  for (const _ of everyNode()) created.push(await create());
  return created;
}

async function createChannel() {
  const channel = harness.freshChannel();
  await harness.createChannel(channel);
  return channel;
}

await harness.runCases({
  async clients_of_every_kind_hear_one_order() {
    const channel = await createChannel();
    const kinds = TRANSPORTS.map((transports) => () => stockClient(channel, transports));
    const clients = [];
    for (const create of [...kinds, () => sdkClient(channel)]) {
      clients.push(...(await onEveryNode(create)));
    }
    const listeners = [...clients, ...(await onEveryNode(() => eventStream(channel)))];
    const calls = everyNode().map(async (node) => {
      const ids = [];
      for (const number of numbers) {
        const { messageId } = await publish(channel, 'tick', { number }, node);
        ids.push(messageId);
      }
      return ids;
    });
    for (const number of numbers) clients.forEach((client) => client.publish({ number }));
    const called = await Promise.all(calls);
    const count = EACH * (clients.length + everyNode().length);
    for (const { heard } of listeners) {
      await until(`${count} are heard`, () => heard().length >= count);
    }
    const order = listeners[0].heard();
    assert.equal(new Set(order).size, count);
    for (const { heard } of listeners) assert.deepEqual(heard(), order);
    for (const ids of called) assert.deepEqual(order.filter((id) => ids.includes(id)), ids);
  },

  async payloads_of_every_kind_arrive_on_other_nodes() {
    const bytes = Buffer.from([0, 1, 254, 255]);
    const shown = { type: 'Buffer', data: [0, 1, 254, 255] };
    const payloads = [
      [{ a: 1, b: { c: [null, 'grüß dich 🔔'] } }],
      [[1, 2]],
      ['text'],
      [5],
      [true],
      [null],
      [{}],
      [{ text: 'x'.repeat(900_000) }],
      [{ blob: bytes, list: ['x', bytes] }, { blob: shown, list: ['x', shown] }],
    ];
    for (const transports of TRANSPORTS) {
      const channel = await createChannel();
      const { socket } = await stockClient(channel, transports);
      const [documented, sdk] = [
        await stockClient(channel, transports),
        await stockClient(channel, transports, 'realtime:subscribe'),
      ];
      for (const [payload, arrives = payload] of payloads) {
        const heard = [documented, sdk].map((client) => next(client.socket, 'tick'));
        const publication = { channel, event: 'tick', payload };
        const answer = await ask(socket, 'REALTIME_PUBLISH', publication);
        assert.equal(answer.ok, true, JSON.stringify(answer));
        const [whole, { meta, ...keys }] = await Promise.all(heard);
        assert.deepEqual(whole.payload, arrives);
        // What is no object has the keys that spreading it has.
        assert.deepEqual(keys, { ...arrives });
        assert.deepEqual([whole.messageId, meta.messageId], Array(2).fill(answer.messageId));
      }
    }
  },

  async subscribers_of_a_topic_hear_one_order() {
    const context = forge.freshContext();
    const clients = await onEveryNode(() => forge.connect(context));
    const ears = [];
    for (const client of clients) ears.push(await forge.listen(client, 'my-channel'));
    const publishers = everyNode().map((node) => new forge.Publisher(context, { node }));
    const published = publishers.map(async (publisher, place) => {
      for (const number of numbers) {
        assert.ok(await publisher.publish('my-channel', { by: `request ${place}`, number }));
      }
    });
    const spoken = clients.flatMap((client, place) =>
      numbers.map(async (number) => {
        const { eventId } = await client.publish('my-channel', { by: `client ${place}`, number });
        assert.ok(eventId);
      }),
    );
    await Promise.all([...published, ...spoken]);
    const count = EACH * 2 * everyNode().length;
    for (const { heard } of ears) await until(`${count} are heard`, () => heard.length >= count);
    for (const { heard, errors } of ears) assert.deepEqual([heard, errors], [ears[0].heard, []]);
    const names = [...new Set(ears[0].heard.map(({ by }) => by))];
    assert.equal(names.length, 2 * everyNode().length);
    for (const name of names) {
      const own = ears[0].heard.filter(({ by }) => by === name);
      assert.deepEqual(own.map(({ number }) => number), numbers);
    }
  },
});
