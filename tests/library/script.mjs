// Runs the cases of `tests/client-scripts`: what the server says, and what the client must do. Each
// step has one of the verbs below. README.md in that folder describes them.

import assert from "node:assert/strict";

import { Clock, settled } from "./clock.mjs";
import { Network } from "./network.mjs";
import { globalsOf, load } from "./page.mjs";

export async function run({ kind, options = {}, steps }) {
  const script = new Script();
  await script.connect(kind, options);
  for (const [at, step] of steps.entries()) {
    const verb = VERBS.find((it) => it in step);
    assert.ok(verb, `step ${at} has no known verb`);
    try {
      const done = script[verb](step);
      if (done) {
        await done;
      }
      // What a page does in one task is one step.
      if (!("do" in step && "do" in (steps[at + 1] ?? {}))) {
        await settled();
      }
    } catch (error) {
      error.message = `step ${at}, ${JSON.stringify(step)}: ${error.message}`;
      throw error;
    }
  }
  script.client.close();
  await settled();
}

const VERBS = ["do", "expect", "reply", "hello", "event", "cut", "fail", "wait", "heard", "status", "settled", "pending", "view", "closed", "quiet", "gap", "key", "json"];

// Checks that `actual` has everything of `expected`. In an object `null` stands for what is absent.
function assertHas(actual, expected, path = "") {
  if (Array.isArray(expected)) {
    assert.equal(actual?.length, expected.length, `${path}: ${JSON.stringify(actual)}`);
    expected.forEach((it, at) => assertHas(actual[at], it, `${path}[${at}]`));
  } else if (expected !== null && typeof expected === "object") {
    assert.ok(actual !== null && typeof actual === "object", `${path}: ${JSON.stringify(actual)}`);
    Object.entries(expected).forEach(([name, it]) => assertHas(actual[name], it, `${path}.${name}`));
  } else {
    assert.equal(actual ?? null, expected, path);
  }
}

class Script {
  clock = new Clock();
  network = new Network();
  named = new Map(); // requests
  promises = new Map(); // outcomes of what the page has done
  aborts = new Map();
  told = []; // events that the page has heard since the last check
  gaps = [];
  last; // the request that was expected last

  async connect(kind, { tokens, ...options }) {
    const { clock, network } = this;
    const globals = globalsOf({ clock, network, kind });
    const { exports, context } = await load(globals);
    this.context = context;
    if (tokens) {
      options.token = async () => tokens.shift() ?? tokens.at(-1);
    }
    this.client = exports.connect("https://push.example.com", options);
    this.client.addEventListener("gap", (event) => this.gaps.push(event.reason));
    this.client.ready.then(() => this.promises.set("ready", { value: {} }), (problem) => this.promises.set("ready", { problem }));
    await settled();
  }

  keep(name, promise) {
    const outcome = {};
    this.promises.set(name, outcome);
    promise.then((value) => (outcome.value = value ?? {}), (problem) => (outcome.problem = problem));
  }

  do(step) {
    const { client } = this;
    const topic = () => client.topic(step.topic, { last: step.last });
    const acts = {
      listen: () => void topic().on(step.type ?? "*", (data, event) => this.told.push({ topic: step.topic, data, ...event })),
      listenToAll: () => void client.on(step.type ?? "*", (data, event) => this.told.push({ data, ...event })),
      watch: () => void topic().watch(({ from, patch }) => this.told.push({ from, patch })),
      join: () => topic().join(step.as),
      leave: () => topic().leave(),
      send: () => topic().send(step.type, step.data, { echo: step.echo, latest: step.latest }),
      set: () => topic().set(step.patch, { if: step.if }),
      emit: () => client.emit(step.emit, step.data, { latest: step.latest }),
      call: () => {
        const controller = new AbortController();
        this.aborts.set(step.name, controller);
        const onProgress = (job) => this.told.push({ progress: job.progress, state: job.state });
        return client.call(step.call, step.data, { timeout: step.timeout, signal: controller.signal, onProgress });
      },
      abort: () => this.aborts.get(step.name).abort(),
      handle: () => void client.handle(step.call, (data, { from }) => {
        this.told.push({ call: step.call, data, from });
        return step.hangs ? new Promise(() => {}) : step.answer;
      }),
      online: () => {
        this.network.isThere = true;
        this.context.navigator.onLine = true;
        this.context.dispatchEvent(new Event("online"));
      },
      offline: () => {
        this.network.isThere = false;
        this.context.navigator.onLine = false;
      },
      visible: () => void this.context.document.dispatchEvent(new Event("visibilitychange")),
      close: () => client.close(),
    };
    for (let count = 0; count < (step.times ?? 1); count += 1) {
      const promise = acts[step.do]();
      if (promise instanceof Promise || promise?.then) {
        this.keep(step.name ?? step.do, promise);
      }
    }
  }

  expect({ expect: line, query = {}, headers = {}, body, name, client = true }) {
    const request = this.network.take();
    assert.ok(request, "there is no such request");
    assert.equal(request.line, line, `${request.url.search} ${JSON.stringify(request.body)}`);
    const given = Object.fromEntries(request.url.searchParams);
    assertHas(given, query, "query");
    assertHas(request.headers, headers, "headers");
    if (body) {
      assertHas(request.body, body, "body");
    }
    this.last = request;
    this.named.set(name ?? line, request);
  }

  // The request that a step is about.
  about(name) {
    return typeof name === "string" ? this.named.get(name) : this.last;
  }

  reply({ reply: status, body, headers, to }) {
    this.about(to).reply(status, body, headers);
  }

  hello({ hello, on, id = "t-hello" }) {
    const data = { client: "ID", stream: "SID", user: null, epoch: "e1", time: this.clock.now, resumed: true, topics: {}, ...hello };
    this.about(on).event({ id, type: "tidegate.hello", data: JSON.stringify(data), topics: [], retry: null, time: null });
  }

  event({ event, on }) {
    const data = typeof event.data === "string" ? event.data : JSON.stringify(event.data);
    this.about(on).event({ type: null, topics: [], retry: null, time: null, ...event, data });
  }

  cut({ cut }) {
    this.about(cut).cut();
  }

  fail({ fail }) {
    this.about(fail).fail();
  }

  async wait({ wait }) {
    await this.clock.advance(wait);
  }

  heard({ heard }) {
    assertHas(this.told.splice(0), heard, "heard");
  }

  gap({ gap }) {
    assertHas(this.gaps.splice(0), gap, "gap");
  }

  status({ status, reason }) {
    assert.equal(this.client.status, status);
    if (reason) {
      assert.equal(this.client.reason, reason);
    }
  }

  settled({ settled: name, value, problem }) {
    const outcome = this.promises.get(name);
    assert.ok(outcome?.value || outcome?.problem, "it is pending");
    if (problem) {
      assertHas(outcome.problem, problem, "problem");
    } else {
      assert.equal(outcome.problem, undefined);
      assertHas(outcome.value, value ?? outcome.value, "value");
    }
  }

  pending({ pending: name }) {
    const outcome = this.promises.get(name) ?? {};
    assert.ok(!outcome.value && !outcome.problem, "it is settled");
  }

  view({ view: name, is }) {
    const { rev, state, members } = this.client.topic(name);
    assert.deepEqual(JSON.parse(JSON.stringify({ rev, state, members })), { rev, state: {}, members: {}, ...is });
  }

  // Compares the state of a topic as JSON, which shows members that an object would hide.
  json({ json: name, is }) {
    assert.equal(JSON.stringify(this.client.topic(name).state), is);
  }

  closed({ closed: name }) {
    assert.ok(this.about(name).isClosed);
  }

  quiet() {
    assert.deepEqual(this.network.requests.map((it) => it.line), []);
  }

  // Remembers the client's key, and compares it.
  key({ key, on }) {
    const request = this.about(on);
    const given = request.body?.client ?? request.headers["tidegate-client"] ?? request.url.searchParams.get("client");
    assert.match(given, /^[\w-]{22,128}$/);
    if (key === "new") {
      assert.notEqual(given, this.firstKey);
    } else {
      this.firstKey ??= given;
      assert.equal(given, this.firstKey);
    }
  }
}
