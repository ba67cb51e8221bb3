#!/usr/bin/env node
// The trainer: `node train.js --help`. It is src/train.ts, run from source where Node strips types, else from dist/.
import { start } from "./bin/start.js";

await start("train.js", ["train", ...process.argv.slice(2)]);
