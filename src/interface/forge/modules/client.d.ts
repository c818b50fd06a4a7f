// Forge Realtime for browsers and Node; see `client.js`.

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
 * A realtime token, or a function that returns one. The resolver requests it with
 * `signRealtimeToken` of `server.js`. A function is called for every use and every reconnect. A
 * string is not renewed: once the token has expired, the subscription ends at the next reconnect.
 */
export type Token = string | (() => string | Promise<string>);

export interface PublishOptions {
  /** Only subscriptions with a token of equal claims receive the event. */
  token?: Token;
  /** Replaces the default scope by these entities of the signed context. Ignored if global. */
  contextOverrides?: readonly ProductContext[];
}

export interface SubscriptionOptions extends PublishOptions {
  /** Replays the events of this many seconds before the subscribe, if the node still has them. */
  replaySeconds?: number;
}

export interface RealtimeError extends Error {
  /**
   * The node's code (`UNAUTHORIZED`, `INVALID_TOKEN`, `TOKEN_EXPIRED`, …), or this module's:
   * `CLOSED`, `NOT_CONNECTED` (not sent, so not published), `UNKNOWN` (sent but not answered),
   * `TIMEOUT` and `CONNECTION_LOST`. A callback that receives `GAP` has missed events for good, and
   * its subscription continues.
   */
  code?: string;
  /** The exact reason, for people. The text may change. */
  detail?: string;
  /** The code of the WebSocket's close frame, if one ended the connection. */
  closeCode?: number;
}

/** `eventId` and `eventTimestamp` are null without `errors` if there are no subscribers. */
export interface PublishResult {
  eventId: string | null;
  /** Milliseconds since the epoch. */
  eventTimestamp: string | null;
  errors?: { message: string; code?: string; detail?: string }[];
}

export interface Subscription {
  /** Unsubscribes, and resolves when the node no longer counts this subscriber. */
  unsubscribe(): Promise<void>;
}

/**
 * Called with each payload, in order. Called with `undefined` and an error if events were missed
 * (`GAP`), if no events arrive because there is no valid context token (`UNAUTHORIZED`, once until
 * the subscription is established again; the client keeps trying), or if the subscription has ended
 * because it could not be renewed.
 */
export type EventCallback<Payload extends object = Record<string, unknown>> = (
  payload: string | Payload | undefined,
  error?: RealtimeError,
) => unknown;

export type ConnectionState =
  /** There is no connection, because there are no subscriptions or publications. */
  | 'idle'
  | 'connecting'
  | 'connected'
  /** The connection was lost or could not be made. The next attempt follows shortly. */
  | 'waiting'
  | 'closed';

export interface RealtimeOptions {
  /** The URL of the node: `http://host:7130`, or with https, ws or wss. */
  url: string | URL;
  /**
   * Returns a context token, which the host signs for the page that runs this code: a new one each
   * time. Called for every connection, and again before the token expires. If it fails, or if the
   * node refuses the token, new subscriptions and waiting publications fail with that error. The
   * callbacks of established subscriptions receive `UNAUTHORIZED`: at once if the node refuses the
   * token, after several attempts if the function fails.
   */
  getContextToken(): string | Promise<string>;
  /**
   * The milliseconds of silence after which the client probes the node; 40000 by default. If the
   * node does not answer within ten seconds, the connection counts as lost.
   */
  silenceMs?: number;
  /** For Node.js before 22, which has no WebSocket: the class of the package `ws`, for example. */
  WebSocket?: new (url: string, protocols: string[]) => any;
  /**
   * Called on every change of state, with the error that caused it, if any. Without this callback
   * the module writes a warning to the console if it cannot connect.
   */
  onStateChange?(state: ConnectionState, error?: RealtimeError): void;
}

export interface Realtime {
  /**
   * Rejects if the node refuses the subscription or there is no valid context token. Without a
   * connection it waits for the next one.
   */
  subscribe<Payload extends object = Record<string, unknown>>(
    channel: string,
    callback: EventCallback<Payload>,
    options?: SubscriptionOptions,
  ): Promise<Subscription>;
  subscribeGlobal<Payload extends object = Record<string, unknown>>(
    channel: string,
    callback: EventCallback<Payload>,
    options?: SubscriptionOptions,
  ): Promise<Subscription>;
  /**
   * Resolves with `errors` if the event was not published. Without a connection it waits up to 30
   * seconds for the next one. It never sends twice: after `UNKNOWN` the caller decides whether to
   * publish again.
   */
  publish(
    channel: string,
    payload: string | object,
    options?: PublishOptions,
  ): Promise<PublishResult>;
  publishGlobal(
    channel: string,
    payload: string | object,
    options?: PublishOptions,
  ): Promise<PublishResult>;
  /** Ends all subscriptions and the connection. The client cannot be used again. */
  close(): void;
}

export declare function createRealtime(options: RealtimeOptions): Realtime;
