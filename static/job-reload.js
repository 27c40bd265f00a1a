// For browsers with scripts but no modules: job.js does not run and <noscript> does not apply
// there.
setTimeout(function () {
  var job = document.getElementById("job");
  var states = JSON.parse(job.getAttribute("data-states"));
  if (!states[job.getAttribute("data-state")].is_final) {
    location.reload();
  }
}, 3000);
