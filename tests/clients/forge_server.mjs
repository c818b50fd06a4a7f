// The module for resolvers, as the node serves it, and the examples in Atlassian's documentation.
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import http from 'node:http';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { isDeepStrictEqual, promisify } from 'node:util';
import * as harness from './harness.mjs';
import { apiKey, assert, otherNode, token, within } from './harness.mjs';
import * as forge from './forge.mjs';
import {
  connect, freshContext, hears, invocationToken, listen, reachesNobody, told,
} from './forge.mjs';

const CHANNEL = 'my-channel';
const NOBODY = { eventId: null, eventTimestamp: null };
const TOKEN_FAILED = 'Realtime token validation failed: ';

// One instance for the whole program: examples and cases import the same text.
const SERVER = await forge.specifier('/server.js');
const server = await import(SERVER);
const { Jira, configure, publish, publishGlobal, signRealtimeToken, withInvocation } = server;
configure({ url: otherNode() });

const failed = (message, status) => ({
  ...NOBODY,
  errors: [{ message, ...(status && { status }) }],
});

function checkPublished(result) {
  assert.deepEqual(Object.keys(result), ['eventId', 'eventTimestamp']);
  assert.equal(typeof result.eventId, 'string');
  assert.match(result.eventTimestamp, /^\d{13}$/);
}

/** Returns a page with a subscriber, and configures the module with an invocation of that page. */
async function page({ globally, ...options } = {}) {
  const context = freshContext();
  configure({ invocation: await forge.register(context) });
  const client = connect(context);
  const ear = await listen(client, CHANNEL, options, { globally });
  configure({ url: otherNode() });
  return { context, client, ear };
}

const thrown = (action) => forge.rejection(Promise.resolve().then(action));

/** Starts a server in place of the node that gives this answer to all requests. */
async function answering(status, headers, body) {
  const between = http.createServer((_, response) => response.writeHead(status, headers).end(body));
  await new Promise((resolve) => between.listen(0, '127.0.0.1', resolve));
  configure({ url: `http://127.0.0.1:${between.address().port}` });
}

const document = (name) => readFile(new URL(`documents/${name}.txt`, import.meta.url), 'utf8');

/** Replaces text that must occur exactly once. */
function replace(text, from, to) {
  assert.equal(text.split(from).length, 2, `once in the example: ${from}`);
  return text.replace(from, () => to);
}

/**
 * Returns a documented example, with its imports resolved as by a bundler and its mistakes
 * repaired.
 */
async function example(name, repairs) {
  const path = createRequire(import.meta.url).resolve('@forge/resolver');
  // Forge bundles an app, and bundlers unwrap the default export of a CommonJS module. Node.js
  // itself does not.
  const resolver = `import wrapped from '${pathToFileURL(path)}';\nconst Resolver = wrapped.default;`;
  let text = await document(name);
  for (const [from, to] of repairs) text = replace(text, from, to);
  text = replace(text, "import Resolver from '@forge/resolver';", resolver);
  const { handler } = await import(forge.dataUrl(replace(text, "'@forge/realtime'", `'${SERVER}'`)));
  return (functionKey) => handler({ call: { functionKey, payload: {} }, context: {} });
}

/** Runs a documented curl command with the node's address inserted. Returns status and body. */
async function curl(name, repairs = []) {
  let command = replace(await document(name), '{FORGE_EGRESS_PROXY_URL}', otherNode());
  for (const [from, to] of repairs) command = replace(command, from, to);
  command = replace(command, 'curl ', "curl --silent --max-time 10 --write-out '\\n%{http_code}' ");
  const { stdout } = await promisify(execFile)('sh', ['-c', command]);
  const [status, ...lines] = stdout.split('\n').reverse();
  return { status: Number(status), body: JSON.parse(lines.reverse().join('\n')) };
}

await harness.runCases({
  async publishes_text_and_objects() {
    const { client, ear } = await page();
    const global = await listen(client, CHANNEL, undefined, { globally: true });
    const payloads = ['text', { foo: 'foo', bar: ['bar'] }, 'null', ''];
    for (const payload of payloads) checkPublished(await publish(CHANNEL, payload));
    checkPublished(await publishGlobal(CHANNEL, { to: 'all' }));
    await hears(ear, payloads);
    await hears(global, [{ to: 'all' }]);
    await ear.unsubscribe();
    const isNobody = (answer) => isDeepStrictEqual(answer, NOBODY);
    await reachesNobody(() => publish(CHANNEL, 'x'), isNobody);
    assert.deepEqual(await publishGlobal('another', 'x'), NOBODY);
  },

  async overrides_are_sent_where_they_mean_something() {
    const { client, ear } = await page();
    const [project, none] = [[Jira.Project], []];
    const ears = [];
    for (const contextOverrides of [project, none]) {
      ears.push(await listen(client, CHANNEL, { contextOverrides }));
    }
    checkPublished(await publish(CHANNEL, 'project', { contextOverrides: project }));
    checkPublished(await publish(CHANNEL, 'none', { contextOverrides: none }));
    checkPublished(await publish(CHANNEL, 'default', {}));
    await hears(ears[0], ['project']);
    await hears(ears[1], ['none']);
    await hears(ear, ['default']);

    const sentence =
      'Invalid value for contextOverrides. Please provide an array of valid context properties.';
    const error = await thrown(() => publish(CHANNEL, 'x', { contextOverrides: 'project' }));
    assert.equal(error.message, sentence);
    const unknown = await publish(CHANNEL, 'x', { contextOverrides: ['nonsense'] });
    assert.deepEqual(told(unknown), failed(sentence, 400));
    const absent = await publish(CHANNEL, 'x', { contextOverrides: [Jira.Board] });
    assert.deepEqual(told(absent), failed('Error publishing event to channel', 403));
    const global = await listen(client, CHANNEL, undefined, { globally: true });
    checkPublished(await publishGlobal(CHANNEL, 'x', { contextOverrides: 'project' }));
    await hears(global, ['x']);
  },

  async tokens_are_signed_and_meet() {
    const { client, ear } = await page();
    const claims = { allowedUsers: ['a', 'b'], nested: { z: 1, a: null } };
    const signed = await signRealtimeToken(CHANNEL, claims);
    assert.deepEqual(Object.keys(signed), ['token', 'expiresAt']);
    assert.ok(signed.expiresAt > Date.now() / 1000 + 60 && signed.expiresAt < Date.now() / 500);
    const allowed = await listen(client, CHANNEL, { token: signed.token });
    const again = await signRealtimeToken(CHANNEL, claims, ['publish']);
    checkPublished(await publish(CHANNEL, 'allowed', { token: again.token }));
    for (const none of ['', null, undefined]) {
      checkPublished(await publish(CHANNEL, 'for all', { token: none }));
    }
    await hears(allowed, ['allowed']);
    await hears(ear, ['for all', 'for all', 'for all']);

    const invalid = await signRealtimeToken(CHANNEL, 'no object');
    assert.deepEqual([invalid.token, invalid.expiresAt], [null, null]);
    const [{ message, status }] = invalid.errors;
    assert.deepEqual([message, status], ['Error signing realtime token', 400]);
  },

  async a_flawed_token_is_refused_without_a_request() {
    // No server listens there, so a request would throw.
    configure({ url: 'http://127.0.0.1:1', invocation: 'any' });
    const claims = { exp: forge.seconds(60), channel: { name: CHANNEL } };
    const flawed = [
      ['INVALID_TOKEN', 'example-token'],
      ['INVALID_TOKEN', 'a.b.c'],
      ['INVALID_TOKEN', token({ exp: forge.seconds(60) })],
      ['TOKEN_EXPIRED', token({ ...claims, exp: forge.seconds(-1) })],
      ['CHANNEL_NAME_MISMATCH', token({ ...claims, channel: { name: 'another' } })],
      ['MISSING_PERMISSION', token({ ...claims, permissions: ['subscribe'] })],
    ];
    for (const [code, flaw] of flawed) {
      for (const publisher of [publish, publishGlobal]) {
        const result = await publisher(CHANNEL, 'x', { token: flaw });
        assert.deepEqual(result, failed(TOKEN_FAILED + code));
      }
    }
    await thrown(() => publish(CHANNEL, 'x', { token: token(claims) }));
  },

  async the_node_judges_what_only_it_can() {
    await page();
    const claims = { exp: forge.seconds(60), channel: { name: CHANNEL, claims: {} } };
    const forged = token({ aud: 'realtime-channel', ...claims }, { secret: 'not the secret' });
    const result = await publish(CHANNEL, 'x', { token: forged });
    assert.deepEqual(told(result), failed(`${TOKEN_FAILED}INVALID_TOKEN`, 401));
    // The token is signed for this channel but for another installation.
    const { token: elsewhere } = await signRealtimeToken(CHANNEL, {});
    configure({ invocation: invocationToken(freshContext()) });
    const there = await publish(CHANNEL, 'x', { token: elsewhere });
    assert.deepEqual(told(there), failed(`${TOKEN_FAILED}INVALID_TOKEN`, 401));
    const unnamed = await publish('', 'x');
    assert.match(unnamed.errors[0].detail, /name/);
    assert.deepEqual(told(unnamed), failed('Error publishing event to channel', 400));
    const large = await publish(CHANNEL, 'x'.repeat(300_000));
    assert.deepEqual(told(large), failed('Error publishing event to channel', 413));
  },

  async an_invocation_surrounds_what_it_starts() {
    const pages = [await page(), await page(), await page()];
    configure({ invocation: 'nobody' });
    const published = pages.map(({ context }, place) =>
      withInvocation(invocationToken(context), async () => {
        await harness.sleep(5 * (3 - place));
        const late = new Promise((resolve) => setImmediate(() => resolve(publish(CHANNEL, { place }))));
        return [await late, await publish(CHANNEL, 'then')];
      }),
    );
    for (const results of await within('the results', Promise.all(published))) {
      results.forEach(checkPublished);
    }
    for (const [place, { ear }] of pages.entries()) await hears(ear, [{ place }, 'then']);
    assert.equal(withInvocation('any', () => 'its result'), 'its result');
  },

  async a_refused_invocation_is_thrown() {
    configure({ invocation: null });
    configure({ invocation: null });
    const missing = await thrown(() => publish(CHANNEL, 'x'));
    assert.match(missing.message, /^No Forge invocation is known.*withInvocation.*configure/);
    const calls = [publish, publishGlobal, (channel) => signRealtimeToken(channel, {})];
    const expired = invocationToken(freshContext(), { exp: forge.seconds(-60) });
    for (const invocation of ['unheard-of', expired]) {
      for (const ask of calls) {
        const error = await thrown(() => withInvocation(invocation, () => ask(CHANNEL, 'x')));
        assert.ok(error instanceof server.ProxyRequestError);
        assert.deepEqual([error.status, error.errorCode], [401, 'UNKNOWN_INVOCATION']);
        const text = 'Forge platform failed to process runtime HTTP request - 401 - UNKNOWN_INVOCATION';
        assert.equal(error.message, text);
      }
    }
  },

  async an_installation_may_publish_globally_and_sign() {
    const { context, ear } = await page({ globally: true });
    const { installationId } = context;
    const alone = await thrown(() => withInvocation({ installationId }, () => publishGlobal(CHANNEL, 'x')));
    assert.equal(alone.errorCode, 'CALLER_CREDENTIAL_REQUIRED');
    configure({ invocation: { installationId }, authorization: `Bearer ${apiKey}` });
    checkPublished(await publishGlobal(CHANNEL, 'on schedule'));
    assert.equal(typeof (await signRealtimeToken(CHANNEL, {})).token, 'string');
    const scoped = failed('Error publishing event to channel', 403);
    assert.deepEqual(told(await publish(CHANNEL, 'x')), scoped);
    const event = invocationToken(context, { ui: false });
    assert.deepEqual(told(await withInvocation(event, () => publish(CHANNEL, 'x'))), scoped);
    await withInvocation(event, () => publishGlobal(CHANNEL, 'on an event'));
    await hears(ear, ['on schedule', 'on an event']);
    configure({ authorization: null });
    configure({ authorization: null });
  },

  async what_others_answer_is_told_as_the_package_does() {
    configure({ invocation: 'any' });
    const signing = { token: null, expiresAt: null };
    const check = async (errors, failure = errors) => {
      assert.deepEqual(await publish(CHANNEL, 'x'), { ...NOBODY, errors });
      assert.deepEqual(await signRealtimeToken(CHANNEL, {}), { ...signing, errors: failure });
    };
    await answering(502, {}, '<html>');
    await check([{ message: 'Bad Gateway', status: 502 }]);
    await answering(429, {}, '');
    await check([{ message: 'RATE_LIMIT_EXCEEDED', status: 429 }]);
    await answering(200, {}, 'nothing');
    const unreadable = [{ message: 'Error signing realtime token' }];
    await check([{ message: 'Error publishing event to channel.' }], unreadable);
    await answering(200, {}, '{"errors":[{"message":"of its own"}]}');
    await check([{ message: 'of its own' }]);
    await answering(403, { 'forge-proxy-error': 'BLOCKED_EGRESS' }, '');
    const blocked = await thrown(() => publish(CHANNEL, 'x'));
    assert.deepEqual([blocked.errorCode, blocked.detail], ['BLOCKED_EGRESS', undefined]);
    const explained = '{"errors":[{"message":"Unauthorized request","detail":"it ended at noon"}]}';
    await answering(401, { 'forge-proxy-error': 'UNKNOWN_INVOCATION' }, explained);
    assert.equal((await thrown(() => publish(CHANNEL, 'x'))).detail, 'it ended at noon');
  },

  async the_url_comes_from_the_environment() {
    const { ear } = await page();
    const { configure, publish } = await import(`${SERVER}#another`);
    const context = freshContext();
    const listening = await listen(connect(context), CHANNEL);
    process.env.FORGE_EGRESS_PROXY_URL = `${otherNode()}/`;
    configure({ invocation: invocationToken(context) });
    checkPublished(await publish(CHANNEL, 'found'));
    await hears(listening, ['found']);
    assert.deepEqual(ear.heard, []);
  },

  async the_printed_resolver_publishes() {
    const context = freshContext();
    const ear = await listen(connect(context), 'my-example-channel');
    configure({ url: otherNode() });
    // The documented example declares `payload` twice, which is a syntax error.
    const call = await example('forge_publish', [['({ payload, context })', '({ context })']]);
    const answer = await withInvocation(await forge.register(context), () =>
      call('publishRealtimeEvent'),
    );
    const text = 'Published event with payload: {"foo":"foo","bar":"bar"}';
    assert.deepEqual(answer, { example: text });
    await hears(ear, [{ foo: 'foo', bar: 'bar' }]);
  },

  async the_printed_resolver_signs() {
    const context = freshContext();
    const invocation = await forge.register(context);
    configure({ url: otherNode() });
    const claims = { allowedUsers: ['accountId-1', 'accountId-2'] };
    const sign = () => withInvocation(invocation, () => signRealtimeToken('my-test-channel', claims));
    const { token } = await sign();
    const ear = await listen(connect(context), 'my-test-channel', { token });
    const open = await listen(connect(context), 'my-test-channel');
    configure({ url: otherNode() });
    // The documented example does not await the token.
    const call = await example('forge_token', [
      ['({ payload, context }) =>', 'async ({ payload, context }) =>'],
      ['} = signRealtimeToken(', '} = await signRealtimeToken('],
    ]);
    checkPublished(await withInvocation(invocation, () => call('publishEvent')));
    await hears(ear, ['This is an event payload']);
    assert.deepEqual(open.heard, []);
  },

  async the_printed_requests_are_answered() {
    const [channel, context] = ['forge-container-realtime-channel', freshContext()];
    await forge.register(context, { id: 'invocation-123' });
    const client = connect(context);
    const global = await listen(client, channel, undefined, { globally: true });

    const unsigned = await curl('forge_rest_publish');
    assert.equal(unsigned.status, 401);
    const [{ message, status }] = unsigned.body.errors;
    assert.deepEqual([message, status], [`${TOKEN_FAILED}INVALID_TOKEN`, 401]);

    const signed = await curl('forge_rest_token');
    assert.equal(signed.status, 200);
    const { token, expiresAt } = signed.body;
    assert.deepEqual(signed.body, { token, expiresAt });
    assert.ok(expiresAt > Date.now() / 1000);
    const ear = await listen(client, channel, { token });
    const text = 'Realtime message sent from the container service, id=1';
    const published = await curl('forge_rest_publish', [['example-token', token]]);
    const everywhere = await curl('forge_rest_publish_global');
    for (const { status, body } of [published, everywhere]) {
      assert.equal(status, 200, JSON.stringify(body));
      const { errors, ...result } = body;
      assert.equal(errors, null);
      checkPublished(result);
    }
    await hears(ear, [text]);
    await hears(global, [text]);
  },
});
