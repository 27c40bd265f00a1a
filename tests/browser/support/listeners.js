// What a page might do that listens over each transport, with nothing but what browsers have.

var heard = { sse: [], iframe: [], poll: [] };

function note(transport, id, type, data) {
  heard[transport].push({ id: id, type: type, data: data });
}

function listenBySse(query, types) {
  var source = new EventSource("/events?" + query);
  new Set(["message", "tidegate.gap"].concat(types || [])).forEach(function (type) {
    source.addEventListener(type, function (event) {
      note("sse", event.lastEventId, event.type, event.data);
    });
  });
  return source;
}

function onEvent(event) {
  note("iframe", event.id, event.type, event.data);
}

function listenByIframe(query) {
  var frame = document.createElement("iframe");
  frame.src = "/iframe?callback=onEvent&" + query;
  document.body.appendChild(frame);
}

async function listenByPoll(query) {
  var next = "/poll?wait=5&" + query;
  for (;;) {
    try {
      var response = await fetch(next);
      if (!response.ok) {
        throw new Error("status " + response.status);
      }
      var reply = await response.json();
      reply.events.forEach(function (event) {
        note("poll", event.id, event.type, event.data);
      });
      next = new URL(reply.next, response.url).href;
    } catch (error) {
      await new Promise(function (resolve) { setTimeout(resolve, 200); });
    }
  }
}

function has(transport, id) {
  return heard[transport].some(function (event) { return event.id === id; });
}

// In plain ASCII, so that nothing on the way to the test can change it.
function report(transport) {
  return JSON.stringify(heard[transport]).replace(/[^ -~]/g, function (unit) {
    return "\\u" + unit.charCodeAt(0).toString(16).padStart(4, "0");
  });
}

Object.assign(window, { heard, onEvent, listenBySse, listenByIframe, listenByPoll, has, report });
