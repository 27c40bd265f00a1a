// The curl commands of the start page, which follow what its forms contain.

import { token } from "./start-token.js";

const BACKLOG = 10;

// Quotes a word for a POSIX shell, if it needs that.
function quoted(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

function commands(base, { topic, type, data, isPrivate }, heard) {
  const authorized = token() === "" ? "" : ` -H "Authorization: Bearer $TOKEN"`;
  const fields = [["topic", topic], ["data", data]];
  if (type) {
    fields.push(["type", type]);
  }
  if (isPrivate) {
    fields.push(["private", "on"]);
  }
  // curl encodes only what follows the first `=`.
  const form = fields.map(([name, value]) =>
    /^[\w.-]*$/.test(value) ? `-d ${name}=${value}` : `--data-urlencode ${quoted(`${name}=${value}`)}`);
  const json = { topics: [topic], data: parsed(data), ...(type && { type }), ...(isPrivate && { private: true }) };
  const events = quoted(`${base}/events`);
  const query = new URLSearchParams({ topic: heard, last: BACKLOG });
  return {
    form: `curl ${events}${authorized} ${form.join(" ")}`,
    json: `curl ${events}${authorized} -H 'Content-Type: application/json' -d ${quoted(JSON.stringify(json))}`,
    stream: `curl -N ${quoted(`${base}/events?${query}`)}${authorized}`,
    polled: `curl ${quoted(`${base}/poll?${query}`)}${authorized}`,
  };
}

// Data that is an object or an array in JSON needs no quotes.
function parsed(data) {
  try {
    const value = JSON.parse(data);
    return typeof value === "object" ? value : data;
  } catch {
    return data;
  }
}

export function showCommands() {
  const { topic, type, data, private: isPrivate } = document.forms.publish.elements;
  const update = { topic: topic.value, type: type.value, data: data.value, isPrivate: isPrivate.checked };
  const base = new URL(".", location.href).href.replace(/\/$/, "");
  const heard = document.forms.listen.elements.topic.value;
  for (const [name, command] of Object.entries(commands(base, update, heard))) {
    document.getElementById(`curl-${name}`).textContent = command;
  }
  document.getElementById("curl-token").hidden = token() === "";
}

export function offerCopies() {
  for (const button of document.querySelectorAll("[data-copies]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const isCopied = await copy(document.getElementById(button.dataset.copies));
      button.textContent = isCopied ? "Copied" : "Selected";
      setTimeout(() => (button.textContent = "Copy"), 2000);
    });
  }
}

// Copies an element's text. Without HTTPS a page has no clipboard, so the text is selected too.
async function copy(source) {
  try {
    await navigator.clipboard.writeText(source.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(source);
    return document.execCommand("copy");
  }
}
