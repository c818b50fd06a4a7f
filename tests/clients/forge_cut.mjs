// The module for subscribers when its connection is cut. The node either notices the loss and
// counts the subscriber as present for a while, or does not notice it.
import * as harness from './harness.mjs';
import { assert, until, within } from './harness.mjs';
import * as forge from './forge.mjs';
import { Publisher, connect, freshContext, hears, listen } from './forge.mjs';
import { Proxy } from './proxy.mjs';

const CHANNEL = 'my-channel';

/** Returns a page with a publisher and a subscriber behind a proxy that can cut its connection. */
async function cuttablePage(subscription, { context = freshContext(), ...options } = {}) {
  const proxy = await Proxy.to(harness.nextNode());
  const [client, publisher] = [connect(context, { at: proxy.url, ...options }), new Publisher(context)];
  return { context, proxy, client, publisher, ear: await listen(client, CHANNEL, subscription) };
}

const lost = (client) => until('the client knows', () => client.state() !== 'connected');

/** Cuts the connection and mends it at once; the client reconnects by itself. */
async function reconnect({ client, proxy }) {
  const count = client.states.filter(([state]) => state === 'connected').length;
  proxy.cut({ isNoticed: true });
  await lost(client);
  proxy.mend();
  await client.comesBack(count);
}

/**
 * Checks that a cut loses no publication that was answered with an id, repeats none, and keeps
 * their order.
 */
async function checkCut(isNoticed) {
  const everything = await cuttablePage();
  const { client, proxy, publisher, ear } = everything;
  const also = await listen(client, CHANNEL);
  const ticker = new forge.Ticker(publisher, CHANNEL);
  await until('it runs', () => ear.heard.length > 20);
  const before = ticker.counted.length;
  ticker.most = before + forge.MISSED_MOST;
  proxy.cut({ isNoticed });
  await lost(client);
  await until('much is missed', () => ticker.counted.length > before + 50);
  proxy.mend();
  await client.comesBack(1);
  ticker.most = Infinity;
  await until('it runs again', () => ear.heard.length > before + forge.MISSED_MOST + 20);
  await ticker.stop();
  for (const one of [ear, also]) {
    await hears(one, ticker.counted);
    assert.deepEqual(one.errors, []);
  }
  proxy.close();
}

/**
 * Checks that a client that missed more than the node keeps of a topic receives what is kept, and a
 * `GAP` error.
 */
async function checkGap({ client, proxy, publisher, ear }) {
  const before = ear.heard.length;
  proxy.cut({ isNoticed: false });
  await lost(client);
  client.loses = () => false;
  const missed = Array.from({ length: 300 }, (_, number) => `missed ${number}`);
  for (const text of missed) assert.ok(await publisher.publish(CHANNEL, text), text);
  proxy.mend();
  await client.comesBack(1);
  await until('all that is kept is heard', () => ear.heard.at(-1) === missed.at(-1));
  assert.deepEqual(ear.errors.map(({ code }) => code), ['GAP']);
  assert.ok(ear.errors[0] instanceof Error);
  const kept = ear.heard.slice(before);
  assert.ok(kept.length >= 100 && kept.length < missed.length, `${kept.length} are kept`);
  assert.deepEqual(kept, missed.slice(-kept.length));
  await publisher.publish(CHANNEL, 'after');
  await until('it goes on', () => ear.heard.at(-1) === 'after');
  proxy.close();
}

/**
 * Checks that a page with bad tokens gets one error for each absence, and reconnects with a good
 * one.
 */
async function checkRefused(everything, bad, check) {
  const { context, proxy, publisher, ear, tokens } = everything;
  for (const absence of [1, 2]) {
    tokens.next = bad;
    proxy.cut({ isNoticed: true });
    await lost(everything.client);
    proxy.mend();
    await until('it is told', () => ear.errors.length === absence);
    // The second time, attempts are far apart already.
    await until('it tries on', () => tokens.tries > 4);
    assert.equal(ear.errors.length, absence);
    const { message, code, detail } = ear.errors.at(-1);
    assert.deepEqual([message, code], ['Unauthorized request', 'UNAUTHORIZED']);
    check(detail);
    assert.ok(await publisher.publish(CHANNEL, absence));
    tokens.next = () => forge.contextToken(context);
    await until('it hears again', () => ear.heard.length === absence);
  }
  assert.deepEqual(ear.heard, ['1', '2']);
  proxy.close();
}

/** Returns a cuttable page whose context tokens come from `tokens.next()`. */
async function pageWithTokens() {
  const context = freshContext();
  const tokens = { tries: 0, next: () => forge.contextToken(context) };
  const everything = await cuttablePage(undefined, {
    context,
    getContextToken() {
      tokens.tries += 1;
      return tokens.next();
    },
  });
  return Object.assign(everything, { tokens });
}

await harness.runCases({
  async publications_wait_for_a_connection_and_leave_once() {
    const everything = await cuttablePage();
    const { context, client, proxy, ear } = everything;
    const witness = await listen(connect(context), CHANNEL);
    proxy.cut({ isNoticed: true });
    await lost(client);
    const waiting = ['a', 'b', 'c'].map((text) => client.publish(CHANNEL, text));
    proxy.mend();
    for (const answer of await within('the answers', Promise.all(waiting))) {
      assert.equal(typeof answer.eventId, 'string', JSON.stringify(answer));
    }
    await hears(ear, ['a', 'b', 'c']);
    await hears(witness, ['a', 'b', 'c']);
    proxy.close();
  },

  async a_publication_without_an_answer_is_not_sent_again() {
    const { context, client, proxy } = await cuttablePage();
    const witness = await listen(connect(context), CHANNEL);
    const answer = client.publish(CHANNEL, 'sent');
    await until('it is sent', () => client.frames('publish').length === 1);
    proxy.cut({ isNoticed: true });
    assert.equal((await within('an answer', answer)).errors[0].code, 'UNKNOWN');
    proxy.mend();
    await client.comesBack(1);
    await client.publish(CHANNEL, 'next');
    const isHeard = () => witness.heard.at(-1) === 'next';
    await until('the next is heard', isHeard);
    assert.equal(client.frames('publish').length, 2);
    proxy.close();
  },

  async nothing_is_missed_when_the_node_notices_the_cut() {
    await checkCut(true);
  },

  async nothing_is_missed_when_the_node_does_not_notice_the_cut() {
    await checkCut(false);
  },

  async a_connection_on_which_nothing_comes_any_more_is_replaced() {
    const { client, proxy, publisher, ear } = await cuttablePage(undefined, { silenceMs: 500 });
    await publisher.publish(CHANNEL, 'before');
    await hears(ear, ['before']);
    proxy.freeze();
    assert.ok(await publisher.publish(CHANNEL, 'meanwhile'));
    await client.comesBack(1);
    await publisher.publish(CHANNEL, 'after');
    await hears(ear, ['before', 'meanwhile', 'after']);
    proxy.close();
  },

  async what_was_said_before_the_first_event_heard_is_not_replayed() {
    const context = freshContext();
    const [proxy, publisher] = [await Proxy.to(harness.nextNode()), new Publisher(context)];
    const witness = await listen(connect(context), CHANNEL);
    await publisher.publish(CHANNEL, 'before');
    const client = connect(context, { at: proxy.url });
    const ear = await listen(client, CHANNEL);
    proxy.cut({ isNoticed: true });
    await lost(client);
    await publisher.publish(CHANNEL, 'meanwhile');
    proxy.mend();
    await client.comesBack(1);
    await publisher.publish(CHANNEL, 'after');
    await hears(ear, ['meanwhile', 'after']);
    await hears(witness, ['before', 'meanwhile', 'after']);
    proxy.close();
  },

  async a_replay_cut_short_is_asked_for_again() {
    const context = freshContext();
    const [proxy, publisher] = [await Proxy.to(harness.nextNode()), new Publisher(context)];
    await listen(connect(context), CHANNEL);
    for (const number of [1, 2, 3]) await publisher.publish(CHANNEL, { number });
    const client = connect(context, { at: proxy.url });
    // The test cuts the connection right after the subscription, before any event of the replay
    // arrives.
    const heard = [];
    await client.publish('another', 'x');
    const [socket] = client.sockets;
    const { onmessage } = socket;
    socket.onmessage = (message) => {
      if (JSON.parse(message.data).type !== 'event') onmessage(message);
    };
    await client.subscribe(CHANNEL, (payload) => heard.push(payload), { replaySeconds: 30 });
    await reconnect({ client, proxy });
    await publisher.publish(CHANNEL, { number: 4 });
    await hears({ heard }, [1, 2, 3, 4].map((number) => ({ number })));
    proxy.close();
  },

  async a_gap_is_told_to_the_callback() {
    const everything = await cuttablePage();
    await everything.publisher.publish(CHANNEL, 'heard');
    await hears(everything.ear, ['heard']);
    await checkGap(everything);
  },

  async a_gap_is_told_to_who_had_heard_nothing() {
    await checkGap(await cuttablePage());
  },

  async a_gap_is_told_to_who_heard_nothing_of_a_replay() {
    const context = freshContext();
    const [proxy, publisher] = [await Proxy.to(harness.nextNode()), new Publisher(context)];
    await listen(connect(context), CHANNEL);
    assert.ok(await publisher.publish(CHANNEL, 'before'));
    const client = connect(context, { at: proxy.url });
    client.loses = ({ type }) => type === 'event';
    const ear = await listen(client, CHANNEL, { replaySeconds: 30 });
    await checkGap({ client, proxy, publisher, ear });
  },

  async who_leaves_while_the_connection_is_lost_is_not_brought_back() {
    const { client, proxy, publisher, ear } = await cuttablePage();
    const other = await listen(client, 'another');
    proxy.cut({ isNoticed: true });
    await lost(client);
    await ear.unsubscribe();
    proxy.mend();
    await client.comesBack(1);
    await publisher.publish('another', 'x');
    await hears(other, ['x']);
    const channels = client.frames('subscribe').map(({ channel }) => channel);
    assert.deepEqual(channels, [CHANNEL, 'another', 'another']);
    assert.deepEqual(ear.heard, []);
    proxy.close();
  },

  async a_token_that_is_a_function_is_signed_for_every_connection() {
    const context = freshContext();
    const [proxy, publisher] = [await Proxy.to(harness.nextNode()), new Publisher(context)];
    const client = connect(context, { at: proxy.url });
    const signed = [];
    const sign = async () => {
      signed.push(await publisher.sign(CHANNEL, { users: ['a'] }));
      return signed.at(-1);
    };
    const ear = await listen(client, CHANNEL, { token: sign });
    const ticker = new forge.Ticker(new Publisher(context), CHANNEL);
    await reconnect({ client, proxy });
    await until('it subscribed again', () => client.answers('subscribed').length === 2);
    await ticker.stop();
    await publisher.publish(CHANNEL, 'after', { token: signed[0] });
    await hears(ear, ['after']);
    assert.equal(signed.length, 2);
    assert.deepEqual(client.frames('subscribe').map(({ options }) => options.token), signed);
    proxy.close();
  },

  async a_page_whose_context_is_refused_is_told_once() {
    const everything = await pageWithTokens();
    const { context, ear } = everything;
    await checkRefused(everything, () => forge.contextToken(context, -60), () => {});
    assert.equal(ear.errors.length, 2);
  },

  async a_page_that_gets_no_context_is_told_once() {
    const failing = () => Promise.reject(new Error('signed out'));
    const check = (detail) => assert.match(detail, /getContextToken.*signed out/);
    await checkRefused(await pageWithTokens(), failing, check);
  },

  async a_subscription_that_cannot_be_had_again_says_so() {
    const context = freshContext();
    const [proxy, publisher] = [await Proxy.to(harness.nextNode()), new Publisher(context)];
    const tokens = [await publisher.sign(CHANNEL, {}), 'example-token'];
    const client = connect(context, { at: proxy.url });
    const ear = await listen(client, CHANNEL, { token: () => tokens.shift() });
    const kept = await listen(client, CHANNEL);
    await reconnect({ client, proxy });
    await until('it says so', () => ear.errors.length === 1);
    const [{ message, code }] = ear.errors;
    assert.deepEqual([message, code], ['Realtime token validation failed: INVALID_TOKEN', 'INVALID_TOKEN']);
    await publisher.publish(CHANNEL, 'x');
    await hears(kept, ['x']);
    await reconnect({ client, proxy });
    await publisher.publish(CHANNEL, 'y');
    await hears(kept, ['x', 'y']);
    assert.equal(ear.errors.length, 1);
    assert.deepEqual(ear.heard, []);
    proxy.close();
  },
});
