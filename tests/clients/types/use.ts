// What must type-check, and, marked with @ts-expect-error, what must not.

import { connect, Problem } from "../../../static/tidegate.js";
import { now } from "../../../static/now.js";

interface Circle {
  x: number;
  y: number;
}

const client = connect("https://push.example.com", { token: async () => "T", share: "auto", transports: ["sse", "poll"] });
const room = client.topic<{ "add-circle": Circle; clear: null }, { color: string; deep?: { a?: number } }, { name: string }>("/rooms/7", { last: 20 });

room.on("add-circle", (circle, event) => {
  const sum: number = circle.x + circle.y;
  const from: string | undefined = event.from;
  return void [sum, from];
});
// @ts-expect-error There is no such message.
room.on("add-square", () => {});
room.send("add-circle", { x: 1, y: 2 }, { echo: false, latest: true });
// @ts-expect-error A circle has numbers.
room.send("add-circle", { x: "1", y: 2 });
room.set({ color: "red", deep: { a: null } }, { if: room.rev });
// @ts-expect-error The state has no such member.
room.set({ size: 1 });
room.join({ name: "Ann" }).then((same) => same.users());
room.watch(({ state, members, patch, from }) => {
  const color: string = state.color;
  const names: string[] = Object.values(members).map((member) => member.data.name);
  return void [color, names, patch?.deep, from];
});
client.topic({ match_urlpattern: "/rooms/:id" }).on("*", (data) => void data);
client.addEventListener("gap", ({ reason }) => void (reason === "trimmed"));
client.addEventListener("status", () => void (client.status === "open"));
client.call<{ pages: number }>("clone", { url: "x" }, { timeout: 1000, onProgress: (job) => void job.progress.done }).then(({ pages }) => pages + 1);
client.handle("confirm", async (data: { text: string }, { signal }) => !signal.aborted && data.text);
client.ready.catch((problem: Problem) => problem.status + 1);
// @ts-expect-error There is no such transport.
connect(undefined, { transports: ["websocket"] });
now.ready(() => now.sayHi((text: string) => text));
client.close();
