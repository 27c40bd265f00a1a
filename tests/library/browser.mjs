// A browser whose tabs share storage, locks and channels, and whose network the test controls.

import { createHash } from "node:crypto";

import { Clock, settled } from "./clock.mjs";
import { Network } from "./network.mjs";
import { MemoryStorage, globalsOf, load } from "./page.mjs";

// Hashes at once: the real one takes a thread, and tests wait for turns of the event loop only.
const subtle = { digest: async (_, bytes) => new Uint8Array(createHash("sha256").update(bytes).digest()).buffer };

export const idOf = (key) => createHash("sha256").update(key).digest().subarray(0, 16).toString("base64url");

// Messages between tabs, each delivered in a task of its own.
class Channels {
  #open = new Set();

  of(tab) {
    const open = this.#open;
    return class BroadcastChannel {
      constructor(name) {
        Object.assign(this, { name, tab });
        open.add(this);
      }

      postMessage(message) {
        if (!open.has(this)) {
          throw new Error("the channel is closed");
        }
        const data = structuredClone(message);
        const others = [...open].filter((it) => it !== this && it.name === this.name);
        setImmediate(() => others.forEach((it) => open.has(it) && it.onmessage?.({ data })));
      }

      close() {
        open.delete(this);
      }
    };
  }

  kill(tab) {
    this.#open.forEach((it) => it.tab === tab && this.#open.delete(it));
  }
}

// Web Locks, exclusive ones only. A tab that is killed loses its locks.
class Locks {
  #queues = new Map();

  of(tab) {
    return { request: (name, { signal }, act) => this.#request(tab, name, signal, act) };
  }

  #request(tab, name, signal, act) {
    return new Promise((resolve, reject) => {
      const queue = this.#queues.get(name) ?? [];
      this.#queues.set(name, queue);
      const entry = { tab, name, act, resolve, isHeld: false };
      queue.push(entry);
      signal?.addEventListener("abort", () => {
        if (!entry.isHeld) {
          this.#remove(entry);
          reject(signal.reason);
        }
      });
      this.#grant(name);
    });
  }

  #grant(name) {
    const first = this.#queues.get(name)[0];
    if (first && !first.isHeld) {
      first.isHeld = true;
      setImmediate(async () => {
        const value = await first.act({ name });
        this.#remove(first);
        first.resolve(value);
      });
    }
  }

  #remove(entry) {
    const queue = this.#queues.get(entry.name);
    const at = queue.indexOf(entry);
    if (0 <= at) {
      queue.splice(at, 1);
      this.#grant(entry.name);
    }
  }

  kill(tab) {
    const all = [...this.#queues.values()].flat();
    all.filter((entry) => entry.tab === tab).forEach((entry) => this.#remove(entry));
  }

  get names() {
    return [...this.#queues].filter(([, queue]) => queue.length).map(([name]) => name);
  }
}

export class Browser {
  clock = new Clock();
  network = new Network();
  locks = new Locks();
  channels = new Channels();
  localStorage = new MemoryStorage();
  tabs = [];
  protocol = "http/1.1";

  // Opens a page, as a new tab or in a tab whose storage is given.
  async open({ sessionStorage = new MemoryStorage(), ...options } = {}) {
    const tab = new Tab(this, sessionStorage, options);
    this.tabs.push(tab);
    await tab.load();
    return tab;
  }

  // Takes the next request, and checks what it is.
  take(line) {
    const request = this.network.take();
    if (request?.line !== line) {
      throw new Error(`expected ${line}, not ${request?.line} ${JSON.stringify(request?.body ?? request?.url.search)}`);
    }
    return request;
  }

  async wait(delay) {
    await this.clock.advance(delay);
  }
}

class Tab {
  heard = [];

  constructor(browser, sessionStorage, options) {
    Object.assign(this, { browser, sessionStorage, options });
  }

  async load() {
    const { browser, sessionStorage } = this;
    const globals = globalsOf({
      clock: browser.clock,
      network: browser.network,
      localStorage: browser.localStorage,
      sessionStorage,
      navigator: { locks: browser.locks.of(this) },
      performance: { getEntries: () => [{ name: "https://push.example.com/page", nextHopProtocol: browser.protocol }] },
      BroadcastChannel: browser.channels.of(this),
      crypto: { getRandomValues: (bytes) => crypto.getRandomValues(bytes), subtle },
    });
    const { exports, context } = await load(globals);
    this.context = context;
    this.client = exports.connect(undefined, this.options);
    await settled();
  }

  listen(name) {
    this.client.topic(name).on("*", (data) => this.heard.push(data));
  }

  // Ends without a word, as by a crash.
  kill() {
    this.browser.channels.kill(this);
    this.browser.locks.kill(this);
  }

  async fire(type, values = {}, target = this.context) {
    target.dispatchEvent(Object.assign(new Event(type), values));
    await settled();
  }

  leave(persisted = false) {
    return this.fire("pagehide", { persisted });
  }

  // The key in the storage that a left page hands over.
  get kept() {
    return JSON.parse(this.sessionStorage.getItem("tidegate:https://push.example.com/:1"));
  }
}

// Says hello to a client on a stream.
export async function hello(request, key, more = {}) {
  const data = { client: idOf(key), stream: "S", epoch: "e", time: Date.parse("2026-01-31T12:00:00Z"), resumed: true, topics: {}, ...more };
  request.event({ id: more.id ?? "t-hello", type: "tidegate.hello", data: JSON.stringify(data), topics: [] });
  await settled();
}

export async function event(request, number, topics = ["a"], more = {}) {
  request.event({ id: `e-${number}`, type: "n", data: JSON.stringify(number), topics, ...more });
  await settled();
}

export const keysOf = (request) => request.url.searchParams.getAll("client");
