// Both modules on a node with low limits for each installation.
import * as harness from './harness.mjs';
import { assert, sleep, until } from './harness.mjs';
import * as forge from './forge.mjs';
import { connect, freshContext, listen, told } from './forge.mjs';
import { Proxy } from './proxy.mjs';

const CHANNEL = 'my-channel';
const EXCEEDED = 'RATE_LIMIT_EXCEEDED';
const PATIENCE_MS = 50_000;

/** Publishes until the node refuses, and returns that result. */
async function refusal(publish) {
  let result = {};
  await until('it is refused', () => {
    publish().then((answer) => (result = answer.errors ? answer : result));
    return result.errors;
  });
  return result;
}

await harness.runCases({
  async what_is_over_the_limit_is_told() {
    const [context, server] = [freshContext(), await forge.importServed('/server.js')];
    server.configure({ url: harness.url, invocation: forge.invocationToken(context) });
    const nothing = { eventId: null, eventTimestamp: null };
    const byServer = await refusal(() => server.publish(CHANNEL, 'x'));
    assert.deepEqual(told(byServer), { ...nothing, errors: [{ message: EXCEEDED, status: 429 }] });
    const client = connect(context);
    const byClient = await refusal(() => client.publish(CHANNEL, 'x'));
    assert.deepEqual(told(byClient), { ...nothing, errors: [{ message: EXCEEDED, code: EXCEEDED }] });
    const refused = await forge.rejection(client.subscribe(CHANNEL, () => {}));
    assert.deepEqual([refused.message, refused.code], [EXCEEDED, EXCEEDED]);
  },

  async subscriptions_that_were_there_come_back_as_the_limit_allows() {
    const [context, proxy] = [freshContext(), await Proxy.to(harness.url)];
    const client = connect(context, { at: proxy.url });
    const channels = Array.from({ length: 12 }, (_, number) => `channel ${number}`);
    const ears = [];
    for (const channel of channels) {
      // New subscriptions are refused at the limit, so the test tries again.
      let ear = null;
      while (!ear) ear = await listen(client, channel).catch(() => sleep(100));
      ears.push(ear);
    }
    proxy.cut({ isNoticed: true });
    await until('the client knows', () => client.state() !== 'connected');
    const before = client.answers('subscribed').length;
    proxy.mend();
    const areBack = () => client.answers('subscribed').length === before + channels.length;
    await until('all are back', areBack, PATIENCE_MS);
    const limited = client.answers('error').filter(({ error }) => error.code === EXCEEDED);
    assert.ok(limited.length > 0, 'the limit was reached');
    for (const ear of ears) assert.deepEqual(ear.errors, []);
    proxy.close();
  },
}, 85);
