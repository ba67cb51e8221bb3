/** What the options of `zerosearch evaluate` ask for, where several methods, engines or sets are compared. */
import { methods } from "../../agent/methods/index.ts";
import type { Method } from "../../agent/methods/method.ts";
import { nearest } from "../../util/nearest.ts";
import type { Config } from "../../config/index.ts";
import type { OptionSpec } from "../../config/arguments.ts";
import { rewardNames, type RewardName } from "../../rl/reward.ts";
import { readEngines } from "../../setup/evaluated-engines.ts";
import { openMethod } from "../../setup/open-method.ts";
import { readSubset, type Subset } from "../../setup/open-sets.ts";
import { ConfigError } from "../../util/errors.ts";
import { isModuleFile } from "../../util/fields.ts";

/** Any of them makes a table of methods, engines and sets (docs/evaluation.md). */
export const tableOptions: Readonly<Record<string, OptionSpec>> = {
  methods: { value: "LIST", doc: "Judges these methods, commas between: names, or modules (the run's own, and its baselines)." },
  sets: { value: "LIST", doc: "On these sets: nq,triviaqa,popqa,hotpotqa,2wiki,musique,bamboogle, data sources of data.test, NAME=FILE." },
  engines: { value: "LIST", doc: "With these engines: names, modules, simulated:useful, simulated:noisy (evaluation.engine)." },
  engine: { value: "NAME", doc: "The same for one." },
  "compare-to": { value: "METHOD", doc: "The method that the others are compared with (the first of --methods; else the run's own)." },
  metric: { value: "SCORE", doc: "Score of the table: em, subem or f1 (em)." },
  subset: { value: "WHICH", doc: "Of --sets, the paper's 500 rows each (paper), or those that its loader kept (paper-dropped)." },
  limit: { value: "N", doc: "The first N questions of each of --sets." },
  resume: { doc: "Goes on with the evaluation in --out, behind the last question that was judged." },
};

export interface TableWish {
  /** Null takes the run's own method and its baselines. */
  readonly methods: readonly string[] | null;
  readonly sets: string | null;
  /** Null takes evaluation.engine. */
  readonly engines: readonly string[] | null;
  readonly compareTo: string | null;
  readonly metric: RewardName;
  readonly subset: Subset | null;
  readonly limit: number | null;
  readonly resume: boolean;
}

/** Null where no such option is given. @throws ConfigError */
export function readWish(options: ReadonlyMap<string, string>): TableWish | null {
  if (!Object.keys(tableOptions).some((name) => options.has(name))) return null;
  const [several, one] = [options.get("engines"), options.get("engine")];
  if (several !== undefined && one !== undefined)
    throw new ConfigError({ where: "--engine", what: "and --engines are both given", expected: "one of them" });
  const engines = several ?? one;
  const sets = options.get("sets") ?? null;
  for (const name of ["subset", "limit"])
    if (options.has(name) && sets === null)
      throw new ConfigError({
        where: `--${name}`,
        what: "is of --sets, which are not given",
        hint: "evaluation.questions cuts data.test.",
      });
  if (options.has("resume") && !options.has("out"))
    throw new ConfigError({ where: "--resume", what: "needs the folder to go on with", expected: "--out FOLDER" });
  return {
    methods: options.has("methods") ? readMethods(options.get("methods") ?? "") : null,
    sets,
    engines: engines === undefined ? null : readEngines(engines),
    compareTo: options.get("compare-to") ?? null,
    metric: readMetric(options.get("metric")),
    subset: readSubset(options.get("subset")),
    limit: readLimit(options.get("limit")),
    resume: options.has("resume"),
  };
}

function readMethods(given: string): string[] {
  const names = given.split(",").map((name) => name.trim());
  for (const [i, name] of names.entries()) {
    if (names.indexOf(name) !== i)
      throw new ConfigError({ where: `--methods ${given}`, what: `${name} is there twice`, expected: "each method once" });
    if (!Object.hasOwn(methods, name) && !isModuleFile(name)) throw unknownMethod(`--methods ${given}`, name, Object.keys(methods));
  }
  return names;
}

function unknownMethod(where: string, name: string, known: readonly string[]): ConfigError {
  const guess = name === "" ? undefined : nearest(name, known);
  return new ConfigError({
    where,
    what: `there is no method ${name === "" ? "without a name" : name}`,
    expected: `${known.join(", ")}${where.startsWith("--methods") ? ", or a module such as ./my-method.js" : ""}`,
    hint: guess === undefined ? undefined : `did you mean ${guess}?`,
  });
}

export function readMetric(given = "em"): RewardName {
  const known = rewardNames.find((name) => name === given);
  if (known !== undefined) return known;
  const guess = nearest(given, rewardNames);
  const hint = guess === undefined ? undefined : `did you mean ${guess}?`;
  throw new ConfigError({ where: "--metric", what: "wrong value", expected: "em, subem or f1", got: given, hint });
}

function readLimit(given: string | undefined): number | null {
  if (given === undefined) return null;
  const limit = Number(given);
  if (Number.isSafeInteger(limit) && limit > 0) return limit;
  throw new ConfigError({ where: "--limit", what: "wrong value", expected: "an integer from 1", got: given });
}

/** The methods that are judged, in order, and the one they are compared with. */
export interface OpenedMethods {
  readonly methods: readonly Method[];
  readonly reference: string;
  /** That of the configuration, where it is among them: prompts of one's own are its. */
  readonly own: Method | null;
  /** Modules, by the name of their method. */
  readonly modules: ReadonlyMap<string, string>;
}

/** @throws ConfigError for two of one name and for a reference that is not judged; as `openMethod` */
export async function openMethods({ methods: given, compareTo }: TableWish, { rollout, evaluation }: Config): Promise<OpenedMethods> {
  const baselines = evaluation.baselines ? ["direct", "rag"].filter((name) => name !== rollout.method) : [];
  const names = given ?? [...baselines, rollout.method];
  const opened: Method[] = [];
  const modules = new Map<string, string>();
  for (const name of names) {
    const method = await openMethod(name, given?.includes(name) === true ? "--methods" : undefined);
    if (opened.some((one) => one.name === method.name))
      throw new ConfigError({
        where: `--methods ${names.join(",")}`,
        what: `two methods are called ${method.name}`,
        expected: "a name each",
      });
    opened.push(method);
    if (isModuleFile(name)) modules.set(method.name, name);
  }
  const known = opened.map(({ name }) => name);
  const own = opened[names.indexOf(rollout.method)] ?? null;
  const reference = compareTo ?? (given === null ? own?.name : known[0]) ?? "";
  if (!known.includes(reference)) throw unknownMethod(`--compare-to ${reference}`, reference, known);
  return { methods: opened, reference, own, modules };
}
