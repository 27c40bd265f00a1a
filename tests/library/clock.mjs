// A clock that stands still until a test moves it.

const N_ROUNDS = 12; // turns of the event loop that let promises, streams and imports settle

export async function settled() {
  for (let round = 0; round < N_ROUNDS; round += 1) {
    await new Promise((resolve) => setImmediate(resolve));
  }
}

export class Clock {
  now = Date.parse("2026-01-31T12:00:00Z");
  #timers = new Map();
  #last = 0;

  setTimeout = (act, delay = 0, ...values) => {
    this.#last += 1;
    this.#timers.set(this.#last, { due: this.now + Math.max(delay, 0), act: () => act(...values) });
    return this.#last;
  };

  clearTimeout = (timer) => this.#timers.delete(timer);

  // Moves on by so many ms, and stops at each timer until everything has settled.
  async advance(delay) {
    const end = this.now + delay;
    await settled();
    for (;;) {
      const next = [...this.#timers].filter(([, { due }]) => due <= end).sort(([a, x], [b, y]) => x.due - y.due || a - b)[0];
      if (!next) {
        break;
      }
      this.#timers.delete(next[0]);
      this.now = Math.max(this.now, next[1].due);
      next[1].act();
      await settled();
    }
    this.now = end;
  }
}
