// What every page that listens needs in order to recover.

const MAX_WAIT = 8000; // ms between two attempts at most

// The time before the next attempt: longer from failure to failure, and different for everybody, so that a gateway
// that comes back is not overrun.
export function backOff(failures) {
  const longest = Math.min(MAX_WAIT, 500 * 2 ** failures);
  return longest / 2 + (Math.random() * longest) / 2;
}

// Whether the frame shows something else than the gateway's document or the blank one before it.
export function isForeign(frame) {
  const page = frame.contentDocument; // null for the browser's error page
  const isLoaded = page?.readyState === "complete" && page.URL !== "about:blank";
  return !page || (isLoaded && !frame.contentWindow.tidegate);
}

// A signal that aborts with another or after a time; AbortSignal.any is too new for some browsers.
export function deadline(signal, delay) {
  const controller = new AbortController();
  const abort = () => controller.abort();
  const timer = setTimeout(abort, delay);
  signal.addEventListener("abort", abort, { signal: controller.signal });
  if (signal.aborted) {
    abort();
  }
  controller.signal.addEventListener("abort", () => clearTimeout(timer));
  return controller.signal;
}
