/** `zerosearch quickstart table`: every method of the paper on the quickstart, trained where it learns, with several seeds, in one table. */
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { writeFileAtomic } from "../../checkpoint/atomic.ts";
import { argumentsHelp, packagedConfig, packageFolder, parseArguments, type ArgumentSpec } from "../../config/index.ts";
import { gridText } from "../../evaluation/grid-text.ts";
import type { EvaluationRow } from "../../evaluation/report.ts";
import { evaluationFile } from "../../run/judge.ts";
import { Closing } from "../../setup/closing.ts";
import { attempt, ConfigError, ZeroSearchError } from "../../util/errors.ts";
import { writeReport } from "../evaluate/table.ts";
import { holdFolder } from "../hold.ts";
import { say, untilInterrupted } from "../program.ts";
import { joinedTable, refuseJudged, type JoinSource } from "../table/join.ts";

/** A row: what it is called, and by which configuration it is made. */
export interface TableRow {
  readonly name: string;
  /** Of its folders. */
  readonly short: string;
  /** In configs/. */
  readonly config: string;
  /** The method that is judged as the weights stand; null: that of the configuration, after training. */
  readonly method: string | null;
}

/** The rows of the paper's table, in its order, and tool calls. What the paper calls instruct is the same base tuned on a chat template. */
export const tableRows: readonly TableRow[] = [
  { name: "Direct", short: "direct", config: "quickstart", method: "direct" },
  { name: "CoT", short: "cot", config: "methods/quickstart-cot", method: "cot" },
  { name: "RAG", short: "rag", config: "quickstart", method: "rag" },
  { name: "RA-Agent", short: "ra-agent", config: "methods/quickstart-ra-agent", method: "ra-agent" },
  { name: "Search-o1", short: "search-o1", config: "methods/quickstart-search-o1", method: "search-o1" },
  { name: "R1, base", short: "r1", config: "methods/quickstart-r1", method: null },
  { name: "R1, instruct", short: "chat-r1", config: "methods/quickstart-chat-r1", method: null },
  { name: "Search-R1, base", short: "search-r1", config: "methods/quickstart-search-r1", method: null },
  { name: "Search-R1, instruct", short: "chat-search-r1", config: "methods/quickstart-chat-search-r1", method: null },
  { name: "ZeroSearch, base", short: "zerosearch", config: "quickstart", method: null },
  { name: "ZeroSearch, instruct", short: "chat-zerosearch", config: "methods/quickstart-chat-zerosearch", method: null },
  { name: "tools", short: "tools", config: "methods/quickstart-tools", method: null },
];
const reference = "ZeroSearch, base";

const spec: ArgumentSpec = {
  program: "zerosearch quickstart table",
  summary:
    "Makes the paper's table on the quickstart: trains R1, Search-R1, ZeroSearch and tools, each with several seeds, judges the other methods as they are, and joins all of it. The same command again goes on where it was stopped.",
  options: {
    out: { value: "FOLDER", doc: "Runs, evaluations, table.md, table.svg and evaluation.json (quickstart-table)." },
    seeds: { value: "LIST", doc: "Seeds of the trained rows (1,2,3)." },
    rows: { value: "LIST", doc: `These rows only: ${tableRows.map(({ short }) => short).join(", ")}.` },
  },
  settings: true,
};

export async function main(argv: readonly string[]): Promise<void> {
  const { options, settings } = parseArguments(argv, spec);
  if (options.has("help")) {
    process.stdout.write(argumentsHelp(spec));
    return;
  }
  const out = options.get("out") ?? "quickstart-table";
  const seeds = readSeeds(options.get("seeds") ?? "1,2,3");
  const rows = readRows(options.get("rows"));
  refuseJudged(out);
  await untilInterrupted(
    (signal) => {
      const closing = new Closing();
      return closing.after(async () => {
        await holdFolder(out, "nothing was done", closing, signal);
        await keepSettings(out, settings);
        await makeTable(rows, seeds, { out, settings, signal });
      });
    },
    { leave: () => say(`Stopped; the same command goes on from here.`) },
  );
}

interface Made {
  readonly out: string;
  readonly settings: readonly string[];
  readonly signal: AbortSignal;
}

async function makeTable(rows: readonly TableRow[], seeds: readonly number[], made: Made): Promise<void> {
  const { out } = made;
  const jobs = rows.flatMap((row) => (row.method === null ? seeds : [null]).map((seed: number | null) => ({ row, seed })));
  for (const [i, { row, seed }] of jobs.entries()) {
    say(`\n${i + 1}/${jobs.length} ${row.name}${seed === null ? "" : `, seed ${seed}`}`);
    if (seed === null) await judgeRow(row, made);
    else await trainRow(row, seed, made);
  }
  const sources = rows.map((row): JoinSource => {
    const folders = row.method === null ? seeds.map((seed) => runFolder(row, seed, out)) : [join(out, "judged", row.short)];
    return { name: row.name, folders };
  });
  const names = rows.map(({ name }) => name);
  const report = await joinedTable(sources, {
    ...{ metric: "f1", methods: null, when: "after" },
    reference: names.includes(reference) ? reference : null,
  });
  say(gridText(report, []));
  await writeReport(out, report);
  say(`All of it is in ${out}.`);
}

/** @throws ConfigError */
function readSeeds(given: string): number[] {
  const seeds = given.split(",").map((one) => (/^\d+$/.test(one.trim()) ? Number(one) : NaN));
  if (seeds.every((seed) => Number.isSafeInteger(seed)) && new Set(seeds).size === seeds.length) return seeds;
  throw new ConfigError({ where: "--seeds", what: "wrong value", expected: "different integers from 0, commas between", got: given });
}

/** @throws ConfigError */
function readRows(given: string | undefined): readonly TableRow[] {
  if (given === undefined) return tableRows;
  const wanted = given.split(",").map((name) => name.trim());
  const known = tableRows.map(({ short }) => short);
  const unknown = wanted.find((name) => !known.includes(name));
  if (unknown !== undefined)
    throw new ConfigError({ where: `--rows ${given}`, what: "there is no such row", expected: known.join(", "), got: unknown });
  return tableRows.filter(({ short }) => wanted.includes(short));
}

/** A folder holds what was made with the same settings. @throws ConfigError */
async function keepSettings(out: string, settings: readonly string[]): Promise<void> {
  const file = join(out, "settings.json");
  const text = `${JSON.stringify([...settings])}\n`;
  const before = existsSync(file) ? readFileSync(file, "utf8") : text;
  if (before !== text)
    throw new ConfigError({
      where: `--out ${out}`,
      what: "was begun with other settings",
      expected: before.trim(),
      got: text.trim(),
      hint: "Give the same ones, or another folder.",
    });
  await writeFileAtomic(file, text);
}

function runFolder({ short }: TableRow, seed: number, out: string): string {
  return join(out, "runs", `${short}-${seed}`);
}

async function judgeRow({ short, config, method }: TableRow, { out, settings, signal }: Made): Promise<void> {
  const folder = join(out, "judged", short);
  const args = ["--config", packagedConfig(config), "--methods", method ?? "", "--out", folder, "--resume"];
  await runProgram(["evaluate", ...args, ...settings], signal);
}

async function trainRow(row: TableRow, seed: number, { out, settings, signal }: Made): Promise<void> {
  const folder = runFolder(row, seed, out);
  if (isJudged(folder)) {
    say("done before");
    return;
  }
  const places = [`name=${row.short}-${seed}`, `output.runs=${join(out, "runs")}`, `output.checkpoints=${join(out, "checkpoints")}`];
  const resume = existsSync(join(folder, "config.yaml")) ? ["--resume"] : [];
  // The others that a run is judged beside have rows of their own here.
  const only = ["evaluation.baselines=false", "evaluation.robustness=false"];
  await runProgram(["train", "--config", packagedConfig(row.config), ...resume, `seed=${seed}`, ...only, ...places, ...settings], signal);
}

/** Whether a run has ended and was judged. */
function isJudged(folder: string): boolean {
  const file = join(folder, evaluationFile);
  const rows = existsSync(file) ? attempt<unknown>(() => JSON.parse(readFileSync(file, "utf8")), null) : null;
  return Array.isArray(rows) && (rows as EvaluationRow[]).some(({ when }) => when === "after");
}

/**
 * A program of its own: what it holds is gone when it ends. A stop of this one is passed on, and waited for; in a group of its own the program hears of a
 * stop from the keyboard once, and not twice, which would make it leave without keeping what it has.
 * @throws ZeroSearchError where it does not end well; the signal's reason where it was stopped
 */
async function runProgram(args: readonly string[], signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const child = spawn(process.execPath, [join(packageFolder, "bin", "zerosearch.js"), ...args], {
    stdio: ["ignore", "inherit", "inherit"],
    detached: process.platform !== "win32",
  });
  const stop = (): void => void child.kill("SIGINT");
  signal.addEventListener("abort", stop, { once: true });
  try {
    const [code, by] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
      child.on("error", reject);
      child.on("close", (status, killed) => resolve([status, killed]));
    });
    signal.throwIfAborted();
    if (code === 0) return;
    throw new ZeroSearchError({
      where: `zerosearch ${args.join(" ")}`,
      what: `ended with ${code === null ? String(by) : `exit code ${code}`}`,
      hint: "The same command again goes on from here.",
    });
  } finally {
    signal.removeEventListener("abort", stop);
  }
}
