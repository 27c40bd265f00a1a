// The start page: publishes with a form, and listens over the transports that the visitor chooses.
//
// The address keeps topic and transports after `#`, so that a reload and a link show the same.

import { offerCopies, showCommands } from "./start-curl.js";
import { showFacts } from "./start-facts.js";
import { Pane, learn } from "./start-pane.js";
import { Room } from "./start-room.js";
import { tokenHeaders, whenTokenChanges } from "./start-token.js";
import { listenByEventSource, listenByIframe, listenByPoll, register } from "./start-transports.js";

const listeners = [
  [new Pane("sse"), listenByEventSource],
  [new Pane("iframe"), listenByIframe],
  [new Pane("poll"), listenByPoll],
];
const form = document.forms.listen;
const fields = form.elements;
const pauseButton = document.getElementById("pause");
const published = document.getElementById("published");

let topic;
let listening = new AbortController();
let isPaused = false;
const CROWDED = "paused: newer tabs of this page use the browser's connections to the gateway";
const room = new Room(() => listen(CROWDED), () => listen());

function chosen() {
  return listeners.filter(([pane]) => !pane.section.hidden);
}

// Closes the connections. Opens new ones, which resume where the old ones ended, unless `why` says
// why not.
function listen(why = isPaused ? "paused" : document.hidden ? "paused while the page is hidden" : undefined) {
  listening.abort();
  listening = new AbortController();
  register(fields.types.value.split(/[\s,]+/).filter(Boolean));
  room.take(why ? 0 : chosen().length);
  for (const [pane, listenBy] of chosen()) {
    if (why) {
      pane.tell("paused", why);
    } else {
      pane.tell("connecting");
      listenBy(pane, topic, listening.signal);
    }
  }
}

function setPaused(paused) {
  isPaused = paused;
  pauseButton.setAttribute("aria-pressed", paused);
  pauseButton.textContent = paused ? "Resume" : "Pause";
}

// Takes topic, transports and types from the address. Returns whether the topic is another one.
function readAddress() {
  const parameters = new URLSearchParams(location.hash.slice(1));
  const before = topic;
  topic = parameters.get("topic") || fields.topic.defaultValue;
  fields.topic.value = topic;
  fields.types.value = parameters.get("types") ?? "";
  const by = (parameters.get("by") ?? "sse").split(",");
  fields.by.forEach((box) => (box.checked = by.includes(box.value)));
  if (!topic.includes("*")) {
    document.forms.publish.elements.topic.value = topic;
  }
  showPanes();
  return before !== topic;
}

function writeAddress() {
  const by = [...fields.by].filter((box) => box.checked).map((box) => box.value);
  const parameters = new URLSearchParams({ topic: fields.topic.value });
  if (by.join() !== "sse") {
    parameters.set("by", by.join());
  }
  if (fields.types.value) {
    parameters.set("types", fields.types.value);
  }
  const hash = `#${parameters}`;
  if (location.hash !== hash) {
    history.pushState(null, "", hash);
  }
}

function showPanes() {
  fields.by.forEach((box) => (document.getElementById(box.value).hidden = !box.checked));
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  topic = fields.topic.value;
  writeAddress();
  setPaused(false);
  listeners.forEach(([pane]) => pane.reset());
  listen();
});

fields.by.forEach((box) => box.addEventListener("change", () => {
  writeAddress();
  showPanes();
  listen();
}));

fields.types.addEventListener("change", () => {
  writeAddress();
  listen();
});

pauseButton.addEventListener("click", () => {
  setPaused(!isPaused);
  listen();
});

document.getElementById("clear").addEventListener("click", () => listeners.forEach(([pane]) => pane.clear()));

addEventListener("popstate", () => {
  if (readAddress()) {
    listeners.forEach(([pane]) => pane.reset());
  }
  showCommands();
  listen();
});

function tell(text, isRefused = false) {
  published.textContent = text;
  published.classList.toggle("refused", isRefused);
}

document.forms.publish.addEventListener("submit", async (event) => {
  event.preventDefault();
  const { action, method, elements } = event.target;
  const update = new FormData(event.target);
  tell("publishing…");
  const type = update.get("type");
  if (type && room.own) {
    adopt(type);
  }
  try {
    const response = await fetch(action, { method, headers: tokenHeaders(), body: new URLSearchParams(update) });
    if (!response.ok) {
      tell(`refused (${response.status}): ${(await response.json()).detail}`, true);
      return;
    }
    const id = await response.text();
    learn(id, { topics: [update.get("topic")], private: elements.private.checked });
    listeners.forEach(([pane]) => pane.refresh());
    tell(`published as ${id}`);
    showNewest();
  } catch {
    tell("not published: the gateway cannot be reached", true);
  }
});

// The page is about to publish an event of this type, so its EventSource has to know it.
function adopt(type) {
  dispatchEvent(new CustomEvent("received", { detail: { type, before: listeners[0][0].lastId } }));
}

// Scrolls as far as needed to see the newest events.
function showNewest() {
  const [pane] = chosen()[0] ?? [];
  const box = pane?.list.getBoundingClientRect();
  const NEEDED = 80; // px of the list that show an event
  if (box && innerHeight < box.top + NEEDED) {
    scrollBy({ top: box.top + NEEDED - innerHeight });
  }
}

document.addEventListener("visibilitychange", () => listen());
addEventListener("focus", () => 0 < room.wanted && listen());
[document.forms.publish, form].forEach((it) => it.addEventListener("input", showCommands));
whenTokenChanges((isComplete) => {
  showCommands();
  if (isComplete) {
    listeners.forEach(([pane]) => pane.reset());
    listen();
  }
});
readAddress();
showCommands();
offerCopies();

// After the load event: the frame never ends, so the page would look as if it still loaded.
function start() {
  setTimeout(() => {
    listen();
    showFacts();
  }, 0);
}
if (document.readyState === "complete") {
  start();
} else {
  addEventListener("load", start);
}
