// For browsers with scripts but no modules: job.js does not run and <noscript> does not apply
// there.
setTimeout(function () {
  var job = document.getElementById("job");
  var states = JSON.parse(job.getAttribute("data-states"));
  var state = job.getAttribute("data-state");
  // A reload would erase what is typed into the form of a question.
  if (!states[state].is_final && state !== "waiting") {
    location.reload();
  }
}, 3000);
