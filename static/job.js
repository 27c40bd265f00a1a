// Draws each status document of a job as the gateway drew the first, and moves on to the result.
//
// `?via=sse`, `?via=iframe`, `?via=poll` and `?via=reload` start with that transport.

import { deadline } from "./connection.js";
import { Log } from "./job-log.js";
import { Questions } from "./job-question.js";
import { listenByEventSource, listenByIframe, listenByPoll, listenSlowly, reload } from "./job-transports.js";

const AWAY = "The gateway does not answer; trying again…";
const SHOWN_DONE = 900; // ms that the full bar is shown before the result
const LATE_LOG = [1000, 5000, 30_000]; // ms after the end, to check for late lines
const TIMEOUT = 10_000; // ms for a request, besides the time it may wait
const PLACE_PAUSE = 3000; // ms between two looks at the place in the queue
const OVERDUE = -10; // seconds left at which a wrong estimate is no longer shown

const query = new URLSearchParams(location.search);
const part = (id) => document.getElementById(id);
const main = part("job");
// After an answer that was refused before scripts ran, the page has another address.
const address = new URL(main.dataset.address, location.href).href.split(/[?#]/)[0];
const STATES = JSON.parse(main.dataset.states);
let job = JSON.parse(main.dataset.status);
let isKnown = true; // whether the gateway knows the job
let bar = { attempt: job.attempt, percent: null }; // the progress shown for this attempt
let estimate = { seconds: null, at: 0 };
let skew = -Infinity; // ms by which the gateway's clock is ahead of this one

const log = new Log(part("log"), `${address}/log`, job.log.length);
const questions = new Questions(address, take, () => check());

// === Words: those of states come with the page, the others are as in src/api/jobs/words.rs ===

const isFinal = (state) => STATES[state]?.is_final ?? false;
const isCancellable = (state) => STATES[state]?.is_cancellable ?? false;

function stateInWords({ state, attempt }) {
  return STATES[state]?.words[attempt === 0 ? 0 : 1] ?? state;
}

function durationInWords(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const [minutes, hours, days] = [60, 3600, 86_400].map((unit) => Math.floor(seconds / unit));
  const two = (number) => String(number).padStart(2, "0");
  if (seconds < 60) {
    return `${seconds} s`;
  }
  if (minutes < 60) {
    return `${minutes} min ${two(seconds % 60)} s`;
  }
  return hours < 24 ? `${hours} h ${two(minutes % 60)} min` : `${days} d ${two(hours % 24)} h`;
}

function estimateInWords(seconds) {
  const about = (count, unit) => `about ${count} ${unit}${count === 1 ? "" : "s"} left`;
  if (seconds < 10) {
    return "a few seconds left";
  }
  if (seconds < 55) {
    return about(Math.round(seconds / 10) * 10, "second");
  }
  if (seconds < 3570) {
    return about(Math.round(seconds / 60), "minute");
  }
  return seconds < 84_600 ? about(Math.round(seconds / 3600), "hour") : about(Math.round(seconds / 86_400), "day");
}

// === Drawing ===

// Sets a text only if it differs: screen readers would read the same text again.
function write(id, text) {
  const element = part(id);
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

function tell(text) {
  write("connection", text);
}

function draw() {
  const { state, attempt, progress } = job;
  main.dataset.state = state;
  write("title", job.title);
  write("state", stateInWords(job));
  write("stage", progress.stage ?? "");
  write("message", progress.message ?? "");
  write("attempt", `${attempt} of ${job.max_attempts}`);
  part("attempts").hidden = attempt < 2;
  part("cancel").hidden = !isCancellable(state);
  part("retry").hidden = !job.retryable;
  part("result").hidden = state !== "succeeded" || !job.link;
  part("log-section").hidden = job.log.length === 0;
  drawBar(state === "succeeded" ? 100 : progress.percent);
  if (state !== "queued") {
    write("place", "");
  }
  drawError(state === "cancelled" ? null : job.error);
  drawTimes();
}

function drawBar(percent) {
  const isSame = bar.attempt === job.attempt && job.state !== "queued";
  const before = isSame ? bar.percent : null;
  bar = { attempt: job.attempt, percent: percent === null ? before : Math.max(before ?? 0, Math.floor(percent)) };
  const element = part("bar");
  if (bar.percent === null) {
    element.removeAttribute("value");
    element.removeAttribute("aria-valuenow");
  } else {
    element.value = bar.percent;
    element.setAttribute("aria-valuenow", bar.percent);
  }
  write("percent", bar.percent === null ? "" : `${bar.percent} %`);
  document.title = documentTitle();
  drawIcon();
}

// As in src/api/jobs/words.rs.
function drawIcon() {
  const isMoving = job.state === "running" || job.state === "cancelling";
  let name = "icon.svg";
  if (job.state === "waiting") {
    name = "icon-waiting.svg";
  } else if (job.state === "succeeded") {
    name = "icon-100.svg";
  } else if (isMoving && bar.percent !== null) {
    name = `icon-${Math.floor(bar.percent / 5) * 5}.svg`;
  }
  const element = part("icon");
  const { href } = new URL(name, element.href);
  if (element.href !== href) {
    element.href = href;
  }
}

function documentTitle() {
  if (isFinal(job.state)) {
    const sign = { succeeded: "✓", cancelled: "⊘" }[job.state] ?? "✗";
    return `${sign} ${job.title}`;
  }
  if (job.state === "waiting") {
    return `❓ ${job.title}`;
  }
  return bar.percent === null || job.state === "queued" ? job.title : `${bar.percent} % ${job.title}`;
}

function drawError(problem) {
  part("error").hidden = !problem;
  const text = (value) => (typeof value === "string" ? value : "");
  write("error-title", problem ? text(problem.title) || "The job failed" : "");
  write("error-detail", problem ? text(problem.detail) : "");
  write("error-document", problem ? JSON.stringify(problem, null, 2) : "");
}

// Draws the times by the gateway's clock. A timer calls this every second.
function drawTimes() {
  const { state, attempt } = job;
  const end = job.ended_at ? Date.parse(job.ended_at) : Date.now() + skew;
  const start = Date.parse((state !== "queued" && job.started_at) || job.created_at);
  const time = durationInWords(end - start);
  if (state === "queued") {
    write("time-name", attempt === 0 ? "Waiting for" : "Created");
    write("time", attempt === 0 ? time : `${time} ago`);
  } else {
    write("time-name", !isFinal(state) ? "Running for" : job.started_at ? "Took" : "Waited for");
    write("time", time);
  }
  const left = state === "running" && estimate.seconds !== null
    ? estimate.seconds - (performance.now() - estimate.at) / 1000
    : OVERDUE;
  part("left").hidden = left <= OVERDUE;
  if (OVERDUE < left) {
    write("estimate", estimateInWords(left));
  }
}

// The place in the queue changes without the job, so it is asked for.
async function drawPlace() {
  if (job.state !== "queued" || !isKnown) {
    write("place", "");
    return;
  }
  if (document.hidden) {
    return;
  }
  try {
    const response = await fetch(`${address}/place`, { signal: deadline(new AbortController().signal, TIMEOUT) });
    const place = await response.json();
    write("place", response.ok && place && job.state === "queued" ? placeInWords(place) : "");
  } catch {
    // The check of the status shows that the gateway does not answer.
  }
}

function placeInWords({ ahead, has_worker }) {
  const jobs = ahead === 1 ? "1 job is" : `${ahead} jobs are`;
  const text = ahead === 0 ? "It is the next one." : `${jobs} ahead of it.`;
  return has_worker ? text : `${text} No worker is there at the moment.`;
}

// === Changes ===

function take(next) {
  if (!isKnown || next.version < job.version) {
    return;
  }
  const wasFinal = isFinal(job.state);
  if (next.progress.estimate_seconds !== estimate.seconds || next.attempt !== job.attempt) {
    estimate = { seconds: next.progress.estimate_seconds, at: performance.now() };
  }
  job = next;
  // A delayed document holds an older time, so the largest difference is the most exact.
  skew = Math.max(skew, Date.parse(job.now) - Date.now());
  draw();
  log.expect(job.log.length);
  questions.expect(job);
  if (isFinal(job.state)) {
    if (!wasFinal) {
      end();
    }
  } else if (wasFinal) {
    part("result-section").hidden = true;
    listen();
  }
}

function end() {
  listening.abort();
  if (job.state === "succeeded" && !job.link) {
    showResult();
  }
  if (job.state === "succeeded" && job.link && !query.has("page")) {
    tell("Going on to the result…");
    setTimeout(() => location.replace(`${address}/result`), SHOWN_DONE);
    return;
  }
  // Workers may send their last lines after the end.
  for (const delay of LATE_LOG) {
    setTimeout(() => log.expect(log.length + 1), delay);
  }
}

// Shows a result that is no link: a text as it is, and other JSON with line breaks.
async function showResult() {
  try {
    const response = await fetch(`${address}/result`, { signal: deadline(new AbortController().signal, TIMEOUT) });
    const result = await response.json();
    if (response.ok) {
      write("result-text", typeof result === "string" ? result : JSON.stringify(result, null, 2));
      part("result-section").hidden = false;
    }
  } catch {
    // The link to the result remains.
    part("result").hidden = false;
  }
}

function forget() {
  isKnown = false;
  questions.stop();
  listening.abort();
  clearInterval(ticking);
  main.dataset.state = "unknown";
  document.title = `? ${job.title}`;
  write("state", "The gateway no longer knows this job");
  tell("It was restarted, or has forgotten the job some time after its end. What is shown is the last that was heard.");
  ["cancel", "retry", "result", "left"].forEach((id) => { part(id).hidden = true; });
}

// Requests the status document.
async function check(wait = 0, signal = listening.signal) {
  try {
    const headers = { accept: "application/json", "if-none-match": `"v${job.version}"`, prefer: `wait=${wait}` };
    const response = await fetch(address, { headers, signal: deadline(signal, wait * 1000 + TIMEOUT) });
    const type = response.headers.get("content-type") ?? "";
    if (response.ok && !type.startsWith("application/json")) {
      return "odd";
    }
    if (response.status === 404 || response.status === 410) {
      forget();
      return "gone";
    }
    const next = response.status === 304 ? undefined : await response.json();
    if (next && !response.ok) {
      throw new Error(next.detail);
    }
    tell("");
    if (next) {
      take(next);
    }
    return next ? "new" : "same";
  } catch {
    if (!signal.aborted) {
      tell(AWAY);
    }
    return "away";
  }
}

async function ask(form) {
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    const headers = { accept: "application/json" };
    const response = await fetch(form.action, { method: "POST", headers });
    const reply = await response.json();
    if (response.ok) {
      tell("");
      take(reply);
    } else if (response.status === 404 || response.status === 410) {
      forget();
    } else {
      await check();
      tell(reply.detail);
    }
  } catch {
    tell("The gateway does not answer; nothing was asked of it.");
  } finally {
    button.disabled = false;
  }
}

// === Listening ===

const transports = [
  ["sse", listenByEventSource],
  ["iframe", listenByIframe],
  ["poll", listenByPoll],
  ["reload", reload],
];
let chosen = Math.max(0, transports.findIndex(([name]) => name === query.get("via")));
let listening = new AbortController();

function listen() {
  listening.abort();
  if (!isKnown || isFinal(job.state)) {
    return;
  }
  listening = new AbortController();
  const { signal } = listening;
  const [name, listenBy] = document.hidden ? ["slow", listenSlowly] : transports[chosen];
  main.dataset.via = name;
  const link = {
    address,
    take,
    log: (piece) => {
      part("log-section").hidden = false;
      log.receive(piece);
    },
    check: (wait) => check(wait, signal),
    mayReload: () => !questions.isOpen,
    giveUp: () => {
      chosen = Math.min(chosen + 1, transports.length - 1);
      listen();
    },
  };
  listenBy(link, signal);
}

for (const form of [part("cancel"), part("retry")]) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask(form);
  });
}
document.addEventListener("visibilitychange", listen);
const ticking = setInterval(drawTimes, 1000);
setInterval(drawPlace, PLACE_PAUSE);

take(job);

// After the load event: the frame never ends, so the page would look as if it still loaded.
if (document.readyState === "complete") {
  setTimeout(listen, 0);
} else {
  addEventListener("load", () => setTimeout(listen, 0));
}
