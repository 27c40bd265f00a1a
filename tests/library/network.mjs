// A network whose other end is the test: it sees each request, and decides what becomes of it.

export class Network {
  requests = []; // those that no test has taken yet
  isThere = true;

  fetch = (address, { method = "GET", headers = {}, body, signal, keepalive = false } = {}) => {
    const request = new Request_(method, new URL(address), headers, body && JSON.parse(body));
    request.keepalive = keepalive;
    return new Promise((resolve, reject) => {
      const abort = () => {
        request.isClosed = true;
        request.stream?.error(signal.reason);
        reject(signal.reason);
      };
      if (signal?.aborted) {
        abort();
        return;
      }
      signal?.addEventListener("abort", abort);
      if (!this.isThere) {
        reject(new TypeError("fetch failed"));
        return;
      }
      this.requests.push(request);
      request.answer = resolve;
      request.refuse = reject;
    });
  };

  // EventSource as a class whose instances are requests.
  get EventSource() {
    const network = this;
    return class EventSource {
      static CLOSED = 2;
      readyState = 0;

      constructor(address, { withCredentials = false } = {}) {
        this.withCredentials = withCredentials;
        const request = new Request_("GET", new URL(address), {});
        request.source = this;
        this.request = request;
        if (network.isThere) {
          network.requests.push(request);
        } else {
          queueMicrotask(() => request.fail());
        }
      }

      close() {
        this.readyState = 2;
        this.request.isClosed = true;
      }
    };
  }

  // Returns the oldest request that no test has taken.
  take() {
    return this.requests.shift();
  }
}

class Request_ {
  isClosed = false;

  constructor(method, url, headers, body) {
    Object.assign(this, { method, url, body });
    this.headers = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
  }

  get line() {
    return `${this.method} ${this.url.pathname}`;
  }

  reply(status, body, headers = {}) {
    const text = body === undefined ? null : typeof body === "string" ? body : JSON.stringify(body);
    const response = new Response(this.method === "HEAD" ? null : text, { status, headers: { "content-type": "application/json", ...headers } });
    Object.defineProperty(response, "url", { value: this.url.href });
    this.answer(response);
  }

  // Sends an event of a stream, in the JSON form.
  event(event) {
    const data = JSON.stringify(event);
    if (this.source) {
      this.source.readyState = 1;
      this.source.onmessage?.({ data, lastEventId: event.id });
    } else {
      this.bytes(`data: ${data}\nid: ${event.id}\n\n`);
    }
  }

  // Sends bytes of a stream over fetch.
  bytes(text) {
    if (!this.stream) {
      const body = new ReadableStream({ start: (controller) => (this.stream = controller) });
      this.answer(new Response(body, { status: 200, headers: { "content-type": "text/event-stream" } }));
    }
    this.stream.enqueue(new TextEncoder().encode(text));
  }

  // Ends a stream.
  cut() {
    if (this.source) {
      this.source.readyState = 0;
      this.source.onerror?.({});
    } else {
      this.stream.close();
    }
  }

  // Lets the request fail without an answer.
  fail() {
    if (this.source) {
      this.source.readyState = 2;
      this.source.onerror?.({});
    } else {
      this.refuse(new TypeError("fetch failed"));
    }
  }
}
