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

export type ProductContext = Jira | Confluence | Bitbucket;

/** A realtime token, or how to have one signed: asked anew for every use and every reconnect. */
export type Token = string | (() => string | Promise<string>);

export interface PublishOptions {
  /** Only subscriptions with a token of equal claims hear the event. */
  token?: Token;
  /** Replaces the default scope by these properties of the signed context. Not for global ones. */
  contextOverrides?: ProductContext[];
}

export interface SubscriptionOptions extends PublishOptions {
  /** Hears first what was said so many seconds before, as far as the node keeps it. */
  replaySeconds?: number;
}

export interface RealtimeError extends Error {
  /**
   * As the node has it (`UNAUTHORIZED`, `INVALID_TOKEN`, `TOKEN_EXPIRED`, …). `GAP`, to a callback:
   * events were missed for good, and the subscription goes on. Of this module itself: `CLOSED`,
   * `NOT_CONNECTED` (not sent, so not published) and `UNKNOWN` (sent, and no answer came).
   */
  code?: string;
}

/** Both null and no `errors` when nobody is subscribed. */
export interface PublishResult {
  eventId: string | null;
  /** Milliseconds since the epoch. */
  eventTimestamp: string | null;
  errors?: { message: string; code?: string }[];
}

export interface Subscription {
  /** Resolves when the node takes this subscriber for gone. */
  unsubscribe(): Promise<void>;
}

/**
 * Called with each payload in order; with `undefined` and an error when events were missed (`GAP`)
 * or when the subscription has ended because it could not be had again.
 */
export type EventCallback<Payload> = (payload: string | Payload, error?: RealtimeError) => unknown;

export type ConnectionState =
  /** No connection, because nothing is asked for. */
  | 'idle'
  | 'connecting'
  | 'connected'
  /** The connection was lost, or not had; the next attempt follows shortly. */
  | 'waiting'
  | 'closed';

export interface RealtimeOptions {
  /** Where the node is: `http://host:7130`, or with https, ws or wss. */
  url: string | URL;
  /**
   * Answers a context token, which the host signs for the page that this runs in. Called for every
   * connection, and again in good time before the token expires. Where it fails, subscriptions and
   * publications that wait for a first connection fail with it.
   */
  getContextToken(): string | Promise<string>;
  /** For Node without a WebSocket of its own: the class of the package `ws`, or any like it. */
  WebSocket?: new (url: string, protocols: string[]) => any;
  /** Told of every change, with the error that led to it where there is one. */
  onStateChange?(state: ConnectionState, error?: RealtimeError): void;
}

export interface Realtime {
  /** Rejects where the node refuses. A lost connection is waited for. */
  subscribe<Payload extends Record<string, unknown> = Record<string, unknown>>(
    channel: string,
    callback: EventCallback<Payload>,
    options?: SubscriptionOptions,
  ): Promise<Subscription>;
  subscribeGlobal<Payload extends Record<string, unknown> = Record<string, unknown>>(
    channel: string,
    callback: EventCallback<Payload>,
    options?: SubscriptionOptions,
  ): Promise<Subscription>;
  /**
   * Says in `errors` what went wrong. Without a connection it waits for the next one, half a minute
   * at most. It never sends twice: whoever gets `UNKNOWN` decides.
   */
  publish<Payload extends Record<string, unknown>>(
    channel: string,
    payload: string | Payload,
    options?: PublishOptions,
  ): Promise<PublishResult>;
  publishGlobal<Payload extends Record<string, unknown>>(
    channel: string,
    payload: string | Payload,
    options?: PublishOptions,
  ): Promise<PublishResult>;
  /** Ends everything: the client cannot be used again. */
  close(): void;
}

export declare function createRealtime(options: RealtimeOptions): Realtime;
