// A client of bare packets that is cut at chosen moments, and says what it received.
import { createRequire } from 'node:module';
import * as harness from './harness.mjs';
import { assert, publish, sleep, url } from './harness.mjs';

// The stock client's own WebSocket.
const require = createRequire(import.meta.url);
const besideClient = [require.resolve('engine.io-client')];
const WebSocket = require(require.resolve('ws', { paths: besideClient }));
const CHANNEL = harness.freshChannel();
const token = harness.userToken(harness.freshUser());

class Client {
  numbers = [];
  acks = 0;

  async connect(resume = {}) {
    this.socket = new WebSocket(`${url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket`);
    const entered = new Promise((resolve) => (this.entered = resolve));
    this.socket.on('message', (data) => this.take(data.toString()));
    await new Promise((resolve) => this.socket.once('open', resolve));
    this.socket.send(`40${JSON.stringify({ token, ...resume })}`);
    this.welcome = await harness.within('the welcome', entered);
    return this;
  }

  take(text) {
    if (text.startsWith('40')) this.entered(JSON.parse(text.slice(2)));
    if (text.startsWith('43')) this.acks += 1;
    if (!text.startsWith('42')) return;
    const [name, message, offset] = JSON.parse(text.slice(2));
    if (name !== 'n') return;
    this.numbers.push(message.payload.n);
    this.offset = offset;
  }

  async ask(name) {
    const acks = this.acks;
    this.socket.send(`420${JSON.stringify([name, { channel: CHANNEL }])}`);
    await harness.until(`${name} is answered`, () => this.acks > acks);
  }

  /** What it is sent from here on does not reach it, as far as it is concerned; it sees that the
   * node has acted on what it said. */
  stopReading() {
    this.take = (text) => {
      if (text.startsWith('43')) this.acks += 1;
    };
  }

  async cut() {
    await sleep(100);
    this.socket._socket.resetAndDestroy();
    await sleep(100);
  }

  async comeBack() {
    const next = await new Client().connect({ pid: this.welcome.pid, offset: this.offset });
    assert.equal(next.welcome.pid, this.welcome.pid, 'it is recovered');
    // The answer comes behind all that it missed.
    await next.ask('REALTIME_SUBSCRIBE');
    return next;
  }
}

const say = (n) => publish(CHANNEL, 'n', { n });

async function oneWhoReceivedZero() {
  const client = await new Client().connect();
  await client.ask('REALTIME_SUBSCRIBE');
  await say(client.numbers.length);
  await harness.until('it hears', () => client.numbers.length === 1);
  client.stopReading();
  await say(1);
  return client;
}

const cases = {
  /** Subscribing again begins nothing anew. */
  async again() {
    const client = await oneWhoReceivedZero();
    await say(2);
    await client.ask('REALTIME_SUBSCRIBE');
    await client.cut();
    await say(3);
    assert.deepEqual((await client.comeBack()).numbers, [1, 2, 3]);
  },

  /** What came while it heard the channel is missed, whatever it did afterwards. */
  async between() {
    const client = await oneWhoReceivedZero();
    await client.ask('REALTIME_UNSUBSCRIBE');
    await say(2);
    await client.ask('REALTIME_SUBSCRIBE');
    await say(3);
    await client.cut();
    assert.deepEqual((await client.comeBack()).numbers, [1, 3]);
  },
};

await harness.createChannel(CHANNEL);
await harness.runCases(cases);
