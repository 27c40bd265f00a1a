// The document's side of the forever iframe, in the JavaScript of 2009, for that is who needs it.
//
// The server appends script elements that call tidegate() with one argument: {event, cursor}, {heartbeat, cursor} or
// {end, retry, cursor}. Events are handed on to the parent page. When the document ends, is cut off or falls silent,
// it asks the server whether it is there, and only then replaces itself by a new document that goes on from its
// cursor: a dead server must not leave the browser's error page in the frame.
//
// options: callback or origin (to whom events go), heartbeats (hand those on too), query (of the new document),
// cursor (to go on from), silence (ms after which the connection counts as dead), retry (ms before the first probe).
function startTidegate(options) {
  "use strict";

  var MAX_WAIT = 30000;
  var isTop = window.parent === window;
  var delivered = options.cursor; // everything up to here is with the parent
  var waiting = []; // events that came before the parent defined its function
  var heard = new Date().getTime();
  var isOver = false;
  var attempts = 0;
  var retry = options.retry;

  function address(cursor) {
    return location.pathname + "?" + options.query + "&last_event_id=" + encodeURIComponent(cursor);
  }

  // The function in the parent page that options.callback names, or null while there is none.
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
      receive(event);
    } catch (error) {
      // The page's mistake must not end the stream, but its author should see it.
      setTimeout(function () { throw error; }, 0);
    }
    return true;
  }

  function tell(state) {
    if (!isTop && options.origin) {
      window.parent.postMessage({ tidegate: "state", state: state, cursor: delivered }, options.origin);
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

  // Leaves nothing behind in the document: not the script that calls, not the line end after the one before it.
  function clean() {
    var body = document.body;
    while (body && body.firstChild) {
      body.removeChild(body.firstChild);
    }
  }

  window.tidegate = function (argument) {
    clean();
    heard = new Date().getTime();
    if (isOver) {
      return;
    }
    if (argument.event) {
      receive(argument.event, argument.cursor);
    } else if (argument.heartbeat) {
      if (waiting.length === 0) {
        delivered = argument.cursor;
      }
      if (options.heartbeats) {
        handOn({
          id: argument.cursor, type: "tidegate.heartbeat", data: "", topics: [], retry: null
        });
      }
      tell("open");
    } else if (argument.end) {
      if (typeof argument.retry === "number") {
        retry = argument.retry;
      }
      // A document that is only replaced need not wait.
      goOn(argument.end === "recycled" || argument.end === "lifetime" ? 0 : retry);
    }
  };

  function goOn(delay) {
    if (isOver) {
      return;
    }
    isOver = true;
    tell("waiting");
    setTimeout(probe, delay);
  }

  function again() {
    attempts += 1;
    var longest = Math.min(MAX_WAIT, retry * Math.pow(2, Math.min(attempts, 6)));
    setTimeout(probe, longest / 2 + Math.random() * longest / 2);
  }

  function probe() {
    handOnWaiting();
    var target = address(delivered);
    var request = new XMLHttpRequest();
    var isAnswered = false;
    function answered(ok) {
      if (isAnswered) {
        return;
      }
      isAnswered = true;
      if (ok) {
        location.replace(target);
      } else {
        again();
      }
    }
    request.onreadystatechange = function () {
      if (request.readyState === 4) {
        answered(request.status === 200);
      }
    };
    request.open("HEAD", target, true);
    request.send(null);
    setTimeout(function () {
      if (!isAnswered) {
        answered(false);
        request.abort();
      }
    }, 10000);
  }

  // Sees what no script element tells: the end of a connection that was cut, one that is open but dead, and a parent
  // that has defined its function at last.
  setInterval(function () {
    handOnWaiting();
    var isCut = document.readyState === "complete";
    var isSilent = new Date().getTime() - heard > options.silence;
    if (isCut || isSilent) {
      if (isSilent && window.stop) {
        window.stop();
      }
      goOn(retry * (0.5 + Math.random()));
    }
  }, 500);

  tell("open");
}
