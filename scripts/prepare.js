#!/usr/bin/env node
/** `prepare` of package.json: builds a clone after `npm ci`, or says in one place why it cannot be built. */
import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { nodeComplaint } from "../bin/start.js";

const root = new URL("../", import.meta.url);
const missing = ["typescript", "assemblyscript"].filter((name) => !isInstalled(name));
const complaint =
  nodeComplaint("zerosearch") ??
  (missing.length === 0
    ? null
    : `zerosearch: a clone is compiled when it is installed, and the compilers are development dependencies; missing: ${missing.join(", ")}
  To build and keep only what runs: npm ci && npm prune --omit=dev
  Where dist/ is built already:     npm ci --omit=dev --ignore-scripts`);
if (complaint === null) {
  const { status } = spawnSync("npm run build", { cwd: fileURLToPath(root), stdio: "inherit", shell: true });
  process.exitCode = status ?? 1;
} else {
  console.error(complaint);
  process.exitCode = 1;
}

function isInstalled(name) {
  try {
    createRequire(root).resolve(`${name}/package.json`);
    return true;
  } catch {
    return false;
  }
}
