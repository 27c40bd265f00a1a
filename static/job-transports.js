// The transports of the job page. Each function gets a link to the page and a signal that ends it:
//
// link.address      the address of the job
// link.take(job)    passes on a status document
// link.log(piece)   passes on text of the log
// link.check(wait)  requests the status document and takes it. Resolves to "new", "same", "gone",
//                   "away" or, if something other than the gateway answers, "odd". Shows the reader
//                   whether the gateway answers
// link.mayReload() whether a reload would erase nothing that was typed
// link.giveUp()     reports that this transport does not work here although the gateway answers;
//                   the page takes the next one

import { backOff, isForeign } from "./connection.js";

const OPENING = 4000; // ms after which a connection that is not open has failed
const LASTING = 5000; // ms after which a connection that ends has worked
const SILENCE = 30_000; // ms without data, after which the page checks for missed changes
const FRAME_SILENCE = 10_000; // the same for a frame: browsers report no cut by a proxy
const MOST_FAILURES = 3; // in a row, before the transport is given up
const POLL_WAIT = 20; // seconds that the gateway may hold a request
const POLL_PAUSE = 500; // ms between two polls
const RELOAD_PAUSE = 3000; // ms that the page is shown before it is reloaded
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

// Keeps a connection open. `connect` opens one, calls heard() and failed(), and returns a function
// that closes it. After `silence` ms without data, the status is checked.
function keepOpen(link, signal, silence, connect) {
  let close = () => {};
  let timer;
  let openedAt;
  let hasOpened = false;
  let failures = 0;
  let heardAt;
  let untold = 0; // consecutive changes that only a check has found

  function open() {
    openedAt = undefined;
    heardAt = Date.now();
    timer = setTimeout(failed, OPENING);
    close = connect({ heard, failed });
  }

  // Must be called for everything that arrives.
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
    // Checks whether the gateway fails, or only this way to it.
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

  // An open connection may deliver nothing: a proxy may hold everything back until it ends.
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
    // The gateway sends the state at once. Until then a proxy may have passed on only the head, so
    // the connection does not count as open.
    source.addEventListener("error", failed);
    for (const type of ["job.state", "job.asked", "job.answered", "job.progress", "job.done"]) {
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
          // The frame delivers only what happens from now on, so the status is checked.
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

    // A browser's error page in the frame sends no messages.
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

// Polls for a hidden page. A browser has six connections to a host over HTTP/1.1, and visible pages
// need them.
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

// The last resort when nothing else works.
export async function reload(link, signal) {
  do {
    await sleep(RELOAD_PAUSE, signal);
  } while (!signal.aborted && !link.mayReload());
  if (!signal.aborted) {
    location.reload();
  }
}
