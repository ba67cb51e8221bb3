// Starts the programs, src/commands/: from source where Node strips types, else from dist/. Must load on every Node, to say which are too old.
import { existsSync, readFileSync } from "node:fs";

/**
 * Runs a command, or says why it cannot be: exit code 1.
 * @param {string} program - as it is called, for messages
 * @param {readonly string[]} argv - the command and its arguments
 */
export async function start(program, argv) {
  const complaint = nodeComplaint(program);
  if (complaint !== null) return fail(complaint);
  const source = new URL("../src/commands/index.ts", import.meta.url);
  const compiled = new URL("../dist/commands/index.js", import.meta.url);
  const strips = process.features.typescript && !import.meta.url.includes("/node_modules/");
  const entry = [...(strips ? [source] : []), compiled].find((one) => existsSync(one));
  if (entry === undefined)
    return fail(`${program}: the compiled program is missing; expected dist/commands/index.js\n  run: npm run build`);
  await (await import(entry.href)).run(argv);
}

/**
 * What is wrong with this Node; null where nothing is.
 * @param {string} program
 */
export function nodeComplaint(program, version = process.versions.node) {
  const { engines } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
  const wanted = engines.node.replace(">=", "");
  const [major, minor] = version.split(".").map(Number);
  const [wantedMajor, wantedMinor] = wanted.split(".").map(Number);
  if (major > wantedMajor || (major === wantedMajor && minor >= wantedMinor)) return null;
  return (
    `${program}: this Node is too old; expected ${wanted} or newer, got ${version}\n` +
    "  Older ones have no relaxed SIMD in WebAssembly (half the speed, and other bits) and get no security fixes, and nothing is tested on them.\n" +
    "  Install a newer one from https://nodejs.org, or with a version manager: nvm install --lts"
  );
}

function fail(text) {
  console.error(text);
  process.exitCode = 1;
}
