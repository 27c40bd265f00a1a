// What every listening page needs in order to recover.

const MAX_WAIT = 8000; // ms between two attempts at most

// Returns the ms before the next attempt. They grow with each failure and are random, so that a
// gateway that comes back is not overrun.
export function backOff(failures) {
  const longest = Math.min(MAX_WAIT, 500 * 2 ** failures);
  return longest / 2 + (Math.random() * longest) / 2;
}

// Whether the frame shows something other than the gateway's document or the blank one before it.
export function isForeign(frame) {
  const page = frame.contentDocument; // null for the browser's error page
  const isLoaded = page?.readyState === "complete" && page.URL !== "about:blank";
  return !page || (isLoaded && !frame.contentWindow.tidegate);
}

// Returns a signal that aborts with `signal` or after `delay` ms. AbortSignal.any is too new for
// some browsers.
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
