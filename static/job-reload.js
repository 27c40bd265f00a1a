// For browsers that know scripts but not modules: neither does job.js run there nor does <noscript> count.
setTimeout(function () {
  var state = document.getElementById("job").getAttribute("data-state");
  if (/^(queued|running|cancelling)$/.test(state)) {
    location.reload();
  }
}, 3000);
