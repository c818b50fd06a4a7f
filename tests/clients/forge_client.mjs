// The module for subscribers, as the node serves it, in Node.js with the package `ws`.
import * as harness from './harness.mjs';
import { assert, token, until, within } from './harness.mjs';
import * as forge from './forge.mjs';
import { Publisher, connect, freshContext, hears, listen, reachesNobody, told } from './forge.mjs';

const CHANNEL = 'my-channel';
const { Bitbucket, Confluence, Jira, createRealtime } = await forge.importServed('/client.js');

/** Returns a page with a listening client and a publisher over HTTP. */
async function page(options) {
  const context = freshContext();
  const [client, publisher] = [connect(context), new Publisher(context)];
  return { context, client, publisher, ear: await listen(client, CHANNEL, options) };
}

const TOKEN_FAILED = 'Realtime token validation failed: ';

await harness.runCases({
  async every_kind_of_payload_arrives() {
    const { client, publisher, ear } = await page();
    const texts = ['{"a":1}', '[1,2]', '"text"', '"5"', 'plain', '5', 'true', 'null', '', '{"a":', '"é\\n"'];
    for (const payload of texts) {
      const answer = await publisher.post('/publish', { name: CHANNEL, payload });
      assert.equal(typeof answer.eventId, 'string', payload);
      assert.match(answer.eventTimestamp, /^\d{13}$/);
    }
    const objects = [{ foo: 'foo' }, ['bar'], 'raw', '{"b":2}', 'null'];
    for (const payload of objects) {
      const answer = await client.publish(CHANNEL, payload);
      assert.deepEqual(Object.keys(answer), ['eventId', 'eventTimestamp']);
      assert.equal(typeof answer.eventId, 'string');
      assert.match(answer.eventTimestamp, /^\d{13}$/);
    }
    // Text that is not the JSON of a string, object or array is passed on as it was sent.
    const arrived = [{ a: 1 }, [1, 2], 'text', '5', 'plain', '5', 'true', 'null', '', '{"a":', 'é\n'];
    await hears(ear, [...arrived, ...objects]);
    assert.deepEqual(ear.errors, []);
  },

  async nobody_there_is_a_success_without_an_event() {
    const context = freshContext();
    const nobody = { eventId: null, eventTimestamp: null };
    const client = connect(context);
    assert.deepEqual(await client.publish(CHANNEL, 'x'), nobody);
    assert.deepEqual(await client.publishGlobal(CHANNEL, 'x'), nobody);
    assert.equal(await new Publisher(context).publish(CHANNEL, 'x'), null);
  },

  async global_and_scoped_never_meet() {
    const { context, client, publisher, ear } = await page();
    const options = { globally: true };
    const global = await listen(client, CHANNEL, undefined, options);
    const elsewhere = freshContext({ installationId: context.installationId, moduleKey: 'other' });
    const other = await listen(connect(elsewhere), CHANNEL, undefined, options);
    await publisher.publish(CHANNEL, 'scoped, by HTTP');
    await publisher.publishGlobal(CHANNEL, 'global, by HTTP');
    await client.publish(CHANNEL, 'scoped');
    // Global publishing ignores overrides, even if the page does not have the property.
    await client.publishGlobal(CHANNEL, 'global', { contextOverrides: [Jira.Board] });
    const stranger = new Publisher(freshContext());
    assert.equal(await stranger.publishGlobal(CHANNEL, 'of another installation'), null);
    await hears(ear, ['scoped, by HTTP', 'scoped']);
    await hears(global, ['global, by HTTP', 'global']);
    await hears(other, ['global, by HTTP', 'global']);
  },

  async the_default_scope_is_the_module_on_its_issue() {
    const { context, ear } = await page();
    const { installationId, extension } = context;
    const elsewhere = { ...extension, issue: { id: '10002' } };
    const others = [
      freshContext({ installationId, moduleKey: 'another-panel' }),
      freshContext({ installationId, extension: elsewhere }),
      freshContext(),
    ];
    for (const other of others) {
      assert.equal(await new Publisher(other).publish(CHANNEL, 'from elsewhere'), null);
      assert.equal((await connect(other).publish(CHANNEL, 'from elsewhere')).eventId, null);
    }
    const colleague = connect({ ...context, sub: 'account-2' });
    await colleague.publish(CHANNEL, 'from here');
    await hears(ear, ['from here']);
  },

  async overrides_replace_the_default_scope() {
    const context = freshContext();
    const { installationId, extension } = context;
    const elsewhere = freshContext({
      installationId,
      moduleKey: 'another-panel',
      extension: { ...extension, issue: { id: '10002' } },
    });
    const [here, there] = [connect(context), connect(elsewhere)];
    const scopes = [[Jira.Project], [Jira.Project, Jira.Issue], []];
    const ears = [];
    for (const contextOverrides of scopes) {
      ears.push(await listen(here, CHANNEL, { contextOverrides }));
    }
    const publish = (client, contextOverrides) =>
      client.publish(CHANNEL, JSON.stringify(contextOverrides), { contextOverrides });
    for (const scope of scopes) await publish(there, scope);
    await publish(here, [Jira.Issue, Jira.Project]);
    await hears(ears[0], ['["project"]']);
    await hears(ears[1], ['["issue","project"]']);
    await hears(ears[2], ['[]']);

    const sentence = /^Invalid value for contextOverrides\. Please provide an array/;
    for (const contextOverrides of [['nonsense'], 'project']) {
      const refused = await forge.rejection(here.subscribe(CHANNEL, () => {}, { contextOverrides }));
      assert.match(refused.message, sentence);
      const { errors } = await here.publish(CHANNEL, 'x', { contextOverrides });
      assert.match(errors[0].message, sentence);
    }
    // A page may not use properties that it lacks: the scope would be equal for all pages without
    // them.
    const contextOverrides = [Confluence.Space, Bitbucket.Repository];
    const refused = await forge.rejection(here.subscribe(CHANNEL, () => {}, { contextOverrides }));
    assert.equal(refused.message, 'Unauthorized request');
    const { errors } = await here.publish(CHANNEL, 'x', { contextOverrides });
    assert.equal(errors[0].message, 'Error publishing event to channel');
  },

  async tokens_with_the_same_claims_meet() {
    const { client, publisher, ear } = await page();
    const sign = (users) => publisher.sign(CHANNEL, { users });
    const [mine, again, others] = [await sign(['a', 'b']), await sign(['a', 'b']), await sign(['b'])];
    const allowed = await listen(client, CHANNEL, { token: mine });
    await publisher.publish(CHANNEL, 'by HTTP', { token: again });
    await client.publish(CHANNEL, 'by the client', { token: async () => again });
    assert.equal((await client.publish(CHANNEL, 'for others', { token: others })).eventId, null);
    await client.publish(CHANNEL, 'for all', { token: '' });
    await hears(allowed, ['by HTTP', 'by the client']);
    await hears(ear, ['for all']);
  },

  async what_is_wrong_is_told() {
    const { context, client, publisher } = await page();
    const claims = { channel: { name: CHANNEL, claims: {} }, installationId: context.installationId };
    const secret = 'not the secret';
    const forged = token({ aud: 'realtime-channel', exp: forge.seconds(60), ...claims }, { secret });
    const wrong = [
      ['INVALID_TOKEN', 'example-token', 'example-token'],
      ['INVALID_TOKEN', forged, forged],
      ['CHANNEL_NAME_MISMATCH', ...Array(2).fill(await publisher.sign('another', {}))],
      [
        'MISSING_PERMISSION',
        await publisher.sign(CHANNEL, {}, ['publish']),
        await publisher.sign(CHANNEL, {}, ['subscribe']),
      ],
    ];
    for (const [code, forSubscribe, forPublish] of wrong) {
      for (const subscribe of [client.subscribe, client.subscribeGlobal]) {
        const refused = await forge.rejection(subscribe(CHANNEL, () => {}, { token: forSubscribe }));
        assert.ok(refused instanceof Error);
        assert.deepEqual([refused.message, refused.code], [TOKEN_FAILED + code, code]);
      }
      assert.deepEqual(told(await client.publish(CHANNEL, 'x', { token: forPublish })), {
        eventId: null,
        eventTimestamp: null,
        errors: [{ message: TOKEN_FAILED + code, code }],
      });
    }
    const { errors } = await client.publish('', 'x');
    assert.equal(errors[0].code, 'INVALID_INPUT');
    assert.equal((await forge.rejection(client.subscribe('', () => {}))).code, 'INVALID_INPUT');
    assert.ok((await forge.rejection(client.subscribe(CHANNEL))) instanceof TypeError);
    const failing = () => Promise.reject(new Error('signed out'));
    assert.equal(
      (await forge.rejection(client.subscribe(CHANNEL, () => {}, { token: failing }))).message,
      'signed out',
    );
  },

  async what_is_said_for_people_reaches_them() {
    const { client } = await page();
    // Sent by the test in place of the node, so that the exact text is known.
    const detail = 'the token ended at noon';
    const error = { message: `${TOKEN_FAILED}TOKEN_EXPIRED`, code: 'TOKEN_EXPIRED', detail };
    client.loses = ({ id, type }) => {
      if (type !== 'published' && type !== 'subscribed') return false;
      const [socket] = client.sockets;
      setImmediate(() => socket.onmessage({ data: JSON.stringify({ type: 'error', id, error }) }));
      return true;
    };
    assert.deepEqual((await client.publish(CHANNEL, 'x')).errors, [error]);
    const refused = await forge.rejection(client.subscribe(CHANNEL, () => {}));
    assert.deepEqual([refused.message, refused.detail], [error.message, detail]);
  },

  async what_is_missing_at_the_start_is_named() {
    const options = { url: harness.url, getContextToken: () => '' };
    const { WebSocket } = globalThis;
    globalThis.WebSocket = undefined;
    assert.throws(() => createRealtime(options), /npm install ws.*createRealtime\(\{ WebSocket/);
    globalThis.WebSocket = WebSocket;
    assert.throws(() => createRealtime({ url: harness.url }), /getContextToken/);
  },

  async where_nobody_is_told_of_states_the_console_is_warned_once() {
    const warnings = [];
    const silenced = console.warn;
    console.warn = (text) => warnings.push(text);
    // No server listens there.
    const at = 'http://127.0.0.1:1';
    const [alone, told] = [connect(freshContext(), { at, onStateChange: undefined }), connect(freshContext(), { at })];
    for (const client of [alone, told]) client.subscribe(CHANNEL, () => {}).catch(() => {});
    await until('both tried often', () => alone.sockets.length > 4 && told.sockets.length > 4);
    console.warn = silenced;
    assert.equal(warnings.length, 1, warnings.join());
    assert.match(warnings[0], /^Fanfare: no connection to ws:\/\/127\.0\.0\.1:1\/.* yet: .+; trying on$/);
  },

  async a_refused_context_is_told_and_a_better_one_is_taken() {
    const context = freshContext();
    const tokens = [
      () => forge.contextToken(context, -60),
      () => 'nonsense',
      () => Promise.reject(new Error('no session')),
      () => forge.contextToken(context),
    ];
    const client = connect(context, { getContextToken: () => tokens.shift()() });
    const expired = await forge.rejection(client.subscribe(CHANNEL, () => {}));
    assert.deepEqual([expired.message, expired.code], ['Unauthorized request', 'UNAUTHORIZED']);
    assert.equal(client.state(), 'idle');
    const { errors } = await client.publish(CHANNEL, 'x');
    assert.equal(errors[0].message, 'Unauthorized request');
    assert.equal((await forge.rejection(client.subscribe(CHANNEL, () => {}))).message, 'no session');
    const ear = await listen(client, CHANNEL);
    await client.publish(CHANNEL, 'in the end');
    await hears(ear, ['in the end']);
  },

  async the_context_is_refreshed_before_it_ends() {
    const context = freshContext();
    const [ends, failures] = [[], []];
    const client = connect(context, {
      getContextToken() {
        // If signing fails once, the function is called again.
        if (ends.length === 1 && failures.length === 0) {
          failures.push(new Error('not now'));
          throw failures[0];
        }
        ends.push(Date.now() + 4_000);
        return forge.contextToken(context, 4);
      },
    });
    const ear = await listen(client, CHANNEL);
    // By then the node would have closed the connection if it had not received a newer token.
    const overdue = () => Date.now() > ends[0] + 7_000;
    await until('the first token is long over', () => overdue() && ends.length > 2);
    await client.publish(CHANNEL, 'still there');
    await hears(ear, ['still there']);
    assert.deepEqual(client.states, [['connecting'], ['connected']]);
    assert.equal(client.sockets.length, 1);
    assert.equal(failures.length, 1);
  },

  async a_connection_that_the_node_ends_with_its_context_is_replaced() {
    const context = freshContext();
    const client = connect(context, {
      getContextToken() {
        if (client.sockets.length === 0) return forge.contextToken(context, 2);
        if (client.state() === 'connected') throw new Error('not now');
        return forge.contextToken(context);
      },
    });
    const publisher = new Publisher(context);
    const ear = await listen(client, CHANNEL);
    const ticker = new forge.Ticker(publisher, CHANNEL);
    await client.comesBack(1);
    await until('it is subscribed', () => client.answers('subscribed').length === 2);
    await ticker.stop();
    await publisher.publish(CHANNEL, 'after');
    await hears(ear, [...ticker.counted, 'after']);
    assert.deepEqual(ear.errors, []);
    assert.match(client.states.find(([state]) => state === 'waiting')[1].message, /4401/);
  },

  async another_context_takes_another_connection() {
    const [first, second] = [freshContext(), freshContext()];
    let context = first;
    const client = connect(first, { getContextToken: () => forge.contextToken(context, 4) });
    const ear = await listen(client, CHANNEL);
    const [here, there] = [new Publisher(first), new Publisher(second)];
    const witness = await listen(connect(second), CHANNEL);
    await here.publish(CHANNEL, 'in the first');
    await there.publish(CHANNEL, 'before it came');
    await hears(ear, ['in the first']);
    context = second;
    await client.comesBack(1);
    const isThere = () => client.answers('subscribed').length === 2;
    await until('the subscription moved', isThere);
    await there.publish(CHANNEL, 'in the second');
    // Publications before the client moved to this context are not for it.
    await hears(ear, ['in the first', 'in the second']);
    await hears(witness, ['before it came', 'in the second']);
  },

  async subscriptions_of_one_topic_share_it() {
    const { client, publisher, ear } = await page();
    const signed = await publisher.sign(CHANNEL, {});
    const [second, third] = [await listen(client, CHANNEL), await listen(client, CHANNEL)];
    const other = await listen(client, CHANNEL, { token: signed });
    const topics = new Set(client.answers('subscribed').map(({ topic }) => topic));
    assert.equal(topics.size, 2);

    await publisher.publish(CHANNEL, 1);
    for (const one of [ear, second, third]) await hears(one, ['1']);
    assert.equal(client.answers('event').length, 1);
    await ear.unsubscribe();
    await third.unsubscribe();
    await third.unsubscribe();
    assert.deepEqual(client.frames('unsubscribe'), []);
    await publisher.publish(CHANNEL, 2);
    await hears(second, ['1', '2']);
    await second.unsubscribe();
    assert.equal(client.frames('unsubscribe').length, 1);
    await reachesNobody(() => publisher.publish(CHANNEL, 3));

    await publisher.publish(CHANNEL, 4, { token: signed });
    await hears(other, ['4']);
    for (const one of [ear, third]) assert.deepEqual(one.heard, ['1']);
    assert.deepEqual(second.heard, ['1', '2']);
  },

  async an_unsubscribe_that_crosses_a_subscribe_takes_nothing_from_it() {
    const { client, publisher, ear } = await page();
    for (let round = 0; round < 20; round += 1) {
      const coming = listen(client, CHANNEL);
      const leaving = ear.unsubscribe();
      const next = await coming;
      await leaving;
      await publisher.publish(CHANNEL, round);
      await hears(next, [String(round)]);
      Object.assign(ear, next);
    }
    await ear.unsubscribe();
    await reachesNobody(() => publisher.publish(CHANNEL, 'nobody'));
  },

  async replay_is_for_who_asked() {
    const { client, publisher, ear } = await page();
    for (const number of [1, 2, 3]) await publisher.publish(CHANNEL, { number });
    await hears(ear, [1, 2, 3].map((number) => ({ number })));
    const unasked = await listen(client, CHANNEL);
    const late = await listen(client, CHANNEL, { replaySeconds: 30 });
    await publisher.publish(CHANNEL, { number: 4 });
    await hears(late, [1, 2, 3, 4].map((number) => ({ number })));
    await hears(unasked, [{ number: 4 }]);
    await hears(ear, [1, 2, 3, 4].map((number) => ({ number })));
  },

  async replay_and_publications_under_way_are_heard_once_and_in_order() {
    const { client, publisher, ear } = await page();
    const ticker = new forge.Ticker(publisher, CHANNEL, { pauseMs: 0 });
    const late = [];
    for (let round = 0; round < 10; round += 1) {
      late.push(await listen(client, CHANNEL, { replaySeconds: 60 }));
      const heard = ear.heard.length;
      await until('more is published', () => ear.heard.length > heard + 5);
    }
    await ticker.stop();
    await hears(ear, ticker.counted);
    for (const one of late) {
      await until('it heard all', () => one.heard.at(-1) === ticker.counted.at(-1));
      assert.deepEqual(one.heard, ticker.counted.slice(-one.heard.length));
    }
    await hears(late[0], ticker.counted);
  },

  async an_event_that_comes_again_is_heard_once() {
    const { client, publisher, ear } = await page();
    const payloads = Array.from({ length: 200 }, (_, number) => ({ number }));
    for (const payload of payloads) await publisher.publish(CHANNEL, payload);
    await hears(ear, payloads);
    // As from a node that does not know what this client has received.
    const [socket] = client.sockets;
    for (const event of client.answers('event')) socket.onmessage({ data: JSON.stringify(event) });
    await publisher.publish(CHANNEL, 'next');
    await hears(ear, [...payloads, 'next']);
  },

  async a_callback_that_fails_harms_nobody() {
    const { client, publisher, ear } = await page();
    const failures = [];
    const silenced = console.error;
    console.error = (error) => failures.push(error.message);
    await client.subscribe(CHANNEL, () => {
      throw new Error('thrown');
    });
    await client.subscribe(CHANNEL, async () => {
      throw new Error('rejected');
    });
    const behind = await listen(client, CHANNEL);
    for (const number of [1, 2]) await publisher.publish(CHANNEL, { number });
    for (const one of [ear, behind]) await hears(one, [{ number: 1 }, { number: 2 }]);
    await until('the failures are reported', () => failures.length === 4);
    console.error = silenced;
    assert.deepEqual(failures.sort(), ['rejected', 'rejected', 'thrown', 'thrown']);
  },

  async a_silent_node_is_asked_for_a_sign_of_life() {
    const context = freshContext();
    const client = connect(context, { silenceMs: 200 });
    const ear = await listen(client, CHANNEL);
    await until('it answers a few times', () => client.answers('unsubscribed').length > 3);
    await new Publisher(context).publish(CHANNEL, 'there');
    await hears(ear, ['there']);
    assert.equal(client.sockets.length, 1);
  },

  async closing_ends_everything() {
    const { client, publisher, ear } = await page();
    const waiting = connect(freshContext(), { getContextToken: () => new Promise(() => {}) });
    const never = [waiting.subscribe(CHANNEL, () => {}), waiting.publish(CHANNEL, 'x')];
    waiting.close();
    assert.equal((await forge.rejection(never[0])).code, 'CLOSED');
    assert.equal((await within('an answer', never[1])).errors[0].code, 'CLOSED');

    const unanswered = client.publish(CHANNEL, 'on its way');
    await until('it is sent', () => client.frames('publish').length === 1);
    client.close();
    assert.equal((await unanswered).errors[0].code, 'UNKNOWN');
    assert.equal(client.state(), 'closed');
    assert.equal((await client.publish(CHANNEL, 'x')).errors[0].code, 'CLOSED');
    assert.equal((await forge.rejection(client.subscribe(CHANNEL, () => {}))).code, 'CLOSED');
    await ear.unsubscribe();
    await forge.leftAlone(publisher, CHANNEL);
    assert.deepEqual(ear.heard, []);
  },
});
