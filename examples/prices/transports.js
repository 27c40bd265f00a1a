// The transports of the board. Each goes on from where the page stands, which is the global `cursor`, hands changes to
// take() or adopt(), says how it is to tell(), counts requests and bytes in `mine`, and returns a function that stops
// it. Once stopped it changes nothing any more, so that another one can go on at the same place.
"use strict";

const RETRY = 1000;  // ms before the page tries again where the browser does not
const EVERY = 1000;  // ms between two plain polls
const HEAD = 300;    // bytes that stand for the head of a response, as in Resource Timing

const size = (text) => new TextEncoder().encode(text).length;
const pause = (time) => new Promise((resolve) => setTimeout(resolve, time));

const TRANSPORTS = {
  sse(mine) {
    let source, timer;
    function open() {
      mine.requests += 1;
      source = new EventSource(address("/events"));
      source.onopen = () => { mine.bytes += HEAD + size(":\nretry: 2000\n"); tell("live"); };
      source.onmessage = ({ data, lastEventId }) => {
        mine.bytes += size(`data: ${data}\nid: ${lastEventId}\n\n`);
        take(data, lastEventId);
      };
      source.addEventListener("tidegate.gap", () => begin(mine));
      source.onerror = () => {
        tell("lost");
        if (source.readyState === EventSource.CLOSED) {
          timer = setTimeout(open, RETRY);
        } else {
          mine.requests += 1; // the browser's own next attempt
        }
      };
    }
    open();
    return () => { clearTimeout(timer); source.close(); };
  },

  iframe(mine) {
    const frame = document.createElement("iframe");
    let isOpen = false, isSecond = false, around = 0, timer;
    function load() {
      mine.requests += 1;
      isOpen = isSecond = false;
      frame.src = address("/iframe", { origin: location.origin });
    }
    // The document goes on by itself, unless something else stands in its place, such as the page of an error.
    frame.onload = () => {
      let isOurs = false;
      try { isOurs = "tidegate" in frame.contentWindow; } catch { /* a browser's own page, which no script may read */ }
      if (!isOurs) {
        tell("lost");
        timer = setTimeout(load, RETRY);
      }
    };
    function hear({ source, origin, data }) {
      if (source !== frame.contentWindow || origin !== location.origin) return;
      if (data.tidegate === "event") {
        mine.bytes += size(JSON.stringify(data.event)) + around;
        if (data.event.type === "tidegate.gap") begin(mine); else take(data.event.data, data.event.id);
      } else if (data.state === "open" && !isOpen) {
        isOpen = true;
        if (isSecond) mine.requests += 2; // the document's question whether the server is there, and the new document
        isSecond = true;
        const head = frame.contentDocument.head;
        const nonce = head.querySelector("script").nonce;
        mine.bytes += HEAD + size("<!doctype html><html>" + head.outerHTML + nonce + "<body>");
        around = `<script nonce="${nonce}">tidegate({"event":,"cursor":"${data.cursor}"})</script>\n`.length;
        tell("live");
      } else if (data.state === "waiting" || data.state === "refused") {
        isOpen = false;
        tell("lost");
      }
    }
    addEventListener("message", hear);
    frame.hidden = true;
    load();
    document.body.append(frame);
    return () => {
      clearTimeout(timer);
      removeEventListener("message", hear);
      frame.onload = null;
      frame.remove();
    };
  },

  poll(mine) {
    const aborter = new AbortController();
    let next = address("/poll");
    again(mine, aborter.signal, async () => {
      const reply = await get(next, aborter.signal);
      if (reply.events.some((event) => event.type === "tidegate.gap")) return begin(mine);
      for (const event of reply.events) take(event.data, event.id);
      cursor = reply.cursor;
      // Relative to the address that was asked, unless the gateway knows what browsers see.
      next = new URL(reply.next, new URL(next, location.href)).href;
    });
    return () => aborter.abort();
  },

  plain(mine) {
    const aborter = new AbortController();
    again(mine, aborter.signal, async () => {
      adopt(await get("/prices", aborter.signal));
    }, EVERY);
    return () => aborter.abort();
  },
};

// Does something again and again, and says whether it works.
async function again(mine, signal, ask, every = 0) {
  while (!signal.aborted) {
    try {
      mine.requests += 1;
      await ask();
      if (signal.aborted) return;
      tell("live");
      if (0 < every) await pause(every);
    } catch (error) {
      if (signal.aborted) return;
      console.warn(error);
      tell("lost");
      await pause(RETRY);
    }
  }
}

async function get(target, signal) {
  const reply = await fetch(target, { cache: "no-store", signal });
  if (!reply.ok) throw new Error(`the server answered ${reply.status}`);
  const body = await reply.json();
  signal.throwIfAborted();
  return body;
}

function address(path, more = {}) {
  const query = new URLSearchParams({ ...more, last_event_id: cursor });
  for (const good of cards.keys()) query.append("topic", "prices/" + good);
  return path + "?" + query;
}

// Begins with a snapshot: at first, and when the gateway says that it cannot tell all that has changed since.
async function begin(mine) {
  mine.stop();
  const aborter = new AbortController();
  mine.stop = () => aborter.abort();
  await again(mine, aborter.signal, async () => {
    adopt(await get("/prices", aborter.signal));
    aborter.abort();
    mine.stop = TRANSPORTS[mine.name](mine);
  });
}
