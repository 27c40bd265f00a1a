// The three transports of the start page.
//
// Each is a function of a pane, a topic and a signal that ends it. It resumes after the pane's
// cursor, reports its state and events to the pane, and recovers by itself.

import { backOff, isForeign } from "./connection.js";

const BACKLOG = 10; // events that a new pane starts with
const SILENCE = 65_000; // ms after which a connection counts as dead: two and a half heartbeats
const WAITING = "waiting for the gateway";

// EventSource delivers only the types that the page registers by name.
const types = new Set(["message", "tidegate.gap", "tidegate.heartbeat"]);

// Returns the address of a subscription: after the cursor, or with a backlog if there is none.
function address(path, topic, cursor, more = {}) {
  const start = cursor === undefined ? { last: BACKLOG } : { last_event_id: cursor };
  return `${path}?${new URLSearchParams({ match: topic, ...start, ...more })}`;
}

// EventSource reconnects by itself, except when it is refused or does not notice that its
// connection is dead.
export function listenByEventSource(pane, topic, signal) {
  let source;
  let failures = 0;
  let timer;

  function after(delay, next) {
    clearTimeout(timer);
    timer = setTimeout(next, delay);
  }

  function giveUp() {
    pane.tell("waiting", WAITING);
    open();
  }

  function open() {
    source?.close();
    source = new EventSource(address("events", topic, pane.cursor, { heartbeat: "event" }));
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
    } else {
      pane.receive({ id: lastEventId, type: type === "message" ? null : type, data });
    }
  }

  function failed({ data }) {
    if (data !== undefined) {
      return; // an event of the type "error"
    }
    pane.tell("waiting", WAITING);
    if (source.readyState === EventSource.CLOSED) {
      failures += 1;
      after(backOff(failures), open);
    } else {
      after(SILENCE, giveUp);
    }
  }

  // The other panes receive every type. At the first event of a new type, this pane rewinds to the
  // event before it.
  function learn({ detail: { type, before } }) {
    if (type && !types.has(type)) {
      types.add(type);
      source.close();
      pane.rewind(before);
      after(0, open);
    }
  }

  addEventListener("received", learn, { signal });
  signal.addEventListener("abort", () => {
    clearTimeout(timer);
    source.close();
  });
  open();
}

// The document in the frame reconnects by itself. A foreign one, such as the browser's error page,
// is replaced here.
export function listenByIframe(pane, topic, signal) {
  let frame;
  let failures = 0;
  let timer;

  function open() {
    frame?.remove();
    frame = document.createElement("iframe");
    frame.hidden = true;
    frame.title = "forever iframe";
    frame.src = address("iframe", topic, pane.cursor, { origin: location.origin });
    document.body.append(frame);
    timer = setTimeout(check, 1000);
  }

  function check() {
    if (isForeign(frame)) {
      failures += 1;
      pane.tell("waiting", WAITING);
      timer = setTimeout(open, backOff(failures));
    } else {
      timer = setTimeout(check, 1000);
    }
  }

  function received({ origin, source, data }) {
    if (origin !== location.origin || source !== frame.contentWindow) {
      return;
    }
    if (data.tidegate === "event") {
      pane.receive(data.event);
    } else if (data.tidegate === "state") {
      failures = 0;
      pane.cursor = data.cursor;
      pane.tell(data.state, data.state === "waiting" ? WAITING : data.state);
    }
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
      const headers = next ? {} : { prefer: "wait=0" };
      const deadline = AbortSignal.any([signal, AbortSignal.timeout(SILENCE)]);
      const response = await fetch(next ?? address("poll", topic, pane.cursor), { headers, signal: deadline });
      const reply = await response.json();
      if (!response.ok) {
        throw new Refused(reply.detail);
      }
      reply.events.forEach((event) => pane.receive(event));
      pane.cursor = reply.cursor;
      next = reply.next;
      failures = 0;
      pane.tell("open");
    } catch (error) {
      if (!signal.aborted) {
        failures += 1;
        next = undefined;
        pane.tell("waiting", error instanceof Refused ? `refused: ${error.message}` : WAITING);
        await new Promise((resolve) => setTimeout(resolve, backOff(failures)));
      }
    }
  }
}

class Refused extends Error {}
