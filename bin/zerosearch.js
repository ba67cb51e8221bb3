#!/usr/bin/env node
// All programs: `npx zerosearch --help`. They are src/commands/, run from source where Node strips types, else from dist/.
import { existsSync } from "node:fs";

const source = process.features.typescript && !import.meta.url.includes("/node_modules/");
const entry = new URL(source ? "../src/commands/index.ts" : "../dist/commands/index.js", import.meta.url);
if (existsSync(entry)) await (await import(entry.href)).run(process.argv.slice(2));
else {
  console.error("zerosearch: the compiled program is missing; expected dist/commands/index.js\n  run: npm run build");
  process.exitCode = 1;
}
