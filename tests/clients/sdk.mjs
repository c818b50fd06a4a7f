// The unchanged InsForge SDK. It connects by WebSocket only and uses the `realtime:` events.
import { createClient } from '@insforge/sdk';
import * as harness from './harness.mjs';
import { anonKey, assert, collect, nextNode, publish } from './harness.mjs';

const ISO_MILLIS = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

const anonymous = () => createClient({ baseUrl: nextNode(), anonKey }).realtime;

function signedIn(sub) {
  return createClient({ baseUrl: nextNode(), anonKey, accessToken: harness.userToken(sub) }).realtime;
}

async function channel() {
  const name = harness.freshChannel();
  await harness.createChannel(name);
  return name;
}

async function subscribe(realtime, name) {
  const answer = await harness.within(`subscribe to ${name}`, realtime.subscribe(name));
  assert.equal(answer.ok, true, JSON.stringify(answer));
  assert.equal(answer.channel, name);
  return answer.presence.members;
}

async function rejection(realtime) {
  const error = await harness.within(
    'the connection to be refused',
    realtime.connect().then(() => assert.fail('connected'), (refusal) => refusal),
  );
  return error.message;
}

/** Publishes through the SDK and checks the message: the payload's keys, then `meta`. */
async function publishAndHear(realtime, name, sender) {
  const echo = harness.next(realtime, 'status_changed');
  await realtime.publish(name, 'status_changed', { id: 7, status: 'shipped' });
  const message = await echo;
  assert.deepEqual(Object.keys(message), ['id', 'status', 'meta']);
  assert.equal(message.id, 7);
  assert.equal(message.status, 'shipped');
  const { messageId, timestamp, ...meta } = message.meta;
  assert.deepEqual(meta, { channel: `realtime:${name}`, ...sender });
  assert.match(timestamp, ISO_MILLIS);
  assert.equal(messageId.length, 36);
}

await harness.runCases({
  async hears_itself_with_the_anon_key() {
    const realtime = anonymous();
    const name = await channel();
    await realtime.connect();
    assert.equal(realtime.connectionState, 'connected');
    const [member, ...others] = await subscribe(realtime, name);
    assert.deepEqual(others, []);
    assert.equal(member.type, 'anonymous');
    assert.equal(member.presenceId, realtime.socketId);
    assert.match(member.joinedAt, ISO_MILLIS);
    await publishAndHear(realtime, name, { senderType: 'user' });
  },

  async hears_itself_with_a_user_token() {
    const user = harness.freshUser();
    const realtime = signedIn(user);
    const name = await channel();
    await realtime.connect();
    const [member] = await subscribe(realtime, name);
    assert.equal(member.type, 'user');
    assert.equal(member.presenceId, user);
    await publishAndHear(realtime, name, { senderType: 'user', senderId: user });
  },

  async subscribing_connects_by_itself() {
    const realtime = anonymous();
    await subscribe(realtime, await channel());
    assert.equal(realtime.isConnected, true);
  },

  async one_definition_allows_names_of_every_form() {
    // Not `*` alone, because other cases on this node are about names that nothing allows.
    const end = harness.freshUser();
    await harness.createChannel(`*${end}`);
    for (const begin of ['test-1795885786864', 'dup_1', 'ch1.a:', 'a b/ä']) {
      const realtime = anonymous();
      const name = begin + end;
      await subscribe(realtime, name);
      await publishAndHear(realtime, name, { senderType: 'user' });
    }
  },

  async hears_publications_over_http() {
    const realtime = anonymous();
    const name = await channel();
    await subscribe(realtime, name);
    const heard = harness.next(realtime, 'INSERT');
    const { messageId, timestamp } = await publish(name, 'INSERT', { id: 1 });
    const meta = { channel: `realtime:${name}`, senderType: 'system', messageId, timestamp };
    assert.deepEqual(await heard, { id: 1, meta });
  },

  async sees_members_join_and_leave() {
    const [first, second] = [harness.freshUser(), harness.freshUser()];
    const [here, there] = [signedIn(first), signedIn(second)];
    const name = await channel();
    await subscribe(here, name);
    const present = () => here.getPresenceState(name).map((member) => member.presenceId);

    const joined = harness.next(here, 'presence:join');
    const members = await subscribe(there, name);
    assert.deepEqual(members.map((member) => member.presenceId), [first, second]);
    const join = await joined;
    assert.deepEqual(join.member, members[1]);
    assert.equal(join.meta.channel, name);
    assert.equal(join.meta.senderType, 'system');
    assert.match(join.meta.timestamp, ISO_MILLIS);
    assert.deepEqual(present(), [first, second]);

    const left = harness.next(here, 'presence:leave');
    there.unsubscribe(name);
    assert.deepEqual((await left).member, members[1]);
    assert.deepEqual(present(), [first]);

    await subscribe(there, name);
    await harness.until('the second member is back', () => present().includes(second));
    const gone = harness.next(here, 'presence:leave');
    there.disconnect();
    assert.equal((await gone).member.presenceId, second);
    assert.deepEqual(present(), [first]);
  },

  async unsubscribing_ends_delivery() {
    const realtime = anonymous();
    const [left, kept] = [await channel(), await channel()];
    await subscribe(realtime, left);
    await subscribe(realtime, kept);
    const heard = collect(realtime, 'note');
    realtime.unsubscribe(left);
    // The node handles the events of a connection in order, so this answer comes after the
    // unsubscribe.
    await subscribe(realtime, await channel());
    await publish(left, 'note', { from: 'left' });
    await publish(kept, 'note', { from: 'kept' });
    await harness.until('the kept channel is heard', () => heard.length > 0);
    assert.deepEqual(heard.map((message) => message.from), ['kept']);
    assert.ok(!realtime.getSubscribedChannels().includes(left));
  },

  async subscribes_again_after_a_lost_transport() {
    const realtime = anonymous();
    const names = [await channel(), await channel()];
    for (const name of names) await subscribe(realtime, name);
    const before = realtime.socketId;
    const lost = harness.next(realtime, 'disconnect');
    // The SDK has no method that drops only the transport, but its socket has.
    realtime.socket.io.engine.close();
    await lost;
    const subscribed = () => realtime.getSubscribedChannels().length === 2;
    await harness.until('both channels are back', subscribed);
    assert.notEqual(realtime.socketId, before);
    const heard = collect(realtime, 'note');
    for (const name of names) await publish(name, 'note', { name });
    await harness.until('both channels are heard', () => heard.length === 2);
    assert.deepEqual(heard.map((message) => message.name), names);
    const alone = (name) => {
      const [member, ...others] = realtime.getPresenceState(name);
      return member.presenceId === realtime.socketId && others.length === 0;
    };
    await harness.until('the lost connection is present no more', () => names.every(alone));
  },

  async changes_identity_when_the_user_signs_in() {
    const client = createClient({ baseUrl: nextNode(), anonKey });
    const name = await channel();
    await subscribe(client.realtime, name);
    const user = harness.freshUser();
    client.setAccessToken(harness.userToken(user));
    await harness.until('only the user is present', () => {
      const [member, ...others] = client.realtime.getPresenceState(name);
      return member?.presenceId === user && others.length === 0;
    });
    await publishAndHear(client.realtime, name, { senderType: 'user', senderId: user });
  },

  async is_refused_with_a_wrong_token() {
    const forged = harness.token(
      { sub: harness.freshUser(), exp: harness.inAnHour() },
      { secret: 'not the secret' },
    );
    for (const accessToken of [forged, 'no token at all', harness.apiKey]) {
      const { realtime } = createClient({ baseUrl: nextNode(), accessToken });
      assert.equal(await rejection(realtime), 'Invalid token');
    }
    const wrongKey = `anon_${'0'.repeat(64)}`;
    const { realtime } = createClient({ baseUrl: nextNode(), anonKey: wrongKey });
    assert.equal(await rejection(realtime), 'Invalid anon key');
    const nothing = createClient({ baseUrl: nextNode() }).realtime;
    assert.equal(await rejection(nothing), 'No authentication provided');
  },

  async is_told_that_a_channel_is_closed_to_it() {
    const realtime = anonymous();
    const name = harness.freshChannel('undefined');
    assert.deepEqual(await harness.within('the refusal', realtime.subscribe(name)), {
      ok: false,
      channel: name,
      error: {
        code: 'REALTIME_UNAUTHORIZED',
        message:
          'Not authorized to subscribe to this channel: no enabled channel definition matches it',
      },
    });
  },

  async is_told_to_subscribe_before_publishing() {
    const realtime = anonymous();
    await realtime.connect();
    const name = await channel();
    const error = harness.next(realtime, 'error');
    await realtime.publish(name, 'note', {});
    assert.deepEqual(await error, {
      channel: name,
      code: 'REALTIME_NOT_SUBSCRIBED',
      message: 'Must subscribe to channel before publishing messages',
    });
  },
});
