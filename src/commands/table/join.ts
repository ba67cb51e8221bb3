/** Rows that several programs judged, read and set side by side. */
import { existsSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { runConfigFile, type Config } from "../../config/index.ts";
import { namedSet } from "../../data/named-sets.ts";
import { compare } from "../../evaluation/compare.ts";
import { gridFiles } from "../../evaluation/folder.ts";
import { gridReport, type GridReport, type RowOrigin } from "../../evaluation/grid-report.ts";
import type { HealthCounter } from "../../evaluation/health.ts";
import { joinRows, partKey, type JoinedRow, type Part, type PartName } from "../../evaluation/join.ts";
import type { When } from "../../evaluation/report.ts";
import { Progress } from "../../log/progress.ts";
import type { RewardName } from "../../rl/reward.ts";
import { ConfigError, FileError } from "../../util/errors.ts";
import { nearest } from "../../util/nearest.ts";
import { say } from "../program.ts";
import { storedConfig } from "../stored.ts";
import { modelOf, readFolder } from "./read.ts";

/** Folders that are runs of the same rows. */
export interface JoinSource {
  /** Null where the folder's methods are names enough. */
  readonly name: string | null;
  /** At least one. */
  readonly folders: readonly string[];
}

export interface JoinOptions {
  readonly metric: RewardName;
  /** Null takes all. */
  readonly methods: readonly string[] | null;
  /** Null takes those after training, where a folder has them. */
  readonly when: When | "both" | null;
  /** Name of the row that others are compared with; null is the last. */
  readonly reference: string | null;
}

/** A row on its way into the table. */
interface ReadRow extends PartName {
  readonly source: JoinSource;
  /** One for each folder of its source. */
  readonly parts: readonly Part[];
  readonly health: HealthCounter;
  readonly model: string;
}

/**
 * @throws ConfigError for rows of one name, for a name that no row has, and for folders that were scored by different rules; FileError for a folder
 * that holds nothing judged; DataError for rows that are not of the same questions
 */
export async function joinedTable(sources: readonly JoinSource[], options: JoinOptions): Promise<GridReport> {
  const folders = sources.flatMap((one) => one.folders);
  const [first] = folders;
  if (first === undefined)
    throw new ConfigError({
      where: "zerosearch table",
      what: "needs what it is to join",
      expected: "runs by name, or folders of runs and evaluations",
    });
  const config = storedConfig(first, []);
  for (const folder of folders) checkRules([first, config], [folder, storedConfig(folder, [])]);
  const progress = new Progress({ label: "folders read", total: folders.length, plainInterval: 15_000 });
  const rows: ReadRow[] = [];
  let done = 0;
  try {
    for (const source of sources) rows.push(...(await readRows(source, options, () => progress.update(++done))));
  } finally {
    progress.finish();
  }
  const unknown = options.methods?.find((method) => !rows.some((row) => row.method === method));
  if (unknown !== undefined)
    throw new ConfigError({
      where: "--methods",
      what: `no row is of ${unknown}`,
      expected: [...new Set(rows.map(({ method }) => method))].join(", "),
      got: unknown,
    });
  const named = withNames(rows);
  const names = [...new Set(named.map(({ name }) => name))];
  const reference = options.reference ?? names.at(-1) ?? "";
  if (!names.includes(reference)) {
    const guess = nearest(reference, names);
    const hint = guess === undefined ? undefined : `did you mean ${guess}?`;
    throw new ConfigError({ where: `--compare-to ${reference}`, what: "there is no such row", expected: names.join("; "), hint });
  }
  const joined = joinRows(named);
  if (joined.leftOut > 0) say(`note: ${joined.leftOut} questions are left out: not every row has them`);
  const { seed, evaluation } = config;
  const samples = evaluation.bootstrapSamples;
  return gridReport(
    {
      ...{ model: listed(rows.map(({ model }) => model)), when: rows[0]?.when ?? "after", step: null, seed, samples },
      ...{ metric: options.metric, reference, hotpotYesNo: evaluation.hotpotYesNo },
    },
    [...joined.questions].map(([name, n]) => {
      const { title, group } = namedSet(name) ?? { title: name, group: null };
      return { name, title, group, n, source: listed(folders) };
    }),
    joined.cells,
    compare(joined.cells, { seed, samples, reference }),
    null,
    rows.map(({ model, when }, r): RowOrigin => ({ model, when, runs: joined.runs[r] ?? [] })),
  );
}

/** The rows of a source. @throws FileError for a folder without them, or without one that another run has */
async function readRows(source: JoinSource, options: JoinOptions, onRead: () => void): Promise<ReadRow[]> {
  const { folders } = source;
  const counters = new Map<string, HealthCounter>();
  const all: Part[][] = [];
  for (const folder of folders) {
    all.push(await readFolder(folder, counters));
    onRead();
  }
  const chosen = all.map((parts) => ofMethods(parts, options.methods));
  const when = options.when ?? (chosen.every((parts) => parts.every((part) => part.when === "before")) ? "before" : "after");
  const wanted = chosen.map((parts) => (when === "both" ? parts : parts.filter((part) => part.when === when)));
  for (const [i, folder] of folders.entries()) checkWanted(folder, wanted[i] ?? [], options);
  const named = (parts: readonly Part[]): string[] => parts.map(partKey);
  for (const [i, parts] of wanted.entries()) checkSameRows([folders[0] ?? "", wanted[0] ?? []], [folders[i] ?? "", parts]);
  const model = listed(folders.map(modelOf));
  return (wanted[0] ?? []).map((first): ReadRow => {
    const parts = wanted.map((own) => own[named(own).indexOf(partKey(first))] as Part);
    const health = counters.get(partKey(first)) as HealthCounter;
    return { source, method: first.method, engine: first.engine, when: first.when, model, parts, health };
  });
}

function ofMethods(parts: readonly Part[], methods: readonly string[] | null): readonly Part[] {
  return methods === null ? parts : parts.filter(({ method }) => methods.includes(method));
}

/** @throws FileError for a folder without a row */
function checkWanted(folder: string, parts: readonly Part[], { methods, when }: JoinOptions): void {
  if (parts.length > 0) return;
  const asked = [...(methods === null ? [] : [`--methods ${methods.join(",")}`]), ...(when === null ? [] : [`--when ${when}`])];
  throw new FileError({
    where: join(folder, gridFiles.judged),
    what: asked.length === 0 ? "holds no row, or none after training" : `holds no row of ${asked.join(" ")}`,
  });
}

/** @throws FileError where one of two runs of the same rows has one that the other has not */
function checkSameRows([first, parts]: readonly [string, readonly Part[]], [folder, others]: readonly [string, readonly Part[]]): void {
  const lacks = (own: readonly Part[], other: readonly Part[]): Part | undefined =>
    other.find((part) => !own.some((one) => partKey(one) === partKey(part)));
  for (const [without, part, having] of [
    [folder, lacks(others, parts), first],
    [first, lacks(parts, others), folder],
  ] as const) {
    if (part === undefined) continue;
    throw new FileError({
      where: join(without, gridFiles.judged),
      what: `has no rows of ${part.method} with ${part.engine} (${part.when} training), which ${having} has`,
      expected: "runs of the same rows",
      hint: "Name them apart, or take some: --methods, --when.",
    });
  }
}

/** Scores by different rules are no scores of one table. @throws ConfigError */
function checkRules([first, one]: readonly [string, Config], [folder, other]: readonly [string, Config]): void {
  const rulesOf = (config: Config): Record<string, unknown> => ({
    "reward.normalizer": config.reward.normalizer,
    "evaluation.hotpotYesNo": config.evaluation.hotpotYesNo,
    ...Object.fromEntries(Object.entries(config.compat).map(([name, value]) => [`compat.${name}`, value])),
  });
  const rules = rulesOf(other);
  for (const [name, value] of Object.entries(rulesOf(one))) {
    if (value === rules[name]) continue;
    throw new ConfigError({
      where: folder,
      what: `was judged with ${name}=${String(rules[name])}, and ${first} with ${String(value)}`,
      expected: "scores by the same rules",
      hint: "Judge one of them anew with the other's: zerosearch evaluate.",
    });
  }
}

/** Each row with a name that is its own. @throws ConfigError where only the user can give one */
function withNames(rows: readonly ReadRow[]): JoinedRow[] {
  const dated = new Set(rows.map(({ when }) => when)).size > 1;
  const nameOf = ({ source, method, when }: ReadRow, apart: boolean): string => {
    const methods = new Set(rows.flatMap((row) => (row.source === source ? row.method : [])));
    const unnamed = apart ? `${method} of ${basename(resolve(source.folders[0] ?? ""))}` : method;
    const name = source.name === null ? unnamed : methods.size === 1 ? source.name : `${source.name}: ${method}`;
    return dated ? `${name}, ${when}` : name;
  };
  const plain = rows.map((row) => nameOf(row, false));
  const named = rows.map((row, r): JoinedRow => {
    const clash = plain.some((name, other) => name === plain[r] && rows[other]?.source !== row.source);
    return { ...row, name: nameOf(row, clash) };
  });
  const cells = named.map(({ name, engine }) => JSON.stringify([name, engine]));
  const twice = named.find((_, r) => cells.indexOf(cells[r] ?? "") !== r);
  if (twice === undefined) return named;
  throw new ConfigError({
    where: "zerosearch table",
    what: `two rows would be called ${twice.name}`,
    expected: "a name each",
    hint: "Give names: NAME=FOLDER.",
  });
}

/** Up to three, and how many more. */
function listed(values: readonly string[]): string {
  const all = [...new Set(values)];
  return `${all.slice(0, 3).join(", ")}${all.length > 3 ? ` and ${all.length - 3} more` : ""}`;
}

/** A folder that holds what was judged has tables of its own, which are not written over. @throws ConfigError */
export function refuseJudged(out: string): void {
  const holds = [gridFiles.judged, runConfigFile].find((name) => existsSync(join(out, name)));
  if (holds === undefined) return;
  throw new ConfigError({
    where: `--out ${out}`,
    what: `is the folder of a run or an evaluation (${holds}), whose own tables would be written over`,
    expected: "another folder",
  });
}
