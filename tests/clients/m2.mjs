// Shared by the M2 programs: the examples of M2's public page, writing documents, and the exchanges
// that work for every client that follows that page.
import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { apiKey, assert, inAnHour, nextNode, otherNode, token } from './harness.mjs';

/** Returns an example of the page, verbatim. */
const printed = (name) => readFile(new URL(`documents/m2_${name}.txt`, import.meta.url), 'utf8');
/** Returns an example of JSON without insignificant white space. */
const compact = async (name) => JSON.stringify(JSON.parse(await printed(name)));

/** Returns the address for one more client. */
export const socketUrl = () => `${nextNode().replace('http', 'ws')}/api/realtime/`;
/** The headers in the page's example, verbatim. */
export const printedHeaders = (await printed('headers')).trim();
export const place = { 'x-m2-organization': 'testOrg', 'x-m2-project': 'testProj' };

export const bearer = (user) => {
  const claims = { user_id: user, organization_id: 'testOrg', exp: inAnHour() };
  return `Bearer ${token(claims)}`;
};

/** Returns headers in the format that is encoded as a subprotocol. */
export const lines = (headers) =>
  Object.entries(headers)
    .map(([name, value]) => `${name}:${value}`)
    .join('\n');

const ALPHABET = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz';

/** Returns a text as base58. The text must not begin with a zero byte. */
export function base58(text) {
  let number = BigInt(`0x${Buffer.from(text).toString('hex')}`);
  let digits = '';
  for (; number > 0n; number /= 58n) digits = ALPHABET[Number(number % 58n)] + digits;
  return digits;
}

async function call(method, { type, id }, body) {
  const path = `/api/realtime/resources/${type}/${encodeURIComponent(id)}`;
  const headers = { ...place, 'x-api-key': apiKey };
  const response = await fetch(otherNode() + path, { method, headers, body: JSON.stringify(body) });
  const answer = await response.json();
  assert.equal(response.status, 200, JSON.stringify(answer));
  return answer.version;
}

/** Writes a document and returns its version. */
export const put = (resource, data, more = {}) => call('PUT', resource, { ...more, data });
export const remove = (resource) => call('DELETE', resource, {});

const frame = (userId, resource, data, version) =>
  JSON.stringify({ userId, resource, data, version });

/** Checks that the client receives nothing but the answers to what happens here. */
async function hearsNothingElse(client) {
  const resource = { type: 'kvStore', id: randomUUID() };
  client.say(JSON.stringify({ action: 'subscribe', resource }));
  assert.equal(JSON.parse(await client.hear()).warning, 'resource_not_found');
  const version = await put(resource, 'that is all');
  assert.equal(await client.hear(), frame(null, resource, 'that is all', version));
}

/** Runs through the page's messages with a client in the page's organization and project. */
export async function goesThroughThePage(client) {
  const warning = await printed('warning');
  const titles = { kvstore: 'KVStore', collection: 'Collection', liveconfig: 'LiveConfig' };
  for (const [name, title] of Object.entries(titles)) {
    const message = await printed(name);
    const { resource } = JSON.parse(message);
    client.say(message);
    const expected = JSON.stringify(JSON.parse(warning.replace('KVStore', title)));
    assert.equal(await client.hear(), expected);
    const data = { key: 'testKey', data: [1, { title }] };
    const version = await put(resource, data);
    assert.equal(await client.hear(), frame(null, resource, data, version));
    const deleted = await remove(resource);
    assert.equal(await client.hear(), frame(null, resource, null, deleted));
    const again = await put(resource, title, { userId: 'author' });
    assert.equal(await client.hear(), frame('author', resource, title, again));
    client.say(message);
    assert.equal(await client.hear(), frame('author', resource, title, again));

    client.say(message.replace('"subscribe"', '"unsubscribe"'));
    client.say('nonsense');
    assert.equal(await client.hear(), await compact('error'));
    await put(resource, 'unheard');
    await remove(resource);
    await hearsNothingElse(client);
  }
  const mangled = await printed('liveconfig_as_printed');
  for (const message of [mangled, mangled.replaceAll('\u0e42', '\u201c')]) {
    client.say(message);
    assert.equal(await client.hear(), await compact('error'));
    await hearsNothingElse(client);
  }
}

/** Checks the page's `success` example with a client of the page's user. */
export async function hearsItsOwn(client) {
  const { userId, resource, data } = JSON.parse(await printed('success'));
  const subscribe = JSON.stringify({ action: 'subscribe', resource });
  client.say(subscribe);
  assert.match(await client.hear(), /^\{"warning":"resource_not_found",/);
  const version = await put(resource, data, { userId });
  const expected = (await compact('success')).replace(/"2024-.*Z"/, `"${version}"`);
  assert.equal(await client.hear(), expected);
  await put(resource, 'of somebody else', { userId: 'someone' });
  client.say(subscribe);
  assert.equal(await client.hear(), expected);
  await hearsNothingElse(client);
}
