// The browser client of tidegate: topics with messages, state and members, calls in both directions,
// and one connection that survives bad networks. It needs no build step, and runs in Node, Deno, Bun
// and workers as well.
//
// A page has one client. The client has a secret key, and a public id that is the key's hash. What it
// hears comes down one stream of events, and what it does goes up in `POST /client`. Every part below
// is a function that keeps its own state; `connect` ties them together.

const SCRIPT = import.meta.url;

const OPENING = 4000; // ms for a stream to say hello. A stream that takes longer is being buffered
const SILENCE = 65000; // ms without a byte until a stream counts as dead: two and a half heartbeats
const LASTING = 5000; // ms after which a connection that ends has worked
const FIRST_WAIT = 500; // ms before the first new attempt, at most
const LONGEST_WAIT = 30000; // ms between two attempts, at most
const TRIALS = [0, 1, 5, 15].map((minutes) => minutes * 60000); // waits before a stream beside a poll
const MEMORY = 30 * 60000; // ms for which the transport that worked is taken first
const SEEN = 256; // ids that guard against repetition; sharing tabs may be this far behind each other
const MAX_ACTIONS = 100; // in one request; a limit of the gateway
const MAX_BODY = 60 * 1024; // bytes of one request; the gateway and `keepalive` allow 64 KiB
const QUEUE_ACTIONS = 1000; // unsent actions at most
const QUEUE_BYTES = 256 * 1024; // the same in bytes
const STALE = 60000; // ms after which an unsent message is not sent any more
const CALL_WAIT = 20; // seconds that the gateway may hold a call before it answers with a job
const LEASE = 30000; // ms for which the gateway may call a function that was passed to it

// === Small parts

// An error: a problem document of the gateway (RFC 9457), or one of the client with the types
// "queue-full", "stale", "uncertain", "timeout", "closed" and "cancelled".
class Problem extends Error {
  constructor(document) {
    super(document.detail || document.title || `refused with status ${document.status}`);
    this.name = "Problem";
    this.document = document;
    for (const member of ["type", "title", "status", "detail", "rev", "state"]) {
      this[member] = document[member];
    }
  }
}

const problem = (type, title) => new Problem({ type, title, status: 0 });

const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

// Returns 24 letters, which nobody can guess.
function randomName() {
  const bytes = crypto.getRandomValues(new Uint8Array(24));
  return Array.from(bytes, (byte) => LETTERS[byte & 63]).join("");
}

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

const sizeOf = (text) => new TextEncoder().encode(text).length;

// Whether the same request will get the same answer again.
const isRefusal = (status) => 400 <= status && status < 500 && ![408, 425, 429].includes(status);

// Returns the ms before the next attempt: anything up to a limit that doubles, so that pages do not
// return all at once.
const jitter = (failures) => Math.random() * Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** failures);

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

// Applies a merge patch (RFC 7396) without changing the value. Objects of the result have no
// prototype, because a member may be named `__proto__`.
function merge(value, patch) {
  if (!isObject(patch)) {
    return patch;
  }
  const merged = Object.assign(Object.create(null), isObject(value) ? value : null);
  for (const [name, part] of Object.entries(patch)) {
    if (part === null) {
      delete merged[name];
    } else {
      merged[name] = merge(merged[name], part);
    }
  }
  return merged;
}

// Returns one patch for two in a row, or undefined if there is none: an object that follows a value
// replaces it, while one patch would merge into what was there before.
function compose(first, second) {
  const both = Object.assign(Object.create(null), first);
  for (const [name, part] of Object.entries(second)) {
    if (isObject(part) && name in both) {
      both[name] = isObject(both[name]) ? compose(both[name], part) : undefined;
      if (!both[name]) {
        return undefined;
      }
    } else {
      both[name] = part;
    }
  }
  return both;
}

// Calls a function of the page. Its error must not end the stream, but its author should see it.
function callSafely(listener, ...values) {
  try {
    listener(...values);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}

// Keeps functions by the type of message that they are for; "*" is for every type.
function makeListeners() {
  const byType = new Map();
  return {
    add(type, listener) {
      byType.set(type, (byType.get(type) || new Set()).add(listener));
      return () => byType.get(type).delete(listener);
    },
    tell(type, ...values) {
      for (const listener of [...(byType.get(type) || []), ...(byType.get("*") || [])]) {
        callSafely(listener, ...values);
      }
    },
  };
}

// Storage that may be missing, forbidden or full.
function makeStore(kind, name) {
  const access = (act) => {
    try {
      return act(globalThis[kind]);
    } catch {
      return null;
    }
  };
  return {
    read: () => access((storage) => JSON.parse(storage.getItem(name))),
    write: (value) => access((storage) => storage.setItem(name, JSON.stringify(value))),
    remove: () => access((storage) => storage.removeItem(name)),
  };
}

// === Requests

// Returns what a token says about itself, if it is a JWT.
function claimsOf(token) {
  try {
    return JSON.parse(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/")));
  } catch {
    return {};
  }
}

async function problemOf(response) {
  const document = await response.json().catch(() => ({}));
  const error = new Problem({ ...document, status: response.status });
  const after = response.headers.get("retry-after");
  error.retryAfter = (after > 0 ? after * 1000 : Date.parse(after) - Date.now()) || 0;
  return error;
}

// Sends requests with the access token and, unless the client is plain, for its key. `renewed` is
// called when a token replaces one that ends, `rekeyed` when a new key has replaced a refused one.
function makeGateway(base, { token, credentials = "same-origin" }, key, { renewed, rekeyed }) {
  let current; // a promise of the token
  let timer;
  let isProven = true; // whether a request has succeeded since the last renewal
  const gateway = { credentials, key, user: "", fastest: Infinity, hasToken: Boolean(token), authorization };

  async function authorization() {
    if (!token) {
      return undefined;
    }
    current = current || Promise.resolve(token()).then(keep);
    try {
      return `Bearer ${await current}`;
    } catch (error) {
      current = undefined;
      throw error;
    }
  }

  // Renews the token in the last minute of its life, or in its last half.
  function keep(text) {
    const { exp, sub } = claimsOf(text);
    gateway.user = sub || "";
    if (exp) {
      const left = exp * 1000 - Date.now();
      clearTimeout(timer);
      timer = setTimeout(() => {
        current = undefined;
        authorization().then(renewed, () => {});
      }, Math.min(Math.max(left / 2, left - 60000, 1000), 2 ** 31 - 1));
    }
    return text;
  }

  // Requests a path of the gateway. Rejects with a Problem if it is refused, and with another error
  // if there is no answer.
  gateway.request = async (path, { headers, ...init } = {}) => {
    const granted = await authorization();
    const sent = `${granted} ${gateway.key}`;
    const started = Date.now();
    const response = await fetch(new URL(path, base), {
      credentials,
      ...init,
      headers: granted ? { ...headers, authorization: granted } : headers,
    });
    if (!response.ok) {
      throw Object.assign(await problemOf(response), { sent });
    }
    isProven = true;
    gateway.fastest = init.method ? Math.min(gateway.fastest, Date.now() - started) : gateway.fastest;
    return response;
  };

  // Requests JSON, and gives up after a while without an answer.
  gateway.json = async (path, { signal, ...init } = {}) => {
    const controller = new AbortController();
    const abort = () => controller.abort();
    const limit = setTimeout(abort, SILENCE);
    if (signal) {
      signal.addEventListener("abort", abort, { signal: controller.signal });
    }
    try {
      return await (await gateway.request(path, { ...init, signal: controller.signal })).json();
    } finally {
      clearTimeout(limit);
    }
  };

  // Whether to repeat a request that was refused: if the token or the key is another by now, or once
  // with a fresh token. A key that belongs to another user is refused with 403, so it is replaced.
  gateway.renew = async (error) => {
    if (error.sent !== `${await authorization()} ${gateway.key}`) {
      return true;
    }
    const isKey = error.status === 403 && gateway.key;
    if (!isProven || !(isKey || (token && [401, 403].includes(error.status)))) {
      return false;
    }
    isProven = false;
    current = undefined;
    if (isKey) {
      gateway.key = randomName();
      rekeyed();
    }
    return true;
  };

  gateway.stop = () => clearTimeout(timer);
  gateway.proven = () => (isProven = true);
  return gateway;
}

// === Transports

// Each opens a connection and returns a function that closes it. `link` has
//
// address(path, more)  the address to request
// request(path, init)  requests it with all headers; json(path, init) reads the reply as well
// take(event)          must be called with each event
// reached(cursor)      must be called with a position that needs no event
// alive()              must be called if bytes show that the connection lives
// lost(error)          must be called when it has ended, with the Problem if the gateway refused it
// yields()             for polls: resolves to whether a stream has taken over

function overEventSource(link) {
  const source = new EventSource(link.address("events"), { withCredentials: link.withCredentials });
  source.onmessage = ({ data }) => link.take(JSON.parse(data));
  source.onerror = () => link.lost();
  return () => source.close();
}

// Reads an event stream where EventSource is missing or cannot send a header.
function overFetch(link) {
  const controller = new AbortController();
  async function read() {
    const headers = { accept: "text/event-stream" };
    const response = await link.request(link.address("events"), { headers, signal: controller.signal });
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    const decode = makeDecoder(link);
    for (;;) {
      const { done, value } = await reader.read();
      if (done) {
        return;
      }
      link.alive();
      decode(decoder.decode(value, { stream: true }));
    }
  }
  read().then(() => link.lost(), link.lost);
  return () => controller.abort();
}

// Returns a function that takes the pieces of an event stream. A CR at the end of a piece may be half
// of a line end, so it waits for the next piece.
function makeDecoder(link) {
  let rest = "";
  let lines = [];
  return (piece) => {
    const whole = (rest + piece).split(/\r\n|\n|\r(?!$)/);
    rest = whole.pop();
    for (const line of whole) {
      const [, name, value = ""] = /^([^:]*)(?:: ?([^]*))?$/.exec(line);
      if (name === "data") {
        lines.push(value);
      } else if (name === "retry" && /^\d+$/.test(value)) {
        link.retry(Number(value));
      } else if (line === "" && lines.length) {
        link.take(JSON.parse(lines.join("\n")));
        lines = [];
      }
    }
  };
}

function overPoll(link) {
  const controller = new AbortController();
  async function read() {
    // The first reply is requested at once, because nothing else shows that the gateway answers.
    let path = link.address("poll");
    let headers = { prefer: "wait=0" };
    for (;;) {
      const reply = await link.json(path, { headers, signal: controller.signal });
      link.answered();
      reply.events.forEach(link.take);
      link.reached(reply.cursor);
      if (await link.yields()) {
        return;
      }
      // Only its parameters: a proxy may have hidden the address that the page uses.
      path = `poll${new URL(reply.next, "http://poll/").search}`;
      headers = {};
    }
  }
  read().catch(link.lost);
  return () => controller.abort();
}

// Opens what `tidegate-more.js` has; see there.
function overIframe(link) {
  let close = () => (close = undefined);
  import("./tidegate-more.js").then((more) => close && (close = more.overIframe(link)), link.lost);
  return () => close();
}

// === The stream

// Keeps one connection. Its rungs are EventSource, the same with padding for proxies that hold the
// first bytes back, and long poll. A transport that fails goes down by one; an answer of the gateway
// never does. A stream that says no hello is buffered: polling begins at once, and further streams
// are tried beside it.
//
// `owner` has address(path, more), hear(event), reached(cursor), status(status, reason) and
// refused(problem).
function makeStream(base, gateway, options, owner) {
  const { transports = ["sse", "poll"], plain = false } = options;
  const rungs = transports.flatMap((name) => (name === "sse" ? ["sse", "padded"] : [name]));
  const store = makeStore("localStorage", `tidegate:${base}`);
  let rung = 0;
  let current; // the connection whose events count
  let trial; // a connection beside a poll
  let trials = 0;
  let trialTimer;
  let retryTimer;
  let retry = 0; // ms that the gateway asks for before a new attempt
  let failures = 0;
  let silences = 0; // connections in a row that fell silent without an event
  let isRunning = false;

  const known = store.read();
  if (known && Date.now() < known.until && rungs.includes(known.rung)) {
    rung = rungs.indexOf(known.rung);
    trials = 1;
  }

  // Only the current connection and the trial act; what others still deliver is ignored.
  function dial(name, isTrial = false) {
    const it = { name, isTrial, isOpen: false, hasEvents: false, begun: Date.now(), held: [] };
    const ifLive = (act) => (...values) => {
      if (it === current || it === trial) {
        act(it, ...values);
      }
    };
    const isStream = name === "sse" || name === "padded";
    const needsFetch = gateway.hasToken || typeof EventSource === "undefined";
    const sendsKey = name === "poll" || (isStream && needsFetch);
    const open = { poll: overPoll, iframe: overIframe }[name] || (needsFetch ? overFetch : overEventSource);
    const late = ifLive(hasNoHello);
    it.silent = ifLive(isSilent);
    it.timer = setTimeout(late, Math.max(OPENING, gateway.fastest < Infinity ? 4 * gateway.fastest : 0));
    const own = { trial: isTrial && !plain ? 1 : undefined, padding: name === "padded" ? "2KiB" : undefined };
    it.close = open({
      withCredentials: gateway.credentials === "include",
      address: (path, more) => owner.address(path, { ...own, ...more }, !sendsKey),
      request: asClient(gateway.request),
      json: asClient(gateway.json),
      Problem,
      take: ifLive(take),
      reached: ifLive((_, cursor) => cursor && it === current && owner.reached(cursor)),
      alive: ifLive(alive),
      answered: ifLive(answered),
      yields,
      retry: ifLive((_, delay) => (retry = delay)),
      lost: ifLive(lost),
    });
    return it;
  }

  const asClient = (request) => (path, init) => request(path, { ...init, headers: { ...owner.headers(), ...init.headers } });

  function connect() {
    clearTimeout(retryTimer);
    current = dial(rungs[rung]);
  }

  function end(it) {
    if (it) {
      clearTimeout(it.timer);
      it.close();
    }
  }

  function again(delay) {
    current = undefined;
    clearTimeout(retryTimer);
    retryTimer = setTimeout(connect, delay);
  }

  function alive(it) {
    it.heard = Date.now();
    if (it.isOpen) {
      clearTimeout(it.timer);
      it.timer = setTimeout(it.silent, SILENCE);
    }
  }

  // A poll is open at its first reply, a stream at its hello.
  function answered(it) {
    if (!it.isOpen) {
      it.isOpen = true;
      opened(it);
    }
    alive(it);
  }

  function take(it, event) {
    const isHello = event.type === "tidegate.hello";
    if (isHello && typeof event.retry === "number") {
      retry = event.retry;
    }
    if (it === trial) {
      it.isOpen = it.isOpen || isHello || plain;
      it.hello = isHello ? event : it.hello;
      alive(it);
      it.held.push(event);
    } else if (it.isOpen || isHello || plain) {
      answered(it);
      hear(it, event);
    }
  }

  function hear(it, event) {
    if (event.type !== "tidegate.hello" && event.type !== "tidegate.heartbeat") {
      it.hasEvents = true;
      silences = 0;
    }
    owner.hear(event);
  }

  function opened(it) {
    gateway.proven();
    if (it.name === rungs[0]) {
      store.remove();
    } else {
      store.write({ rung: it.name, until: Date.now() + MEMORY });
    }
    if (it.name === "poll") {
      planTrial();
    } else {
      trials = 0;
    }
    owner.status("open");
  }

  // Between two polls, this page and the gateway agree on the position. So that is when a stream
  // whose hello has come takes over; until then it gets no events, and those of a plain one wait.
  async function yields() {
    const it = trial;
    if (!it || !it.isOpen) {
      return false;
    }
    if (!plain) {
      const { stream } = JSON.parse(it.hello.data);
      await owner.take(stream).catch(() => it === trial && endTrial());
    }
    if (it !== trial) {
      return false;
    }
    end(current);
    current = it;
    trial = undefined;
    rung = rungs.indexOf(it.name);
    opened(it);
    it.held.forEach((event) => hear(it, event));
    return true;
  }

  function planTrial(delay = TRIALS[Math.min(trials, TRIALS.length - 1)]) {
    if (rungs[rung] === "poll" && rungs.includes("padded") && !trial) {
      clearTimeout(trialTimer);
      trialTimer = setTimeout(() => {
        trials += 1;
        trial = dial("padded", true);
      }, delay);
    }
  }

  function endTrial() {
    end(trial);
    trial = undefined;
    planTrial();
  }

  function fallToPoll() {
    const poll = rungs.indexOf("poll");
    const canFall = rung < poll;
    rung = Math.max(rung, poll);
    return canFall;
  }

  function hasNoHello(it) {
    if (it === trial) {
      endTrial();
    } else if (fallToPoll()) {
      end(it);
      connect();
    } else {
      lost(it);
    }
  }

  function isSilent(it) {
    if (it === trial) {
      endTrial();
      return;
    }
    silences += it.hasEvents ? 0 : 1;
    if (2 <= silences) {
      fallToPoll();
    }
    end(it);
    owner.status("waiting", "silent");
    again(0);
  }

  async function lost(it, error) {
    if (it === trial) {
      endTrial();
      return;
    }
    end(it);
    current = undefined;
    endTrialQuietly();
    owner.status("waiting", globalThis.navigator && navigator.onLine === false ? "offline" : "lost");
    let answer = error instanceof Problem ? error : undefined;
    if (!it.isOpen && !answer && it.name !== "poll") {
      answer = await probe();
    }
    if (!isRunning || current) {
      return;
    }
    if (answer instanceof Problem && isRefusal(answer.status)) {
      if (await gateway.renew(answer).catch(() => true)) {
        again(0);
      } else {
        owner.refused(answer);
      }
      return;
    }
    if (answer === true) {
      rung = Math.min(rung + 1, rungs.length - 1);
    }
    failures = it.isOpen && LASTING < Date.now() - it.begun ? 0 : failures + 1;
    again(Math.max(retry, (answer && answer.retryAfter) || 0, jitter(failures)));
  }

  function endTrialQuietly() {
    clearTimeout(trialTimer);
    end(trial);
    trial = undefined;
  }

  // A failed EventSource does not say why. Resolves to the Problem if the same request is refused, to
  // true if it is answered, and to undefined if there is no network.
  async function probe() {
    const headers = { accept: "text/event-stream" };
    const ask = (init) => asClient(gateway.request)(owner.address("events", {}, false), { headers, ...init });
    try {
      await ask({ method: "HEAD" });
      return true;
    } catch (error) {
      if (!(error instanceof Problem)) {
        return undefined;
      }
      // The response to HEAD has no body that says what is wrong.
      const isFinal = isRefusal(error.status) && error.status !== 404;
      const why = isFinal && (await ask({}).then((it) => it.body.cancel(), (reason) => reason));
      return why instanceof Problem ? why : error;
    }
  }

  return {
    start() {
      isRunning = true;
      connect();
    },
    stop() {
      isRunning = false;
      clearTimeout(retryTimer);
      endTrialQuietly();
      end(current);
      current = undefined;
    },
    // Opens a connection with another address.
    reopen() {
      this.stop();
      this.start();
    },
    // Something suggests that the network is back, or that time has passed without this page.
    nudge() {
      if (!isRunning) {
        return;
      }
      if (!current) {
        connect();
      } else if (current.isOpen && SILENCE / 2 < Date.now() - current.heard) {
        this.reopen();
      } else {
        planTrial(0);
      }
    },
  };
}

// === Lanes

// Sends actions in batches: what comes while a request is under way is the next batch. The ordered
// lane numbers its requests, so that a repeated one is done once; others have an id for that.
//
// `owner` has post(batch), renew(error), pause(delay, isAnswered) and forgotten(seq), which is called
// if the gateway expects another number.
function makeLane(owner, { isOrdered = false, width = 1, most = MAX_ACTIONS, seq = 0 }) {
  const queue = [];
  let running = 0;
  let isHeld = false;
  let isPlanned = false;
  let isDue = false; // whether a request is due even if it has no actions
  let isStopped; // the reason, if it is
  let staleTimer;

  const isPassing = ({ action }) => "send" in action || "emit" in action;
  const reject = (entry, error) => entry.settlers.forEach(([, refuse]) => refuse(error));

  function settle(entry, result) {
    if (!result || result.problem) {
      reject(entry, result ? new Problem(result.problem) : problem("uncertain", "there is no answer"));
    } else {
      const { set, patch } = entry.action;
      entry.settlers.forEach(([resolve]) => resolve(set ? { ...result, patch } : result));
    }
  }

  // Joins the entry with what waits already. A newer `latest` replaces the older one; patches of one
  // topic and joins of one topic become one, if nothing else of the topic is between them.
  function absorb(entry) {
    const { action, slot, topic } = entry;
    const before = slot ? queue.find((it) => it.slot === slot) : queue.filter((it) => it.topic === topic).pop();
    if (!before || (!slot && !topic)) {
      return;
    }
    if (action.join && before.action.join) {
      Object.assign(action, { ...before.action, ...action });
    } else if (action.set && before.action.set && !("if" in action || "if" in before.action)) {
      const patch = compose(before.action.patch, action.patch);
      if (!patch) {
        return;
      }
      action.patch = patch;
    } else if (!slot) {
      return;
    }
    entry.settlers.unshift(...before.settlers);
    entry.text = JSON.stringify(action);
    queue.splice(queue.indexOf(before), 1);
  }

  function push(what, { latest, signal } = {}) {
    const text = JSON.stringify(what);
    const action = JSON.parse(text);
    const topic = action.join || action.leave || action.set || action.send;
    const slot = latest && `${action.send || ""} ${action.type || action.emit}`;
    const entry = { action, text, topic, slot, signal, at: Date.now(), settlers: [] };
    const promise = new Promise((...settlers) => entry.settlers.push(settlers));
    promise.catch(() => {}); // a page may ignore what becomes of an action
    if (isOrdered) {
      absorb(entry);
    }
    entry.size = sizeOf(entry.text) + 1;
    queue.push(entry);
    if (isStopped) {
      reject(queue.pop(), isStopped);
    } else if (QUEUE_ACTIONS < queue.length || QUEUE_BYTES < queue.reduce((sum, { size }) => sum + size, 0)) {
      reject(queue.pop(), problem("queue-full", "too many actions wait for the gateway"));
    }
    plan();
    return promise;
  }

  // Waits for the end of the current task, so that its actions become one request.
  function plan() {
    if (!isPlanned) {
      isPlanned = true;
      queueMicrotask(() => {
        isPlanned = false;
        pump();
      });
    }
    staleTimer = staleTimer || (queue.length && setTimeout(dropStale, STALE + 1));
  }

  function dropStale() {
    staleTimer = undefined;
    for (const entry of queue.filter((it) => isPassing(it) && STALE < Date.now() - it.at)) {
      queue.splice(queue.indexOf(entry), 1);
      reject(entry, problem("stale", "the message could not be sent for 60 seconds"));
    }
    const oldest = queue.find(isPassing);
    if (oldest) {
      staleTimer = setTimeout(dropStale, oldest.at + STALE + 1 - Date.now());
    }
  }

  function pump() {
    while (running < width && (queue.length || isDue) && !isHeld) {
      isDue = false;
      run(nextBatch());
    }
  }

  function nextBatch() {
    let size = 0;
    let count = 0;
    while (count < Math.min(most, queue.length) && (!count || size + queue[count].size <= MAX_BODY)) {
      size += queue[count].size;
      count += 1;
    }
    const entries = queue.splice(0, count);
    return { entries, size, signal: entries.length ? entries[0].signal : undefined, ...(isOrdered ? { seq: ++seq } : { id: randomName() }) };
  }

  async function run(batch) {
    const { entries } = batch;
    const drop = (which, error) => entries.filter(which).forEach((entry) => {
      entries.splice(entries.indexOf(entry), 1);
      reject(entry, error);
    });
    const uncertain = problem("uncertain", "the gateway may have done this or not");
    let isUncertain = false;
    let failures = 0;
    let conflicts = 0;
    running += 1;
    do {
      try {
        const did = await owner.post(batch);
        entries.splice(0).forEach((entry, at) => settle(entry, did[at]));
      } catch (error) {
        const { status = 0, retryAfter = 0, document } = error;
        if (isStopped || (batch.signal && batch.signal.aborted)) {
          drop(() => true, isStopped || error);
        } else if (isOrdered && status === 409) {
          // The gateway does not know this number. What may have been done before is not repeated,
          // except for joins and leaves, which can be.
          seq = document.expected || 1;
          owner.forgotten(seq);
          batch.seq = seq;
          drop(({ action }) => isUncertain && !action.join && !action.leave, uncertain);
          isUncertain = false;
          seq -= entries.length ? 0 : 1;
          await (conflicts++ && owner.pause(jitter(failures)));
        } else if (isRefusal(status)) {
          if (!(await owner.renew(error))) {
            seq -= isOrdered ? 1 : 0; // the gateway has not counted it
            drop(() => true, error);
          }
        } else {
          isUncertain = isUncertain || (status !== 429 && status !== 503);
          await owner.pause(Math.max(retryAfter, jitter(failures)), 0 < status);
          if (isOrdered && entries.some((it) => isPassing(it) && STALE < Date.now() - it.at)) {
            drop(isPassing, isUncertain ? uncertain : problem("stale", "the message is too old"));
            queue.unshift(...entries.splice(0));
          }
        }
        failures += 1;
      }
    } while (entries.length);
    running -= 1;
    pump();
  }

  return {
    push,
    seq: () => seq,
    hold(value) {
      isHeld = value;
      pump();
    },
    // Sends a request even if no action waits: its credentials and its number tell something.
    ping() {
      isDue = true;
      plan();
    },
    // Sends what waits without waiting for the request before, because the page ends.
    flush: () => queue.length && run({ ...nextBatch(), isLast: true }),
    stop(error) {
      isStopped = error;
      clearTimeout(staleTimer);
      queue.splice(0).forEach((entry) => reject(entry, error));
    },
  };
}

// === Topics

// A topic: listeners for its events, and a view of its state and members. A view applies a change
// only if its revision is the next one, and loads again at a hole.
//
// `owner` has isJoinable, id(), push(action, options), hear(event), joined(name, topic), load(name)
// and pause(delay).
function makeTopic(name, { last }, owner) {
  const listeners = makeListeners();
  const watchers = new Set();
  let view = { rev: 0, state: merge({}, {}), members: merge({}, {}) };
  let early = []; // changes that wait for a snapshot, or nothing if there is one
  let isWanted = false;
  let isLoading = false;
  let as;
  let joining;

  function show(patch = null, from = null) {
    watchers.forEach((watcher) => callSafely(watcher, { ...view, patch, from }));
  }

  function begin({ rev = 0, state, members, count }) {
    if (!early && rev <= view.rev) {
      return;
    }
    view = { rev, state: merge({}, state || {}), members: { __proto__: null, ...members }, count };
    const changes = early || [];
    early = undefined;
    show();
    changes.forEach(change);
  }

  function change({ rev, from, state, members, count }) {
    if (early) {
      early.push({ rev, from, state, members, count });
    } else if (rev === view.rev + 1) {
      const next = { ...view, rev };
      next.state = state ? merge(view.state, state) : view.state;
      // A member is replaced as a whole.
      next.members = { __proto__: null, ...view.members, ...members };
      Object.keys(members || {}).forEach((id) => members[id] === null && delete next.members[id]);
      next.count = count === undefined ? view.count : count;
      view = next;
      show(state, from);
    } else if (view.rev < rev) {
      load();
    }
  }

  async function load() {
    early = early || [];
    if (isLoading) {
      return;
    }
    isLoading = true;
    for (let failures = 0; isLoading; failures += 1) {
      try {
        begin(await owner.load(name));
        isLoading = false;
      } catch (error) {
        isLoading = !isRefusal(error.status || 0);
        if (!isLoading && owner.isJoinable && isWanted) {
          join().catch(() => {}); // whose reply has the view as well
        }
        await (isLoading && owner.pause(jitter(failures)));
      }
    }
  }

  function join() {
    isWanted = true;
    if (!owner.isJoinable) {
      owner.listen(true);
      return Promise.resolve(topic);
    }
    early = early || [];
    const asked = owner.push({ join: name, as, last }).then((reply) => {
      owner.joined(reply.topic, topic);
      (reply.events || []).forEach((event) => owner.hear(event, true));
      begin(reply);
      return topic;
    });
    joining = asked;
    const answered = () => (joining = joining === asked ? undefined : joining);
    asked.then(answered, answered);
    return asked;
  }

  const want = () => isWanted || join().catch(() => {});

  const topic = {
    name,
    get rev() { return view.rev; },
    get state() { return view.state; },
    get members() { return view.members; },
    get count() { return view.count === undefined ? Object.keys(view.members).length : view.count; },
    on(type, listener) {
      want();
      return listeners.add(type, listener);
    },
    watch(watcher) {
      want();
      watchers.add(watcher);
      if (!early) {
        callSafely(watcher, { ...view, patch: null, from: null });
      } else if (!owner.isJoinable) {
        load();
      }
      return () => watchers.delete(watcher);
    },
    // Loads the view once; to watch it needs no call of this.
    load: () => load().then(() => topic),
    join(data) {
      as = data;
      return join();
    },
    leave() {
      isWanted = false;
      as = undefined;
      early = [];
      return owner.isJoinable ? owner.push({ leave: name }) : owner.listen(false);
    },
    send(type, data = null, { echo, latest } = {}) {
      return owner.push({ send: name, type, data, echo: echo === false ? false : undefined }, { latest });
    },
    async set(patch, { if: rev } = {}) {
      const reply = await owner.push({ set: name, patch, if: rev });
      if (!early && reply.rev === view.rev + 1) {
        change({ rev: reply.rev, from: owner.id(), state: reply.patch });
      }
      return { rev: reply.rev };
    },
    // The members by user. Those without a user stand for themselves.
    users() {
      const users = Object.create(null);
      for (const [id, { user, data }] of Object.entries(view.members)) {
        (users[user || id] = users[user || id] || []).push({ id, data });
      }
      return users;
    },
  };

  return {
    topic,
    change,
    listeners,
    pending: () => joining,
    isWanted: () => isWanted,
    // The stream has begun again; `hears` says whether the gateway still has this client in the topic.
    begun(hears, isNew) {
      early = isNew ? early || [] : early;
      if (isWanted && owner.isJoinable && !hears && !joining) {
        join().catch(() => {});
      } else if (isNew && (hears || watchers.size)) {
        load();
      }
    },
  };
}

// === The page

// Tells when the page is left or frozen, when it is back, and when its network may be back. A page
// that holds a lock or an open request cannot go to the back/forward cache.
function watchPage({ left, back, nudge }) {
  const controller = new AbortController();
  const on = (target, type, listener) => target.addEventListener(type, listener, { signal: controller.signal });
  if (globalThis.addEventListener) {
    on(globalThis, "online", nudge);
  }
  if (typeof document !== "undefined") {
    on(globalThis, "pagehide", ({ persisted }) => left(persisted));
    on(globalThis, "pageshow", ({ persisted }) => persisted && back());
    on(document, "freeze", () => left(true));
    on(document, "resume", back);
    on(document, "visibilitychange", () => document.visibilityState === "visible" && nudge());
  }
  return () => controller.abort();
}

// === Connecting

let connections = 0; // of this page; their order tells them apart after a reload

function baseOf(url = new URL("..", SCRIPT).href) {
  const label = () => randomName().replace(/[-_]/g, "0").toLowerCase();
  const base = new URL(url.replace("*", label), globalThis.location && location.href);
  base.pathname = base.pathname.replace(/\/*$/, "/");
  base.search = base.hash = "";
  if (!/^https?:$/.test(base.protocol)) {
    throw new TypeError("connect(url) needs the address of the gateway here, such as https://push.example.com");
  }
  return base.href;
}

// Connects to the gateway at `url`, by default the one that has served this file. A `*` in it becomes
// a random label, for browsers that allow few connections to one host.
function connect(url, options = {}) {
  const base = baseOf(url);
  const { plain = false, share = "auto" } = options;
  const client = new EventTarget();
  const store = makeStore("sessionStorage", `tidegate:${base}:${(connections += 1)}`);
  const topics = new Map(); // by name
  const matchers = []; // topics that are parameters of the stream
  const listeners = makeListeners();
  const handlers = new Map(); // functions that the gateway may call, by name
  const running = new Map(); // its calls that are under way
  const callbacks = new Map(); // functions that were passed to it
  const pauses = new Set(); // those that end early if the network may be back
  const kept = store.read() || {}; // by the same page, before it was loaded again
  let heard = new Set(); // names of the topics that the gateway delivers to this client
  let cursor = kept.cursor;
  let id;
  let user;
  let hello = {}; // the last one
  let streams = []; // ids of the last ones of this client
  let clock = 0; // ms that the gateway's clock is ahead
  let recent = []; // ids of the last events
  let before = new Set(); // the same when the stream began
  let status = "connecting";
  let reason;
  let tabs;
  let settleReady;
  const greeted = new Promise((...settlers) => (settleReady = settlers));
  greeted.catch(() => {});
  // Removed, so that a duplicated tab does not get the same key.
  store.remove();

  function pause(delay, isAnswered) {
    return new Promise((resolve) => {
      const wake = () => {
        clearTimeout(timer);
        pauses.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, delay);
      if (!isAnswered) {
        pauses.add(wake);
      }
    });
  }

  function nudge() {
    pauses.forEach((wake) => wake());
    stream.nudge();
  }

  // --- Up

  const gateway = makeGateway(base, options, plain ? undefined : kept.key || randomName(), {
    renewed: () => (plain ? restart() : aside.ping()),
    rekeyed: () => (cursor = undefined),
  });

  async function post({ entries, size, seq, id: once, signal, isLast }) {
    const head = JSON.stringify({ client: gateway.key, seq, id: once }).slice(0, -1);
    const { did } = await gateway.json("client", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: `${head},"do":[${entries.map(({ text }) => text)}]}`,
      keepalive: isLast || size < MAX_BODY / 4, // those under way may have 64 KiB in all
      signal,
    });
    return did;
  }

  const laneOwner = { post, renew: (error) => gateway.renew(error).catch(() => true), pause, forgotten };
  const ordered = makeLane(laneOwner, { isOrdered: true, seq: kept.seq });
  const aside = makeLane(laneOwner, {}); // replies must not wait for calls
  const calls = makeLane(laneOwner, { width: 2, most: 1 });
  const lanes = [ordered, aside, calls];
  if (plain) {
    lanes.forEach((lane) => lane.stop(problem("plain", "a plain client only listens")));
  }

  // A gateway that begins to count again has forgotten what this client had joined.
  function forgotten(expected) {
    if (expected === 1) {
      heard = new Set([ownTopic()]);
      rejoin();
    }
  }

  const rejoin = (isNew) => new Set(topics.values()).forEach((topic) => topic.begun(heard.has(topic.topic.name), isNew));

  // Functions among the arguments of a call become names, which the gateway can call for a while.
  function encode(data = null) {
    return !Array.isArray(data) ? data : data.map((value) => {
      if (typeof value !== "function") {
        return value;
      }
      const callback = randomName();
      callbacks.set(callback, { value, timer: setTimeout(() => callbacks.delete(callback), LEASE) });
      return { callback };
    });
  }

  function decode(data) {
    return !Array.isArray(data) ? data : data.map((value) => {
      const isName = isObject(value) && typeof value.callback === "string" && Object.keys(value).length === 1;
      return isName ? (...args) => aside.push({ callback: value.callback, data: args }) : value;
    });
  }

  async function call(name, data, { signal, timeout = 30000, onProgress } = {}) {
    const controller = new AbortController();
    const action = { call: name, data: encode(data), wait: Math.min(CALL_WAIT, Math.ceil(timeout / 1000)), id: randomName() };
    let timer;
    const ended = new Promise((_, reject) => {
      const end = (error) => {
        controller.abort();
        aside.push({ cancel: action.id });
        reject(error);
      };
      timer = setTimeout(() => end(problem("timeout", `${name} was not answered in time`)), timeout);
      if (signal) {
        signal.addEventListener("abort", () => end(signal.reason), { signal: controller.signal });
      }
    });
    try {
      const did = await Promise.race([calls.push(action, { signal: controller.signal }), ended]);
      return did.job ? job(did.job, { signal, onProgress }) : did.data;
    } finally {
      clearTimeout(timer);
      controller.abort(); // of what listens to the page's signal
    }
  }

  const job = async (address, more = {}) => (await import("./tidegate-more.js")).followJob(address, more, { client, gateway, Problem });

  // --- Down

  const ownTopic = () => `/.well-known/mercure/clients/${id}`;

  function opened(data) {
    const isNew = hello.epoch !== undefined && (hello.epoch !== data.epoch || data.resumed === false);
    hello = data;
    streams = streams.slice(-9).concat(data.stream);
    id = data.client;
    user = data.user;
    clock = data.time - Date.now();
    before = new Set(recent);
    // A hello is for one client; a tab that follows another knows only what it has joined itself.
    heard = data.topics ? new Set(Object.keys(data.topics)) : heard;
    heard.add(ownTopic());
    lanes.forEach((lane) => lane.hold(false));
    rejoin(isNew);
    settleReady[0]();
  }

  function hear(event, isRecovered) {
    const { type, data, topics: names = [] } = event;
    if (type === "tidegate.hello") {
      const greeting = JSON.parse(data);
      if (!tabs || greeting.client === id) {
        opened(greeting);
      }
      cursor = cursor || event.id;
    } else if (type === "tidegate.heartbeat") {
      cursor = event.id;
    } else if (type === "tidegate.replaced") {
      // An own stream may have replaced the one before it.
      if (streams.includes(parse(data).stream)) {
        return;
      }
      refused(problem("replaced", "another page has taken this client over"));
    } else if (type === "tidegate.gap") {
      cursor = event.id;
      client.dispatchEvent(Object.assign(new Event("gap"), parse(data)));
      new Set(topics.values()).forEach((topic) => topic.begun(true, true));
    } else if (!before.has(event.id) && !(isRecovered && recent.includes(event.id))) {
      before = isRecovered ? before.add(event.id) : before;
      recent = recent.slice(1 - SEEN).concat(event.id);
      cursor = isRecovered ? cursor : event.id;
      const isMine = !tabs || names.some((name) => heard.has(name));
      if (isMine && !(event.except || []).includes(id)) {
        deliver(event, isRecovered);
      }
    }
  }

  function deliver(event, isRecovered) {
    const { type: given, topics: names, from, time } = event;
    const type = given || "message";
    const data = parse(event.data);
    const act = /^tidegate\./.test(type) && ACTS[type.slice(9)];
    const named = new Set(names.map((name) => topics.get(name)).filter(Boolean));
    if (type === "tidegate.change") {
      named.forEach((topic) => topic.change(data));
    } else if (act) {
      act(data, event);
    } else {
      const recovered = isRecovered || Date.parse(time) < hello.time;
      const facts = { id: event.id, type, from, topics: names, time, text: event.data, recovered };
      (named.size ? named : matchers).forEach((topic) => topic.listeners.tell(type, data, facts));
      listeners.tell(type, data, facts);
    }
  }

  const ACTS = {
    joined({ topic }) {
      heard.add(topic);
    },
    left({ topic, reason: why }) {
      heard.delete(topic);
      client.dispatchEvent(Object.assign(new Event("left"), { topic, reason: why }));
    },
    async call({ call: cid, name, data, until }, { from, topics: [topic] }) {
      if (until < Date.now() + clock) {
        return;
      }
      const controller = new AbortController();
      running.set(cid, controller);
      const reply = { reply: cid };
      try {
        if (!handlers.has(name)) {
          throw new Problem({ type: "about:blank", status: 404, title: "no such call" });
        }
        reply.data = await handlers.get(name)(decode(data), { from, topic, signal: controller.signal });
        reply.data = reply.data === undefined ? null : reply.data;
      } catch (error) {
        reply.problem = error.document || { type: "about:blank", status: 500, title: String(error.message) };
      }
      if (running.delete(cid)) {
        aside.push(reply);
      }
    },
    cancel({ call: cid }) {
      if (running.has(cid)) {
        running.get(cid).abort();
        running.delete(cid);
      }
    },
    callback({ callback, data }) {
      const known = callbacks.get(callback);
      if (known) {
        clearTimeout(known.timer);
        known.timer = setTimeout(() => callbacks.delete(callback), LEASE);
        callSafely(known.value, ...data);
      }
    },
  };

  // --- The stream

  function tell(next, why) {
    if (status !== "closed" && (status !== next || reason !== why)) {
      status = next;
      reason = why;
      client.dispatchEvent(new Event("status"));
    }
  }

  function refused(error) {
    stop();
    tell("refused", error.message);
    settleReady[1](error);
    lanes.forEach((lane) => lane.stop(error));
  }

  const stream = makeStream(base, gateway, options, {
    headers: () => (plain ? {} : { "tidegate-client": gateway.key }),
    // Names the stream that this client hears from now on.
    take: (stream) => gateway.json("client", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ client: gateway.key, stream, do: [] }),
    }),
    // A header can carry one key only.
    address(path, more, showsKey) {
      const url = new URL(path, base);
      const add = (name, value) => value !== undefined && url.searchParams.append(name, value);
      matchers.forEach(({ matcher }) => add(...matcher));
      if (!plain) {
        add("hello", "event");
        const others = path === "events" && tabs ? tabs.keys() : [];
        (showsKey || others.length ? [gateway.key, ...others] : []).forEach((it) => add("client", it));
      }
      if (path !== "poll") {
        add("format", path === "iframe" ? undefined : "json");
        add("heartbeat", "event");
      }
      // A poll says hello only if it names no position; the gateway knows one itself.
      add("last_event_id", path === "poll" && !plain && !id ? undefined : cursor);
      add("last", cursor === undefined && matchers.length ? matchers[0].last : undefined);
      Object.entries(more).forEach((pair) => add(...pair));
      return url.href;
    },
    hear(event) {
      if (plain) {
        settleReady[0]();
      }
      if (tabs) {
        tabs.relay(event);
      }
      hear(event);
    },
    reached: (position) => (cursor = position),
    status(next, why) {
      before = new Set(recent);
      tell(next, why);
      if (tabs) {
        tabs.relayStatus(next, why);
      }
    },
    refused,
  });

  // Whether this page shares a stream with other tabs: over HTTP/1.1 a browser allows six
  // connections to a host. No entry that tells the protocol counts as HTTP/1.1.
  function isSharing() {
    const isAble = !plain && !matchers.length && typeof document !== "undefined"
      && typeof BroadcastChannel !== "undefined" && globalThis.navigator.locks && crypto.subtle;
    const protocols = () => performance.getEntries().filter(({ name }) => name.startsWith(base)).map((it) => it.nextHopProtocol);
    return isAble && (share === "auto" ? !protocols().some((it) => /^h[23]/.test(it)) : share);
  }

  let isAway = true;

  function restart() {
    if (!isAway && (!plain || matchers.length)) {
      stream.reopen();
    }
  }

  async function start() {
    if (!isAway) {
      return;
    }
    isAway = false;
    if (!isSharing()) {
      restart();
      return;
    }
    const alone = () => {
      tabs = undefined;
      restart();
    };
    try {
      // The first request waits until this client hears.
      lanes.forEach((lane) => lane.hold(true));
      await gateway.authorization();
      const more = await import("./tidegate-more.js");
      id = await more.idOf(gateway.key);
      if (isAway) return;
      tabs = more.makeTabs(`tidegate:${base}:${gateway.user}`, {
        key: () => gateway.key,
        id: () => id,
        cursor: () => cursor,
        hear,
        status: tell,
        alone,
        following(greeting) {
          const isOld = ordered.seq();
          opened({ ...greeting, client: id, topics: undefined });
          if (isOld) {
            ordered.ping(); // its number tells whether the gateway still knows this client
          }
        },
        lead(from) {
          cursor = from;
          stream.reopen();
        },
        carry: (it) => aside.push({ carry: [it] }),
        drop: (it) => aside.push({ drop: [it] }),
      });
    } catch {
      alone();
    }
  }

  function stop() {
    isAway = true;
    stream.stop();
    if (tabs) {
      tabs.stop();
      tabs = undefined;
    }
  }

  function left(mayReturn) {
    ordered.flush();
    store.write({ key: gateway.key, cursor, seq: ordered.seq() });
    stop();
    if (mayReturn) {
      lanes.forEach((lane) => lane.hold(true));
      tell("waiting", "hidden");
    } else if (id) {
      aside.push({ bye: true });
      aside.flush();
    }
  }

  function back() {
    store.remove();
    lanes.forEach((lane) => lane.hold(false));
    start();
  }

  const unwatch = watchPage({ left, back, nudge });

  // --- What a page sees

  function makeClientTopic(name, more) {
    const isJoinable = !plain && typeof name === "string" && name !== "*" && name !== ownTopic();
    const made = makeTopic(name, more, {
      isJoinable,
      id: () => id,
      hear,
      pause,
      push: ordered.push,
      joined(known, topic) {
        heard.add(known);
        topics.set(known, made);
      },
      async listen(isWanted) {
        if (isWanted !== matchers.includes(made) && name !== ownTopic()) {
          matchers.splice(isWanted ? matchers.length : matchers.indexOf(made), isWanted ? 0 : 1, ...(isWanted ? [made] : []));
          await undefined; // several are one change of the address
          restart();
        }
      },
      load: async (topic) => {
        const headers = plain ? {} : { "tidegate-client": gateway.key };
        return gateway.json(`state?${new URLSearchParams({ topic })}`, { headers });
      },
    });
    const [[kind, value]] = typeof name === "string" ? [[name === "*" ? "topic" : "match", name]] : Object.entries(name);
    made.matcher = [kind, value];
    made.last = more.last;
    return made;
  }

  function topic(name, more = {}) {
    const known = typeof name === "string" ? name : JSON.stringify(name);
    if (!topics.has(known)) {
      topics.set(known, makeClientTopic(name, more));
    }
    return topics.get(known).topic;
  }

  async function untilReady() {
    await greeted;
    await Promise.resolve();
    await Promise.all(Array.from(topics.values(), (it) => Promise.resolve(it.pending()).catch(() => {})));
  }

  const api = {
    topic,
    call,
    job,
    on: listeners.add,
    emit: (name, data, { latest } = {}) => ordered.push({ emit: name, data: encode(data) }, { latest }).then((did) => did.data),
    handle(name, handler) {
      handlers.set(name, handler);
      return () => handlers.delete(name);
    },
    close() {
      left(false);
      store.remove();
      unwatch();
      gateway.stop();
      const error = problem("closed", "the client is closed");
      lanes.forEach((lane) => lane.stop(error));
      settleReady[1](error);
      tell("closed");
    },
  };
  const facts = { own: () => topic(ownTopic()), id: () => id, user: () => user, status: () => status, reason: () => reason, ready: untilReady };
  Object.entries(facts).forEach(([name, get]) => Object.defineProperty(client, name, { get }));
  Object.assign(client, api);
  queueMicrotask(start);
  return client;
}

export { connect, Problem };
