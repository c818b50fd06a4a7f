// The stock Socket.IO client with both sets of event names: answers, refusals and deliveries.
import { io } from 'socket.io-client';
import * as harness from './harness.mjs';
import { anonKey, apiKey, ask, assert, collect, next, nextNode, publish } from './harness.mjs';

const DOCUMENTED = {
  subscribe: 'REALTIME_SUBSCRIBE',
  unsubscribe: 'REALTIME_UNSUBSCRIBE',
  publish: 'REALTIME_PUBLISH',
};
const SDK = {
  subscribe: 'realtime:subscribe',
  unsubscribe: 'realtime:unsubscribe',
  publish: 'realtime:publish',
};
const DIALECTS = [DOCUMENTED, SDK];

// Names that would break a client, or that only the node may send.
const RESERVED_EVENTS = [
  'connect',
  'connect_error',
  'disconnect',
  'disconnecting',
  'newListener',
  'removeListener',
  'presence:join',
  'presence:leave',
  'realtime:error',
];

function open(transports, auth = { token: harness.userToken(harness.freshUser()) }, path = '') {
  return io(nextNode() + path, { auth, forceNew: true, reconnectionDelay: 50, ...transports });
}

async function connected(transports, auth) {
  const socket = open(transports, auth);
  await next(socket, 'connect');
  return socket;
}

async function refusal(transports, auth, code) {
  const socket = open(transports, auth);
  const error = await next(socket, 'connect_error');
  assert.equal(error.data.code, code);
  assert.ok(error.data.message.length > 0);
  assert.equal(socket.connected, false);
  socket.disconnect();
  return error.message;
}

async function channel() {
  const name = harness.freshChannel();
  await harness.createChannel(name);
  return name;
}

async function subscribe(socket, name, dialect = DOCUMENTED) {
  const answer = await ask(socket, dialect.subscribe, { channel: name });
  assert.equal(answer.ok, true, JSON.stringify(answer));
  return answer;
}

function assertInvalid(error) {
  assert.equal(error.code, 'INVALID_INPUT');
  assert.equal(typeof error.message, 'string');
  assert.notEqual(error.message, '');
}

const asSdkShape = (payload, meta) => ({ ...payload, meta });

await harness.runCases({
  async subscribe_publish_and_unsubscribe_are_acknowledged(transports) {
    const user = harness.freshUser();
    const socket = await connected(transports, { token: harness.userToken(user) });
    for (const dialect of DIALECTS) {
      const name = await channel();
      const { presence, ...answer } = await subscribe(socket, name, dialect);
      assert.deepEqual(answer, { ok: true, channel: name });
      const [{ joinedAt, ...member }, ...others] = presence.members;
      assert.deepEqual(member, { type: 'user', presenceId: user });
      assert.ok(Math.abs(Date.now() - Date.parse(joinedAt)) < 60_000, joinedAt);
      assert.deepEqual(others, []);

      const echo = next(socket, 'note');
      const publication = { channel: name, event: 'note', payload: { n: 1 } };
      const { messageId, ...published } = await ask(socket, dialect.publish, publication);
      assert.deepEqual(published, { ok: true });
      const message = await echo;
      assert.equal(message.messageId ?? message.meta.messageId, messageId);

      assert.deepEqual(await ask(socket, dialect.unsubscribe, { channel: name }), { ok: true });
      // Leaving a channel without a subscription is not an error.
      assert.deepEqual(await ask(socket, dialect.unsubscribe, { channel: name }), { ok: true });
    }
  },

  async subscribing_again_changes_nothing(transports) {
    const name = await channel();
    const [socket, other] = [await connected(transports), await connected(transports)];
    await subscribe(other, name);
    const joins = collect(other, 'presence:join');
    const first = await subscribe(socket, name);
    assert.deepEqual(await subscribe(socket, name), first);
    const heard = collect(socket, 'note');
    await publish(name, 'note', 1);
    await publish(name, 'note', 2);
    await harness.until('both are heard', () => heard.length >= 2);
    assert.deepEqual(heard.map((message) => message.payload), [1, 2]);
    await harness.until('the join is heard', () => joins.length > 0);
    assert.equal(joins.length, 1);
  },

  async both_dialects_live_on_one_connection(transports) {
    const user = harness.freshUser();
    const socket = await connected(transports, { token: harness.userToken(user) });
    const [documented, sdk] = [await channel(), await channel()];
    await subscribe(socket, documented, DOCUMENTED);
    await subscribe(socket, sdk, SDK);
    const payload = { orderId: '123', items: [1, { deep: true }], note: 'grüß dich 🔔' };

    // The name of the publish does not matter, only that of the subscribe.
    for (const { publish: verb } of DIALECTS) {
      const heardDocumented = next(socket, 'changed');
      await ask(socket, verb, { channel: documented, event: 'changed', payload });
      const message = await heardDocumented;
      const { messageId } = message;
      const sender = { senderType: 'user', senderId: user };
      assert.deepEqual(message, { channel: documented, messageId, ...sender, payload });

      const heardSdk = next(socket, 'changed');
      await ask(socket, verb, { channel: sdk, event: 'changed', payload });
      const spread = await heardSdk;
      const { messageId: id, timestamp } = spread.meta;
      const meta = { channel: `realtime:${sdk}`, ...sender, messageId: id, timestamp };
      assert.deepEqual(spread, asSdkShape(payload, meta));
      assert.deepEqual(Object.keys(spread.meta), Object.keys(meta));
    }
  },

  async the_last_subscribe_settles_the_shape(transports) {
    const socket = await connected(transports);
    const name = await channel();
    const heard = collect(socket, 'note');
    for (const dialect of [DOCUMENTED, SDK, DOCUMENTED]) {
      const before = heard.length;
      await subscribe(socket, name, dialect);
      await publish(name, 'note', { n: before });
      await harness.until('the note is heard', () => heard.length > before);
      assert.equal(heard.length, before + 1);
      assert.equal('meta' in heard[before], dialect === SDK);
      assert.equal('payload' in heard[before], dialect === DOCUMENTED);
    }
  },

  async senders_are_named_by_their_role(transports) {
    const admin = { sub: harness.freshUser(), role: 'project_admin', exp: harness.inAnHour() };
    const user = harness.freshUser();
    const senders = [
      [{ token: harness.userToken(user) }, 'user', user],
      [{ token: harness.token({ sub: user, exp: harness.inAnHour() }) }, 'user', user],
      [{ token: anonKey }, 'user', null],
      [{ token: harness.userToken(user, { role: 'anon' }) }, 'user', null],
      [{ token: harness.token(admin) }, 'system', null],
      [{ apiKey }, 'system', null],
    ];
    for (const [auth, senderType, senderId] of senders) {
      const socket = await connected(transports, auth);
      const [documented, sdk] = [await channel(), await channel()];
      await subscribe(socket, documented, DOCUMENTED);
      await subscribe(socket, sdk, SDK);
      const heard = collect(socket, 'note');
      for (const name of [documented, sdk]) {
        await ask(socket, DOCUMENTED.publish, { channel: name, event: 'note', payload: {} });
      }
      await harness.until('both are heard', () => heard.length === 2);
      assert.deepEqual([heard[0].senderType, heard[0].senderId], [senderType, senderId]);
      assert.equal(heard[1].meta.senderType, senderType);
      assert.equal(heard[1].meta.senderId, senderId ?? undefined);
      socket.disconnect();
    }
  },

  async payloads_of_every_kind_arrive(transports) {
    const socket = await connected(transports);
    const [documented, sdk] = [await channel(), await channel()];
    await subscribe(socket, documented, DOCUMENTED);
    await subscribe(socket, sdk, SDK);
    const kinds = [
      [{ a: 1, b: { c: [null, 'x'] } }, { a: 1, b: { c: [null, 'x'] } }],
      [{ kept: 1, meta: 'forged' }, { kept: 1 }],
      [[1, 2], { 0: 1, 1: 2 }],
      ['str', { 0: 's', 1: 't', 2: 'r' }],
      [5, {}],
      [true, {}],
      [null, {}],
      [{}, {}],
    ];
    for (const [payload, spread] of kinds) {
      const whole = next(socket, 'note');
      await ask(socket, DOCUMENTED.publish, { channel: documented, event: 'note', payload });
      assert.deepEqual((await whole).payload, payload);
      const parts = next(socket, 'note');
      await ask(socket, DOCUMENTED.publish, { channel: sdk, event: 'note', payload });
      const { meta, ...keys } = await parts;
      assert.deepEqual(keys, spread);
      assert.equal(meta.channel, `realtime:${sdk}`);
    }
  },

  async two_publishers_are_heard_in_one_order(transports) {
    const name = await channel();
    const [one, two] = [await connected(transports), await connected(transports)];
    const heard = [];
    for (const socket of [one, two]) {
      await subscribe(socket, name);
      heard.push(collect(socket, 'tick'));
    }
    const each = 50;
    for (let n = 1; n <= each; n += 1) {
      for (const [from, socket] of [['one', one], ['two', two]]) {
        socket.emit(DOCUMENTED.publish, { channel: name, event: 'tick', payload: { from, n } });
      }
    }
    await harness.until('all is heard by both', () => heard.every((h) => h.length >= 2 * each));
    assert.deepEqual(heard[0], heard[1]);
    for (const from of ['one', 'two']) {
      const numbers = heard[0].filter((m) => m.payload.from === from).map((m) => m.payload.n);
      assert.deepEqual(numbers, Array.from({ length: each }, (_, i) => i + 1));
    }
  },

  async a_wrong_api_key_is_refused(transports) {
    const wrong = `ik_${'0'.repeat(64)}`;
    assert.equal(await refusal(transports, { apiKey: wrong }, 'API_KEY_INVALID'), 'Invalid API key');
    // A valid token does not help: if there is an API key, it alone decides.
    const token = harness.userToken(harness.freshUser());
    const both = { apiKey: wrong, token };
    assert.equal(await refusal(transports, both, 'API_KEY_INVALID'), 'Invalid API key');
  },

  async a_wrong_anon_key_is_refused(transports) {
    const wrong = `anon_${'0'.repeat(64)}`;
    for (const token of [wrong, 'anon_']) {
      assert.equal(await refusal(transports, { token }, 'ANON_KEY_INVALID'), 'Invalid anon key');
    }
  },

  async no_credential_is_refused(transports) {
    for (const auth of [undefined, {}, { apiKey: '' }, { token: '' }]) {
      const socket = io(nextNode(), { forceNew: true, ...transports, ...(auth && { auth }) });
      const error = await next(socket, 'connect_error');
      assert.equal(error.message, 'No authentication provided', JSON.stringify(auth));
      socket.disconnect();
    }
  },

  async a_wrong_token_is_refused(transports) {
    const claims = { sub: harness.freshUser(), role: 'authenticated', exp: harness.inAnHour() };
    const wrong = {
      'no token': ['nonsense', 'TOKEN_MALFORMED'],
      'an API key': [apiKey, 'TOKEN_MALFORMED'],
      'another secret': [
        harness.token(claims, { secret: 'not the secret' }),
        'TOKEN_SIGNATURE_INVALID',
      ],
      'no algorithm': [harness.token(claims, { alg: 'none' }), 'TOKEN_MALFORMED'],
      expired: [
        harness.token({ ...claims, exp: harness.inAnHour() - 7200 }),
        'TOKEN_EXPIRED',
      ],
      'not yet valid': [
        harness.token({ ...claims, nbf: harness.inAnHour() }),
        'TOKEN_NOT_YET_VALID',
      ],
    };
    for (const [what, [token, code]] of Object.entries(wrong)) {
      assert.equal(await refusal(transports, { token }, code), 'Invalid token', what);
    }
  },

  async a_token_without_subject_is_refused(transports) {
    const token = harness.token({ role: 'authenticated', exp: harness.inAnHour() });
    const code = 'TOKEN_SUBJECT_INVALID';
    assert.equal(await refusal(transports, { token }, code), 'Invalid token subject');
  },

  async every_credential_connects(transports) {
    const sub = harness.freshUser();
    const credentials = [
      { apiKey },
      { apiKey, token: 'not looked at' },
      { apiKey: '', token: anonKey },
      { token: anonKey },
      { token: harness.userToken(sub) },
      { token: harness.token({ sub }) },
      { token: harness.userToken(sub, { role: 'project_admin' }) },
    ];
    for (const auth of credentials) {
      const socket = await connected(transports, auth);
      assert.equal(socket.id.length, 20);
      await subscribe(socket, await channel());
      socket.disconnect();
    }
  },

  async an_unknown_role_connects_and_may_do_nothing(transports) {
    const token = harness.userToken(harness.freshUser(), { role: 'stranger' });
    const socket = await connected(transports, { token });
    const name = await channel();
    const answer = await ask(socket, SDK.subscribe, { channel: name });
    assert.deepEqual(answer, {
      ok: false,
      channel: name,
      error: {
        code: 'REALTIME_UNAUTHORIZED',
        message: 'Not authorized to subscribe to this channel',
      },
    });
  },

  async a_refused_client_comes_back_with_a_better_token(transports) {
    const socket = open(transports, { token: 'nonsense' });
    assert.equal((await next(socket, 'connect_error')).message, 'Invalid token');
    socket.auth = { token: harness.userToken(harness.freshUser()) };
    const connect = next(socket, 'connect');
    socket.connect();
    await connect;
    await subscribe(socket, await channel());
  },

  async an_unknown_namespace_is_refused(transports) {
    const socket = open(transports, { token: anonKey }, '/admin');
    assert.equal((await next(socket, 'connect_error')).message, 'Invalid namespace');
    socket.disconnect();
  },

  async an_undefined_channel_is_refused(transports) {
    const socket = await connected(transports);
    const name = harness.freshChannel('undefined');
    for (const dialect of DIALECTS) {
      assert.deepEqual(await ask(socket, dialect.subscribe, { channel: name }), {
        ok: false,
        channel: name,
        error: {
          code: 'REALTIME_UNAUTHORIZED',
          message:
            'Not authorized to subscribe to this channel: no enabled channel definition matches it',
        },
      });
    }
  },

  async publishing_needs_a_subscription(transports) {
    const [socket, other] = [await connected(transports), await connected(transports)];
    const name = await channel();
    await subscribe(other, name);
    const heard = collect(other, 'note');
    const code = 'REALTIME_NOT_SUBSCRIBED';
    const message = 'Must subscribe to channel before publishing messages';
    for (const { publish: verb } of DIALECTS) {
      const publication = { channel: name, event: 'note', payload: { stray: true } };
      const error = next(socket, 'realtime:error');
      socket.emit(verb, publication);
      assert.deepEqual(await error, { channel: name, code, message });
      const answer = await ask(socket, verb, publication);
      assert.equal(answer.ok, false);
      assert.deepEqual(answer.error, { code, message });
    }
    await publish(name, 'note', {});
    await harness.until('the other hears a note', () => heard.length > 0);
    assert.deepEqual(heard.map((m) => m.payload), [{}]);
  },

  async reserved_event_names_are_refused(transports) {
    const socket = await connected(transports);
    const name = await channel();
    await subscribe(socket, name);
    const anything = [];
    socket.onAny((event) => anything.push(event));
    for (const event of RESERVED_EVENTS) {
      for (const { publish: verb } of DIALECTS) {
        const answer = await ask(socket, verb, { channel: name, event, payload: {} });
        assert.equal(answer.ok, false, event);
        assertInvalid(answer.error);
      }
      const error = next(socket, 'realtime:error');
      socket.emit(SDK.publish, { channel: name, event, payload: {} });
      assertInvalid(await error);
    }
    await publish(name, 'note', {});
    await harness.until('the note is heard', () => anything.includes('note'));
    const expected = [...RESERVED_EVENTS.map(() => 'realtime:error'), 'note'];
    assert.deepEqual(anything, expected);
  },

  async malformed_events_are_answered(transports) {
    const socket = await connected(transports);
    const { id } = socket;
    const malformed = [[], [5], [null], ['text'], [[]], [{}], [{ channel: 5 }]];
    for (const verb of DIALECTS.flatMap(Object.values)) {
      for (const args of malformed) {
        const answer = await ask(socket, verb, ...args);
        assert.equal(answer.ok, false, `${verb} ${JSON.stringify(args)}`);
        assertInvalid(answer.error);
        const error = next(socket, 'realtime:error');
        socket.emit(verb, ...args);
        assertInvalid(await error);
      }
    }
    const name = await channel();
    await subscribe(socket, name);
    for (const event of [undefined, 5, null, {}]) {
      const answer = await ask(socket, SDK.publish, { channel: name, event, payload: {} });
      assertInvalid(answer.error);
    }
    // The node ignores unknown events.
    socket.emit('unheard of', 1, 2, 3);
    await subscribe(socket, name);
    assert.equal(socket.id, id);
  },

  async binary_payloads_arrive_as_json(transports) {
    const socket = await connected(transports);
    const [documented, sdk] = [await channel(), await channel()];
    await subscribe(socket, documented, DOCUMENTED);
    await subscribe(socket, sdk, SDK);
    const bytes = Buffer.from([0, 1, 254, 255]);
    const shown = { type: 'Buffer', data: [0, 1, 254, 255] };
    const payload = { blob: bytes, list: ['x', bytes] };

    const whole = next(socket, 'blob');
    socket.emit(DOCUMENTED.publish, { channel: documented, event: 'blob', payload });
    assert.deepEqual((await whole).payload, { blob: shown, list: ['x', shown] });

    const parts = next(socket, 'blob');
    const answer = await ask(socket, SDK.publish, { channel: sdk, event: 'blob', payload });
    assert.equal(answer.ok, true);
    const { meta, ...keys } = await parts;
    assert.deepEqual(keys, { blob: shown, list: ['x', shown] });
    assert.equal(meta.messageId, answer.messageId);
  },

  async binary_in_deep_json_arrives_and_the_rest_is_unchanged(transports) {
    const socket = await connected(transports);
    const name = await channel();
    await subscribe(socket, name);
    // As deep as the client itself can go, and far deeper than the 128 of JSON over HTTP.
    let deep = { blob: Buffer.from([7]), last: 1.5e300, 1: 'first', text: '{"_placeholder":true}' };
    for (let depth = 0; depth < 500; depth += 1) deep = [{ deep }];
    const heard = next(socket, 'deep');
    const publication = { channel: name, event: 'deep', payload: { deep } };
    const answer = await ask(socket, DOCUMENTED.publish, publication);
    assert.equal(answer.ok, true, JSON.stringify(answer));
    const shown = JSON.stringify({ deep }).replace(/"blob":[^}]*}/, '"blob":{"type":"Buffer","data":[7]}');
    assert.equal(JSON.stringify((await heard).payload), shown);
  },

  async binary_that_is_too_large_is_refused_and_the_client_stays(transports) {
    const socket = await connected(transports);
    const name = await channel();
    await subscribe(socket, name);
    const lost = collect(socket, 'disconnect');
    const publication = (payload) => ({ channel: name, event: 'blob', payload });
    const refused = {
      ok: false,
      error: {
        code: 'INVALID_INPUT',
        message: 'Event must have at most 1000000 bytes as JSON, its binary parts included',
      },
    };
    // As JSON it has four characters for each byte.
    const long = publication({ blob: Buffer.alloc(300_000, 200) });
    assert.deepEqual(await ask(socket, DOCUMENTED.publish, long), refused);
    // Together they are longer than any message.
    const half = Buffer.alloc(600_000);
    const both = publication({ one: half, other: half });
    assert.deepEqual(await ask(socket, SDK.publish, both), refused);
    const error = next(socket, 'realtime:error');
    socket.emit(SDK.publish, both);
    assert.deepEqual(await error, refused.error);

    const heard = next(socket, 'blob');
    const text = 'x'.repeat(700_000);
    const fits = await ask(socket, SDK.publish, publication({ text, blob: Buffer.alloc(50_000, 200) }));
    assert.equal(fits.ok, true, JSON.stringify(fits));
    const { payload } = await heard;
    assert.equal(payload.text, text);
    assert.deepEqual(payload.blob.data.length, 50_000);
    assert.deepEqual(lost, []);
  },

  async flags_do_no_harm(transports) {
    const socket = await connected(transports);
    const name = await channel();
    await subscribe(socket, name);
    const heard = collect(socket, 'note');
    const publication = (payload) => ({ channel: name, event: 'note', payload });
    socket.compress(true).emit(SDK.publish, publication('compressed'));
    socket.compress(false).emit(SDK.publish, publication('plain'));
    await socket.timeout(10_000).emitWithAck(SDK.publish, publication('timed'));
    // The client itself may drop a volatile event while its transport is busy.
    const volatile = () => {
      socket.volatile.emit(SDK.publish, publication('volatile'));
      return heard.some((message) => message.payload === 'volatile');
    };
    await harness.until('a volatile note is heard', volatile);
    const lasting = heard.map((m) => m.payload).filter((payload) => payload !== 'volatile');
    assert.deepEqual(lasting, ['compressed', 'plain', 'timed']);
  },

  async disconnecting_leaves_and_connecting_starts_anew(transports) {
    const user = harness.freshUser();
    const [socket, other] = [
      await connected(transports, { token: harness.userToken(user) }),
      await connected(transports),
    ];
    const name = await channel();
    await subscribe(other, name);
    await subscribe(socket, name);
    const { id } = socket;

    const left = next(other, 'presence:leave');
    const disconnect = next(socket, 'disconnect');
    socket.disconnect();
    assert.equal(await disconnect, 'io client disconnect');
    assert.equal((await left).member.presenceId, user);

    const connect = next(socket, 'connect');
    socket.connect();
    await connect;
    assert.notEqual(socket.id, id);
    const publication = { channel: name, event: 'note', payload: {} };
    const answer = await ask(socket, SDK.publish, publication);
    assert.equal(answer.error.code, 'REALTIME_NOT_SUBSCRIBED');
    await subscribe(socket, name);
    assert.equal((await ask(socket, SDK.publish, publication)).ok, true);
  },

  async a_lost_transport_is_replaced(transports) {
    const socket = await connected(transports);
    const name = await channel();
    await subscribe(socket, name);
    socket.on('connect', () => socket.emit(DOCUMENTED.subscribe, { channel: name }, () => {
      socket.emit(DOCUMENTED.publish, { channel: name, event: 'back', payload: {} });
    }));
    const back = next(socket, 'back');
    const { id } = socket;
    socket.io.engine.close();
    await back;
    assert.notEqual(socket.id, id);
  },

  async a_user_is_one_member_and_an_anonymous_connection_another(transports) {
    const name = await channel();
    const watcher = await connected(transports, { apiKey });
    await subscribe(watcher, name);
    const joins = collect(watcher, 'presence:join');
    const leaves = collect(watcher, 'presence:leave');
    const user = harness.freshUser();
    const token = harness.userToken(user);
    const clients = [];
    for (const auth of [{ token }, { token }, { token: anonKey }, { token: anonKey }]) {
      const socket = await connected(transports, auth);
      clients.push({ socket, id: socket.id });
      const { presence } = await subscribe(socket, name);
      assert.equal(presence.members[0].presenceId, watcher.id);
    }
    const expected = [user, clients[2].id, clients[3].id];
    const ids = (events) => events.map((event) => event.member.presenceId);
    await harness.until('all have joined', () => joins.length >= 3);
    assert.deepEqual(ids(joins), expected);
    assert.deepEqual(joins.map((join) => join.member.type), ['user', 'anonymous', 'anonymous']);
    assert.ok(joins.every((join) => join.meta.channel === name));

    for (const { socket } of clients) {
      const gone = next(socket, 'disconnect');
      socket.disconnect();
      await gone;
    }
    await harness.until('all have left', () => leaves.length >= 3);
    assert.deepEqual(ids(leaves).sort(), expected.sort());
    assert.equal(joins.length, 3);
  },

  async wildcard_channels_are_used_by_their_concrete_names(transports) {
    const socket = await connected(transports);
    for (const wildcard of ['*', '%']) {
      const prefix = harness.freshChannel('wild');
      await harness.createChannel(`${prefix}:${wildcard}`);
      const heard = collect(socket, 'note');
      await subscribe(socket, `${prefix}:1:items`);
      await publish(`${prefix}:2`, 'note', 'another channel');
      await publish(`${prefix}:1:items`, 'note', 'mine');
      await harness.until('the note is heard', () => heard.length > 0);
      assert.deepEqual(heard.map((message) => message.payload), ['mine']);
      socket.off('note');
    }
  },
});
