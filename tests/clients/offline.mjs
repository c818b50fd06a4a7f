// A publisher whose connection is lost. It publishes with the function that the interface's page
// shows, taken from there.
import { readFile } from 'node:fs/promises';
import { io } from 'socket.io-client';
import {
  anonKey, ask, assert, collect, createChannel, freshChannel, next, nextNode, runCases, sleep, until,
  within,
} from './harness.mjs';
import { Proxy } from './proxy.mjs';

const PAGE = new URL('../../src/interface/insforge/README.md', import.meta.url);
const [, CODE] = /```js\n(let last = Promise\.resolve\(\);[^]*?)```/.exec(await readFile(PAGE, 'utf8'));

/** Returns the function `publish` of the page. */
const publisher = new Function('socket', 'channel', `${CODE}\nreturn publish;`);

const OPTIONS = {
  auth: { token: anonKey },
  forceNew: true,
  reconnectionDelay: 20,
  reconnectionDelayMax: 50,
};

/** Returns a publisher behind a proxy, and the numbers that a subscriber hears without it. */
async function start(options) {
  const channel = freshChannel();
  await createChannel(channel);
  const listener = io(nextNode(), OPTIONS);
  await next(listener, 'connect');
  await ask(listener, 'REALTIME_SUBSCRIBE', { channel });
  const heard = collect(listener, 'note');
  const proxy = await Proxy.to(nextNode());
  const socket = io(proxy.url, { ...OPTIONS, ...options });
  return { channel, heard, proxy, socket, numbers: () => heard.map(({ payload }) => payload.number) };
}

const upTo = (last) => Array.from({ length: last }, (_, at) => at + 1);

const cases = {
  async publications_made_offline_arrive_once_each_and_in_order() {
    for (const transports of [['polling', 'websocket'], ['polling'], ['websocket']]) {
      const { channel, proxy, socket, numbers } = await start({ transports });
      const publish = publisher(socket, channel);
      await within('the first', publish('note', { number: 1 }));
      // A client whose upgrade is cut while it pauses its polls notices only by its ping's timeout.
      const last = transports.at(-1);
      await until(`the client is on ${last}`, () => socket.io.engine.transport.name === last);
      const lost = next(socket, 'disconnect');
      proxy.cut({ isNoticed: true });
      await lost;
      const rest = [2, 3, 4, 5].map((number) => publish('note', { number }));
      await sleep(100);
      assert.deepEqual(numbers(), [1]);
      proxy.mend();
      const answers = await within('the others', Promise.all(rest));
      assert.ok(answers.every(({ ok }) => ok), JSON.stringify(answers));
      await until('the subscriber has heard all', () => numbers().length >= 5);
      assert.deepEqual(numbers(), upTo(5), `${transports}`);
      socket.close();
      proxy.close();
    }
  },

  async publications_that_are_cut_off_arrive() {
    const { channel, proxy, socket, numbers } = await start({ transports: ['websocket'] });
    const publish = publisher(socket, channel);
    const count = 8;
    const all = [];
    for (const number of upTo(count)) {
      all.push(publish('note', { number }));
      // The node may have received it or not, and the answer is lost.
      await sleep(number % 4);
      proxy.cut({ isNoticed: number % 2 === 0 });
      await sleep(30);
      proxy.mend();
      await within(`number ${number}`, all.at(-1));
    }
    await until('the subscriber has heard all', () => numbers().includes(count));
    // What was cut off was published again, and the node has recognized it.
    assert.deepEqual(numbers(), upTo(count));
    socket.close();
    proxy.close();
  },

  async the_queue_of_the_client_is_sent_before_its_subscribe() {
    const { channel, heard, proxy, socket } = await start({ retries: 3, ackTimeout: 10_000 });
    const subscribed = new Promise((done) => {
      socket.on('connect', () => socket.emit('REALTIME_SUBSCRIBE', { channel }, done));
    });
    assert.equal(await within('the first subscribe', subscribed), null);
    await until('the client is upgraded', () => socket.io.engine.transport.name === 'websocket');
    const lost = next(socket, 'disconnect');
    proxy.cut({ isNoticed: true });
    await lost;
    const publication = { channel, event: 'note', payload: { number: 1 } };
    const answered = new Promise((done) => {
      socket.emit('REALTIME_PUBLISH', publication, (...answer) => done(answer));
    });
    proxy.mend();
    const [error, answer] = await within('the answer', answered);
    assert.equal(error, null, 'the refusal counts as an acknowledgement');
    assert.equal(answer.error.code, 'REALTIME_NOT_SUBSCRIBED');
    assert.deepEqual(heard, []);
    socket.close();
    proxy.close();
  },
};

await runCases(cases, 85);
