// Stock clients of which some compress messages and some do not, at a node that compresses. They
// offer compression unless `perMessageDeflate` is false.
import { constants, deflateRawSync } from 'node:zlib';
import { io } from 'socket.io-client';
import WebSocket from 'ws';
import * as harness from './harness.mjs';
import { apiKey, ask, assert, next, until, url, within } from './harness.mjs';
import * as forge from './forge.mjs';
import * as m2 from './m2.mjs';

const EXTENSION = 'permessage-deflate';
const COMPRESSES = { perMessageDeflate: { threshold: 0 } };
const DOES_NOT = { perMessageDeflate: false };
const PUBLICATIONS = 60;
/** Whether the node is to compress. */
const IS_ON = process.env.COMPRESSION !== 'off';

/** Returns a payload whose JSON has about this many bytes, and that a compressor likes or not. */
const payloadOf = (n, bytes) => ({ n, text: `é ${n} € `.repeat(bytes / 12), end: '\u{1f600}' });

/** A socket of an interface without a library of its own, and the texts that it has received. */
async function open(path, options, headers = {}, protocols = []) {
  const socket = new WebSocket(url.replace('http', 'ws') + path, protocols, { headers, ...options });
  const heard = [];
  socket.on('message', (bytes) => heard.push(bytes.toString()));
  await next(socket, 'open');
  return { socket, heard, say: (message) => socket.send(JSON.stringify(message)) };
}

/** The frame of a text, compressed, with a mask that changes nothing. */
function compressedFrame(text) {
  const payload = deflateRawSync(text, { finishFlush: constants.Z_SYNC_FLUSH }).subarray(0, -4);
  assert.ok(payload.length > 125 && payload.length < 65_536);
  const head = Buffer.from([0xc1, 0x80 | 126, 0, 0, 0, 0, 0, 0]);
  head.writeUInt16BE(payload.length, 2);
  return Buffer.concat([head, payload]);
}

/** A masked text frame of a long payload, with a mask that changes nothing. */
function longFrame(first, payload) {
  assert.ok(payload.length >= 65_536);
  const head = Buffer.alloc(14);
  head.set([first, 0x80 | 127]);
  head.writeBigUInt64BE(BigInt(payload.length), 2);
  return Buffer.concat([head, payload]);
}

const isCompressed = (socket) => socket.extensions === EXTENSION;

async function connect(options) {
  const socket = io(url, { auth: { apiKey }, forceNew: true, reconnection: false, ...options });
  await next(socket, 'connect');
  return socket;
}

async function subscribe(socket, channel) {
  const answer = await ask(socket, 'REALTIME_SUBSCRIBE', { channel });
  assert.equal(answer.ok, true, JSON.stringify(answer));
}

/** The WebSocket below a socket of Socket.IO. */
const below = (socket) => socket.io.engine.transport.ws;

await harness.runCases({
  async a_mixed_audience_hears_the_same_in_the_same_order() {
    const channel = harness.freshChannel();
    await harness.createChannel(channel);
    const clients = [];
    for (let n = 0; n < 12; n += 1) {
      const options = n % 2 ? DOES_NOT : COMPRESSES;
      const socket = await connect({ transports: ['websocket'], ...options });
      assert.equal(isCompressed(below(socket)), IS_ON && n % 2 === 0);
      clients.push({ socket, heard: harness.collect(socket, 'tick') });
      await subscribe(socket, channel);
    }
    const polling = await connect({ transports: ['polling'] });
    clients.push({ socket: polling, heard: harness.collect(polling, 'tick') });
    await subscribe(polling, channel);
    const sizes = [12, 500, 2_000, 5_000, 100_000];
    const publishing = [];
    for (let n = 0; n < PUBLICATIONS; n += 1) {
      const payload = payloadOf(n, sizes[n % sizes.length]);
      // Clients that compress, and those that do not, publish too.
      const { socket } = clients[n % clients.length];
      const publish = { channel, event: 'tick', payload };
      const overHttp = () => harness.publish(channel, 'tick', payload);
      publishing.push(n % 3 ? ask(socket, 'REALTIME_PUBLISH', publish) : overHttp());
    }
    await Promise.all(publishing);
    const all = () => clients.every(({ heard }) => heard.length === PUBLICATIONS);
    await until('everybody has heard everything', all);
    const [{ heard: first }, ...others] = clients;
    const numbers = first.map(({ payload }) => payload.n).sort((a, b) => a - b);
    assert.deepEqual(numbers, Array.from({ length: PUBLICATIONS }, (_, n) => n));
    for (const { payload } of first) {
      assert.deepEqual(payload, payloadOf(payload.n, sizes[payload.n % sizes.length]));
    }
    for (const { heard } of others) assert.deepEqual(heard, first);
  },

  async a_client_that_upgrades_from_long_polling_compresses_from_then_on() {
    const channel = harness.freshChannel();
    await harness.createChannel(channel);
    const socket = await connect(COMPRESSES);
    const heard = harness.collect(socket, 'tick');
    await subscribe(socket, channel);
    await until('it has upgraded', () => socket.io.engine.transport.name === 'websocket');
    assert.ok(isCompressed(below(socket)));
    const payload = payloadOf(1, 20_000);
    const answer = await ask(socket, 'REALTIME_PUBLISH', { channel, event: 'tick', payload });
    assert.equal(answer.ok, true);
    await until('it hears itself', () => heard.length === 1);
    assert.deepEqual(heard[0].payload, payload);
  },

  async retained_publications_are_compressed_for_those_who_compress() {
    const channel = harness.freshChannel('kept');
    await harness.createChannel(channel, { replaySeconds: 60 });
    const payload = payloadOf(1, 20_000);
    await harness.publish(channel, 'tick', payload);
    for (const options of [COMPRESSES, DOES_NOT, COMPRESSES]) {
      const socket = await connect({ transports: ['websocket'], ...options });
      const heard = harness.collect(socket, 'tick');
      await subscribe(socket, channel);
      await until('it hears what is kept', () => heard.length === 1);
      assert.deepEqual(heard[0].payload, payload);
    }
  },

  async subscribers_of_forge_hear_the_same() {
    const context = forge.freshContext();
    const publisher = new forge.Publisher(context);
    const listeners = [];
    for (const options of [COMPRESSES, DOES_NOT, COMPRESSES]) {
      const listener = await open('/forge/realtime/v1/ws', options);
      assert.equal(isCompressed(listener.socket), options === COMPRESSES);
      const contextToken = forge.contextToken(context);
      listener.say({ type: 'connect', id: 1, contextToken });
      listener.say({ type: 'subscribe', id: 2, channel: 'news', name: 'news' });
      await until('it is answered', () => listener.heard.length === 2);
      assert.equal(JSON.parse(listener.heard[1]).type, 'subscribed', listener.heard[1]);
      listeners.push(listener);
    }
    for (let n = 0; n < 10; n += 1) {
      assert.ok(await publisher.publish('news', payloadOf(n, 30_000)));
    }
    const events = (heard) => heard.slice(2).map((text) => JSON.parse(text).payload);
    await until('all hear all', () => listeners.every(({ heard }) => heard.length === 12));
    const expected = Array.from({ length: 10 }, (_, n) => payloadOf(n, 30_000));
    for (const { heard } of listeners) {
      assert.deepEqual(events(heard).map((payload) => JSON.parse(payload)), expected);
    }
  },

  async subscribers_of_m2_hear_the_same() {
    const resource = { type: 'kvStore', id: harness.freshUser() };
    const data = payloadOf(1, 30_000);
    await m2.put(resource, data);
    const listeners = [];
    for (const options of [COMPRESSES, DOES_NOT]) {
      const listener = await open('/api/realtime/', options, { ...m2.place, 'x-api-key': apiKey });
      assert.equal(isCompressed(listener.socket), options === COMPRESSES);
      listener.say({ action: 'subscribe', resource });
      listeners.push(listener);
    }
    const all = (count) => () => listeners.every(({ heard }) => heard.length === count);
    await until('all have the document', all(1));
    await m2.put(resource, payloadOf(2, 30_000));
    await until('all have the next one', all(2));
    const [first, second] = listeners.map(({ heard }) => heard);
    assert.deepEqual(first, second);
    assert.deepEqual(first.map((text) => JSON.parse(text).data), [data, payloadOf(2, 30_000)]);
  },

  async long_messages_that_are_short_on_the_wire_leave_others_their_turn() {
    const contextToken = forge.contextToken(forge.freshContext());
    const connected = async (options) => {
      const client = await open('/forge/realtime/v1/ws', options);
      client.say({ type: 'connect', id: 1, contextToken });
      await until('it is connected', () => client.heard.length === 1);
      return client;
    };
    const [attackers, each] = [[], 64];
    for (let n = 0; n < 8; n += 1) attackers.push(await connected(COMPRESSES));
    const { socket: other } = await connected(DOES_NOT);
    const text = JSON.stringify({ type: 'nonsense', id: 1, pad: '0'.repeat(900_000) });
    const flood = Buffer.concat(Array(each).fill(compressedFrame(text)));
    const began = performance.now();
    // Below the library, which would compress each message anew.
    for (const { socket } of attackers) socket._socket.write(flood);
    const isOver = () => attackers.every(({ heard }) => heard.length === 1 + each);
    let longest = 0;
    while (!isOver()) {
      const asked = performance.now();
      other.ping();
      await next(other, 'pong');
      longest = Math.max(longest, performance.now() - asked);
      for (const { socket } of attackers) assert.equal(socket.readyState, WebSocket.OPEN);
    }
    const all = performance.now() - began;
    console.log(`of ${all} ms the other client waited ${longest} ms at once`);
    assert.ok(longest < all / 4, `of ${all} ms the other client waited ${longest} ms at once`);
  },

  async blocks_without_content_cost_others_no_time() {
    const { socket: other } = await open('/socket.io/?EIO=4&transport=websocket', DOES_NOT);
    // Returns how long the other client waits at most while eight send this before any credential.
    const longestBeside = async (frame, expected) => {
      const opening = Array.from({ length: 8 }, () => open('/socket.io/?EIO=4&transport=websocket', COMPRESSES));
      const sockets = (await Promise.all(opening)).map(({ socket }) => socket);
      const ends = [];
      for (const socket of sockets) {
        socket.on('error', () => {});
        socket.once('pong', () => ends.push('pong'));
        socket.once('close', (code) => ends.push(code));
        socket._socket.write(frame);
        socket.ping();
      }
      let longest = 0;
      while (ends.length < sockets.length) {
        const asked = performance.now();
        other.ping();
        await next(other, 'pong');
        longest = Math.max(longest, performance.now() - asked);
      }
      assert.deepEqual(ends, Array(8).fill(expected));
      for (const socket of sockets) socket.terminate();
      return longest;
    };
    // An answer to a heartbeat, which needs no credential.
    const plain = await longestBeside(longFrame(0x81, Buffer.from('3'.padEnd(990_000))), 'pong');
    for (const [block, count] of [['0208208000', 198_000], ['0300', 490_000]]) {
      const blocks = Buffer.from(block.repeat(count), 'hex');
      const hostile = await longestBeside(longFrame(0xc1, blocks), 1007);
      const seen = `the other client waited ${hostile} ms, and ${plain} ms beside plain messages`;
      console.log(seen);
      assert.ok(hostile < 1_000 + 4 * plain, seen);
    }
  },

  async a_bomb_is_refused() {
    for (const path of ['/socket.io/?EIO=4&transport=websocket', '/forge/realtime/v1/ws']) {
      const { socket } = await open(path, COMPRESSES);
      assert.ok(isCompressed(socket));
      const closed = new Promise((resolve) => socket.once('close', resolve));
      socket.send('0'.repeat(4_000_000));
      assert.equal(await within('the close frame', closed), 1009, path);
    }
  },
});
