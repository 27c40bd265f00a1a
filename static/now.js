// NowJS's `now`, on top of tidegate.js: variables that the gateway sees, and functions on both sides.
//
//   now.ready(() => now.sayHi((text) => log(text)));
//   now.receiveMessage = (text) => log(text);
//   now.name = "Ann";
//
// Different from NowJS: a function of the gateway returns a promise of what it returns. Every unknown
// name is such a function, because nothing is looked up beforehand; one that does not exist rejects.
// Variables are compared by nobody: only an assignment is sent, at any depth. `now.x` is this page's
// own variable, or else everyone's.

import { connect } from "./tidegate.js";

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

// Returns a `now` for a client.
function nowOver(client) {
  const everyone = client.topic("everyone");
  const functions = Object.create(null);
  const written = Object.create(null); // until the gateway has it
  let loaded;
  const untilOwn = () => (loaded = loaded || client.ready.then(() => client.own.load()));
  const core = {
    get clientId() { return client.id; },
    on(type, listener) {
      const wanted = { connect: ["open"], disconnect: ["waiting", "refused", "closed"] }[type] || [];
      client.addEventListener("status", () => wanted.includes(client.status) && listener(client.id));
    },
  };
  everyone.watch(() => {});

  function assign(path, value) {
    const patch = path.reduceRight((inner, name) => ({ [name]: inner }), value === undefined ? null : value);
    written[path[0]] = path.length === 1 ? value : written[path[0]];
    untilOwn().then(() => client.own.set(patch)).then(() => delete written[path[0]], () => {});
    return true;
  }

  function listen(name, listener) {
    if (!(name in functions)) {
      const call = (data) => functions[name](...(Array.isArray(data) ? data : [data]));
      client.handle(name, call);
      client.on(name, call);
    }
    functions[name] = listener;
    return true;
  }

  // An object whose members are sent when they are assigned.
  const live = (value, path) => !isObject(value) ? value : new Proxy(value, {
    get: (target, name) => typeof name === "symbol" ? target[name] : live(target[name], [...path, name]),
    set: (target, name, next) => (target[name] = next, assign([...path, name], next)),
    deleteProperty: (target, name) => (delete target[name], assign([...path, name], null)),
  });

  return new Proxy({ ready: (listener) => untilOwn().then(() => listener()), core }, {
    get(target, name) {
      if (name in target || typeof name === "symbol" || name === "then") {
        return target[name];
      }
      for (const values of [functions, written, client.id ? client.own.state : {}, everyone.state]) {
        if (values[name] !== undefined) {
          return live(values[name], [name]);
        }
      }
      return (...args) => client.emit(name, args);
    },
    set: (_, name, value) => typeof value === "function" ? listen(name, value) : assign([name], value),
    deleteProperty: (_, name) => assign([name], null),
  });
}

const now = nowOver(connect());

export { now, nowOver };
