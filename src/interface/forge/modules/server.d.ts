// Forge Realtime for resolvers in Node; see `server.js`.

export declare enum Jira {
  Board = 'board',
  Issue = 'issue',
  Project = 'project',
}

export declare enum Confluence {
  Content = 'content',
  Space = 'space',
}

export declare enum Bitbucket {
  PullRequest = 'pullRequest',
  Repository = 'repository',
}

/** A member of the lists above, or its plain name. */
export type ProductContext =
  | Jira
  | Confluence
  | Bitbucket
  | `${Jira | Confluence | Bitbucket}`;

/**
 * A realtime token, as `signRealtimeToken` answers it: always the text itself. Pages may also hand
 * a function to `client.js`, because they hold subscriptions for longer than a token lives.
 */
export type Token = string;

export interface PublishOptions {
  /** Only subscriptions with a token of equal claims hear the event. */
  token?: Token | null;
  /** Replaces the default scope by these properties of the invocation's own context. */
  contextOverrides?: readonly ProductContext[];
}

export interface RealtimeError {
  message: string;
  status?: number;
  /** For people, and not to be relied on. */
  detail?: string;
}

/** Both null and no `errors` when nobody is subscribed. */
export interface PublishResult {
  eventId: string | null;
  /** Milliseconds since the epoch. */
  eventTimestamp: string | null;
  errors?: RealtimeError[];
}

export interface TokenResult {
  token: Token | null;
  /** Seconds since the epoch. */
  expiresAt: number | null;
  errors?: RealtimeError[];
}

export type TokenPermission = 'subscribe' | 'publish';

/**
 * The id of an invocation, registered or a signed one. An installation does for global events and
 * for signing tokens where no user interface is involved; it needs `authorization`.
 */
export type Invocation = string | { installationId: string };

export interface Configuration {
  /** Where the node is; else the environment's FORGE_EGRESS_PROXY_URL, else 127.0.0.1:7130. */
  url?: string;
  /** Used where no `withInvocation` is around the call. */
  invocation?: Invocation;
  /** The header `Authorization` of every request, for example `Bearer ik_…`. */
  authorization?: string;
}

/** Thrown where the node refuses the invocation or the credential, not what is asked for. */
export declare class ProxyRequestError extends Error {
  status: number;
  /**
   * Why: `INVALID_PROXY_AUTHORIZATION` (no invocation, or a malformed one), `UNKNOWN_INVOCATION`
   * (unknown, expired or badly signed), `CALLER_CREDENTIAL_REQUIRED` (`authorization` is needed) or
   * `INVALID_CALLER_CREDENTIAL` (the given one is no good).
   */
  errorCode: string;
  /** The cause in the node's words, for people and not to be relied on. */
  detail?: string;
}

export declare function configure(configuration?: Configuration): void;

/** Runs `callback`, and all that it starts, on behalf of this invocation. */
export declare function withInvocation<Result>(
  invocation: Invocation,
  callback: () => Result,
): Result;

export declare function publish(
  channel: string,
  payload: string | object,
  options?: PublishOptions,
): Promise<PublishResult>;

export declare function publishGlobal(
  channel: string,
  payload: string | object,
  options?: PublishOptions,
): Promise<PublishResult>;

export declare function signRealtimeToken(
  channel: string,
  claims: object,
  permissions?: [TokenPermission, ...TokenPermission[]],
): Promise<TokenResult>;
