// Connections that all start pages of a browser share.
//
// A browser opens six connections to a host over HTTP/1.1. Were all of them streams, no further page
// would load. A page that begins to listen announces it to the others, and a page that would hold
// more than its part together with the newer ones pauses.

const MOST = 4; // streams of all start pages: the rest is for loading, publishing and facts

const isUnlimited = /^h[23]/.test(performance.getEntriesByType("navigation")[0]?.nextHopProtocol ?? "");

export class Room {
  // `crowded` is called when newer pages need this page's connections, and then `free` when there
  // is room again.
  constructor(crowded, free) {
    this.id = Math.random();
    this.own = 0;
    this.wanted = 0; // streams that this page gave up for newer ones
    this.newer = new Map(); // streams of pages that began after this one, by id
    this.channel = new BroadcastChannel(`tidegate${new URL(".", location.href).pathname}`);
    this.channel.onmessage = ({ data: { id, streams } }) => {
      if (streams === 0) {
        this.newer.delete(id);
        // Not all pages that wait at once.
        setTimeout(() => 0 < this.wanted && this.has(this.wanted) && free(), Math.random() * 1000);
      } else {
        this.newer.set(id, streams);
        if (0 < this.own && !this.has(this.own)) {
          const wanted = this.own;
          crowded();
          this.wanted = wanted;
        }
      }
    };
    addEventListener("pagehide", () => this.take(0));
  }

  has(streams) {
    const newer = [...this.newer.values()].reduce((sum, it) => sum + it, 0);
    return isUnlimited || newer + streams <= MOST;
  }

  // Announces how many streams this page holds from now on.
  take(streams) {
    if (0 < streams) {
      this.newer.clear();
    }
    if (0 < streams || 0 < this.own) {
      this.channel.postMessage({ id: this.id, streams });
    }
    this.own = streams;
    this.wanted = 0;
  }
}
