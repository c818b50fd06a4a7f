// Pages in a real browser that load the Socket.IO client, from the node or from their own server.
import { readFile } from 'node:fs/promises';
import http from 'node:http';
import path from 'node:path';
import { anonKey, assert, createChannel, freshChannel, publish, runCases, sleep, url, within } from './harness.mjs';
import { Chromium } from './chromium.mjs';

// A browser is slow on a loaded machine.
const SECONDS = 170;
const modules = path.join(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname), 'node_modules');

/** Opens a page with these scripts, from a server of its own: its origin is not the node's. */
async function withPage(head, work) {
  const server = http.createServer(async (request, response) => {
    if (request.url === '/') {
      response.setHeader('content-type', 'text/html; charset=utf-8');
      response.end(`<!doctype html><title>A page</title>${head}<script>var isReady = true;</script>`);
      return;
    }
    const found = await readFile(path.join(modules, request.url)).catch(() => null);
    response.writeHead(found === null ? 404 : 200, { 'content-type': 'text/javascript' });
    response.end(found);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const browser = await Chromium.start();
  try {
    const page = await browser.open(`http://127.0.0.1:${server.address().port}/`);
    await page.until(`document.readyState === 'complete' && (globalThis.isReady ?? false)`);
    await work(page, browser);
  } finally {
    await browser.close();
    server.close();
  }
}

const script = (source) => `<script src="${source}"></script>`;

/** Opens a client in the page, which notes what it hears. */
function connect(page, options) {
  return page.evaluate(`{
    globalThis.heard = [];
    globalThis.socket = io(${JSON.stringify(url)}, ${JSON.stringify({ reconnection: false, ...options })});
    const note = (name) => (data) => heard.push(name + ': ' + (data?.message ?? data));
    for (const name of ['connect', 'connect_error', 'error', 'disconnect']) socket.on(name, note(name));
    socket.on('note', ({ payload }) => heard.push('note: ' + payload));
    undefined;
  }`);
}

async function subscribe(page, channel) {
  const argument = JSON.stringify({ channel });
  const answer = await page.evaluate(
    `new Promise((done) => socket.emit('REALTIME_SUBSCRIBE', ${argument}, done))`,
  );
  assert.equal(answer.ok, true, JSON.stringify(answer));
}

async function listens(page, options) {
  const channel = freshChannel();
  await createChannel(channel);
  await connect(page, { auth: { token: anonKey }, ...options });
  await page.until('heard.length > 0');
  assert.equal(await page.evaluate('heard[0]'), 'connect: undefined');
  await subscribe(page, channel);
  await publish(channel, 'note', 'hello');
  await page.until('heard.length > 1');
  assert.equal(await page.evaluate('heard[1]'), 'note: hello');
  return channel;
}

/** Loads the page again. While it navigates, Chromium may refuse to evaluate anything in it. */
async function reload(page) {
  const isNew = 'typeof heard === "undefined" && (globalThis.isReady ?? false)';
  await page.evaluate('location.reload()').catch(() => {});
  const look = async () => {
    while (!(await page.evaluate(isNew).catch(() => false))) await sleep(10);
  };
  await within('the page again', look());
}

/** Checks what a client that may not connect hears first. */
async function isRefused(page, options, expected) {
  await connect(page, options);
  await page.until('heard.length > 0');
  assert.match(await page.evaluate('heard[0]'), expected);
}

const cases = {
  async a_page_that_loads_the_client_from_the_node_connects() {
    for (const name of ['socket.io.js', 'socket.io.min.js']) {
      await withPage(script(`${url}/socket.io/${name}`), (page) => listens(page, {}));
    }
    const module = `import { io } from '${url}/socket.io/socket.io.esm.min.js'; globalThis.io = io;`;
    await withPage(`<script type="module">${module}</script>`, async (page) => {
      await page.until('typeof io === "function"');
      await listens(page, { transports: ['websocket'] });
    });
  },

  async a_page_of_another_origin_connects_with_credentials() {
    await withPage(script(`${url}/socket.io/socket.io.js`), async (page) => {
      const more = { withCredentials: true, extraHeaders: { 'x-tenant': 'a' } };
      await listens(page, { ...more, transports: ['polling'] });
      await listens(page, { ...more, forceBase64: true });
      await listens(page, { protocols: ['first', 'second'], transports: ['websocket'] });
    });
  },

  async a_page_that_is_left_is_gone() {
    await withPage(script(`${url}/socket.io/socket.io.js`), async (page) => {
      for (const transports of [['polling'], ['websocket']]) {
        for (const closeOnBeforeunload of [false, true]) {
          const channel = await listens(page, { transports, closeOnBeforeunload });
          await reload(page);
          let total = 1;
          for (let tries = 0; total > 0 && tries < 500; tries += 1) {
            await sleep(20);
            ({ audience: { total } } = await publish(channel, 'note', 'anybody?'));
          }
          assert.equal(total, 0, `${transports}, ${closeOnBeforeunload}`);
        }
      }
    });
  },

  async jsonp_of_socket_io_4_is_refused_by_name() {
    await withPage(script('/socket.io-client-4.0/dist/socket.io.js'), async (page) => {
      const options = { forceJSONP: true, transports: ['polling'], auth: { token: anonKey } };
      await isRefused(page, options, /^connect_error: JSONP is not supported: .*forceJSONP/);
    });
  },

  async jsonp_of_socket_io_2_is_refused_by_name() {
    await withPage(script('/socket.io-client-2/dist/socket.io.js'), async (page) => {
      const options = { forceJSONP: true, transports: ['polling'] };
      await isRefused(page, options, /^error: EIO must be 4: use socket\.io-client 3 or 4/);
    });
  },

  async the_msgpack_bundle_is_refused_by_name() {
    await withPage(script(`${url}/socket.io/socket.io.msgpack.min.js`), async (page) => {
      const expected = /^connect_error: Only the default parser .*socket\.io\.msgpack\.min\.js/;
      await isRefused(page, { auth: { token: anonKey } }, expected);
    });
  },
};

await runCases(cases, SECONDS);
