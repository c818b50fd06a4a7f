// The module for subscribers in two tabs of a real browser. Each tab has its own proxy to the node.
import * as harness from './harness.mjs';
import { assert, until } from './harness.mjs';
import * as forge from './forge.mjs';
import { isConnected, withTabs } from './forge_tabs.mjs';
import { Proxy } from './proxy.mjs';

const CHANNEL = 'my-channel';
// A browser is slow on a loaded machine.
const SECONDS = 170;

async function twoTabs(work) {
  const context = forge.freshContext();
  const proxies = [await Proxy.to(harness.nextNode()), await Proxy.to(harness.nextNode())];
  const wishes = proxies.map(({ url }) => ({ node: url, channel: CHANNEL, context }));
  const publisher = new forge.Publisher(context);
  await withTabs(wishes, (pages) => work({ pages, proxies, publisher }));
}

async function hears(pages, payloads) {
  for (const page of pages) {
    await page.until(`heard.length >= ${payloads.length} || errors.length > 0`);
    assert.deepEqual(await page.evaluate('[heard, errors]'), [payloads, []]);
  }
}

await harness.runCases({
  async two_tabs_hear_each_other() {
    await twoTabs(async ({ pages, publisher }) => {
      const publish = (page, payload) =>
        page.evaluate(`realtime.publish('${CHANNEL}', ${JSON.stringify(payload)})`);
      const result = await publish(pages[0], { from: 'here', text: 'é\n' });
      assert.deepEqual(Object.keys(result), ['eventId', 'eventTimestamp']);
      assert.match(result.eventTimestamp, /^\d{13}$/);
      await publish(pages[1], 'from there');
      await publisher.publish(CHANNEL, { by: 'HTTP' });
      await hears(pages, [{ from: 'here', text: 'é\n' }, 'from there', { by: 'HTTP' }]);
    });
  },

  async a_refusal_is_told_in_the_page() {
    await twoTabs(async ({ pages: [page] }) => {
      const subscribe = `realtime.subscribe('${CHANNEL}', () => {}, { token: 'example-token' })`;
      const refused = await page.evaluate(`${subscribe}.catch(({ message, code }) => [message, code])`);
      const message = 'Realtime token validation failed: INVALID_TOKEN';
      assert.deepEqual(refused, [message, 'INVALID_TOKEN']);
      const { errors } = await page.evaluate(`realtime.publish('', 'x')`);
      assert.equal(errors[0].code, 'INVALID_INPUT');
    });
  },

  async a_callback_that_fails_is_an_error_of_the_page() {
    await twoTabs(async ({ pages, publisher }) => {
      const [page] = pages;
      await page.evaluate(`realtime.subscribe('${CHANNEL}', () => { throw new Error('thrown'); })`);
      for (const number of [1, 2]) await publisher.publish(CHANNEL, { number });
      await hears(pages.slice(1), [{ number: 1 }, { number: 2 }]);
      await page.until('heard.length === 2 && errors.length === 2');
      const errors = await page.evaluate('errors.splice(0)');
      assert.deepEqual(errors, ['Uncaught Error: thrown', 'Uncaught Error: thrown']);
    });
  },

  async tabs_that_were_cut_off_miss_nothing() {
    await twoTabs(async ({ pages, proxies, publisher }) => {
      const ticker = new forge.Ticker(publisher, CHANNEL);
      for (const [times, isNoticed] of [[1, true], [2, false]]) {
        for (const page of pages) await page.until(isConnected(times));
        const before = ticker.counted.length;
        ticker.most = before + forge.MISSED_MOST;
        for (const proxy of proxies) proxy.cut({ isNoticed });
        for (const page of pages) await page.until(`states.at(-1) !== 'connected'`);
        await until('much is missed', () => ticker.counted.length > before + 30);
        for (const proxy of proxies) proxy.mend();
        for (const page of pages) await page.until(isConnected(times + 1));
        ticker.most = Infinity;
      }
      await ticker.stop();
      await hears(pages, ticker.counted);
    });
  },

  async a_tab_that_closes_its_client_leaves() {
    await twoTabs(async ({ pages, publisher }) => {
      for (const page of pages) await page.evaluate('realtime.close()');
      await forge.leftAlone(publisher, CHANNEL);
      for (const page of pages) assert.equal(await page.evaluate('states.at(-1)'), 'closed');
    });
  },
}, SECONDS);
