// Subscriptions that end with their realtime token, on a node that is configured to end them.
import * as harness from './harness.mjs';
import { assert, until } from './harness.mjs';
import * as forge from './forge.mjs';
import { Publisher, connect, freshContext, hears, listen } from './forge.mjs';

const [CHANNEL, CLAIMS] = ['my-channel', { users: ['a'] }];
const MESSAGE = 'Realtime token validation failed: TOKEN_EXPIRED';

await harness.runCases({
  async a_token_that_is_a_function_keeps_the_subscription() {
    const context = freshContext();
    const sign = (lifetime) => forge.channelToken(context, CHANNEL, CLAIMS, lifetime);
    const lifetimes = [2, 3, 600];
    const client = connect(context);
    const token = () => sign(lifetimes.shift());
    const ears = [await listen(client, CHANNEL, { token })];
    const options = { token: sign(600) };
    const ticker = new forge.Ticker(new Publisher(context), CHANNEL, { options });
    const isRenewed = () => lifetimes.length === 0 && client.answers('subscribed').length === 3;
    await until('it is subscribed with the last of them', isRenewed);
    const { length } = ears[0].heard;
    await until('it hears on', () => ears[0].heard.length > length + 20);
    await ticker.stop();
    await hears(ears[0], ticker.counted);
    assert.deepEqual(ears[0].errors, []);
    assert.equal(client.sockets.length, 1);
  },

  async a_token_that_is_text_ends_it() {
    const context = freshContext();
    const [client, publisher] = [connect(context), new Publisher(context)];
    const [short, long] = [2, 600].map((life) => forge.channelToken(context, CHANNEL, CLAIMS, life));
    const ear = await listen(client, CHANNEL, { token: short });
    const open = await listen(client, CHANNEL);
    await publisher.publish(CHANNEL, 'in time', { token: long });
    await until('it ends', () => ear.errors.length > 0);
    assert.deepEqual(ear.errors.map(({ message, code }) => [message, code]), [[MESSAGE, 'TOKEN_EXPIRED']]);
    assert.equal(await publisher.publish(CHANNEL, 'too late', { token: long }), null);
    await publisher.publish(CHANNEL, 'for all');
    await hears(open, ['for all']);
    assert.deepEqual(ear.heard, ['in time']);
    // A client with another token may subscribe again.
    const again = await listen(client, CHANNEL, { token: long });
    await publisher.publish(CHANNEL, 'again', { token: long });
    await hears(again, ['again']);
    const expired = await forge.rejection(client.subscribe(CHANNEL, () => {}, { token: short }));
    assert.deepEqual([expired.message, expired.code], [MESSAGE, 'TOKEN_EXPIRED']);
  },
});
