// Checks the browser library as a gateway serves it. Arguments: the gateway's origin. Run with --eval, where
// packages are found.

import assert from "node:assert/strict";
import vm from "node:vm";
import { gzipSync } from "node:zlib";

import { parse } from "acorn";

const [origin] = process.argv.slice(1);

// Lines and compressed bytes that a page may have to load, and the edition of JavaScript that browsers must know.
const BOUNDS = {
  "tidegate.js": { lines: 1300, bytes: 13 * 1024, ecmaVersion: 2020, sourceType: "module" },
  "tidegate.classic.js": { lines: 1310, bytes: 13 * 1024, ecmaVersion: 2020, sourceType: "script" },
  "tidegate-more.js": { lines: 220, bytes: 2.5 * 1024, ecmaVersion: 2020, sourceType: "module" },
  "now.js": { lines: 60, bytes: 1.5 * 1024, ecmaVersion: 2020, sourceType: "module" },
  "now.classic.js": { lines: 70, bytes: 1.5 * 1024, ecmaVersion: 2020, sourceType: "script" },
  "legacy.js": { lines: 70, bytes: 1024, ecmaVersion: 5, sourceType: "script" },
};

for (const [name, { lines, bytes, ...options }] of Object.entries(BOUNDS)) {
  const address = `${origin}/static/${name}`;
  const response = await fetch(address);
  assert.equal(response.status, 200, name);
  assert.match(response.headers.get("content-type"), /^text\/javascript/);
  const tag = response.headers.get("etag");
  assert.match(tag, /^"[0-9a-f]+"$/, "a strong tag");
  assert.equal((await fetch(address, { headers: { "if-none-match": tag } })).status, 304);
  const text = await response.text();
  const size = gzipSync(text, { level: 9 }).length;
  assert.ok(text.split("\n").length - 1 <= lines, `${name} has ${text.split("\n").length - 1} lines`);
  assert.ok(size <= bytes, `${name} has ${size} bytes compressed`);
  parse(text, options);
}

// The classic scripts define two names, and leave nothing else in the page.
const page = vm.createContext({
  AbortController, Event, EventSource: class {}, EventTarget, TextEncoder, URL, crypto, queueMicrotask,
  addEventListener() {},
  clearTimeout() {},
  document: { addEventListener() {}, currentScript: { src: `${origin}/static/tidegate.classic.js` } },
  setTimeout: () => 0,
});
const before = Object.keys(page);
for (const name of ["tidegate.classic.js", "now.classic.js"]) {
  vm.runInContext(await (await fetch(`${origin}/static/${name}`)).text(), page);
}
const added = Object.keys(page).filter((name) => !before.includes(name));
assert.deepEqual(added.sort(), ["now", "tidegate"]);
assert.deepEqual(Object.keys(page.tidegate), ["connect", "Problem"]);
