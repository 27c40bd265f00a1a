// Keeps the list of jobs as it is: events of jobs say that something has changed, and the list is
// then fetched anew. Where events cannot be received, it is fetched every few seconds.

import { deadline } from "./connection.js";

const PAUSE = 1000; // ms between two updates
const SLOW = 5000; // the same without events
const TIMEOUT = 10_000; // ms for a request
const EVENTS = ["job.state", "job.asked", "job.answered", "job.progress", "job.done"];
const PARTS = ["counts", "list"];

let isDue = false;
let isUpdating = false;
let hasEvents = false;
let source;

async function update() {
  if (isUpdating || document.hidden) {
    isDue = true;
    return;
  }
  isUpdating = true;
  isDue = false;
  try {
    const signal = deadline(new AbortController().signal, TIMEOUT);
    const response = await fetch(location.href, { headers: { accept: "text/html" }, signal });
    if (response.ok) {
      replace(new DOMParser().parseFromString(await response.text(), "text/html"));
    }
  } catch {
    // The next update tries again.
  }
  setTimeout(() => {
    isUpdating = false;
    if (isDue) {
      update();
    }
  }, PAUSE);
}

// Replaces the parts that can change. What is selected stays so, and what has the focus keeps it.
function replace(page) {
  const focused = document.activeElement?.id;
  const selected = new Set([...document.querySelectorAll("#list input:checked")].map((it) => it.value));
  for (const id of PARTS) {
    const [old, next] = [document.getElementById(id), page.getElementById(id)];
    if (next && old.innerHTML !== next.innerHTML) {
      old.replaceWith(document.adoptNode(next));
    }
  }
  for (const box of document.querySelectorAll("#list input[type=checkbox]")) {
    box.checked = selected.has(box.value);
  }
  if (focused && document.activeElement?.id !== focused) {
    document.getElementById(focused)?.focus();
  }
}

function listen() {
  source?.close();
  if (document.hidden || !("EventSource" in window)) {
    return;
  }
  const address = new URL("events", location.href);
  address.search = new URLSearchParams({ match_urlpattern: "/jobs/:id" });
  source = new EventSource(address);
  source.addEventListener("open", () => {
    hasEvents = true;
    document.body.dataset.via = "sse";
  });
  source.addEventListener("error", () => { hasEvents = false; });
  for (const type of EVENTS) {
    source.addEventListener(type, update);
  }
}

document.addEventListener("visibilitychange", () => {
  listen();
  if (isDue) {
    update();
  }
});
setInterval(() => {
  // Ages grow, and events may be missing.
  if (!hasEvents || Date.now() % (6 * SLOW) < SLOW) {
    update();
  }
}, SLOW);
listen();
