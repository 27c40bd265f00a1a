// What few pages need of tidegate.js, which loads this file when one does: tabs that share a stream,
// the forever iframe, and calls that go on as jobs.

const FOLLOWING = 1000; // ms for a leading tab to answer
const ATTEMPTS = 4; // questions without an answer, after which a tab opens a stream of its own
const GATHERING = 50; // ms for the other tabs to tell a new leader about themselves
const ENDED = ["succeeded", "failed", "cancelled", "lost"];

// Returns the public id of a key. `crypto.subtle` exists in secure contexts only, as locks do.
export async function idOf(key) {
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(key));
  const text = btoa(String.fromCharCode(...new Uint8Array(hash, 0, 16)));
  return text.replace(/\+/g, "-").replace(/\//g, "_").slice(0, 22);
}

// Lets several tabs share one stream; each stays a client of its own. A Web Lock elects the leading
// tab, which opens the stream for the keys of all and relays it over a BroadcastChannel.
//
// `tab` has key(), id(), cursor(), hear(event), status(…), lead(cursor), alone(), following(hello),
// carry(key), which resolves when the stream is for that key as well, and drop(key).
export function makeTabs(name, tab) {
  const others = new Map(); // the tabs that follow this one: id → key, cursor and how much it heard
  const controller = new AbortController();
  const { signal } = controller;
  const channel = new BroadcastChannel(name);
  let role = "asking";
  let heard = 0; // events relayed so far
  let hello; // the last one of this tab's stream
  let asked = []; // ids of the tabs that the stream was opened for
  let attempts = 0;
  let timer;
  let release = () => {};

  // A lock tells that a tab has ended, however it has ended.
  const lock = (of, then) => navigator.locks.request(of, { signal }, then).catch(() => {});

  function lead() {
    role = "gathering";
    clearTimeout(timer);
    channel.postMessage({ leader: true });
    timer = setTimeout(() => {
      role = "leading";
      let oldest = { heard, cursor: tab.cursor() };
      others.forEach((it) => (oldest = it.cursor && it.heard < oldest.heard ? it : oldest));
      tab.lead(oldest.cursor);
    }, GATHERING);
    return new Promise((resolve) => (release = resolve));
  }

  function ask() {
    if (role === "asking" && attempts++ < 4) {
      channel.postMessage({ carry: tab.id(), key: tab.key(), cursor: tab.cursor(), heard });
      timer = setTimeout(ask, FOLLOWING);
    } else if (role === "asking") {
      role = "alone";
      tab.alone();
    }
  }

  function carry({ carry: id, key, cursor, heard: count }) {
    const isKnown = others.has(id);
    others.set(id, { key, cursor, heard: count });
    if (!isKnown) {
      lock(`${name}:${id}`, () => drop(id));
    }
    if (role === "leading" && cursor && cursor !== tab.cursor()) {
      tab.lead(cursor);
    } else if (role === "leading" && hello) {
      carryLate(id);
    }
  }

  function carryLate(id) {
    tab.carry(others.get(id).key).then(() => channel.postMessage({ carried: [id], hello }), () => {});
  }

  function drop(id) {
    if (others.has(id)) {
      tab.drop(others.get(id).key);
      others.delete(id);
    }
  }

  channel.onmessage = ({ data }) => {
    if (data.carry && (role === "gathering" || role === "leading")) {
      carry(data);
    } else if (data.drop) {
      drop(data.drop);
    } else if (data.leader && role !== "alone") {
      role = "asking";
      attempts = 0;
      clearTimeout(timer);
      ask();
    } else if (data.event && (role === "asking" || role === "following")) {
      heard = data.heard;
      if (role === "following") {
        tab.hear(data.event);
      }
    } else if (data.carried && data.carried.includes(tab.id())) {
      role = "following";
      clearTimeout(timer);
      tab.status("open");
      tab.following(data.hello);
    } else if (data.status && role === "following") {
      tab.status(...data.status);
    }
  };
  lock(`${name}:${tab.id()}`, () => new Promise((resolve) => signal.addEventListener("abort", resolve)));
  lock(name, lead);
  ask();

  return {
    // The keys that a stream is to be opened for, besides this tab's.
    keys() {
      asked = [...others.keys()];
      hello = undefined;
      return Array.from(others.values(), ({ key }) => key);
    },
    // Relays an event. A hello means that the stream is for all tabs.
    relay(event) {
      if (event.type === "tidegate.hello") {
        hello = JSON.parse(event.data);
        channel.postMessage({ carried: asked, hello });
        [...others.keys()].filter((id) => !asked.includes(id)).forEach(carryLate);
        return;
      }
      heard += 1;
      channel.postMessage({ event, heard });
    },
    relayStatus: (...status) => role === "leading" && channel.postMessage({ status }),
    stop() {
      clearTimeout(timer);
      if (role === "following") {
        channel.postMessage({ drop: tab.id() });
      }
      role = "stopped";
      release();
      controller.abort();
      channel.close();
    },
  };
}

// The transport over `/iframe`; see tidegate.js for `link`. The document in the frame would reconnect
// by itself, but the page does so first, with its own waits.
export function overIframe(link) {
  const frame = document.createElement("iframe");
  frame.hidden = true;
  frame.title = "tidegate";
  frame.src = link.address("iframe", { origin: location.origin });
  function received({ source, data }) {
    if (source !== frame.contentWindow || !data || !data.tidegate) {
      return;
    }
    if (data.event) {
      link.take(data.event);
    } else if (data.state === "open") {
      link.alive();
      link.reached(data.cursor);
    } else {
      link.lost(data.status && new link.Problem(data));
    }
  }
  addEventListener("message", received);
  document.documentElement.append(frame);
  return () => {
    removeEventListener("message", received);
    frame.remove();
  };
}

// Follows a job to its end, and resolves to its result, or to {link} if that is a page or file.
export function followJob(address, { signal, onProgress }, { client, gateway, Problem }) {
  const path = address.replace(/^\/+/, "");
  const topic = client.topic(`/${path}`);
  const fail = (type, title) => new Problem({ type, title, status: 0 });
  let newest = -1;
  return new Promise((resolve, reject) => {
    async function result() {
      const response = await gateway.request(`${path}/result`, { headers: { accept: "application/json" } });
      const isJson = /json/.test(response.headers.get("content-type"));
      return isJson ? response.json() : { link: response.url };
    }

    function take(job) {
      if (!(newest < job.version)) {
        return;
      }
      newest = job.version;
      if (onProgress) {
        onProgress(job);
      }
      if (ENDED.includes(job.state)) {
        end();
        if (job.state === "succeeded") {
          // A link to another origin may be unreadable from here.
          result().then(resolve, () => resolve({ link: job.result }));
        } else {
          reject(job.error ? new Problem(job.error) : fail(job.state, `the job is ${job.state}`));
        }
      }
    }

    async function check() {
      try {
        const headers = { accept: "application/json" };
        take(await gateway.json(path, { headers }));
      } catch (error) {
        if (error instanceof Problem && error.status < 500) {
          end();
          reject(error);
        }
      }
    }

    function cancel() {
      end();
      gateway.request(`${path}/cancel`, { method: "POST" }).catch(() => {});
      reject(signal.reason);
    }

    // A change between the join and the stream's return would be missed by events alone.
    const offs = ["job.state", "job.progress", "job.done"].map((type) => topic.on(type, take));
    client.addEventListener("status", check);
    client.addEventListener("gap", check);
    if (signal) {
      signal.addEventListener("abort", cancel);
    }
    function end() {
      offs.forEach((off) => off());
      client.removeEventListener("status", check);
      client.removeEventListener("gap", check);
      topic.leave();
      if (signal) {
        signal.removeEventListener("abort", cancel);
      }
    }
    topic.join().then(check, check);
  });
}
