// How the page of a job hears of it. Each function gets the link to the page and a signal that ends it:
//
// link.address      the address of the job
// link.take(job)    hands on a status document
// link.log(piece)   hands on text of the log
// link.check(wait)  asks for the status document and takes it: resolves to "new", "same", "gone", "away" or, if
//                   something else than the gateway answers, "odd", and tells the reader
// link.giveUp()     this transport does not work here although the gateway answers; the page takes the next one

import { backOff, isForeign } from "./connection.js";

const OPENING = 4000; // ms after which a connection that is not open has failed
const LASTING = 5000; // ms after which one that ends has worked
const SILENCE = 30_000; // ms without anything, after which the page asks whether it was not told
const FRAME_SILENCE = 10_000; // the same for a frame: where a proxy cuts it off, a browser does not tell
const MOST_FAILURES = 3; // in a row, before the transport is given up
const POLL_WAIT = 20; // seconds that the gateway may keep a request
const POLL_PAUSE = 500; // ms between two of them
const RELOAD_PAUSE = 3000; // ms that the page is shown before it is loaded anew
const SLOW_PAUSE = 10_000; // the same while the page is hidden

function sleep(delay, signal) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, delay);
    signal.addEventListener("abort", done);
  });
}

// Keeps a connection open. `connect` opens one; it calls heard() and failed(), and returns what closes it.
// After `silence` ms without anything it asks the gateway.
function keepOpen(link, signal, silence, connect) {
  let close = () => {};
  let timer;
  let openedAt;
  let hasOpened = false;
  let failures = 0;
  let heardAt;
  let untold = 0; // changes in a row of which only asking told

  function open() {
    openedAt = undefined;
    heardAt = Date.now();
    timer = setTimeout(failed, OPENING);
    close = connect({ heard, failed });
  }

  // To be called for everything that comes.
  function heard() {
    clearTimeout(timer);
    hasOpened = true;
    openedAt ??= Date.now();
    heardAt = Date.now();
    untold = 0;
  }

  async function failed() {
    clearTimeout(timer);
    close();
    close = () => {};
    failures = openedAt && LASTING < Date.now() - openedAt ? 1 : failures + 1;
    openedAt = undefined;
    // Whether it is the gateway that fails, or only this way to it.
    let isSound = true;
    for (let attempts = 1; !signal.aborted; attempts += 1) {
      const answer = await link.check();
      if (signal.aborted || answer === "gone") {
        return;
      }
      if (answer !== "away") {
        break;
      }
      isSound = false;
      await sleep(backOff(attempts), signal);
    }
    if (isSound && (!hasOpened || MOST_FAILURES <= failures)) {
      link.giveUp();
      return;
    }
    await sleep(isSound && failures === 1 ? 0 : backOff(failures), signal);
    if (!signal.aborted) {
      open();
    }
  }

  // A connection can be open and bring nothing: a proxy may hold everything back until it ends.
  const ask = setInterval(async () => {
    if (openedAt && silence <= Date.now() - heardAt) {
      heardAt = Date.now();
      const answer = await link.check();
      if (signal.aborted || !openedAt) {
        return;
      }
      untold = answer === "new" ? untold + 1 : 0;
      if (1 < untold) {
        link.giveUp();
      } else if (answer === "away") {
        failed();
      }
    }
  }, 1000);

  signal.addEventListener("abort", () => {
    clearTimeout(timer);
    clearInterval(ask);
    close();
  });
  open();
}

export function listenByEventSource(link, signal) {
  if (!("EventSource" in window)) {
    link.giveUp();
    return;
  }
  keepOpen(link, signal, SILENCE, ({ heard, failed }) => {
    const source = new EventSource(link.address);
    // The gateway tells the state at once. Before that comes, a proxy may have passed on the head and nothing more.
    source.addEventListener("error", failed);
    for (const type of ["job.state", "job.progress", "job.done"]) {
      source.addEventListener(type, ({ data }) => {
        heard();
        link.take(JSON.parse(data));
      });
    }
    source.addEventListener("job.log", ({ data }) => {
      heard();
      link.log(JSON.parse(data));
    });
    return () => source.close();
  });
}

export function listenByIframe(link, signal) {
  const topic = `/jobs/${new URL(link.address).pathname.split("/").pop()}`;
  const address = new URL("../iframe", link.address);
  address.search = new URLSearchParams({ match: topic, origin: location.origin });
  keepOpen(link, signal, FRAME_SILENCE, ({ heard, failed }) => {
    const listening = new AbortController();
    const frame = document.createElement("iframe");
    frame.hidden = true;
    frame.title = "forever iframe";
    frame.src = address;

    function received({ origin, source, data }) {
      if (origin !== location.origin || source !== frame.contentWindow) {
        return;
      }
      if (data.tidegate === "state") {
        if (data.state === "open") {
          // It brings what happens from now on, and nothing of before.
          heard();
          link.check();
        } else {
          failed();
        }
      } else if (data.tidegate === "event") {
        heard();
        const { type, data: text } = data.event;
        if (type === "job.log") {
          link.log(JSON.parse(text));
        } else if (type === "tidegate.gap") {
          link.check();
        } else if (type?.startsWith("job.")) {
          link.take(JSON.parse(text));
        }
      }
    }

    // A browser's error page in the frame says nothing.
    const timer = setInterval(() => {
      if (isForeign(frame)) {
        failed();
      }
    }, 1000);
    addEventListener("message", received, { signal: listening.signal });
    document.body.append(frame);
    return () => {
      clearInterval(timer);
      listening.abort();
      frame.remove();
    };
  });
}

export async function listenByPoll(link, signal) {
  await poll(link, signal, POLL_WAIT, POLL_PAUSE);
}

// For a page that nobody looks at: a browser has six connections to a host over HTTP/1.1, and those that are looked
// at need them.
export async function listenSlowly(link, signal) {
  await poll(link, signal, 0, SLOW_PAUSE);
}

async function poll(link, signal, wait, pause) {
  let failures = 0;
  let odd = 0;
  while (!signal.aborted) {
    const answer = await link.check(wait);
    if (answer === "gone") {
      return;
    }
    odd = answer === "odd" ? odd + 1 : 0;
    if (MOST_FAILURES <= odd) {
      link.giveUp();
      return;
    }
    failures = answer === "away" ? failures + 1 : 0;
    await sleep(0 < failures ? backOff(failures) : pause, signal);
  }
}

// What is left when nothing else works.
export async function reload(link, signal) {
  await sleep(RELOAD_PAUSE, signal);
  if (!signal.aborted) {
    location.reload();
  }
}
