// Forge Realtime for resolvers in Node.js: `publish`, `publishGlobal` and `signRealtimeToken` with
// the signatures and results of `@forge/realtime`, over the REST endpoints of a Fanfare node. Needs
// only Node.js 18 or newer.
//
//     import { publish, withInvocation } from './server.js';
//
//     await withInvocation(request.headers['x-forge-invocation-id'], () => handler(call));
//
// Within `withInvocation`, code written for `@forge/realtime` only has to change its import.
import { AsyncLocalStorage } from 'node:async_hooks';

const DEFAULT_URL = 'http://127.0.0.1:7130';
const PUBLISH = '/forge/realtime/v1/publish';
const PUBLISH_GLOBAL = '/forge/realtime/v1/publish/global';
const TOKEN = '/forge/realtime/v1/token';

const PUBLISH_FAILED = 'Error publishing event to channel.';
const SIGNING_FAILED = 'Error signing realtime token';
const INVALID_OVERRIDES =
  'Invalid value for contextOverrides. Please provide an array of valid context properties.';

// The `fetch` of Node.js 20 may never settle if a kept-alive connection is reset.
const PATIENCE_MS = 30_000;

export const Jira = Object.freeze({ Board: 'board', Issue: 'issue', Project: 'project' });
export const Confluence = Object.freeze({ Content: 'content', Space: 'space' });
export const Bitbucket = Object.freeze({
  PullRequest: 'pullRequest',
  Repository: 'repository',
});

/** The node has refused the invocation or the credential. Another call would be refused, too. */
export class ProxyRequestError extends Error {
  constructor(status, errorCode, detail) {
    super(`Forge platform failed to process runtime HTTP request - ${status} - ${errorCode}`);
    this.name = 'PROXY_ERR';
    this.status = status;
    this.errorCode = errorCode;
    this.detail = detail;
  }
}

const invocations = new AsyncLocalStorage();
const settings = {};

/**
 * Sets the URL of the node, the invocation of calls outside of `withInvocation`, and the header
 * `Authorization`. Settings that are not given stay as they are.
 */
export function configure({ url, invocation, authorization } = {}) {
  for (const [name, value] of Object.entries({ url, invocation, authorization })) {
    if (value !== undefined) settings[name] = value;
  }
}

/** Runs `callback` and everything that it starts for this invocation, and returns its result. */
export function withInvocation(invocation, callback) {
  return invocations.run(invocation, callback);
}

/** Publishes to the subscribers with the same context. */
export async function publish(channel, payload, options) {
  const { token, contextOverrides } = options || {};
  if (contextOverrides && !Array.isArray(contextOverrides)) throw new Error(INVALID_OVERRIDES);
  // An empty list is sent, because it selects a scope that differs from the default one.
  const overrides = contextOverrides ? { contextOverrides } : {};
  return publishTo(PUBLISH, { channel, payload, token, overrides });
}

/** Publishes to all global subscribers in the installation. Ignores `contextOverrides`. */
export async function publishGlobal(channel, payload, options) {
  return publishTo(PUBLISH_GLOBAL, { channel, payload, token: options?.token });
}

/** Requests a token for claims that publisher and subscriber must share, besides the context. */
export async function signRealtimeToken(channel, claims, permissions) {
  const failed = (errors) => ({ token: null, expiresAt: null, errors });
  const { body, errors } = await post(TOKEN, { channelName: channel, claims, permissions });
  if (errors) return failed(errors);
  if (typeof body?.token !== 'string') return failed([{ message: SIGNING_FAILED }]);
  return { token: body.token, expiresAt: body.expiresAt };
}

async function publishTo(path, { channel, payload, token, overrides }) {
  const failed = (errors) => ({ eventId: null, eventTimestamp: null, errors });
  const flaw = token && flawOf(token, channel);
  if (flaw) return failed([{ message: `Realtime token validation failed: ${flaw}` }]);

  const options = { ...(token ? { token } : {}), ...overrides };
  const event = { name: channel, payload: JSON.stringify(payload), options };
  const { body, errors } = await post(path, event);
  if (errors) return failed(errors);
  if (body?.eventId === undefined) return failed([{ message: PUBLISH_FAILED }]);
  return { eventId: body.eventId, eventTimestamp: body.eventTimestamp };
}

/** Returns why the node would refuse a token, or null if that cannot be seen without the key. */
function flawOf(token, channel) {
  const claims = claimsOf(token);
  if (!claims?.channel) return 'INVALID_TOKEN';
  if (typeof claims.exp === 'number' && claims.exp <= Date.now() / 1000) return 'TOKEN_EXPIRED';
  if (claims.channel.name !== channel) return 'CHANNEL_NAME_MISMATCH';
  const { permissions } = claims;
  return permissions && !permissions.includes('publish') ? 'MISSING_PERMISSION' : null;
}

function claimsOf(token) {
  const parts = String(token).split('.');
  if (parts.length !== 3) return null;
  try {
    return JSON.parse(Buffer.from(parts[1], 'base64url').toString());
  } catch {
    return null;
  }
}

/** Returns the body of a success, or a list of errors. Throws if the node refuses the headers. */
async function post(path, body) {
  const headers = {
    accept: 'application/json',
    'content-type': 'application/json',
    'forge-proxy-authorization': proxyAuthorization(),
  };
  if (settings.authorization) headers.authorization = settings.authorization;
  const response = await fetch(nodeUrl() + path, {
    method: 'POST',
    headers,
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(PATIENCE_MS),
  });
  const answer = await response.json().catch(() => null);
  const refusal = response.headers.get('forge-proxy-error');
  const detail = answer?.errors?.[0]?.detail;
  if (refusal) throw new ProxyRequestError(response.status, refusal, detail);
  return { body: answer, errors: errorsOf(response, answer) };
}

/** Returns the node's errors, because they say more than the status line; null after a success. */
function errorsOf({ status, statusText }, answer) {
  if (Array.isArray(answer?.errors) && answer.errors.length > 0) return answer.errors;
  if (status === 200) return null;
  return [{ message: status === 429 ? 'RATE_LIMIT_EXCEEDED' : statusText, status }];
}

function nodeUrl() {
  const url = settings.url ?? process.env.FORGE_EGRESS_PROXY_URL ?? DEFAULT_URL;
  return String(url).replace(/\/+$/, '');
}

function proxyAuthorization() {
  const invocation = invocations.getStore() ?? settings.invocation;
  if (!invocation) {
    throw new Error(
      'No Forge invocation is known. Call this within withInvocation(id, callback), where id is ' +
        'the header x-forge-invocation-id of the request being answered, or name one with ' +
        'configure({ invocation }).',
    );
  }
  const { installationId } = invocation;
  return installationId
    ? `Forge as=app,installationId=${installationId}`
    : `Forge as=app,id=${invocation}`;
}
