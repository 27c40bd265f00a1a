// For pages that run in browsers of 2010: events over the forever iframe, or over long polls by
// JSONP or XMLHttpRequest. ES5, and no other file is needed.
//
// tidegateLegacy(base, query, listener, how) delivers events such as {id, type, data, topics}. `query`
// is that of a subscription, such as "topic=news". `how` is "iframe" (the default; the page has to
// come from the gateway's own origin), "xhr" or "jsonp" (needs poll.jsonp). Returns a function that
// ends it. Iframes resume by themselves.
var tidegateLegacy = (function () {
  "use strict";
  var RETRY = 3000; // ms between a failed poll and the next
  var SILENCE = 65000; // ms after which a poll counts as lost
  var count = 0;

  function iframe(base, query, name) {
    var frame = document.createElement("iframe");
    frame.style.display = "none";
    frame.src = base + "iframe?" + query + "&callback=" + name;
    document.body.appendChild(frame);
    return function () { document.body.removeChild(frame); };
  }

  // `request` asks an address, and calls back with a reply or nothing.
  function poll(base, query, name, request) {
    var isOver = false;
    var next = "poll?" + query + "&wait=0";
    function ask() {
      var isAnswered = false;
      function answered(reply) {
        if (isAnswered || isOver) { return; }
        isAnswered = true;
        clearTimeout(timer);
        if (!reply) { setTimeout(ask, RETRY); return; }
        for (var i = 0; i < reply.events.length; i++) { window[name](reply.events[i]); }
        // Only its parameters: a proxy may have hidden the address that the page uses. A reply
        // repeats `wait`, which only the first poll needs.
        next = "poll" + reply.next.replace(/^[^?]*/, "").replace(/([?&])(wait|callback)=[^&]*&?/g, "$1");
        setTimeout(ask, 0);
      }
      var timer = setTimeout(answered, SILENCE);
      request(base + next, answered);
    }
    ask();
    return function () { isOver = true; };
  }

  function byXhr(address, answered) {
    var request = new XMLHttpRequest();
    request.onreadystatechange = function () {
      if (request.readyState === 4) {
        answered(request.status === 200 ? JSON.parse(request.responseText) : undefined);
      }
    };
    request.open("GET", address, true);
    request.send(null);
  }

  function byScript(address, answered) {
    var script = document.createElement("script");
    var name = "tidegateReply" + (count += 1);
    function done(reply) {
      window[name] = function () {};
      if (script.parentNode) { script.parentNode.removeChild(script); }
      answered(reply);
    }
    window[name] = done;
    script.onerror = function () { done(); };
    script.src = address + "&callback=" + name;
    document.getElementsByTagName("head")[0].appendChild(script);
  }

  return function (base, query, listener, how) {
    var name = "tidegateEvent" + (count += 1);
    var start = how === "xhr" || how === "jsonp" ? poll : iframe;
    window[name] = listener;
    return start(base, query, name, how === "jsonp" ? byScript : byXhr);
  };
}());
