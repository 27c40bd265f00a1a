// A pane of the start page: the events that arrived over one transport.

const SHOWN = 50; // events that a pane lists
const SHOWN_CHARACTERS = 2000; // characters shown of an event's data

// What is known of an event besides what its transport carries, by id: {topics, time, private}.
const known = new Map();
const MOST_KNOWN = 500;

const pretty = document.getElementById("pretty");

export class Pane {
  constructor(id) {
    this.id = id;
    this.section = document.getElementById(id);
    const part = (name) => this.section.querySelector(`.${name}`);
    [this.state, this.count, this.list] = ["state", "count", "events"].map(part);
    this.rows = new WeakMap(); // the event of each item of the list
    this.reset();
    pretty.addEventListener("change", () => [...this.list.children].forEach((item) => this.fill(item)));
  }

  // Forgets the events and where the subscription was.
  reset() {
    this.cursor = undefined; // the position after which a new connection resumes
    this.lastId = undefined;
    this.clear();
  }

  // Empties the list. A new connection resumes where the old one was.
  clear() {
    this.list.replaceChildren();
    this.note(0);
  }

  note(events) {
    this.events = events;
    this.count.textContent = `${events} ${events === 1 ? "event" : "events"}`;
  }

  // `state` is connecting, open, waiting, paused or refused; `text` describes it.
  tell(state, text = state) {
    this.state.dataset.state = state;
    // Screen readers would read the same text again.
    if (this.state.textContent !== text) {
      this.state.textContent = text;
      dispatchEvent(new CustomEvent("told"));
    }
  }

  receive(event) {
    const { id, type } = event;
    dispatchEvent(new CustomEvent("received", { detail: { type, before: this.lastId } }));
    if (event.topics !== undefined) {
      learn(id, event);
    }
    const isGap = type === "tidegate.gap";
    const item = element("li", isGap ? "gap" : "event");
    item.dataset.id = id;
    this.rows.set(item, { ...event, arrived: new Date() });
    this.fill(item);
    this.list.prepend(item);
    this.list.scrollTop = 0;
    if (SHOWN < this.list.children.length) {
      this.list.lastChild.remove();
    }
    this.cursor = this.lastId = id;
    this.note(this.events + (isGap ? 0 : 1));
  }

  // Writes an event into its item of the list.
  fill(item) {
    const event = this.rows.get(item);
    const isGap = event.type === "tidegate.gap";
    const facts = element("p", "facts-of-event");
    facts.append(...(isGap ? [clock(event.arrived, "arrived at ")] : factsOf(event)));
    item.replaceChildren(facts, element("pre", "data", isGap ? gapText(event.data) : dataText(event.data)));
  }

  // Whether an event of the list lacks what its transport does not carry.
  lacksFacts() {
    const rows = [...this.list.children].map((item) => this.rows.get(item));
    return rows.some(({ id, type }) => type !== "tidegate.gap" && !known.get(id)?.time);
  }

  // Shows what has become known of the events meanwhile.
  refresh() {
    [...this.list.children].forEach((item) => this.fill(item));
  }

  // Forgets the events after the event `id`, so that they can come again. Without an id, forgets
  // all.
  rewind(id) {
    if (id === undefined) {
      this.reset();
      return;
    }
    const items = [...this.list.children];
    const newer = items.slice(0, Math.max(0, items.findIndex((item) => item.dataset.id === id)));
    if (0 < newer.length) {
      newer.forEach((item) => item.remove());
      this.cursor = this.lastId = id;
      this.note(this.events - newer.filter((item) => item.className === "event").length);
    }
  }
}

// Keeps what is known of an event.
export function learn(id, { topics, time, private: isPrivate }) {
  known.delete(id);
  known.set(id, { topics, time: time ?? known.get(id)?.time, private: isPrivate ?? false });
  if (MOST_KNOWN < known.size) {
    known.delete(known.keys().next().value);
  }
}

function factsOf({ id, type, arrived }) {
  const { topics, time, private: isPrivate } = known.get(id) ?? {};
  return [
    time ? clock(new Date(time), "accepted at ") : clock(arrived, "arrived at "),
    element("span", "topics", topics?.join(", ") ?? ""),
    type && element("span", "type", type),
    isPrivate && element("span", "private", "private"),
    element("span", "id", id),
  ].filter((it) => it && it.textContent !== "");
}

function clock(date, what) {
  const made = element("time", "", date.toTimeString().slice(0, 8));
  made.dateTime = date.toISOString();
  made.title = what + date.toISOString();
  return made;
}

// Always as text: an event's data is not trusted.
function element(name, className, text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

function dataText(data) {
  const text = pretty.checked ? indented(data) : data;
  const rest = text.length - SHOWN_CHARACTERS;
  return rest <= 0 ? text : `${text.slice(0, SHOWN_CHARACTERS)}… and ${rest} more characters`;
}

// Indents an object or an array in JSON. Large data stays as it is, which costs no time.
function indented(data) {
  const LARGEST = 100_000;
  if (!/^\s*[[{]/.test(data) || LARGEST < data.length) {
    return data;
  }
  try {
    return JSON.stringify(JSON.parse(data), null, 2);
  } catch {
    return data;
  }
}

function gapText(data) {
  const { cursor, reason, events } = JSON.parse(data);
  if (reason === "searched") {
    return `gap: the search for past events ended after ${events} events, its limit; earlier ones may be missing.`;
  }
  const why = reason === "trimmed" ? "has dropped what came after" : "does not know";
  return `gap: events may be missing here. The gateway ${why} ${cursor}; what follows begins with the earliest it has.`;
}
