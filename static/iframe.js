// The document of the forever iframe, in the JavaScript of 2009: old browsers need it.
//
// The server appends script elements that call tidegate() with one argument: {event, cursor},
// {heartbeat, cursor}, {end, retry, cursor} or {refused: {status, detail}}. The document passes events on to the parent page.
// When its connection ends, is cut off or falls silent, it probes the server. Only after an answer
// does it replace itself by a new document, which resumes after its cursor. Otherwise a dead server
// would leave the browser's error page in the frame.
//
// options: callback or origin (the receiver of events), heartbeats (pass those on too), query (of
// the new document), cursor (to resume after; empty if there is none yet), silence (ms after which
// the connection counts as dead), retry (ms before the first probe).
//
// With origin, the parent receives {tidegate: "event", event} and {tidegate: "state", state,
// cursor}. The states are open, waiting (the connection is lost, a new one will follow) and refused
// (none will follow). With refused, status is that of the response, and detail says what is wrong if
// the document itself is the response.
function startTidegate(options) {
  "use strict";

  var LOOK = 500; // ms between two checks of the connection and the parent page
  var PATIENCE = 10000; // ms for the response to a probe, and for a new document to arrive
  var SHORTEST_WAIT = 200; // ms between two probes, at least
  var LONGEST_WAIT = 30000; // ms between two probes, at most, if retry is not longer

  var isTop = window.parent === window;
  var delivered = options.cursor; // the parent has the events up to this cursor
  var waiting = []; // events received before the parent defined its function
  var heard = now();
  var isOver = false; // whether to ignore what arrives on this document's connection
  var attempts = 0;
  var retry = options.retry;

  // Returns the ms since some moment, if possible by a clock that is never set.
  function now() {
    return window.performance && performance.now ? performance.now() : new Date().getTime();
  }

  // Returns the parent's function that options.callback names, or null while there is none.
  function callback() {
    var names = options.callback.split(".");
    var owner = null;
    var found = window.parent;
    for (var i = 0; i < names.length; i++) {
      owner = found;
      found = found[names[i]];
      if (found === undefined || found === null) {
        return null;
      }
    }
    return typeof found === "function" ? function (event) { found.call(owner, event); } : null;
  }

  // Copies an event into objects of the parent. The page may keep them for longer than this
  // document lives. Objects of this document would keep it in memory, or break with its end in old
  // browsers.
  function copyForParent(event) {
    var copy = new window.parent.Object();
    for (var name in event) {
      copy[name] = event[name];
    }
    copy.topics = new window.parent.Array();
    for (var i = 0; i < event.topics.length; i++) {
      copy.topics.push(event.topics[i]);
    }
    return copy;
  }

  // Reports an error of the page's function. It must not end the stream, but its author should see
  // it, if possible among the page's other errors.
  function report(error) {
    if (window.parent.reportError) {
      window.parent.reportError(error);
    } else {
      setTimeout(function () { throw error; }, 0);
    }
  }

  function handOn(event) {
    if (isTop) {
      return true;
    }
    if (options.origin) {
      window.parent.postMessage({ tidegate: "event", event: event }, options.origin);
      return true;
    }
    var receive = callback();
    if (!receive) {
      return false;
    }
    try {
      receive(copyForParent(event));
    } catch (error) {
      report(error);
    }
    return true;
  }

  // Reports a state to the parent page; status and detail only of a refusal.
  function tell(state, status, detail) {
    if (!isTop && options.origin) {
      var message = { tidegate: "state", state: state, cursor: delivered || undefined };
      if (status) {
        message.status = status;
        message.detail = detail;
      }
      window.parent.postMessage(message, options.origin);
    }
  }

  function handOnWaiting() {
    while (waiting.length > 0 && handOn(waiting[0].event)) {
      delivered = waiting.shift().cursor;
    }
  }

  function receive(event, cursor) {
    waiting.push({ event: event, cursor: cursor });
    handOnWaiting();
  }

  // Empties the document: removes the calling script, and the line end after the previous one.
  function clean() {
    var body = document.body;
    while (body && body.firstChild) {
      body.removeChild(body.firstChild);
    }
  }

  window.tidegate = function (argument) {
    clean();
    heard = now();
    if (isOver) {
      return;
    }
    if (argument.event) {
      receive(argument.event, argument.cursor);
    } else if (argument.heartbeat) {
      handOnWaiting();
      if (waiting.length === 0) {
        delivered = argument.cursor;
        if (options.heartbeats) {
          handOn({ id: delivered, type: "tidegate.heartbeat", data: "", topics: [], retry: null, time: null });
        }
      }
      tell("open");
    } else if (argument.refused) {
      isOver = true;
      giveUp(argument.refused.status, argument.refused.detail);
    } else if (argument.end) {
      if (typeof argument.retry === "number") {
        retry = argument.retry;
      }
      // A document that is only replaced need not wait.
      goOn(argument.end === "recycled" || argument.end === "lifetime" ? 0 : retry);
    }
  };

  // Abandons this connection, and starts to look for the next one.
  function goOn(delay) {
    isOver = true;
    tell("waiting");
    setTimeout(probe, delay);
  }

  function probe() {
    if (waiting.length > 0) {
      // A new document would get the same events, and could not pass them on either.
      setTimeout(probe, LOOK);
      return;
    }
    var request = new XMLHttpRequest();
    var isAnswered = false;
    function answered(status) {
      isAnswered = true;
      if (status === 200) {
        replace();
      } else if (isRefusal(status)) {
        giveUp(status);
      } else {
        again();
      }
    }
    request.onreadystatechange = function () {
      if (request.readyState === 4 && !isAnswered) {
        answered(request.status);
      }
    };
    request.open("HEAD", address(), true);
    request.send(null);
    setTimeout(function () {
      if (!isAnswered) {
        answered(0);
        request.abort();
      }
    }, PATIENCE);
  }

  function giveUp(status, detail) {
    tell("refused", status, detail);
    if (window.console && console.error) {
      var reason = detail ? ": " + detail : "";
      console.error("tidegate: the gateway refuses " + location.pathname + " with status " + status + reason);
    }
  }

  // Whether the same request will get the same answer again: a client error that time does not
  // mend.
  function isRefusal(status) {
    var isTimely = status === 408 || status === 425 || status === 429;
    return status >= 400 && status < 500 && !isTimely;
  }

  function again() {
    var first = Math.max(retry, SHORTEST_WAIT);
    attempts += 1;
    var wait = Math.min(first * Math.pow(2, attempts), Math.max(first, LONGEST_WAIT));
    setTimeout(probe, wait / 2 + Math.random() * wait / 2);
  }

  // Loads the next document. This one lives until the first bytes of the next arrive, and retries
  // if they do not.
  function replace() {
    location.replace(address());
    setTimeout(function () {
      stopLoading();
      again();
    }, PATIENCE);
  }

  function address() {
    var cursor = delivered ? "&last_event_id=" + encodeURIComponent(delivered) : "";
    return location.pathname + "?" + options.query + cursor;
  }

  // Stops the connection of this document, or the request for the next one. It must not be called
  // during a probe, which it would stop as well.
  function stopLoading() {
    if (window.stop) {
      window.stop();
    }
  }

  // Notices what no script element reports: a cut connection, a dead one, and a parent that has
  // defined its function at last. The size limit of documents bounds the events that wait for it.
  setInterval(function () {
    handOnWaiting();
    if (isOver) {
      return;
    }
    var isCut = document.readyState === "complete";
    var isSilent = now() - heard > options.silence;
    if (isCut || isSilent) {
      stopLoading();
      goOn(retry * (0.5 + Math.random()));
    }
  }, LOOK);

  // A document in the place of a refusal was never open. It has nothing to resume after.
  if (options.cursor) {
    tell("open");
  }
}
