// The start page: publishes with a form, and listens over all three transports, each in its own
// pane.

import { listenByEventSource, listenByIframe, listenByPoll } from "./start-transports.js";

const SHOWN = 50; // events that a pane lists
const SHOWN_CHARACTERS = 1000; // characters shown of an event's data

// The events of one transport.
class Pane {
  constructor(id) {
    const section = document.getElementById(id);
    const part = (name) => section.querySelector(`.${name}`);
    [this.state, this.count, this.last, this.list] = ["state", "count", "last", "events"].map(part);
    this.clear();
  }

  clear() {
    this.cursor = undefined; // the position after which a new connection resumes
    this.list.replaceChildren();
    this.note(0, undefined);
  }

  note(events, lastId) {
    this.events = events;
    this.lastId = lastId;
    this.count.textContent = events;
    this.last.textContent = this.last.title = lastId ?? "none";
  }

  // `state` is connecting, open, waiting or paused; `text` describes it.
  tell(state, text = state) {
    this.state.dataset.state = state;
    // Screen readers would read the same text again.
    if (this.state.textContent !== text) {
      this.state.textContent = text;
    }
  }

  receive({ id, type, data }) {
    dispatchEvent(new CustomEvent("received", { detail: { type, before: this.lastId } }));
    const isGap = type === "tidegate.gap";
    const item = element("li", isGap ? "gap" : "event");
    item.dataset.id = id;
    item.append(element("time", "", new Date().toTimeString().slice(0, 8)));
    if (type && !isGap) {
      item.append(element("span", "type", type));
    }
    item.append(element("div", "data", isGap ? gapText(data) : shortened(data)));
    this.list.prepend(item);
    if (SHOWN < this.list.children.length) {
      this.list.lastChild.remove();
    }
    this.cursor = id;
    this.note(this.events + (isGap ? 0 : 1), id);
  }

  // Forgets the events after the event `id`, so that they can come again. Without an id, forgets
  // all.
  rewind(id) {
    if (id === undefined) {
      this.clear();
      return;
    }
    const items = [...this.list.children];
    const newer = items.slice(0, Math.max(0, items.findIndex((item) => item.dataset.id === id)));
    if (0 < newer.length) {
      newer.forEach((item) => item.remove());
      this.cursor = id;
      this.note(this.events - newer.filter((item) => item.className === "event").length, id);
    }
  }
}

// Always as text: an event's data is not trusted.
function element(name, className, text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

function shortened(data) {
  const rest = data.length - SHOWN_CHARACTERS;
  return rest <= 0 ? data : `${data.slice(0, SHOWN_CHARACTERS)}… and ${rest} more characters`;
}

function gapText(data) {
  const { cursor, reason, events } = JSON.parse(data);
  if (reason === "searched") {
    return `gap: the search for past events ended after ${events} events, its limit; earlier ones may be missing.`;
  }
  const why = reason === "trimmed" ? "has dropped what came after" : "does not know";
  return `gap: events may be missing here. The gateway ${why} ${cursor}; what follows begins with the earliest it has.`;
}

const listeners = [
  [new Pane("sse"), listenByEventSource],
  [new Pane("iframe"), listenByIframe],
  [new Pane("poll"), listenByPoll],
];
let topic = document.forms.listen.elements.topic.value;
let listening = new AbortController();

// Closes the connections and, unless the page is hidden, opens new ones that resume where the old
// ones ended. A browser has six connections to a host over HTTP/1.1, and each page like this one
// takes three. So hidden pages leave theirs to the visible one.
function listen() {
  listening.abort();
  listening = new AbortController();
  for (const [pane, listenBy] of listeners) {
    if (document.hidden) {
      pane.tell("paused", "paused while the page is hidden");
    } else {
      pane.tell("connecting");
      listenBy(pane, topic, listening.signal);
    }
  }
}

document.forms.listen.addEventListener("submit", (event) => {
  event.preventDefault();
  topic = event.target.elements.topic.value;
  listeners.forEach(([pane]) => pane.clear());
  listen();
});

document.forms.publish.addEventListener("submit", async (event) => {
  event.preventDefault();
  const { action, method } = event.target;
  const output = document.getElementById("published");
  const tell = (text, isRefused) => {
    output.textContent = text;
    output.classList.toggle("refused", isRefused);
  };
  tell("publishing…", false);
  try {
    const response = await fetch(action, { method, body: new URLSearchParams(new FormData(event.target)) });
    if (response.ok) {
      tell(`published as ${await response.text()}`, false);
    } else {
      tell(`refused: ${(await response.json()).detail}`, true);
    }
  } catch {
    tell("not published: the gateway cannot be reached", true);
  }
});

document.addEventListener("visibilitychange", listen);

for (const span of document.querySelectorAll(".base")) {
  span.textContent = new URL(".", location.href).href.replace(/\/$/, "");
}

// After the load event: the frame never ends, so the page would look as if it still loaded.
function start() {
  setTimeout(listen, 0);
}
if (document.readyState === "complete") {
  start();
} else {
  addEventListener("load", start);
}
