// A client of bare packets that is cut at chosen moments, and compares what it received.
import { createRequire } from 'node:module';
import * as harness from './harness.mjs';
import { assert, publish, sleep, url } from './harness.mjs';

// The WebSocket implementation of the stock client.
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

  /**
   * Ignores all events from now on, as if they had not arrived. Acknowledgements are still counted,
   * which show that the node has handled a request.
   */
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
    // The answer comes after all events that the client missed.
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
  /** A second subscribe does not reset what the client is known to have received. */
  async again() {
    const client = await oneWhoReceivedZero();
    await say(2);
    await client.ask('REALTIME_SUBSCRIBE');
    await client.cut();
    await say(3);
    assert.deepEqual((await client.comeBack()).numbers, [1, 2, 3]);
  },

  /**
   * Events that came while the client was subscribed are recovered, even if it unsubscribed later.
   */
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
