// Every case of tests/client-scripts.

import { readdirSync, readFileSync } from "node:fs";
import test from "node:test";

import { run } from "./script.mjs";

const FOLDER = new URL("../client-scripts/", import.meta.url);

for (const file of readdirSync(FOLDER).filter((name) => name.endsWith(".json"))) {
  for (const script of JSON.parse(readFileSync(new URL(file, FOLDER), "utf8"))) {
    test(`${file.replace(".json", "")}: ${script.about}`, () => run(script));
  }
}
