// For browsers with scripts but no modules: job.js does not run and <noscript> does not apply
// there.
setTimeout(function () {
  var state = document.getElementById("job").getAttribute("data-state");
  if (/^(queued|running|cancelling)$/.test(state)) {
    location.reload();
  }
}, 3000);
