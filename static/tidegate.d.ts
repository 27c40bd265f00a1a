// The types of tidegate.js. A map of messages types what a topic carries:
//
//   const room = client.topic<{ "add-circle": Circle }, { color: string }>("/rooms/7");

/** Messages by their type. */
export type Messages = Record<string, any>;

/** A plain object of JSON. */
export type JsonObject = Record<string, any>;

/** A merge patch (RFC 7396): `null` deletes a member, and arrays are replaced whole. */
export type Patch<T> = T extends readonly any[] ? T : T extends object ? { [K in keyof T]?: Patch<T[K]> | null } : T;

export type Transport = "sse" | "poll" | "iframe";

/** `connecting` until the first hello; `waiting` returns by itself; `refused` and `closed` do not. */
export type Status = "connecting" | "open" | "waiting" | "refused" | "closed";

export interface Options {
  /** Returns the access token. It is asked again before a token ends, and once after a refusal. */
  token?: () => string | Promise<string>;
  /** Whether tabs share one stream. `auto`: over HTTP/1.1 only. */
  share?: "auto" | boolean;
  /** The transports to use, the best first. Default: `["sse", "poll"]`. */
  transports?: Transport[];
  /** Whether the client only listens: it needs no key, and its topics are parameters of the stream. */
  plain?: boolean;
  /** As for `fetch`. `include` sends cookies to another origin. */
  credentials?: "omit" | "same-origin" | "include";
}

/** What is known of a message besides its data. */
export interface Facts {
  id: string;
  type: string;
  /** The id of the client that has sent it. */
  from?: string;
  topics: string[];
  time: string | null;
  /** The data as it was sent. */
  text: string;
  /** Whether it was sent before this client began to listen. */
  recovered: boolean;
}

export interface Member<As = JsonObject> {
  user: string | null;
  data: As;
}

export interface View<State = JsonObject, As = JsonObject> {
  /** The number of changes so far. */
  rev: number;
  state: State;
  members: Record<string, Member<As>>;
  /** The number of members, if they are too many to be listed. */
  count?: number;
}

export interface Change<State = JsonObject, As = JsonObject> extends View<State, As> {
  /** What has changed of the state; `null` if the view was loaded. */
  patch: Patch<State> | null;
  /** The id of the client that has changed it. */
  from: string | null;
}

/** Messages and state by name, a pattern, or `*` for everything that the client may see. */
export type TopicName = string | { match_urlpattern: string } | { match_uritemplate: string };

export interface Topic<M extends Messages = Messages, State extends object = JsonObject, As extends object = JsonObject> {
  readonly name: TopicName;
  readonly rev: number;
  readonly state: State;
  readonly members: Record<string, Member<As>>;
  readonly count: number;
  /** Listens to a type of message, or to all with `*`. Joins the topic at its first use. */
  on<K extends keyof M & string>(type: K, listener: (data: M[K], event: Facts) => void): () => void;
  on(type: "*", listener: (data: M[keyof M], event: Facts) => void): () => void;
  /** Watches state and members. */
  watch(watcher: (change: Change<State, As>) => void): () => void;
  /** Shows this client to the others, or changes what it shows. Without data it listens unseen. */
  join(as?: As): Promise<this>;
  leave(): Promise<unknown>;
  send<K extends keyof M & string>(type: K, data?: M[K], options?: { echo?: boolean; latest?: boolean }): Promise<{ id: string }>;
  /** Changes the state, if `if` is given only at that revision. */
  set(patch: Patch<State>, options?: { if?: number }): Promise<{ rev: number }>;
  /** Loads the view. */
  load(): Promise<this>;
  /** The members by user. */
  users(): Record<string, { id: string; data: As }[]>;
}

export interface Job {
  id: string;
  state: string;
  version: number;
  progress: { done?: number; total?: number; stage?: string; message?: string };
  [member: string]: any;
}

export interface Following {
  signal?: AbortSignal;
  onProgress?: (job: Job) => void;
}

export interface Caller {
  from?: string;
  topic?: string;
  /** Aborted if the gateway does not wait any more. */
  signal: AbortSignal;
}

export interface ClientEvents {
  status: Event;
  /** Events that cannot be had again; views have loaded themselves again. */
  gap: Event & { reason: "unknown" | "trimmed" | "searched"; cursor?: string };
  /** The gateway has taken this client out of a topic. */
  left: Event & { topic: string; reason: "server" | "token" | "rule" | "limit" };
}

export interface Client extends EventTarget {
  /** The public id, once the stream is open. */
  readonly id: string | undefined;
  readonly user: string | null | undefined;
  readonly status: Status;
  readonly reason: string | undefined;
  /** Resolves when the stream is open and all joins so far are answered. */
  readonly ready: Promise<void>;
  /** This client's own topic, which only it hears. */
  readonly own: Topic;
  topic<M extends Messages = Messages, State extends object = JsonObject, As extends object = JsonObject>(
    name: TopicName,
    options?: { last?: number },
  ): Topic<M, State, As>;
  /** Listens to a type of message on every topic of this client. */
  on(type: string, listener: (data: any, event: Facts) => void): () => void;
  /** Calls a function of the gateway. A call that takes long goes on as a job. */
  call<T = any>(name: string, data?: unknown, options?: Following & { timeout?: number }): Promise<T>;
  /** The same in order with `send` and `set`, for at most five seconds. */
  emit<T = any>(name: string, data?: unknown, options?: { latest?: boolean }): Promise<T>;
  /** Lets the gateway call a function of this client. */
  handle<T = any>(name: string, handler: (data: T, call: Caller) => unknown): () => void;
  /** Follows a job to its result. */
  job<T = any>(address: string, options?: Following): Promise<T>;
  close(): void;
  addEventListener<K extends keyof ClientEvents>(type: K, listener: (event: ClientEvents[K]) => void, options?: AddEventListenerOptions | boolean): void;
  addEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: AddEventListenerOptions | boolean): void;
}

/** A problem document of the gateway, or an error of the client. */
export class Problem extends Error {
  /** Of the client: `queue-full`, `stale`, `uncertain`, `timeout`, `closed`, `plain`, `replaced`. */
  readonly type: string;
  readonly title: string;
  /** 0 if the client has found it. */
  readonly status: number;
  readonly detail?: string;
  /** After a conflict: the revision, and the state at it. */
  readonly rev?: number;
  readonly state?: any;
  readonly document: Record<string, any>;
}

/** Connects to the gateway at `url`, by default the one that has served the script. */
export function connect(url?: string, options?: Options): Client;
