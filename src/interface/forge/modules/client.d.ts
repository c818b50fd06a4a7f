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

/** A member of the lists above, or its plain name. */
export type ProductContext =
  | Jira
  | Confluence
  | Bitbucket
  | `${Jira | Confluence | Bitbucket}`;

/**
 * A realtime token, or how to have one signed. The resolver signs it (`signRealtimeToken` of
 * `server.js`). A function is asked anew for every use and every reconnect; a text is no good any
 * more once it has expired, and then the subscription ends with the next reconnect.
 */
export type Token = string | (() => string | Promise<string>);

export interface PublishOptions {
  /** Only subscriptions with a token of equal claims hear the event. */
  token?: Token;
  /** Replaces the default scope by these properties of the signed context. Not for global ones. */
  contextOverrides?: readonly ProductContext[];
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
  /** For people, and not to be relied on: what exactly is wrong. */
  detail?: string;
  /** The code of the WebSocket's close frame, where that is what ended the connection. */
  closeCode?: number;
}

/** Both null and no `errors` when nobody is subscribed. */
export interface PublishResult {
  eventId: string | null;
  /** Milliseconds since the epoch. */
  eventTimestamp: string | null;
  errors?: { message: string; code?: string; detail?: string }[];
}

export interface Subscription {
  /** Resolves when the node takes this subscriber for gone. */
  unsubscribe(): Promise<void>;
}

/**
 * Called with each payload in order. With `undefined` and an error when events were missed (`GAP`),
 * when nothing comes because there is no good context token any more (`UNAUTHORIZED`, once per
 * absence: the client goes on trying), or when the subscription has ended because it could not be
 * had again.
 */
export type EventCallback<Payload extends object = Record<string, unknown>> = (
  payload: string | Payload | undefined,
  error?: RealtimeError,
) => unknown;

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
   * Answers a context token, which the host signs for the page that this runs in: a fresh one every
   * time. Called for every connection, and again in good time before the token expires. Where it
   * fails or the node refuses what it answers, subscriptions and publications that wait for a first
   * connection fail with that, and callbacks that heard something before are told `UNAUTHORIZED`.
   */
  getContextToken(): string | Promise<string>;
  /**
   * After how many milliseconds of silence the node is asked whether it is there; 40000 unless told
   * otherwise. What gives no answer within ten seconds is taken for a lost connection.
   */
  silenceMs?: number;
  /** For Node.js before 22, which has none: the class of the package `ws`, or any like it. */
  WebSocket?: new (url: string, protocols: string[]) => any;
  /**
   * Told of every change, with the error that led to it where there is one. Without it the console
   * is warned when there is no connection to be had.
   */
  onStateChange?(state: ConnectionState, error?: RealtimeError): void;
}

export interface Realtime {
  /** Rejects where the node refuses. A lost connection is waited for. */
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
   * Says in `errors` what went wrong. Without a connection it waits for the next one, half a minute
   * at most. It never sends twice: whoever gets `UNKNOWN` decides.
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
  /** Ends everything: the client cannot be used again. */
  close(): void;
}

export declare function createRealtime(options: RealtimeOptions): Realtime;
