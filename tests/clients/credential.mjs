// Connections that send newer credentials, or whose token expires: `credential.mjs refresh` on any
// node, `credential.mjs expire` on a node that closes connections whose token has expired.
import { io } from 'socket.io-client';
import * as harness from './harness.mjs';
import { apiKey, ask, assert, token, url } from './harness.mjs';

const seconds = (from) => Math.floor(Date.now() / 1000) + from;
const signed = (sub, from, more) => token({ sub, role: 'authenticated', exp: seconds(from), ...more });

async function connected(auth) {
  const socket = io(url, { auth, transports: ['websocket'], forceNew: true, reconnection: false });
  await harness.next(socket, 'connect');
  return socket;
}

const cases = {
  async refresh() {
    const [user, channel] = [harness.freshUser(), harness.freshChannel()];
    await harness.createChannel(channel);
    const socket = await connected({ token: signed(user, 60) });
    assert.equal((await ask(socket, 'realtime:subscribe', { channel })).ok, true);
    assert.deepEqual(await ask(socket, 'realtime:auth', { token: signed(user, 3600) }), { ok: true });

    const refused = async (argument, code) => {
      const answer = await ask(socket, 'REALTIME_AUTH', argument);
      assert.equal(answer.ok, false, JSON.stringify(argument));
      assert.equal(answer.error.code, code, JSON.stringify(answer));
    };
    await refused({ token: signed(harness.freshUser(), 3600) }, 'REALTIME_UNAUTHORIZED');
    await refused({ token: signed(user, -5) }, 'REALTIME_UNAUTHORIZED');
    await refused({ token: 'nonsense' }, 'REALTIME_UNAUTHORIZED');
    await refused({ apiKey }, 'REALTIME_UNAUTHORIZED');
    await refused({}, 'REALTIME_UNAUTHORIZED');
    await refused('text', 'INVALID_INPUT');

    // The newest token decides what the client may do. Here its role is unknown to the node.
    const heard = harness.collect(socket, 'note');
    assert.equal((await ask(socket, 'realtime:publish', { channel, event: 'note', payload: {} })).ok, true);
    await harness.until('it hears itself', () => heard.length === 1);
    const lesser = { token: signed(user, 3600, { role: 'visitor' }) };
    assert.deepEqual(await ask(socket, 'realtime:auth', lesser), { ok: true });
    const answer = await ask(socket, 'realtime:publish', { channel, event: 'note', payload: {} });
    assert.equal(answer.error.code, 'REALTIME_UNAUTHORIZED');
    assert.equal(socket.connected, true);
  },

  async expire() {
    const user = harness.freshUser();
    const left = await connected({ token: signed(user, 10) });
    const errors = harness.collect(left, 'realtime:error');
    const gone = new Promise((resolve) => left.once('disconnect', resolve));
    const kept = await connected({ token: signed(user, 10) });
    assert.deepEqual(await ask(kept, 'realtime:auth', { token: signed(user, 3600) }), { ok: true });
    assert.equal(await harness.within('the end', gone), 'transport close');
    assert.deepEqual(errors.map((error) => error.code), ['TOKEN_EXPIRED']);
    await harness.sleep(500);
    assert.equal(kept.connected, true);
  },
};

await harness.runCases(cases);
