/**
 * `node dist/bench/search/run.js --corpus FILE --questions FILE [--sizes 0,300000,1000000] [--rounds 5] [--folder DIR]`: BM25 over corpora of
 * several sizes (0: the corpus as it is). Building and searching are measured in processes of their own. The last line is one line of JSON.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { availableParallelism, cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { buildIndex } from "#inside/search/bm25/build.js";
import { median, quantile } from "#inside/util/stats.js";
import { Bm25Search, type Bm25Hit } from "zerosearch";
import { recombine } from "./corpus.js";
import { comparePeers } from "./peers.js";

const text = { type: "string" } as const;
const { values } = parseArgs({
  options: {
    corpus: text,
    questions: text,
    sizes: { ...text, default: "0,300000,1000000" },
    rounds: { ...text, default: "5" },
    folder: text,
    /** What a process of ours is to do: `build`, `search` or `peers`. */
    part: text,
    index: text,
  },
});
const rounds = Number(values.rounds);
/** Documents a search returns. */
const documents = 5;

function questionsOf(most: number): string[] {
  const rows = readFileSync(needed("questions"), "utf8").trim().split("\n");
  const step = Math.max(1, Math.floor(rows.length / most));
  return rows
    .filter((_, i) => i % step === 0)
    .slice(0, most)
    .map((row) => (JSON.parse(row) as { question: string }).question);
}

function needed(name: "corpus" | "questions" | "index"): string {
  const value = values[name];
  if (value === undefined) throw new Error(`bench: --${name} FILE is missing`);
  return value;
}

async function build(): Promise<unknown> {
  const begun = performance.now();
  const file = needed("index");
  const { about } = await buildIndex({ corpus: needed("corpus"), source: "bench", file });
  const seconds = (performance.now() - begun) / 1000;
  return {
    passages: about.passages,
    buildSeconds: seconds,
    indexBytes: statSync(file).size,
    buildPeakMB: process.resourceUsage().maxRSS / 1000,
  };
}

async function search(): Promise<unknown> {
  const questions = questionsOf(500);
  const begun = performance.now();
  const engine = await Bm25Search.fromIndex(needed("index"), documents);
  const openMs = performance.now() - begun;
  const atOnce = async (lanes: number): Promise<{ perSecond: number; p50: number; p99: number }> => {
    const rates: number[] = [];
    const times: number[] = [];
    // The first round warms up.
    for (let round = 0; round <= rounds; round++) {
      const from = performance.now();
      let next = 0;
      const lane = async (): Promise<void> => {
        while (next < questions.length) {
          const at = performance.now();
          await engine.find(questions[next++] ?? "");
          if (round > 0) times.push(performance.now() - at);
        }
      };
      await Promise.all(Array.from({ length: lanes }, lane));
      if (round > 0) rates.push((1000 * questions.length) / (performance.now() - from));
    }
    return { perSecond: median(rates), p50: quantile(times, 0.5), p99: quantile(times, 0.99) };
  };
  const one = await atOnce(1);
  const many = await atOnce(64);
  const alone: Bm25Hit[][] = [];
  for (const question of questions) alone.push(await engine.find(question));
  const thousand = await Promise.allSettled(Array.from({ length: 1000 }, (_, i) => engine.find(questions[i % questions.length] ?? "")));
  const errors = thousand.filter(({ status }) => status === "rejected").length;
  const other = thousand.filter(
    (end, i) => end.status === "fulfilled" && JSON.stringify(end.value) !== JSON.stringify(alone[i % questions.length]),
  );
  const common: number[] = [];
  for (let i = 0; i < 2 * rounds + 1; i++) {
    const at = performance.now();
    await engine.find("what is the name of the");
    common.push(performance.now() - at);
  }
  await engine.close();
  return {
    openMs,
    one,
    at64: many,
    errorsOf1000: errors,
    differentOf1000: other.length,
    stopWordsMs: median(common),
    residentMB: process.memoryUsage.rss() / 1e6,
  };
}

/** Runs a part of this program in a process of its own. */
function part(name: string, corpus: string, index: string): Record<string, unknown> {
  const args = [fileURLToPath(import.meta.url), "--part", name, "--corpus", corpus, "--index", index];
  args.push("--questions", needed("questions"), "--rounds", String(rounds));
  const out = execFileSync(process.execPath, args, { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"], maxBuffer: 2 ** 26 });
  return JSON.parse(out.trim().split("\n").at(-1) ?? "{}") as Record<string, unknown>;
}

async function all(): Promise<unknown> {
  const folder = values.folder ?? mkdtempSync(join(tmpdir(), "zerosearch-bench-"));
  const results: unknown[] = [];
  try {
    for (const size of values.sizes.split(",").map(Number)) {
      const corpus = size === 0 ? needed("corpus") : join(folder, `${size}.jsonl`);
      const index = join(folder, `${size}.bm25`);
      if (!existsSync(corpus)) await recombine(needed("corpus"), size, corpus);
      rmSync(index, { force: true });
      const result = { ...part("build", corpus, index), ...part("search", corpus, index) };
      console.log(JSON.stringify(result));
      results.push(result);
    }
    const peers = part("peers", needed("corpus"), "");
    console.log(JSON.stringify(peers));
    const commit = execFileSync("git", ["rev-parse", "--short", "HEAD"], { encoding: "utf8" }).trim();
    return { machine: `${cpus()[0]?.model ?? "?"} x ${availableParallelism()}, Node ${process.version}`, commit, rounds, results, peers };
  } finally {
    if (values.folder === undefined) rmSync(folder, { recursive: true, force: true });
  }
}

const parts: Readonly<Record<string, () => Promise<unknown>>> = {
  build,
  search,
  peers: () => comparePeers(needed("corpus"), questionsOf(100), rounds, documents),
};
console.log(JSON.stringify(await (values.part === undefined ? all : (parts[values.part] ?? all))()));
