// A page in a real browser, which can send its scope and credential only as a subprotocol.
import { readFile } from 'node:fs/promises';
import http from 'node:http';
import * as harness from './harness.mjs';
import { assert } from './harness.mjs';
import { Chromium } from './chromium.mjs';
import * as m2 from './m2.mjs';

// A browser is slow on a loaded machine.
const SECONDS = 170;

async function startHost() {
  const page = await readFile(new URL('m2_page.html', import.meta.url));
  const server = http.createServer((_, response) => {
    response.setHeader('content-type', 'text/html; charset=utf-8');
    response.end(page);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${server.address().port}/`;
}

async function withPage(work) {
  const [address, browser] = [await startHost(), await Chromium.start()];
  try {
    const page = await browser.open(address);
    await page.until(`document.readyState === 'complete' && typeof Client === 'function'`);
    await work(page);
  } finally {
    await browser.close();
  }
}

/** Connects the page's client with these subprotocols, which are JavaScript expressions. */
async function connect(page, offers) {
  await page.evaluate(`{
    globalThis.client = new Client(${JSON.stringify(m2.socketUrl())}, ${offers});
  }`);
  await page.until(`client.state !== 'connecting'`);
  const say = (text) => page.evaluate(`client.socket.send(${JSON.stringify(text)})`);
  const hear = async () => {
    await page.until('client.heard.length > 0');
    return page.evaluate('client.heard.shift()');
  };
  return { say, hear, state: await page.evaluate('client.state') };
}

const encoded = (text) => `base58(${JSON.stringify(text)})`;

await harness.runCases({
  async the_printed_headers_and_messages_do() {
    await withPage(async (page) => {
      const client = await connect(page, `[${encoded(m2.printedHeaders)}]`);
      assert.equal(client.state, 'open');
      const [protocol, offered] = await page.evaluate(
        `[client.socket.protocol, ${encoded(m2.printedHeaders)}]`,
      );
      assert.equal(protocol, offered);
      assert.equal(offered, m2.base58(m2.printedHeaders));
      await m2.goesThroughThePage(client);
    });
  },

  async a_user_hears_its_own_as_printed() {
    await withPage(async (page) => {
      const headers = m2.lines({ ...m2.place, authorization: m2.bearer('fakeUserId') });
      // The node takes the first usable one of several offers.
      const others = [`'graphql-ws'`, encoded('no headers'), encoded(headers), encoded('x-m2-a:b')];
      const client = await connect(page, `[${others}]`);
      assert.equal(client.state, 'open');
      assert.equal(await page.evaluate('client.socket.protocol'), m2.base58(headers));
      await m2.hearsItsOwn(client);
    });
  },

  async what_is_refused_is_never_open() {
    await withPage(async (page) => {
      const texts = [
        'x-m2-project:testProj',
        m2.lines({ ...m2.place, authorization: 'Bearer nonsense' }),
        'testOrg',
      ];
      for (const offers of [...texts.map(encoded), `'graphql-ws'`]) {
        const { state } = await connect(page, `[${offers}]`);
        assert.equal(state, 'closed with 1006', offers);
      }
    });
  },
}, SECONDS);
