// The question of a job: its form comes with the page, and with a new question from the page's
// address, so that the gateway alone draws it. What was typed stays as long as its question does.

import { deadline } from "./connection.js";

const TIMEOUT = 10_000; // ms for a request
const AGAIN = 2000; // ms after which a form that could not be fetched is fetched again
const UNSENT = "The gateway does not answer; your answer was not sent. Try again.";

export class Questions {
  // `address` is that of the job; `take` takes the status document in the reply to an answer, and
  // `check` requests it.
  constructor(address, take, check) {
    this.address = address;
    this.take = take;
    this.check = check;
    this.wanted = this.key;
    this.isFetching = false;
    this.bind();
  }

  get section() {
    return document.getElementById("question");
  }

  get key() {
    return this.section.dataset.key;
  }

  // Whether the page has a form that a reload would empty.
  get isOpen() {
    return document.getElementById("answer") !== null;
  }

  // Draws the question and the answers of a status document, unless they are drawn already.
  async expect({ question, answers }) {
    this.wanted = `${question?.ask ?? ""} ${answers.length}`;
    if (this.isFetching) {
      return;
    }
    this.isFetching = true;
    while (this.key !== this.wanted) {
      const wanted = this.wanted;
      if (!question && this.isOpen) {
        // Nothing can be answered any more, whether or not the gateway answers.
        document.getElementById("answer").inert = true;
      }
      if (!(await this.fetch()) && wanted === this.wanted) {
        await new Promise((resolve) => setTimeout(resolve, AGAIN));
      }
    }
    this.isFetching = false;
  }

  // Stops asking for a form.
  stop() {
    this.wanted = this.key;
  }

  // Replaces both parts with those of the page as the gateway draws it now.
  async fetch() {
    try {
      const signal = deadline(new AbortController().signal, TIMEOUT);
      const response = await fetch(`${this.address}?page`, { headers: { accept: "text/html" }, signal });
      if (!response.ok) {
        return false;
      }
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      const next = page.getElementById("question");
      const isNews = next !== null && next.dataset.key !== this.key;
      if (isNews) {
        for (const id of ["question", "answers"]) {
          document.getElementById(id).replaceWith(document.adoptNode(page.getElementById(id)));
        }
        this.bind();
      }
      return isNews;
    } catch {
      return false;
    }
  }

  bind() {
    const form = document.getElementById("answer");
    form?.addEventListener("submit", (event) => {
      event.preventDefault();
      this.send(form, event.submitter);
    });
  }

  async send(form, button) {
    const values = new URLSearchParams(new FormData(form));
    if (button?.name) {
      values.append(button.name, button.value);
    }
    const buttons = [...form.querySelectorAll("button")];
    buttons.forEach((it) => { it.disabled = true; });
    this.tell(form, "");
    try {
      const signal = deadline(new AbortController().signal, TIMEOUT);
      const response = await fetch(form.action, { method: "POST", headers: { accept: "application/json" }, body: values, signal });
      const reply = await response.json();
      if (response.ok) {
        this.mark(form, []);
        this.take(reply);
      } else if (response.status === 400) {
        this.mark(form, reply.errors ?? []);
        this.tell(form, reply.errors ? "" : reply.detail);
      } else {
        this.tell(form, reply.detail);
        await this.check();
      }
    } catch {
      this.tell(form, UNSENT);
    } finally {
      buttons.forEach((it) => { it.disabled = false; });
    }
  }

  tell(form, text) {
    form.querySelector("#answer-told").textContent = text;
  }

  // Shows what is wrong beside the fields, and goes to the first of them.
  mark(form, errors) {
    let first;
    for (const place of form.querySelectorAll(".wrong")) {
      const wrong = errors.find(({ field }) => field === place.dataset.field);
      place.hidden = !wrong;
      place.textContent = wrong?.detail ?? "";
      for (const input of form.elements) {
        if (input.name === place.dataset.field) {
          input.setAttribute("aria-invalid", Boolean(wrong));
          first ??= wrong && input;
        }
      }
    }
    first?.focus();
  }
}
