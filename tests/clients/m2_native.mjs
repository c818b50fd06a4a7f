// A client that can set headers. It sends its scope in headers, or as a subprotocol like a browser.
import WebSocket from 'ws';
import * as harness from './harness.mjs';
import { assert, within } from './harness.mjs';
import * as m2 from './m2.mjs';

/** A connection and its unread messages. */
class Client {
  #heard = [];
  #wakes = [];

  static async connect(headers, offered = [], url = m2.socketUrl()) {
    const client = new Client();
    client.socket = new WebSocket(url, offered, { headers });
    client.socket.on('message', (bytes, isBinary) => {
      assert.equal(isBinary, false);
      client.#heard.push(bytes.toString());
      client.#wakes.shift()?.();
    });
    const opened = new Promise((resolve, reject) => {
      client.socket.on('open', resolve);
      client.socket.on('error', reject);
    });
    await within('the handshake', opened);
    return client;
  }

  say(text) {
    this.socket.send(text);
  }

  async hear() {
    if (this.#heard.length === 0) {
      await within('a message', new Promise((resolve) => this.#wakes.push(resolve)));
    }
    return this.#heard.shift();
  }
}

const ids = { 'x-m2-organization-id': 'testOrg', 'x-m2-project-id': 'testProj' };

await harness.runCases({
  async the_printed_messages_are_answered() {
    await m2.goesThroughThePage(await Client.connect(m2.place));
  },

  async either_spelling_and_either_path_do() {
    for (const url of [m2.socketUrl(), m2.socketUrl().slice(0, -1)]) {
      await m2.goesThroughThePage(await Client.connect(ids, [], url));
    }
  },

  async the_printed_headers_do_in_a_subprotocol() {
    const offered = m2.base58(m2.printedHeaders);
    const client = await Client.connect({}, [offered]);
    assert.equal(client.socket.protocol, offered);
    await m2.goesThroughThePage(client);
  },

  async a_user_hears_its_own_as_printed() {
    const authorization = m2.bearer('fakeUserId');
    await m2.hearsItsOwn(await Client.connect({ ...m2.place, authorization }));
  },

  async what_is_refused_is_told_over_http() {
    const refused = Client.connect({ 'x-m2-project': 'testProj' });
    await assert.rejects(refused, /Unexpected server response: 400/);
    const authorization = 'Bearer nonsense';
    const unproved = Client.connect({ ...m2.place, authorization });
    await assert.rejects(unproved, /Unexpected server response: 401/);
  },
});
