// The log of a job. Pieces are joined by their offsets in bytes, and the newest lines are shown, in
// the colours that the worker gave them. Each line has an address: the offset at which it begins.

import { Ansi } from "./job-ansi.js";

const SHOWN_LINES = 1000;
const LONGEST_LINE = 4096; // characters, after which a line is split
const TOLD = 2000; // ms that the copy button says that it has copied

const bytesOf = (text) => new TextEncoder().encode(text).length;

export class Log {
  // `end` is the offset after the text that the page already contains.
  constructor(pre, address, end) {
    this.pre = pre;
    this.address = address;
    this.end = end;
    this.length = end; // the length of the log, as far as is known
    this.isFetching = false;
    this.ansi = new Ansi();
    this.last = null; // the line that may go on
    this.linked = Number(/^#o(\d{1,16})$/.exec(location.hash)?.[1] ?? NaN);
    const text = pre.dataset.raw ?? "";
    const start = end - bytesOf(text);
    pre.replaceChildren();
    if (this.linked < start) {
      // The linked line is above the part that came with the page.
      this.end = this.linked;
      this.expect(end);
    } else {
      this.show(text, start);
    }
    addEventListener("hashchange", () => {
      this.linked = Number(/^#o(\d{1,16})$/.exec(location.hash)?.[1] ?? NaN);
      this.mark();
    });
    this.addTools();
  }

  // Adds the text of an event.
  receive({ offset, text }) {
    const bytes = new TextEncoder().encode(text);
    const end = offset + bytes.length;
    if (this.end < offset) {
      this.expect(end);
    } else if (this.end < end) {
      this.show(new TextDecoder().decode(bytes.subarray(this.end - offset)), this.end);
      this.end = end;
      this.length = Math.max(this.length, end);
    }
  }

  // Notes the log's length, and fetches missing text. If that fails, the next call retries.
  async expect(length) {
    this.length = Math.max(this.length, length);
    if (this.isFetching) {
      return;
    }
    this.isFetching = true;
    try {
      while (this.end < this.length) {
        await this.fetch();
      }
    } catch {
      // The check of the status shows that the gateway does not answer.
    } finally {
      this.isFetching = false;
    }
  }

  async fetch() {
    const response = await fetch(`${this.address}?from=${this.end}`);
    if (!response.ok) {
      throw new Error(`the log is answered with ${response.status}`);
    }
    const bytes = new Uint8Array(await response.arrayBuffer());
    const offset = Number(response.headers.get("tidegate-log-offset"));
    const end = offset + bytes.length;
    if (this.end < offset) {
      this.show(`\n[${offset - this.end} bytes are no longer kept]\n`, NaN);
      this.end = offset;
    }
    if (this.end < end) {
      // Events may have brought some of it meanwhile.
      this.show(new TextDecoder().decode(bytes.subarray(this.end - offset)), this.end);
      this.end = end;
    }
    this.length = Math.max(this.end, Number(response.headers.get("tidegate-log-length")));
    if (bytes.length === 0 && this.end < this.length) {
      throw new Error("the log is shorter than it says");
    }
  }

  // Adds text that begins at an offset, or at none if it is not from the log.
  show(text, offset) {
    const isAtEnd = this.pre.scrollHeight - this.pre.scrollTop - this.pre.clientHeight < 8;
    let at = offset;
    const lines = text.match(/[^\n]*\n|[^\n]+/g) ?? [];
    // Lines that would be dropped at once are not made, but their colours go on.
    const skipped = lines.splice(0, Math.max(0, lines.length - SHOWN_LINES));
    for (const line of skipped) {
      this.last = null;
      this.ansi.pieces(line);
      at += bytesOf(line);
    }
    for (const line of lines) {
      for (let from = 0; from < line.length; from += LONGEST_LINE) {
        const part = line.slice(from, from + LONGEST_LINE);
        this.add(part, at);
        at += bytesOf(part);
      }
    }
    while (SHOWN_LINES < this.pre.childNodes.length) {
      this.pre.firstChild.remove();
    }
    if (isAtEnd && Number.isNaN(this.linked)) {
      this.pre.scrollTop = this.pre.scrollHeight;
    }
    this.mark();
  }

  add(text, offset) {
    const { last } = this;
    if (last && !last.text.endsWith("\n") && last.text.length + text.length <= LONGEST_LINE) {
      last.text += text;
    } else {
      const element = document.createElement("span");
      element.className = "line";
      if (!Number.isNaN(offset)) {
        element.id = `o${offset}`;
      }
      this.last = { element, text, offset, style: this.ansi.style };
      this.pre.append(element);
    }
    this.draw(this.last);
  }

  // Draws a line anew: an escape sequence may have been cut in two.
  draw({ element, text, offset, style }) {
    this.ansi.style = style;
    const parts = this.ansi.pieces(text).map(({ text: part, names }) => {
      if (names.length === 0) {
        return part;
      }
      const span = document.createElement("span");
      span.className = names.join(" ");
      span.textContent = part;
      return span;
    });
    if (!Number.isNaN(offset)) {
      const link = document.createElement("a");
      link.className = "at";
      link.href = `#o${offset}`;
      link.tabIndex = -1;
      link.setAttribute("aria-label", `Link to the line at byte ${offset}`);
      parts.unshift(link);
    }
    element.replaceChildren(...parts);
  }

  // Shows the line that the address names.
  mark() {
    const line = Number.isNaN(this.linked) ? null : document.getElementById(`o${this.linked}`);
    if (line && !line.classList.contains("linked")) {
      this.pre.querySelector(".linked")?.classList.remove("linked");
      line.classList.add("linked");
      line.scrollIntoView({ block: "center" });
    }
  }

  addTools() {
    const [wrap, copy] = ["log-wrap", "log-copy"].map((id) => document.getElementById(id));
    wrap.hidden = false;
    copy.hidden = false;
    wrap.addEventListener("click", () => {
      const isWrapped = this.pre.classList.toggle("unwrapped") === false;
      wrap.setAttribute("aria-pressed", isWrapped);
    });
    copy.addEventListener("click", async () => {
      const before = copy.textContent;
      try {
        await navigator.clipboard.writeText(this.pre.textContent);
        copy.textContent = copy.dataset.done;
      } catch {
        // Not allowed here, for example over plain HTTP. Selected, it can be copied by hand.
        getSelection().selectAllChildren(this.pre);
        copy.textContent = copy.dataset.selected;
      }
      setTimeout(() => { copy.textContent = before; }, TOLD);
    });
  }
}
