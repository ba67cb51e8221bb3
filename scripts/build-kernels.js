#!/usr/bin/env node
/**
 * Compiles kernels/wasm/index.ts with AssemblyScript into dist/kernels/zerosearch.wasm (mul+add) and zerosearch.relaxed.wasm (relaxed
 * FMA), and gathers kernels/wgsl/ in dist/kernels/wgsl.json, one object of texts by stem, for browsers and bundlers. `--if-changed` builds
 * only what is older than its sources; tests call `buildKernels({ifChanged: true})`.
 */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const sourceFolder = join(root, "kernels", "wasm");
const targetFolder = join(root, "dist", "kernels");

const common = [
  "-O3",
  "--noAssert",
  "--runtime",
  "stub",
  "--importMemory",
  "--sharedMemory",
  "--initialMemory",
  "2",
  "--maximumMemory",
  "65536",
  "--enable",
  "simd",
  "--enable",
  "threads",
];
const builds = [
  { file: "zerosearch.wasm", flags: [] },
  { file: "zerosearch.relaxed.wasm", flags: ["--enable", "relaxed-simd"] },
];

/** Newest modification time of the kernels and of this script, in ms. */
function newestSource() {
  let newest = statSync(fileURLToPath(import.meta.url)).mtimeMs;
  for (const entry of readdirSync(sourceFolder, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) newest = Math.max(newest, statSync(join(entry.parentPath ?? entry.path, entry.name)).mtimeMs);
  }
  return newest;
}

function modified(path) {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

/**
 * @param {{ifChanged?: boolean, log?: (line: string) => void}} [options]
 * @returns {Promise<string[]>} the files written
 */
export async function buildKernels({ ifChanged = false, log = () => {} } = {}) {
  mkdirSync(targetFolder, { recursive: true });
  const written = [];
  const newest = newestSource();
  for (const { file, flags } of builds) {
    const target = join(targetFolder, file);
    if (ifChanged && modified(target) > newest) continue;
    const { default: asc } = await import("assemblyscript/asc");
    // several processes may build at once: each writes its own file, and the rename is atomic
    const temporary = `${target}.${process.pid}.tmp`;
    const paths = ["kernels/wasm/index.ts", "--baseDir", root, "-o", relative(root, temporary)];
    const { error, stderr, stdout } = await asc.main([...paths, ...common, ...flags]);
    const text = `${stdout.toString()}${stderr.toString()}`.trim();
    if (error !== null || modified(temporary) === 0) {
      rmSync(temporary, { force: true });
      throw new Error(`scripts/build-kernels.js: AssemblyScript could not build ${file}\n${text}`, { cause: error });
    }
    if (text !== "") log(text);
    renameSync(temporary, target);
    written.push(target);
    log(`${relative(root, target)} ${statSync(target).size} bytes`);
  }
  return written;
}

/** @returns {string} the file written */
export function gatherWgsl() {
  const folder = join(root, "kernels", "wgsl");
  const names = readdirSync(folder, { recursive: true })
    .map((name) => String(name).replaceAll("\\", "/"))
    .filter((name) => name.endsWith(".wgsl"))
    .sort();
  const texts = Object.fromEntries(names.map((name) => [name.slice(0, -5), readFileSync(join(folder, name), "utf8")]));
  mkdirSync(targetFolder, { recursive: true });
  const target = join(targetFolder, "wgsl.json");
  writeFileSync(target, `${JSON.stringify(texts, null, 1)}\n`);
  return target;
}

if (process.argv[1] !== undefined && fileURLToPath(import.meta.url) === process.argv[1]) {
  await buildKernels({ ifChanged: process.argv.includes("--if-changed"), log: (line) => console.log(line) });
  const wgsl = gatherWgsl();
  console.log(`${relative(root, wgsl)} ${statSync(wgsl).size} bytes`);
}
