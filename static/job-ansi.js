// Colours in a log: text with the escape sequences of terminals (ECMA-48) becomes pieces with class
// names. Only colours and weights are kept; every other sequence and control character is left out,
// so that nothing in a log moves, hides or becomes markup.

const SEQUENCE = new RegExp(
  [
    "\\x1b\\[([0-?]{0,64})[ -/]{0,8}([@-~])", // CSI, with its parameters and its final character
    "\\x1b[\\]PX^_][^\\x07\\x1b]{0,4096}(?:\\x07|\\x1b\\\\)?", // OSC and other strings, such as titles and links
    "\\x1b[ -/]{0,8}[0-~]?", // all others
    "[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f\\x80-\\x9f]", // other control characters
  ].join("|"),
  "g",
);

const PLAIN = Object.freeze({ color: "", back: "", bold: false, faint: false, italic: false, under: false, inverse: false });

export class Ansi {
  constructor() {
    this.style = PLAIN;
  }

  // Returns pieces `{ text, names }` of a line. The style goes on into the next line.
  pieces(line) {
    const pieces = [];
    let from = 0;
    const add = (text) => {
      if (text !== "") {
        pieces.push({ text, names: names(this.style) });
      }
    };
    for (const match of line.matchAll(SEQUENCE)) {
      add(line.slice(from, match.index));
      from = match.index + match[0].length;
      if (match[2] === "m") {
        this.select(match[1]);
      }
    }
    add(line.slice(from));
    return pieces;
  }

  // Applies the parameters of "select graphic rendition".
  select(parameters) {
    const codes = parameters.split(/[;:]/).map((it) => (/^\d{0,4}$/.test(it) ? Number(it) : -1));
    let style = { ...this.style };
    for (let at = 0; at < codes.length; at += 1) {
      const code = codes[at];
      if (code === 0) {
        style = { ...PLAIN };
      } else if (code === 38 || code === 48) {
        // 256 colours have one more number, true colours have three.
        const [kind, number] = [codes[at + 1], codes[at + 2]];
        const name = kind === 5 && 0 <= number && number < 16 ? String(number) : "";
        style[code === 38 ? "color" : "back"] = name;
        at += kind === 5 ? 2 : kind === 2 ? 4 : 0;
      } else if (30 <= code && code <= 37) {
        style.color = String(code - 30);
      } else if (90 <= code && code <= 97) {
        style.color = String(code - 82);
      } else if (40 <= code && code <= 47) {
        style.back = String(code - 40);
      } else if (100 <= code && code <= 107) {
        style.back = String(code - 92);
      } else if (code in SWITCHES) {
        Object.assign(style, SWITCHES[code]);
      }
    }
    this.style = style;
  }
}

const SWITCHES = {
  1: { bold: true },
  2: { faint: true },
  3: { italic: true },
  4: { under: true },
  7: { inverse: true },
  22: { bold: false, faint: false },
  23: { italic: false },
  24: { under: false },
  27: { inverse: false },
  39: { color: "" },
  49: { back: "" },
};

// Returns the classes of a style; static/job.css has them.
function names({ color, back, bold, faint, italic, under, inverse }) {
  return [
    color && `ansi-${color}`,
    back && `ansi-on-${back}`,
    bold && "ansi-bold",
    faint && "ansi-faint",
    italic && "ansi-italic",
    under && "ansi-under",
    inverse && "ansi-inverse",
  ].filter(Boolean);
}
