// Stock clients of every generation with every option that a node can notice.
import { createRequire } from 'node:module';
import { anonKey, assert, ask, createChannel, freshChannel, runCases, url, within } from './harness.mjs';

const require = createRequire(import.meta.url);
const LATEST = 'socket.io-client';
// Generations that speak Engine.IO 4, the oldest first.
const SERVED = ['-3', '-4.0', '-4.1', '-4.5', '-4.6', '-4.7', ''].map((it) => LATEST + it);

// What a client is opened with in all cases. No client may hide a refusal by trying again.
const PLAIN = { auth: { token: anonKey }, reconnection: false, forceNew: true };

const SOCKET_ONLY = { transports: ['websocket'] };
const POLLING_ONLY = { transports: ['polling'] };

// The options that change what a client sends, each with the transport that it must end on.
const OPTIONS = {
  'transports: both': [{ transports: ['polling', 'websocket'] }, 'websocket'],
  'transports: the other order': [{ transports: ['websocket', 'polling'] }, 'websocket'],
  'transports: polling': [POLLING_ONLY, 'polling'],
  'transports: websocket': [SOCKET_ONLY, 'websocket'],
  'transports: webtransport is passed over': [{ transports: ['polling', 'webtransport'] }, 'polling'],
  upgrade: [{ upgrade: false }, 'polling'],
  rememberUpgrade: [{ rememberUpgrade: true }, 'websocket'],
  tryAllTransports: [{ transports: ['websocket', 'polling'], tryAllTransports: true }, 'websocket'],
  path: [{ path: '/socket.io' }, 'websocket'],
  'path: a folder below': [{ path: '/socket.io/below' }, 'websocket'],
  addTrailingSlash: [{ addTrailingSlash: false }, 'websocket'],
  'addTrailingSlash, polling': [{ addTrailingSlash: false, ...POLLING_ONLY }, 'polling'],
  'addTrailingSlash, websocket': [{ addTrailingSlash: false, ...SOCKET_ONLY }, 'websocket'],
  forceBase64: [{ forceBase64: true }, 'websocket'],
  'forceBase64, polling': [{ forceBase64: true, ...POLLING_ONLY }, 'polling'],
  'timestampRequests off': [{ timestampRequests: false }, 'websocket'],
  'timestampRequests on': [{ timestampRequests: true, ...SOCKET_ONLY }, 'websocket'],
  timestampParam: [{ timestampParam: 'stamp' }, 'websocket'],
  query: [{ query: { a: 'b c', token: 'ü&=' } }, 'websocket'],
  'query with names of the protocol': [{ query: { EIO: '4', j0: '1', b64: '1' } }, 'websocket'],
  protocols: [{ protocols: ['first.v1', 'second'], ...SOCKET_ONLY }, 'websocket'],
  'protocols: one': [{ protocols: 'only', ...SOCKET_ONLY }, 'websocket'],
  'protocols, upgraded': [{ protocols: ['first', 'second'] }, 'websocket'],
  extraHeaders: [{ extraHeaders: { 'x-tenant': 'a', cookie: 'io=1' } }, 'websocket'],
  withCredentials: [{ withCredentials: true }, 'websocket'],
  perMessageDeflate: [{ perMessageDeflate: { threshold: 1 }, ...SOCKET_ONLY }, 'websocket'],
  autoUnref: [{ autoUnref: false }, 'websocket'],
  closeOnBeforeunload: [{ closeOnBeforeunload: true }, 'websocket'],
  onlyBinaryUpgrades: [{ onlyBinaryUpgrades: true }, null],
  auth: [{ auth: (done) => setTimeout(() => done({ token: anonKey }), 5) }, 'websocket'],
};

function open(client, options = {}, address = url) {
  const { io } = require(client);
  return io(address, { ...PLAIN, ...options });
}

/** Waits until a client is connected, and has moved to its last transport. */
async function connected(what, socket, transport) {
  const refused = new Promise((_, fail) => {
    socket.on('connect_error', ({ message, description }) => {
      fail(new Error(`${what}: ${message}: ${JSON.stringify(description?.message ?? description)}`));
    });
  });
  const opened = new Promise((done) => socket.on('connect', done));
  await within(what, Promise.race([opened, refused]));
  const { engine } = socket.io;
  if (transport !== null && engine.transport.name !== transport) {
    const moved = new Promise((done) => engine.once('upgrade', done));
    await within(`${what}: the move to ${transport}`, Promise.race([moved, refused]));
    assert.equal(engine.transport.name, transport, what);
  }
}

/** Subscribes and publishes, and checks that the client hears itself, with text and binary. */
async function exchange(what, socket, channel) {
  const subscribed = await ask(socket, 'REALTIME_SUBSCRIBE', { channel });
  assert.equal(subscribed.ok, true, `${what}: ${JSON.stringify(subscribed)}`);
  const heard = new Promise((done) => socket.once('note', done));
  const payload = { text: 'grüß dich', blob: Buffer.from([0, 255]) };
  const published = await ask(socket, 'REALTIME_PUBLISH', { channel, event: 'note', payload });
  assert.equal(published.ok, true, `${what}: ${JSON.stringify(published)}`);
  const message = await within(`${what}: its own message`, heard);
  const blob = { type: 'Buffer', data: [0, 255] };
  assert.deepEqual(message.payload, { text: 'grüß dich', blob }, what);
}

/** Returns the error with which a client is refused. */
async function refusal(what, socket) {
  const refused = new Promise((done, fail) => {
    // The text of a response is there only while the event is handled.
    const noted = (error) => {
      const { message = error, description, context } = error;
      done({ message, description, text: context?.responseText });
    };
    socket.on('connect_error', noted);
    socket.on('error', noted);
    socket.on('connect', () => fail(new Error(`${what}: connected`)));
  });
  const error = await within(what, refused);
  socket.close();
  return error;
}

const cases = {
  async every_generation_connects_over_every_transport() {
    const channel = freshChannel();
    await createChannel(channel);
    for (const client of SERVED) {
      for (const transports of [['polling', 'websocket'], ['polling'], ['websocket']]) {
        const what = `${client} over ${transports}`;
        const socket = open(client, { transports });
        await connected(what, socket, transports.at(-1));
        await exchange(what, socket, channel);
        socket.close();
      }
    }
  },

  async every_option_works() {
    const channel = freshChannel();
    await createChannel(channel);
    for (const client of [SERVED[0], SERVED[1], LATEST]) {
      for (const [name, [options, transport]] of Object.entries(OPTIONS)) {
        const what = `${client} with ${name}`;
        const socket = open(client, options);
        await connected(what, socket, transport);
        await exchange(what, socket, channel);
        socket.close();
      }
    }
  },

  async the_first_subprotocol_is_selected() {
    const socket = open(LATEST, { protocols: ['first.v1', 'second'], ...SOCKET_ONLY });
    await connected('a client with subprotocols', socket, 'websocket');
    assert.equal(socket.io.engine.transport.ws.protocol, 'first.v1');
    socket.close();
  },

  async retries_are_acknowledged() {
    const channel = freshChannel();
    await createChannel(channel);
    const socket = open(LATEST, { retries: 3, ackTimeout: 20_000 });
    await connected('a client with retries', socket, 'websocket');
    // With retries the first argument of an acknowledgement is an error or null.
    const answers = ['REALTIME_SUBSCRIBE', 'REALTIME_UNSUBSCRIBE'].map((event) =>
      within(event, new Promise((done) => {
        socket.emit(event, { channel }, (error, answer) => done([error, answer.ok]));
      })),
    );
    assert.deepEqual(await Promise.all(answers), [[null, true], [null, true]]);
    socket.close();
  },

  async namespaces_are_refused_and_the_main_one_goes_on() {
    const channel = freshChannel();
    await createChannel(channel);
    const { Manager } = require(LATEST);
    const manager = new Manager(url, { reconnection: false });
    const [main, other] = [manager.socket('/', PLAIN), manager.socket('/chat', PLAIN)];
    const { message } = await refusal('a namespace', other);
    assert.equal(message, 'Invalid namespace');
    if (!main.connected) await connected('the main namespace', main, null);
    await exchange('the main namespace', main, channel);
    main.close();
  },

  async the_msgpack_parser_is_refused_by_name() {
    for (const transports of [['websocket'], ['polling']]) {
      const parser = require('socket.io-msgpack-parser');
      const { message } = await refusal(`${transports}`, open(LATEST, { parser, transports }));
      assert.match(message, /^Only the default parser of Socket\.IO is supported: .*msgpack/);
    }
  },

  async another_path_is_refused_by_name() {
    for (const path of ['/my-app/socket.io', '/']) {
      const socket = open(LATEST, { path, ...POLLING_ONLY });
      const { description, text } = await refusal(path, socket);
      assert.equal(description, 404);
      const { message, nextActions } = JSON.parse(text);
      assert.equal(message, `No Socket.IO at ${path.replace(/\/?$/, '/')}`);
      assert.match(nextActions, /served at \/socket\.io\/.*option path/);
    }
    const { description } = await refusal('a path', open(LATEST, { path: '/my-app', ...SOCKET_ONLY }));
    assert.match(description.message, /404/);
  },

  async clients_of_socket_io_2_are_refused() {
    const io = require('socket.io-client-2');
    for (const [transport, expected] of [['polling', /poll error/], ['websocket', /websocket error/]]) {
      const options = { transports: [transport], reconnection: false, forceNew: true };
      const { message } = await refusal(transport, io(url, options));
      assert.match(message, expected);
    }
  },
};

await runCases(cases, 85);
