// Shared by all programs: the node's address, administration, waiting and exit codes.
import assert from 'node:assert/strict';
import { createHmac, randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';

export { assert, sleep };

// Long enough for a loaded machine, and short enough to end before the calling test gives up.
const PATIENCE_MS = 30_000;

function required(name) {
  const value = process.env[name];
  if (!value) {
    console.error(`${name} is not set: the tests in tests/e2e start this program with it`);
    process.exit(2);
  }
  return value;
}

export const url = required('FANFARE_URL');
/** The nodes of a cluster in FANFARE_URLS, or the only node. The next client takes the first. */
const nodes = process.env.FANFARE_URLS?.split(',') ?? [url];
export const apiKey = required('FANFARE_API_KEY');
export const anonKey = required('FANFARE_ANON_KEY');
export const jwtSecret = required('FANFARE_JWT_SECRET');

/** Returns the URL of the node for one more client. In a cluster, clients take nodes in turn. */
export function nextNode() {
  nodes.push(nodes.shift());
  return nodes.at(-1);
}

/** Returns the URL of the node for a request. In a cluster, the newest client has another node. */
export const otherNode = () => nodes[0];

/** Returns the URLs of all nodes, for what each node must be told. */
export const everyNode = () => [...nodes];

const base64url = (value) => Buffer.from(value).toString('base64url');

/** Returns a token that is signed here by hand, independently of the node's code. */
export function token(claims, { secret = jwtSecret, alg = 'HS256' } = {}) {
  const head = base64url(JSON.stringify({ alg, typ: 'JWT' }));
  const body = base64url(JSON.stringify(claims));
  const signed = `${head}.${body}`;
  if (alg === 'none') return `${signed}.`;
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
}

/** An hour ahead, because the SDK treats a token that ends within a minute as expired. */
export const inAnHour = () => Math.floor(Date.now() / 1000) + 3600;

export function userToken(sub, more = {}) {
  return token({ sub, role: 'authenticated', exp: inAnHour(), ...more });
}

/** Returns a name that no other case uses, because cases may run side by side on one node. */
export const freshChannel = (prefix = 'room') => `${prefix}:${randomUUID()}`;
export const freshUser = () => randomUUID();

async function admin(node, path, body) {
  const response = await fetch(node + path, {
    method: 'POST',
    headers: { authorization: `Bearer ${apiKey}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  return { status: response.status, body: await response.json() };
}

/** Defines a channel. In a cluster, all nodes have the definition then. */
export async function createChannel(pattern, options = {}) {
  const definition = { pattern, ...options };
  const { status, body } = await admin(otherNode(), '/api/realtime/channels', definition);
  // A case that runs once per transport finds the pattern of its first run.
  const defined = status === 201 || status === 409;
  assert.ok(defined, `create ${pattern}: ${status} ${JSON.stringify(body)}`);
}

export async function publish(channel, event, payload, node = otherNode()) {
  const publication = { channel, event, payload };
  const { status, body } = await admin(node, '/api/realtime/messages', publication);
  assert.equal(status, 201, `publish ${event} on ${channel}: ${JSON.stringify(body)}`);
  return body;
}

/** Waits for a promise. If it takes too long, the error names `what`. */
export async function within(what, promise, ms = PATIENCE_MS) {
  const late = new AbortController();
  const limit = sleep(ms, null, { signal: late.signal }).then(
    () => assert.fail(`waited ${ms} ms for ${what}`),
    () => {},
  );
  try {
    return await Promise.race([promise, limit]);
  } finally {
    late.abort();
  }
}

/** Waits until a condition holds. */
export async function until(what, condition, ms = PATIENCE_MS) {
  const end = Date.now() + ms;
  while (!condition()) {
    if (Date.now() > end) assert.fail(`waited ${ms} ms until ${what}`);
    await sleep(5);
  }
}

/** Returns the first argument of the next `event` after this call. */
export function next(emitter, event) {
  const heard = new Promise((resolve) => emitter.once(event, resolve));
  return within(`event ${event}`, heard);
}

/** Returns a list to which every message of `event` from now on is added. */
export function collect(emitter, event) {
  const heard = [];
  emitter.on(event, (message) => heard.push(message));
  return heard;
}

/** Emits with an acknowledgement and returns its argument. */
export function ask(socket, event, ...args) {
  const answer = new Promise((resolve) => socket.emit(event, ...args, resolve));
  return within(`the acknowledgement of ${event}`, answer);
}

/** Runs a program to its end. Exits with 0 on success, and with 1 and the error otherwise. */
export async function run(seconds, main) {
  const limit = setTimeout(() => {
    console.error(`not done after ${seconds} s`);
    process.exit(1);
  }, seconds * 1000);
  limit.unref();
  try {
    await main();
  } catch (error) {
    console.error(error);
    process.exit(1);
  }
  // Clients keep timers and sockets open, so the program must exit explicitly.
  process.exit(0);
}

/**
 * Runs the cases that are named on the command line, each once per transport in FANFARE_TRANSPORTS.
 * Each has `seconds`.
 * Without a name it lists all cases, one per line.
 */
export function runCases(cases, seconds = 60) {
  const names = process.argv.slice(2);
  // Those of all cases and transports together, and some for the start.
  const all = seconds * (1 + names.length * transportsFromEnvironment().length);
  return run(all, async () => {
    if (names.length === 0) console.log(Object.keys(cases).join('\n'));
    for (const name of names) {
      assert.ok(Object.hasOwn(cases, name), `no case ${name}`);
      for (const transports of transportsFromEnvironment()) {
        const title = `${name}, ${transports.transports ?? 'default transports'}`;
        console.log(title);
        await within(title, cases[name](transports), seconds * 1000);
      }
    }
  });
}

/** Returns a client's option `transports` for each choice; an empty object for the default. */
function transportsFromEnvironment() {
  const named = process.env.FANFARE_TRANSPORTS ?? 'default';
  return named
    .split(',')
    .map((name) => (name === 'default' ? {} : { transports: [name] }));
}

/** The option `transports` for a program that runs with only one choice. */
export const transports = transportsFromEnvironment()[0];
