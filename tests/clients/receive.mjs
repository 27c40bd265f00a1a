// Receives with a library and writes what it gets, one JSON document a line: {"open": true}, {"lost": true} when the
// library is about to come back, {"refused": STATUS} when it is not, and {"type", "data", "id"} for each event.
//
// Arguments: the library, the address, and headers as "name: value". There is no file name before them, for this is run
// with --eval.

const [library, address, ...lines] = process.argv.slice(1);
const headers = Object.fromEntries(lines.map((line) => line.split(/: (.*)/s)));

// EventSource has no way to listen for every type.
const TYPES = ["message", "note", "tidegate.gap", "tidegate.heartbeat"];

// So long, in milliseconds, the polyfill stays without a sign of life.
const SILENCE = 5000;

const say = (what) => process.stdout.write(JSON.stringify(what) + "\n");
const sayEvent = ({ type, data, lastEventId }) => say({ type, data, id: lastEventId });

function listen(source) {
  source.onopen = () => say({ open: true });
  source.onerror = (error) => {
    const status = error.code ?? error.status ?? 0;
    // Some tell of it before they are closed.
    const isOver = source.readyState === source.CLOSED || (400 <= status && status < 500);
    say(isOver ? { refused: status } : { lost: true });
  };
  for (const type of TYPES) source.addEventListener(type, sayEvent);
}

const receivers = {
  async eventsource() {
    const { EventSource } = await import("eventsource");
    const withHeaders = (url, init) => fetch(url, { ...init, headers: { ...init.headers, ...headers } });
    listen(new EventSource(address, { fetch: withHeaders }));
  },

  async "eventsource-2"() {
    const { default: EventSource } = await import("eventsource-2");
    listen(new EventSource(address, { headers }));
  },

  async "event-source-polyfill"() {
    const { EventSourcePolyfill } = await import("event-source-polyfill");
    listen(new EventSourcePolyfill(address, { headers, heartbeatTimeout: SILENCE }));
  },

  async "@microsoft/fetch-event-source"() {
    // It is made for pages.
    globalThis.window = globalThis;
    globalThis.document = { addEventListener() {}, removeEventListener() {} };
    const { fetchEventSource } = await import("@microsoft/fetch-event-source");
    let refused = 0;
    await fetchEventSource(address, {
      headers,
      openWhenHidden: true,
      async onopen(response) {
        if (!response.ok) refused = response.status;
        if (refused) throw new Error("refused");
        say({ open: true });
      },
      onmessage: ({ event, data, id }) => say({ type: event || "message", data, id }),
      onclose() {
        throw new Error("come back");
      },
      onerror(error) {
        if (refused) throw error;
        say({ lost: true });
      },
    }).catch(() => say({ refused }));
  },
};

await receivers[library]();
