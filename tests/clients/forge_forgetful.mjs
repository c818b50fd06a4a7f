// The module for subscribers when it reconnects too late, to a node that keeps events for only a
// second.
import * as harness from './harness.mjs';
import { assert, sleep, until } from './harness.mjs';
import { Publisher, connect, freshContext, hears, listen } from './forge.mjs';
import { Proxy } from './proxy.mjs';

const CHANNEL = 'my-channel';

await harness.runCases({
  async who_was_away_for_longer_than_events_are_kept_is_told() {
    const [context, proxy] = [freshContext(), await Proxy.to(harness.url)];
    const [client, publisher] = [connect(context, { at: proxy.url }), new Publisher(context)];
    const [ear, witness] = [await listen(client, CHANNEL), await listen(connect(context), CHANNEL)];
    await publisher.publish(CHANNEL, 'before');
    await hears(ear, ['before']);
    proxy.cut({ isNoticed: true });
    await until('the client knows', () => client.state() !== 'connected');
    await publisher.publish(CHANNEL, 'missed');
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    proxy.mend();
    await client.comesBack(1);
    await until('it is told', () => ear.errors.length > 0);
    assert.deepEqual(ear.errors.map(({ code }) => code), ['GAP']);
    await publisher.publish(CHANNEL, 'after');
    await hears(ear, ['before', 'after']);
    await hears(witness, ['before', 'missed', 'after']);
    assert.deepEqual(witness.errors, []);
    proxy.close();
  },

  async a_replay_cut_short_does_not_count_as_heard() {
    const [context, proxy] = [freshContext(), await Proxy.to(harness.url)];
    const [client, publisher] = [connect(context, { at: proxy.url }), new Publisher(context)];
    const [ear, witness] = [await listen(client, CHANNEL), await listen(connect(context), CHANNEL)];
    await publisher.publish(CHANNEL, 'before');
    await hears(ear, ['before']);
    // The first time, its replay does not arrive before the next cut. The second time is too late,
    // though not long after the first.
    client.loses = ({ replay }) => replay !== undefined;
    for (const [times, absenceMs] of [[1, 0], [2, 900]]) {
      proxy.cut({ isNoticed: true });
      await until('the client knows', () => client.state() !== 'connected');
      if (times === 1) await publisher.publish(CHANNEL, 'missed');
      await sleep(absenceMs);
      proxy.mend();
      await client.comesBack(times);
      await until('it subscribed', () => client.answers('subscribed').length === times + 1);
    }
    await until('it is told', () => ear.errors.length > 0);
    assert.ok(ear.errors.every(({ code }) => code === 'GAP'));
    await publisher.publish(CHANNEL, 'after');
    await hears(ear, ['before', 'after']);
    await hears(witness, ['before', 'missed', 'after']);
    proxy.close();
  },
});
