// Tabs that share a stream: a lock elects the leader, a channel relays.

import assert from "node:assert/strict";
import test from "node:test";

import { Browser, event, hello, idOf, keysOf } from "./browser.mjs";
import { settled } from "./clock.mjs";

// A browser with tabs that have joined the topic "a". Returns the shared stream and the tabs' keys.
async function sharing(count) {
  const browser = new Browser();
  const keys = [];
  let stream;
  for (let number = 0; number < count; number += 1) {
    const tab = await browser.open();
    tab.listen("a");
    await settled();
    if (number === 0) {
      await browser.wait(50);
      stream = browser.take("GET /events");
      [keys[0]] = keysOf(stream);
    } else {
      const carry = browser.take("POST /client");
      [keys[number]] = carry.body.do[0].carry;
      assert.equal(carry.body.client, keys[0], "the leader asks for it");
      assert.deepEqual(browser.network.requests, [], "a tab does nothing before it can hear");
      carry.reply(200, { did: [{}] });
      await settled();
    }
    if (number === 0) {
      await hello(stream, keys[0]);
    }
    const join = browser.take("POST /client");
    assert.equal(join.body.client, keys[number]);
    assert.equal(join.body.do[0].join, "a");
    join.reply(200, { did: [{ topic: "a", rev: 0, state: {}, members: {} }] });
    await settled();
    assert.equal(tab.client.status, "open");
  }
  return { browser, stream, keys, tabs: browser.tabs };
}

test("three tabs over HTTP/1.1 hold one stream, and each is a client of its own", async () => {
  const { browser, stream, keys, tabs } = await sharing(3);
  assert.equal(new Set(keys).size, 3);
  assert.deepEqual(tabs.map((tab) => tab.client.id), keys.map(idOf));
  await event(stream, 1);
  await event(stream, 2, ["a"], { except: [tabs[1].client.id] });
  assert.deepEqual(tabs.map((tab) => tab.heard), [[1, 2], [1], [1, 2]]);
  tabs[2].client.topic("a").send("x", 1);
  await settled();
  const sent = browser.take("POST /client");
  assert.equal(sent.body.client, keys[2]);
  assert.deepEqual(browser.network.requests, []);
});

test("a tab hears nothing of topics that only others have joined", async () => {
  const { browser, stream, tabs } = await sharing(2);
  const heard = [];
  tabs[1].client.on("*", (data) => heard.push(data));
  await event(stream, 1, ["b"]);
  await event(stream, 2, [`/.well-known/mercure/clients/${tabs[0].client.id}`]);
  await event(stream, 3, [`/.well-known/mercure/clients/${tabs[1].client.id}`]);
  assert.deepEqual(heard, [3]);
});

test("when the leader leaves, the next opens a stream for all, and nothing is lost or repeated", async () => {
  const { browser, stream, keys, tabs } = await sharing(3);
  await event(stream, 1);
  await tabs[0].leave();
  assert.ok(stream.isClosed);
  const bye = browser.take("POST /client");
  assert.deepEqual(bye.body.do, [{ bye: true }]);
  assert.ok(bye.keepalive);
  await browser.wait(50);
  const next = browser.take("GET /events");
  assert.deepEqual(keysOf(next), [keys[1], keys[2]]);
  assert.equal(next.url.searchParams.get("last_event_id"), "e-1");
  await hello(next, keys[1], { topics: { a: 0 } });
  // The hello is for the leader. The other asks with its next number whether it is still known.
  const ping = browser.take("POST /client");
  assert.deepEqual(ping.body, { client: keys[2], seq: 2, do: [] });
  ping.reply(200, { did: [] });
  await event(next, 1);
  await event(next, 2);
  assert.deepEqual(tabs.slice(1).map((tab) => tab.heard), [[1, 2], [1, 2]]);
  assert.deepEqual(browser.network.requests, [], "nothing is joined again");
});

test("a killed leader is replaced, and a killed follower is dropped", async () => {
  const { browser, keys, tabs } = await sharing(3);
  tabs[2].kill();
  await settled();
  const drop = browser.take("POST /client");
  assert.deepEqual(drop.body.do, [{ drop: [keys[2]] }]);
  drop.reply(200, { did: [{}] });
  tabs[0].kill();
  await browser.wait(50);
  const next = browser.take("GET /events");
  assert.deepEqual(keysOf(next), [keys[1]]);
  await hello(next, keys[1], { topics: { a: 0 } });
  await event(next, 7);
  assert.deepEqual(tabs[1].heard, [7]);
});

test("a tab that slept is caught up from its own position", async () => {
  const { browser, stream, keys, tabs } = await sharing(2);
  await event(stream, 1);
  await tabs[1].fire("freeze", {}, tabs[1].context.document);
  const drop = browser.take("POST /client");
  assert.deepEqual(drop.body.do, [{ drop: [keys[1]] }]);
  drop.reply(200, { did: [{}] });
  await event(stream, 2);
  await tabs[1].fire("resume", {}, tabs[1].context.document);
  await browser.wait(0);
  assert.ok(stream.isClosed);
  const next = browser.take("GET /events");
  assert.deepEqual(keysOf(next), keys);
  assert.equal(next.url.searchParams.get("last_event_id"), "e-1");
  await hello(next, keys[0], { topics: { a: 0 } });
  assert.deepEqual(browser.take("POST /client").body, { client: keys[1], seq: 2, do: [] });
  await event(next, 2);
  await event(next, 3);
  assert.deepEqual(tabs.map((tab) => tab.heard), [[1, 2, 3], [1, 2, 3]]);
});

test("a tab that no leader answers opens a stream of its own", async () => {
  const browser = new Browser();
  // A tab of another release holds the lock, and does not understand the question.
  browser.locks.of({}).request("tidegate:https://push.example.com/:", {}, () => new Promise(() => {}));
  const tab = await browser.open();
  await browser.wait(3999);
  assert.deepEqual(browser.network.requests, []);
  await browser.wait(1);
  const stream = browser.take("GET /events");
  await hello(stream, keysOf(stream)[0]);
  assert.equal(tab.client.status, "open");
});

test("followers see the leader's status", async () => {
  const { browser, stream, keys, tabs } = await sharing(2);
  stream.cut();
  await settled();
  assert.deepEqual(tabs.map((tab) => tab.client.status), ["waiting", "waiting"]);
  await browser.wait(1000);
  const next = browser.take("GET /events");
  assert.deepEqual(keysOf(next), keys);
  await hello(next, keys[0], { topics: { a: 0 } });
  assert.deepEqual(tabs.map((tab) => tab.client.status), ["open", "open"]);
});

test("over HTTP/2 each tab has a stream, unless it is told to share", async () => {
  for (const [protocol, share, isShared] of [["h2", "auto", false], ["h3", "auto", false], ["h2", true, true], ["", "auto", true], ["http/1.1", false, false]]) {
    const browser = new Browser();
    browser.protocol = protocol;
    await browser.open({ share });
    assert.equal(browser.locks.names.length !== 0, isShared, `${protocol} ${share}`);
    }
});

test("a follower that the gateway has forgotten joins again", async () => {
  const { browser, stream, keys } = await sharing(2);
  stream.cut();
  await browser.wait(1000);
  await hello(browser.take("GET /events"), keys[0], { topics: { a: 0 } });
  const ping = browser.take("POST /client");
  assert.deepEqual(ping.body, { client: keys[1], seq: 2, do: [] });
  ping.reply(409, { expected: 1 });
  await settled();
  const again = browser.take("POST /client");
  assert.equal(again.body.client, keys[1]);
  assert.deepEqual(again.body.do, [{ join: "a" }]);
});
