#!/usr/bin/env node
// All programs: `npx zerosearch --help`. They are src/commands/, run from source where Node strips types, else from dist/.
import { start } from "./start.js";

await start("zerosearch", process.argv.slice(2));
