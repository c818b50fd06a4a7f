// Forge Realtime for resolvers in Node: `publish`, `publishGlobal` and `signRealtimeToken` with the
// signatures and results of `@forge/realtime`, over the REST endpoints of a Fanfare node. Needs
// nothing but Node (18 or newer).
//
//     import { publish, withInvocation } from './server.js';
//
//     await withInvocation(request.headers['x-forge-invocation-id'], () => handler(call));
//
// Within `withInvocation`, code that was written for `@forge/realtime` changes its import only.
import { AsyncLocalStorage } from 'node:async_hooks';

const DEFAULT_URL = 'http://127.0.0.1:7130';
const PUBLISH = '/forge/realtime/v1/publish';
const PUBLISH_GLOBAL = '/forge/realtime/v1/publish/global';
const TOKEN = '/forge/realtime/v1/token';

const PUBLISH_FAILED = 'Error publishing event to channel.';
const SIGNING_FAILED = 'Error signing realtime token';
const INVALID_OVERRIDES =
  'Invalid value for contextOverrides. Please provide an array of valid context properties.';

// The `fetch` of Node 20 may stay silent for ever when a kept connection is reset at a bad moment.
const PATIENCE_MS = 30_000;

export const Jira = Object.freeze({ Board: 'board', Issue: 'issue', Project: 'project' });
export const Confluence = Object.freeze({ Content: 'content', Space: 'space' });
export const Bitbucket = Object.freeze({
  PullRequest: 'pullRequest',
  Repository: 'repository',
});

/** The node did not take the invocation or the credential: nothing that another call would mend. */
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
 * Says where the node is and on whose behalf to speak where `withInvocation` does not say it.
 * What is not named stays as it is.
 */
export function configure({ url, invocation, authorization } = {}) {
  for (const [name, value] of Object.entries({ url, invocation, authorization })) {
    if (value !== undefined) settings[name] = value;
  }
}

/** Runs `callback`, and all that it starts, on behalf of this invocation. Answers its result. */
export function withInvocation(invocation, callback) {
  return invocations.run(invocation, callback);
}

/** Publishes to those who subscribed with the same context. */
export async function publish(channel, payload, options) {
  const { token, contextOverrides } = options || {};
  if (contextOverrides && !Array.isArray(contextOverrides)) throw new Error(INVALID_OVERRIDES);
  // An empty list is a scope of its own and not the default one, so it is sent.
  const overrides = contextOverrides ? { contextOverrides } : {};
  return publishTo(PUBLISH, { channel, payload, token, overrides });
}

/** Publishes to everybody in the installation who subscribed globally: overrides mean nothing. */
export async function publishGlobal(channel, payload, options) {
  return publishTo(PUBLISH_GLOBAL, { channel, payload, token: options?.token });
}

/** Signs claims that publisher and subscriber have to share, beside the channel and its context. */
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

/** What the node would refuse a token for, as far as it can be seen without the key. */
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

/** Answers the body of a success, or the list of errors. Throws where the header was refused. */
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

/** Those of the node say more than a status line does, so they come first. */
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
