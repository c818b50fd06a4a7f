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

/** A member of the enums above, or its string value. */
export type ProductContext =
  | Jira
  | Confluence
  | Bitbucket
  | `${Jira | Confluence | Bitbucket}`;

/**
 * A realtime token, as `signRealtimeToken` returns it: always a string. Pages may also pass a
 * function to `client.js`, because their subscriptions last longer than a token.
 */
export type Token = string;

export interface PublishOptions {
  /** Only subscriptions with a token of equal claims receive the event. */
  token?: Token | null;
  /** Replaces the default scope by these entities of the invocation's context. */
  contextOverrides?: readonly ProductContext[];
}

export interface RealtimeError {
  message: string;
  status?: number;
  /** The exact reason, for people. The text may change. */
  detail?: string;
}

/** `eventId` and `eventTimestamp` are null without `errors` if there are no subscribers. */
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
 * The id of a registered invocation, or an invocation token. An installation is enough for global
 * events and for signing tokens outside of an invocation; it needs `authorization`.
 */
export type Invocation = string | { installationId: string };

export interface Configuration {
  /** The node's URL. Default: the variable FORGE_EGRESS_PROXY_URL, or http://127.0.0.1:7130. */
  url?: string;
  /** The invocation of calls outside of `withInvocation`. */
  invocation?: Invocation;
  /** The header `Authorization` of every request, for example `Bearer ik_…`. */
  authorization?: string;
}

/** Thrown if the node refuses the invocation or the credential. */
export declare class ProxyRequestError extends Error {
  status: number;
  /**
   * `INVALID_PROXY_AUTHORIZATION` (no invocation, or a malformed one), `UNKNOWN_INVOCATION`
   * (unknown, expired or badly signed), `CALLER_CREDENTIAL_REQUIRED` (`authorization` is needed) or
   * `INVALID_CALLER_CREDENTIAL` (`authorization` is not valid).
   */
  errorCode: string;
  /** The exact reason, for people. The text may change. */
  detail?: string;
}

export declare function configure(configuration?: Configuration): void;

/** Runs `callback`, and everything that it starts, on behalf of this invocation. */
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
