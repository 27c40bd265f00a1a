// A page that is reloaded, duplicated, frozen, left and restored.

import assert from "node:assert/strict";
import test from "node:test";

import { Browser, event, hello, keysOf } from "./browser.mjs";
import { settled } from "./clock.mjs";

async function opened(options = {}) {
  const browser = new Browser();
  browser.protocol = "h2";
  const tab = await browser.open(options);
  const stream = browser.take("GET /events");
  const [key] = keysOf(stream);
  await hello(stream, key);
  return { browser, tab, stream, key };
}

test("a reloaded page is the same client, at the same place", async () => {
  const { browser, tab, stream, key } = await opened();
  tab.client.topic("a").send("x");
  await settled();
  browser.take("POST /client").reply(200, { did: [{ id: "1" }] });
  await event(stream, 1);
  await tab.leave();
  assert.deepEqual(browser.take("POST /client").body.do, [{ bye: true }]);
  assert.deepEqual(tab.kept, { key, cursor: "e-1", seq: 1 });

  const reloaded = await browser.open({ sessionStorage: tab.sessionStorage });
  const next = browser.take("GET /events");
  assert.deepEqual(keysOf(next), [key]);
  assert.equal(next.url.searchParams.get("last_event_id"), "e-1");
  assert.equal(reloaded.kept, null, "the key is taken out");
  reloaded.client.topic("a").send("x");
  await settled();
  assert.equal(browser.take("POST /client").body.seq, 2);
});

test("a duplicated tab is another client", async () => {
  const { browser, tab, key } = await opened();
  await browser.open({ sessionStorage: tab.sessionStorage.copy() });
  const [other] = keysOf(browser.take("GET /events"));
  assert.notEqual(other, key);
});

test("a page in the back/forward cache holds nothing open, and returns where it was", async () => {
  const { browser, tab, stream, key } = await opened();
  tab.listen("a");
  await settled();
  browser.take("POST /client").reply(200, { did: [{ topic: "a", rev: 0, state: {}, members: {} }] });
  await event(stream, 1);
  await tab.leave(true);
  assert.ok(stream.isClosed);
  assert.equal(tab.client.status, "waiting");
  assert.equal(tab.client.reason, "hidden");
  assert.deepEqual(browser.locks.names, []);
  assert.deepEqual(browser.network.requests, [], "no goodbye");
  await browser.wait(600000);
  assert.deepEqual(browser.network.requests, []);

  await tab.fire("pageshow", { persisted: true });
  assert.equal(tab.kept, null, "a page that returns keeps its key to itself");
  const next = browser.take("GET /events");
  assert.deepEqual(keysOf(next), [key]);
  assert.equal(next.url.searchParams.get("last_event_id"), "e-1");
  await hello(next, key, { topics: { a: 0 } });
  await event(next, 2);
  assert.deepEqual(tab.heard, [1, 2]);
  assert.equal(tab.client.status, "open");
});

test("locks are let go with a page, those that are only requested as well", async () => {
  const browser = new Browser();
  const first = await browser.open();
  const second = await browser.open();
  await browser.wait(50);
  assert.notDeepEqual(browser.locks.names, []);
  await second.leave(true);
  await first.leave(true);
  await settled();
  assert.deepEqual(browser.locks.names, []);
});

test("what waits is sent with keepalive when the page is left", async () => {
  const { browser, tab } = await opened();
  tab.client.topic("a").send("one");
  await settled();
  browser.take("POST /client");
  tab.client.topic("a").send("two");
  await settled();
  await tab.leave();
  const rest = browser.take("POST /client");
  assert.equal(rest.body.seq, 2);
  assert.equal(rest.body.do[0].type, "two");
  assert.ok(rest.keepalive);
  assert.equal(tab.kept.seq, 2);
});

test("what worked is taken first for half an hour", async () => {
  const browser = new Browser();
  browser.protocol = "h2";
  const first = await browser.open();
  browser.take("GET /events");
  await browser.wait(4000);
  const poll = browser.take("GET /poll");
  const data = JSON.stringify({ client: "ID", time: 0, epoch: "e", topics: {} });
  poll.reply(200, { events: [{ id: "t", type: "tidegate.hello", data, topics: [] }], cursor: "t", next: "poll?session=S" });
  await settled();
  first.client.close();
  await settled();
  browser.network.requests.length = 0;

  await browser.open();
  browser.take("GET /poll");
  await browser.wait(0);
  assert.deepEqual(browser.network.requests.map((it) => it.line), []);
  await browser.wait(31 * 60000);
  browser.network.requests.length = 0;
  await browser.open();
  browser.take("GET /events");
});

test("storage that is forbidden is done without", async () => {
  const browser = new Browser();
  browser.protocol = "h2";
  const forbidden = { getItem() { throw new Error("no"); }, setItem() { throw new Error("no"); }, removeItem() { throw new Error("no"); } };
  browser.localStorage = forbidden;
  const tab = await browser.open({ sessionStorage: forbidden });
  const stream = browser.take("GET /events");
  await hello(stream, keysOf(stream)[0]);
  assert.equal(tab.client.status, "open");
  await tab.leave();
});

test("an asterisk in the address is a random label", async () => {
  const browser = new Browser();
  const { exports } = await (await import("./page.mjs")).load((await import("./page.mjs")).globalsOf(browser));
  exports.connect("https://*.push.example.com/base", { share: false });
  await settled();
  const stream = browser.take("GET /base/events");
  assert.match(stream.url.hostname, /^[a-z0-9]{24}\.push\.example\.com$/);
  assert.throws(() => exports.connect("ftp://push.example.com"), /address of the gateway/);
});
