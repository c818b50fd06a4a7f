// A page in a real browser that listens with EventSource.
import http from 'node:http';
import * as harness from './harness.mjs';
import { assert } from './harness.mjs';
import { Chromium } from './chromium.mjs';
import { Proxy } from './proxy.mjs';

// A browser is slow on a loaded machine.
const SECONDS = 170;

const PAGE = `<!doctype html>
<title>A page that listens to events</title>
<script>
  class Listener {
    heard = [];
    constructor(url) {
      this.source = new EventSource(url);
      this.source.onerror = () => this.heard.push('error ' + this.source.readyState);
      for (const name of ['tick', 'gap', 'realtime:subscribed']) {
        this.source.addEventListener(name, ({ data }) => {
          const { channel, payload } = JSON.parse(data);
          this.heard.push([name, channel, ...(payload === undefined ? [] : [payload])].join(' '));
        });
      }
    }
  }
</script>`;

async function withPage(work) {
  const server = http.createServer((_, response) => {
    response.setHeader('content-type', 'text/html; charset=utf-8');
    response.end(PAGE);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const browser = await Chromium.start();
  try {
    const page = await browser.open(`http://127.0.0.1:${server.address().port}/`);
    await page.until(`document.readyState === 'complete' && typeof Listener === 'function'`);
    await work(page);
  } finally {
    await browser.close();
    server.close();
  }
}

/** Opens the page's listener, and returns a function that waits for the next line that it hears. */
async function listen(page, base, channels) {
  const query = [...channels.map((channel) => ['channel', channel]), ['token', harness.anonKey]];
  const address = `${base}/api/realtime/events?${new URLSearchParams(query)}`;
  await page.evaluate(`{ globalThis.listener = new Listener(${JSON.stringify(address)}); }`);
  return async () => {
    await page.until('listener.heard.length > 0');
    return page.evaluate('listener.heard.shift()');
  };
}

/** Returns two channels that keep what is published, in the order of their names. */
async function twoChannels() {
  const channels = ['a', 'b'].map((prefix) => harness.freshChannel(prefix));
  for (const channel of channels) await harness.createChannel(channel, { replaySeconds: 60 });
  return channels;
}

await harness.runCases({
  async a_page_hears_its_channels() {
    await withPage(async (page) => {
      const [a, b] = await twoChannels();
      const hear = await listen(page, harness.nextNode(), [a, b]);
      assert.deepEqual([await hear(), await hear()].sort(), [
        `realtime:subscribed ${a}`,
        `realtime:subscribed ${b}`,
      ]);
      await harness.publish(b, 'tick', 1);
      assert.equal(await hear(), `tick ${b} 1`);
      await harness.publish(a, 'tick', 2);
      assert.equal(await hear(), `tick ${a} 2`);
    });
  },

  async a_page_continues_after_a_cut() {
    await withPage(async (page) => {
      const [a, b] = await twoChannels();
      const proxy = await Proxy.to(harness.nextNode());
      const hear = await listen(page, proxy.url, [a, b]);
      await hear();
      await hear();
      await harness.publish(a, 'tick', 1);
      assert.equal(await hear(), `tick ${a} 1`);
      proxy.cut({ isNoticed: true });
      await harness.publish(a, 'tick', 2);
      await harness.publish(b, 'tick', 3);
      proxy.mend();
      assert.equal(await hear(), 'error 0');
      const heard = [];
      while (heard.length < 2) {
        const line = await hear();
        assert.ok(!line.startsWith('gap'), line);
        if (line.startsWith('tick')) heard.push(line);
      }
      assert.deepEqual(heard.sort(), [`tick ${a} 2`, `tick ${b} 3`]);
      proxy.close();
    });
  },

  async a_page_is_refused() {
    await withPage(async (page) => {
      const hear = await listen(page, harness.nextNode(), ['nowhere']);
      // EventSource gives up at once if the answer is not a stream.
      assert.equal(await hear(), 'error 2');
    });
  },
}, SECONDS);
