/** `zerosearch runs`: what runs there are, what became of them, and away with one. */
import { createInterface } from "node:readline/promises";
import { readOverride, type ArgumentSpec, type Source } from "../config/index.ts";
import { formatTable } from "../log/table.ts";
import { outputFolders } from "../run/find-policy.ts";
import { differences, listRuns, planRemoval, readRun, removeRun, type RunDetails, type RunSummary } from "../run/list-runs.ts";
import { formatBytes } from "../util/bytes.ts";
import { ConfigError } from "../util/errors.ts";
import { readArguments, say } from "./program.ts";

const spec: ArgumentSpec = {
  program: "zerosearch runs",
  summary:
    "Lists the runs of output.runs. `runs compare A B ...`: in which settings they differ, and their scores side by side. `runs remove NAME`: deletes a run's logs and states.",
  words: ["[list | compare | remove]", "[NAME ...]"],
  options: {
    json: { doc: "Prints one JSON object instead of tables." },
    yes: { doc: "Removes without asking." },
  },
  settings: true,
};

export async function main(argv: readonly string[]): Promise<void> {
  const read = readArguments(argv, spec);
  if (read === null) return;
  const { options, words, settings } = read;
  const overrides = settings.map(readOverride);
  const { runs } = outputFolders(overrides);
  const [action = "list", ...names] = words;
  const asked: Asked = { runs, names, overrides, json: options.has("json") };
  if (action === "list" && names.length === 0) return list(asked);
  if (action === "compare" && names.length >= 2) return compare(asked);
  if (action === "remove" && names.length === 1) return remove(asked, options.has("yes"));
  throw new ConfigError({
    where: "zerosearch runs",
    what: "is not understood",
    expected: "runs, runs compare A B ..., or runs remove NAME",
    got: ["runs", ...words].join(" "),
  });
}

interface Asked {
  readonly runs: string;
  readonly names: readonly string[];
  readonly overrides: readonly Source[];
  readonly json: boolean;
}

async function list({ runs, overrides, json }: Asked): Promise<void> {
  const found = await listRuns(runs, overrides);
  if (json) {
    say(JSON.stringify(found, null, 1));
    return;
  }
  if (found.runs.length > 0) say(runsTable(found.runs));
  else say(`There are no runs in ${runs}; node train.js makes one.`);
  for (const { name, why } of found.unreadable) say(`${name} cannot be read: ${why}`);
}

function runsTable(runs: readonly RunSummary[]): string {
  return formatTable(
    [
      { title: "run", value: ({ name }) => name },
      { title: "started", value: ({ started }) => localTime(started) },
      { title: "steps", value: ({ steps, totalSteps }) => `${steps} of ${totalSteps}` },
      { title: "best validation F1", value: ({ best }) => (best === null ? null : `${best.f1.toFixed(3)} at step ${best.step}`) },
      { title: "final F1", value: ({ f1 }) => f1?.toFixed(3) },
      { title: "states", value: ({ bytes }) => formatBytes(bytes) },
      { title: "", value: ({ state, savedStep }) => (state === "resumable" ? `resumable after step ${savedStep ?? 0}` : state) },
    ],
    runs,
  );
}

async function compare({ runs, names, overrides, json }: Asked): Promise<void> {
  const compared: RunDetails[] = [];
  for (const name of names) compared.push(await readRun(runs, name, overrides));
  const settings = differences(compared);
  const scores = scoresOf(compared);
  if (json) {
    say(JSON.stringify({ runs: compared.map(({ summary }) => summary), settings, scores }, null, 1));
    return;
  }
  const table = (title: string, rows: readonly { readonly key: string; readonly values: readonly unknown[] }[]): string =>
    formatTable(
      [
        { title, value: ({ key }) => key },
        ...names.map((name, i) => ({ title: name, value: ({ values }: { readonly values: readonly unknown[] }) => cell(values[i]) })),
      ],
      rows,
    );
  say(settings.length === 0 ? "All settings are the same." : table("setting", settings));
  say(`\n${table("score", scores)}`);
}

/** Scores by name, in the order of the runs; null where a run has none. */
function scoresOf(compared: readonly RunDetails[]): { key: string; values: (number | null)[] }[] {
  const scores = new Map<string, (number | null)[]>();
  const note = (key: string, run: number, value: number | null | undefined): void => {
    const values = scores.get(key) ?? compared.map(() => null);
    values[run] = value ?? null;
    scores.set(key, values);
  };
  compared.forEach(({ summary, evaluation }, run) => {
    note("steps", run, summary.steps);
    note("best validation F1", run, summary.best?.f1);
    note("best validation's step", run, summary.best?.step);
    for (const { method, when, engine, dataset, f1, em, subem, searches } of evaluation)
      for (const [name, value] of Object.entries({ F1: f1, EM: em, SubEM: subem, searches }))
        note(`${method} ${when}, ${engine}, ${dataset}: ${name}`, run, value);
  });
  return [...scores].map(([key, values]) => ({ key, values }));
}

function cell(value: unknown): string | number | null {
  if (typeof value === "number") return Number.isInteger(value) ? value : Number(value.toPrecision(4));
  return value === null || value === undefined ? null : typeof value === "string" ? value : JSON.stringify(value);
}

async function remove({ runs, names: [name = ""], overrides, json }: Asked, yes: boolean): Promise<void> {
  const removal = await planRemoval(runs, name, overrides);
  const what = `${removal.folders.join(" and ")}, ${formatBytes(removal.bytes)}`;
  if (!yes && !(await agreed(`Remove ${what}? [y/N] `, name))) {
    say("Nothing was removed.");
    return;
  }
  await removeRun(removal);
  say(json ? JSON.stringify({ removed: removal }) : `Removed ${what}.`);
}

/** @throws ConfigError where there is nobody to ask */
async function agreed(question: string, name: string): Promise<boolean> {
  if (!process.stdin.isTTY || !process.stderr.isTTY)
    throw new ConfigError({
      where: `runs remove ${name}`,
      what: "there is nobody to ask, as this is no terminal",
      hint: `Removes without asking: zerosearch runs remove ${name} --yes`,
    });
  const asking = createInterface({ input: process.stdin, output: process.stderr });
  const reply = await asking.question(question);
  asking.close();
  return /^y(es)?$/i.test(reply.trim());
}

/** `2026-11-29 21:16`, in the local time. */
function localTime(iso: string): string {
  const time = new Date(iso);
  const two = (value: number): string => String(value).padStart(2, "0");
  return `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())} ${two(time.getHours())}:${two(time.getMinutes())}`;
}
