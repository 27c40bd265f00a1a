// The log of a job. Pieces are joined by their offsets in bytes, and the newest lines are shown.

const SHOWN_LINES = 1000;
const LONGEST_LINE = 4096; // characters, after which a line is split

export class Log {
  // `end` is the offset after the text that the page already contains.
  constructor(pre, address, end) {
    this.pre = pre;
    this.address = address;
    this.end = end;
    this.length = end; // the length of the log, as far as is known
    this.isFetching = false;
    const text = pre.textContent;
    pre.replaceChildren();
    this.show(text);
  }

  // Adds the text of an event.
  receive({ offset, text }) {
    const bytes = new TextEncoder().encode(text);
    const end = offset + bytes.length;
    if (this.end < offset) {
      this.expect(end);
    } else if (this.end < end) {
      this.show(new TextDecoder().decode(bytes.subarray(this.end - offset)));
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
      this.show(`\n[${offset - this.end} bytes are no longer kept]\n`);
      this.end = offset;
    }
    if (this.end < end) {
      // Events may have brought some of it meanwhile.
      this.show(new TextDecoder().decode(bytes.subarray(this.end - offset)));
      this.end = end;
    }
    this.length = Math.max(this.end, Number(response.headers.get("tidegate-log-length")));
    if (bytes.length === 0 && this.end < this.length) {
      throw new Error("the log is shorter than it says");
    }
  }

  show(text) {
    const isAtEnd = this.pre.scrollHeight - this.pre.scrollTop - this.pre.clientHeight < 8;
    // Lines that would be dropped at once are not made.
    const lines = text.match(/[^\n]*\n|[^\n]+/g) ?? [];
    for (const line of lines.slice(-SHOWN_LINES)) {
      const last = this.pre.lastChild;
      if (last && !last.data.endsWith("\n") && last.data.length + line.length <= LONGEST_LINE) {
        last.appendData(line);
      } else {
        this.append(line);
      }
    }
    while (SHOWN_LINES < this.pre.childNodes.length) {
      this.pre.firstChild.remove();
    }
    if (isAtEnd) {
      this.pre.scrollTop = this.pre.scrollHeight;
    }
  }

  append(line) {
    for (let from = 0; from < line.length; from += LONGEST_LINE) {
      this.pre.append(line.slice(from, from + LONGEST_LINE));
    }
  }
}
