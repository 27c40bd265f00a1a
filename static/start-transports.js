// The three transports of the start page.
//
// Each is a function of a pane, a topic and a signal that ends it. It resumes after the pane's
// cursor, reports its state and events to the pane, and recovers by itself. A request that is
// refused for good ends it.

import { backOff, deadline, isForeign } from "./connection.js";
import { learn } from "./start-pane.js";
import { presentByCookie, tokenHeaders, tokenParameters } from "./start-token.js";

const BACKLOG = 10; // events that a new pane starts with
const SILENCE = 65_000; // ms after which a connection counts as dead: two and a half heartbeats
const LOOKUP = 150; // ms after an event of an EventSource until the rest of it is looked up
const WAITING = "waiting for the gateway";

// EventSource delivers only the types that the page registers by name.
const types = new Set(["message", "tidegate.gap", "tidegate.heartbeat"]);

// Registers further types for EventSource.
export function register(names) {
  names.forEach((name) => types.add(name));
}

// Returns the address of a subscription: after the cursor, or with a backlog if there is none. A
// topic with braces is a URI template. `topic` would say both, but not at every gateway.
function address(path, topic, cursor, more = {}) {
  const start = cursor === undefined ? { last: BACKLOG } : { last_event_id: cursor };
  const matcher = topic.includes("{") ? "match_uritemplate" : "match";
  return `${path}?${new URLSearchParams({ [matcher]: topic, ...start, ...more })}`;
}

// A client error that time does not mend.
function isRefusal(status) {
  return 400 <= status && status < 500 && ![408, 425, 429].includes(status);
}

async function why(response) {
  try {
    return `refused (${response.status}): ${(await response.json()).detail}`;
  } catch {
    return `refused with status ${response.status}`;
  }
}

// Neither EventSource nor a frame says why it failed. Returns what the same request is answered, if
// it is refused for good.
async function refusal(address, accept, signal) {
  try {
    const headers = { accept };
    const probe = await fetch(address, { method: "HEAD", headers, signal });
    if (!isRefusal(probe.status)) {
      return undefined;
    }
    const response = await fetch(address, { headers, signal });
    const text = await (isRefusal(response.status) ? why(response) : undefined);
    await response.body?.cancel().catch(() => {});
    return text;
  } catch {
    return undefined; // the gateway cannot be reached
  }
}

// EventSource reconnects by itself, except when it is refused or does not notice that its
// connection is dead.
export function listenByEventSource(pane, topic, signal) {
  let source;
  let failures = 0;
  let timer;
  let lookup;

  function after(delay, next) {
    clearTimeout(timer);
    timer = setTimeout(next, delay);
  }

  function giveUp() {
    pane.tell("waiting", WAITING);
    open();
  }

  function path() {
    return address("events", topic, pane.cursor, { heartbeat: "event", ...tokenParameters() });
  }

  function open() {
    source?.close();
    source = new EventSource(path());
    source.addEventListener("open", opened);
    source.addEventListener("error", failed);
    types.forEach((type) => source.addEventListener(type, received));
    after(SILENCE, giveUp);
  }

  function opened() {
    failures = 0;
    pane.tell("open");
  }

  function received({ type, data, lastEventId }) {
    if (data === undefined) {
      return; // a change of the connection; events can have the types "open" and "error" as well
    }
    after(SILENCE, giveUp);
    if (type === "tidegate.heartbeat") {
      pane.cursor = lastEventId;
      return;
    }
    const before = pane.cursor;
    pane.receive({ id: lastEventId, type: type === "message" ? null : type, data });
    if (pane.lacksFacts()) {
      lookup ??= setTimeout(lookUp, LOOKUP, before);
    }
  }

  // An EventSource carries an event's id, type and data. A poll knows the rest.
  async function lookUp(before) {
    lookup = undefined;
    try {
      const headers = { prefer: "wait=0", ...tokenHeaders() };
      const response = await fetch(address("poll", topic, before), { headers, signal });
      (await response.json()).events.forEach((event) => learn(event.id, event));
      pane.refresh();
    } catch {
      // The list does without.
    }
  }

  async function failed({ data }) {
    if (data !== undefined) {
      return; // an event of the type "error"
    }
    if (source.readyState !== EventSource.CLOSED) {
      pane.tell("waiting", WAITING);
      after(SILENCE, giveUp);
      return;
    }
    clearTimeout(timer);
    const text = await refusal(path(), "text/event-stream", signal);
    if (signal.aborted) {
      return;
    }
    if (text) {
      pane.tell("refused", text);
    } else {
      pane.tell("waiting", WAITING);
      failures += 1;
      after(backOff(failures), open);
    }
  }

  // The other panes receive every type. At the first event of a new type, this pane rewinds to the
  // event before it.
  function adopt({ detail: { type, before } }) {
    if (type && !types.has(type)) {
      types.add(type);
      source?.close();
      pane.rewind(before);
      after(0, open);
    }
  }

  const obstacle = presentByCookie();
  if (obstacle) {
    pane.tell("refused", obstacle);
    return;
  }
  addEventListener("received", adopt, { signal });
  signal.addEventListener("abort", () => {
    clearTimeout(timer);
    clearTimeout(lookup);
    source.close();
  });
  open();
}

// The document in the frame reconnects by itself. A foreign one, such as the browser's error page
// or the gateway's refusal, is replaced here.
export function listenByIframe(pane, topic, signal) {
  let frame;
  let failures = 0;
  let timer;

  function path() {
    return address("iframe", topic, pane.cursor, { origin: location.origin, ...tokenParameters() });
  }

  function open() {
    frame?.remove();
    frame = document.createElement("iframe");
    frame.hidden = true;
    frame.title = "forever iframe";
    frame.src = path();
    document.body.append(frame);
    timer = setTimeout(check, 1000);
  }

  async function check() {
    if (!isForeign(frame)) {
      timer = setTimeout(check, 1000);
    } else if (!(await isRefused())) {
      failures += 1;
      pane.tell("waiting", WAITING);
      timer = setTimeout(open, backOff(failures));
    }
  }

  // Whether the gateway refuses the subscription, which the pane then shows.
  async function isRefused() {
    // Who asks for HTML gets the document of a refused frame instead of the problem.
    const text = await refusal(path(), "*/*", signal);
    if (text && !signal.aborted) {
      pane.tell("refused", text);
      frame.remove();
    }
    return Boolean(text) || signal.aborted;
  }

  function received({ origin, source, data }) {
    if (origin !== location.origin || source !== frame.contentWindow) {
      return;
    }
    if (data.tidegate === "event") {
      pane.receive(data.event);
    } else if (data.tidegate === "state" && data.state === "refused") {
      clearTimeout(timer);
      const detail = data.detail ? `: ${data.detail}` : "";
      pane.tell("refused", `refused (${data.status})${detail}`);
      frame.remove();
    } else if (data.tidegate === "state") {
      failures = 0;
      pane.cursor = data.cursor ?? pane.cursor;
      pane.tell(data.state, data.state === "waiting" ? WAITING : data.state);
    }
  }

  const obstacle = presentByCookie();
  if (obstacle) {
    pane.tell("refused", obstacle);
    return;
  }
  addEventListener("message", received, { signal });
  signal.addEventListener("abort", () => {
    clearTimeout(timer);
    frame.remove();
  });
  open();
}

export async function listenByPoll(pane, topic, signal) {
  let failures = 0;
  let next;
  while (!signal.aborted) {
    try {
      // Requests the first reply at once, because nothing else shows that the gateway answers.
      const headers = { ...(next ? {} : { prefer: "wait=0" }), ...tokenHeaders() };
      const path = next ?? address("poll", topic, pane.cursor);
      const response = await fetch(path, { headers, signal: deadline(signal, SILENCE) });
      if (isRefusal(response.status)) {
        const text = await why(response);
        if (!signal.aborted) {
          pane.tell("refused", text);
        }
        return;
      }
      if (!response.ok) {
        throw new Error(response.status);
      }
      const reply = await response.json();
      reply.events.forEach((event) => pane.receive(event));
      pane.cursor = reply.cursor;
      // Only its parameters: a proxy may have hidden the address that the browser uses.
      next = `poll${new URL(reply.next, response.url).search}`;
      failures = 0;
      pane.tell("open");
    } catch {
      if (!signal.aborted) {
        failures += 1;
        next = undefined;
        pane.tell("waiting", WAITING);
        await new Promise((resolve) => setTimeout(resolve, backOff(failures)));
      }
    }
  }
}
