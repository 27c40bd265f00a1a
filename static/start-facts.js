// What the gateway counts, as far as this page may read it.

const EVERY = 5000; // ms
const SOON = 500; // ms after a pane has opened or ended its connection until the gateway has counted that

const facts = document.getElementById("facts");

function show(name, text) {
  facts.querySelector(`[data-fact="${name}"]`).textContent = text;
}

// Returns the samples of a metric as [labels, value].
function samples(text, name) {
  const lines = text.split("\n").filter((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`));
  return lines.map((line) => {
    const [, labels, value] = /^\w+(\{.*\})? (\S+)/.exec(line);
    return [labels ?? "", Number(value)];
  });
}

function sum(samples) {
  return samples.reduce((all, [, value]) => all + value, 0);
}

async function look() {
  if (document.hidden) {
    return;
  }
  try {
    const response = await fetch("metrics", { signal: AbortSignal.timeout(EVERY) });
    if (!response.ok) {
      ["subscribers", "updates", "refused"].forEach((name) => show(name, `not shown: status ${response.status}`));
      return;
    }
    const text = await response.text();
    const subscribers = samples(text, "tidegate_subscribers");
    const each = subscribers.map(([labels, value]) => `${/transport="(\w+)"/.exec(labels)?.[1]} ${value}`);
    show("subscribers", `${sum(subscribers)} (${each.join(", ")})`);
    show("updates", sum(samples(text, "tidegate_updates_total")));
    show("refused", sum(samples(text, "tidegate_requests_refused_total")));
  } catch {
    ["subscribers", "updates", "refused"].forEach((name) => show(name, "the gateway cannot be reached"));
  }
}

export function showFacts() {
  if (facts.dataset.metrics === "true") {
    let soon;
    look();
    setInterval(look, EVERY);
    addEventListener("told", () => {
      clearTimeout(soon);
      soon = setTimeout(look, SOON);
    });
  }
}
