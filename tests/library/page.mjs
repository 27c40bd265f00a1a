// Pages for the library: each is a realm of its own with the globals of a browser or of Node, a clock
// and a network that the test controls.

import { readFileSync } from "node:fs";
import vm from "node:vm";

const STATIC = new URL("../../static/", import.meta.url);
const ORIGIN = "https://push.example.com";
const SHARED = {
  AbortController, AbortSignal, Event, EventTarget, TextDecoder, TextEncoder, URL, URLSearchParams,
  atob, btoa, console, crypto, queueMicrotask,
};

export class MemoryStorage {
  #items = new Map();
  getItem = (name) => this.#items.get(name) ?? null;
  setItem = (name, value) => void this.#items.set(name, String(value));
  removeItem = (name) => void this.#items.delete(name);
  // What a duplicated tab gets.
  copy() {
    const copy = new MemoryStorage();
    this.#items.forEach((value, name) => copy.setItem(name, value));
    return copy;
  }
}

// Returns the globals of a page. `kind` is "browser", "old" (no EventSource) or "node".
export function globalsOf({ clock, network, kind = "browser", ...more }) {
  const globals = {
    ...SHARED,
    clock,
    fetch: network.fetch,
    setTimeout: clock.setTimeout,
    clearTimeout: clock.clearTimeout,
    ...more,
  };
  if (kind !== "node") {
    const page = new EventTarget();
    const document = new EventTarget();
    document.visibilityState = "visible";
    Object.assign(globals, {
      document,
      location: new URL(`${ORIGIN}/page`),
      navigator: { onLine: true, ...more.navigator },
      localStorage: more.localStorage ?? new MemoryStorage(),
      sessionStorage: more.sessionStorage ?? new MemoryStorage(),
      addEventListener: page.addEventListener.bind(page),
      removeEventListener: page.removeEventListener.bind(page),
      dispatchEvent: page.dispatchEvent.bind(page),
      performance: more.performance ?? { getEntries: () => [{ name: `${ORIGIN}/page`, nextHopProtocol: "h2" }] },
    });
  }
  if (kind === "browser") {
    globals.EventSource = network.EventSource;
  }
  return globals;
}

// Loads modules of `static/` into a new realm. Returns the exports of `name` and the realm's globals.
export async function load(globals, name = "tidegate.js") {
  const { clock, ...visible } = globals;
  const context = vm.createContext(visible);
  vm.runInContext("(now) => { Math.random = () => 1; Date.now = now; }", context)(() => clock.now);
  const modules = new Map();
  const module = (specifier) => {
    const url = new URL(specifier, STATIC);
    if (!modules.has(url.href)) {
      modules.set(url.href, new vm.SourceTextModule(readFileSync(url, "utf8"), {
        context,
        identifier: url.href,
        initializeImportMeta: (meta) => (meta.url = `${ORIGIN}${url.pathname.replace(/.*(?=\/static\/)/, "")}`),
        importModuleDynamically: (specifier) => evaluated(specifier),
      }));
    }
    return modules.get(url.href);
  };
  const evaluated = async (specifier) => {
    const it = module(specifier);
    if (it.status === "unlinked") {
      await it.link(module);
    }
    await it.evaluate();
    return it;
  };
  return { exports: (await evaluated(name)).namespace, context };
}
