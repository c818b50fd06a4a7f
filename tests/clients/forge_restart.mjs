// Subscribers that outlive the node, one in Node.js and two in tabs of a browser, each alone on a
// page of its own. Prints `ready` when all receive a steady flow of publications; then the test
// stops the node and starts it again. The clients reconnect by themselves. No publication that was
// answered with an event id may be missing or come twice.
import * as harness from './harness.mjs';
import { assert, until, url, within } from './harness.mjs';
import * as forge from './forge.mjs';
import { isConnected, withTabs } from './forge_tabs.mjs';

const CHANNEL = 'my-channel';
// A node takes a while to stop.
const RESTART_MS = 60_000;

/** Returns an interface to a subscriber in Node.js that `inTab` offers for one in a tab, too. */
async function inNode(context) {
  const client = forge.connect(context);
  const { heard, errors } = await forge.listen(client, CHANNEL);
  const times = () => client.states.filter(([state]) => state === 'connected').length;
  return {
    heard: async () => heard,
    lost: () => until('the client loses the node', () => client.states.length > 2, RESTART_MS),
    back: () => until('the client is back', () => times() > 1, RESTART_MS),
    hearsAfter: (count) => until('the client hears on', () => heard.length > count),
    errors: async () => errors,
  };
}

function inTab(page) {
  return {
    heard: () => page.evaluate('heard'),
    lost: () => page.until('states.length > 2', RESTART_MS),
    back: () => page.until(isConnected(2), RESTART_MS),
    hearsAfter: (count) => page.until(`heard.length > ${count}`),
    errors: () => page.evaluate('errors'),
  };
}

async function outlive(subscriber, ticker, goesDown) {
  await subscriber.hearsAfter(20);
  await goesDown();
  await subscriber.lost();
  await subscriber.back();
  await subscriber.hearsAfter((await subscriber.heard()).length + 20);
  await ticker.stop();
  await subscriber.hearsAfter(ticker.counted.length - 1);
  ticker.check(await subscriber.heard());
  assert.deepEqual(await subscriber.errors(), []);
}

await harness.run(150, async () => {
  const contexts = [forge.freshContext(), forge.freshContext(), forge.freshContext()];
  const [own, ...theirs] = contexts;
  const wishes = theirs.map((context) => ({ node: url, channel: CHANNEL, context }));
  await withTabs(wishes, async (pages) => {
    const subscribers = [await inNode(own), ...pages.map(inTab)];
    let running = 0;
    const allRun = () => {
      running += 1;
      if (running === subscribers.length) console.log('ready');
    };
    const all = subscribers.map((subscriber, place) => {
      const ticker = new forge.Ticker(new forge.Publisher(contexts[place]), CHANNEL);
      return outlive(subscriber, ticker, allRun);
    });
    await within('all are through', Promise.all(all), 140_000);
  });
});
