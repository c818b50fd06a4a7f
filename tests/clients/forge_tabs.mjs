// Pages of a host application in a real browser, which import the module from the node.
import { readFile } from 'node:fs/promises';
import http from 'node:http';
import { assert } from './harness.mjs';
import { Chromium } from './chromium.mjs';
import * as forge from './forge.mjs';

/** Serves the page, and signs any context that is named in its address. */
async function startHost() {
  const page = await readFile(new URL('forge_page.html', import.meta.url));
  const server = http.createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url, 'http://host');
    const isToken = pathname === '/context-token';
    response.setHeader('content-type', isToken ? 'text/plain' : 'text/html; charset=utf-8');
    const token = () => forge.contextToken(JSON.parse(searchParams.get('context')));
    response.end(isToken ? token() : page);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${server.address().port}/`;
}

/**
 * Opens a tab for each `{ node, channel, context }`, subscribes each, and passes them to `work`.
 * Fails if a tab has errors afterwards that `work` did not take out.
 */
export async function withTabs(wishes, work) {
  const [address, browser] = [await startHost(), await Chromium.start()];
  try {
    const pages = [];
    for (const { context, ...wish } of wishes) {
      const query = new URLSearchParams({ ...wish, context: JSON.stringify(context) });
      const page = await browser.open(`${address}?${query}`);
      await page.until('window.realtime');
      pages.push(page);
    }
    await work(pages);
    for (const page of pages) assert.deepEqual(await page.evaluate('errors'), []);
  } finally {
    await browser.close();
  }
}

/** Returns a condition for a page: it has connected at least this many times, and is connected. */
export const isConnected = (times) => {
  const count = `states.filter((state) => state === 'connected').length`;
  return `${count} >= ${times} && states.at(-1) === 'connected'`;
};
