/** `zerosearch evaluate`: judges a policy as a training run does before and after, without training. */
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { withoutText } from "../agent/prompts.ts";
import { writeFault, writeFileAtomic } from "../checkpoint/atomic.ts";
import { enginesUsed, packagedConfig, readOverride, readYaml, resolveConfig, type ArgumentSpec, type Config } from "../config/index.ts";
import { judge, type JudgedRow } from "../evaluation/judge.ts";
import { evaluationJson, evaluationText, type When } from "../evaluation/report.ts";
import { JsonLines } from "../log/json-lines.ts";
import { steadyClock } from "../log/progress.ts";
import { dryEvaluation } from "../plan/dry-run.ts";
import { costText } from "../run/costs.ts";
import { evaluationFile, judgedFile, judgeSettings } from "../run/judge.ts";
import { policyOfRun, startOfRun, type FoundPolicy } from "../run/find-policy.ts";
import { openTest } from "../run/run-data.ts";
import { Closing } from "../setup/closing.ts";
import { simulatorPositions } from "../setup/open-agents.ts";
import { Engines } from "../setup/open-engines.ts";
import { locateData } from "../setup/locate-data.ts";
import { checkMethodFits, openMethod } from "../setup/open-method.ts";
import { openJudgedPolicy } from "../setup/open-judged.ts";
import { ConfigError, FileError } from "../util/errors.ts";
import { dryTable } from "./evaluate/dry-table.ts";
import { evaluateTable } from "./evaluate/table.ts";
import { readWish, tableOptions, type TableWish } from "./evaluate/wish.ts";
import { budgetHint, readArguments, say, sayBase, untilInterrupted } from "./program.ts";

const spec: ArgumentSpec = {
  program: "zerosearch evaluate",
  summary: "Judges a policy on test questions, greedy, with a real search engine, beside direct answers and RAG with the same model.",
  options: {
    config: {
      value: "FILE",
      doc: "YAML file as for training (configs/quickstart.yaml where it is left out); a run's own config.yaml is as --run.",
    },
    run: {
      value: "NAME",
      doc: "Judges what this run left, its best state or else its newest, with its own configuration; with --when before, what it started from.",
    },
    device: { value: "KIND", doc: "Short for device.kind=KIND." },
    ...tableOptions,
    when: { value: "WHEN", doc: "What the rows say of the policy: before or after training (after)." },
    "dry-run": { doc: "Says how many searches it would make at most, and what they would cost where they have a price, and stops." },
    json: { value: "FILE", doc: "Writes the rows there, as evaluation.json of a run." },
    out: {
      value: "FOLDER",
      doc: "Writes evaluation.json there, and judged.jsonl: every question with its whole trajectory and its scores; of several methods, engines or sets also table.md and table.svg.",
    },
  },
  settings: true,
};

export async function main(argv: readonly string[]): Promise<void> {
  const read = readArguments(argv, spec);
  if (read === null) return;
  const { options, settings } = read;
  const device = options.get("device");
  const overrides = [...settings, ...(device === undefined ? [] : [`device.kind=${device}`])].map(readOverride);
  const when = options.get("when") ?? "after";
  if (when !== "before" && when !== "after") {
    throw new ConfigError({ where: "--when", what: "wrong value", expected: "before or after", got: when });
  }
  const file = options.get("config");
  const table = readWish(options);
  const purpose = table === null ? "evaluate" : "compare";
  const wish = { run: options.get("run"), file, overrides, purpose } as const;
  const left = when === "after" ? await policyOfRun(wish) : null;
  const ofRun = left?.config ?? startOfRun(wish);
  if (ofRun === null) sayBase(options);
  const config = ofRun ?? resolveConfig([...readYaml(file ?? packagedConfig("quickstart")), ...overrides], purpose);
  if (table !== null) {
    await compareAll(config, table, { left, when, options });
    return;
  }
  if (options.has("dry-run")) {
    process.stdout.write(await dryEvaluation(config));
    return;
  }
  await untilInterrupted(async (signal) => {
    const { opened } = await locateData(config, { signal });
    await evaluate(opened, { left, when, json: options.get("json"), out: options.get("out"), signal });
  });
}

/** The table of several methods, engines or sets. What a run trained on is of no use to it, nor the Hub's copy of it. */
async function compareAll(
  { data, ...config }: Config,
  table: TableWish,
  { left, when, options }: Pick<Wanted, "left" | "when"> & { readonly options: ReadonlyMap<string, string> },
): Promise<void> {
  const judged: Config = { ...config, data: { ...data, train: null, validation: null } };
  const out = options.get("out");
  if (options.has("dry-run")) {
    await dryTable(judged, table);
    return;
  }
  await untilInterrupted(
    async (signal) => {
      const { opened } = await locateData(judged, { signal });
      await evaluateTable(opened, table, { left, when, json: options.get("json"), out, signal });
    },
    { leave: () => (out === undefined ? undefined : say("Stopped; what was judged is kept: --resume goes on.")) },
  );
}

interface Wanted {
  /** What a run left, where a run is judged after training. */
  readonly left: FoundPolicy | null;
  readonly when: When;
  readonly json: string | undefined;
  readonly out: string | undefined;
  readonly signal: AbortSignal;
}

async function evaluate(config: Config, { left, when, json, out, signal }: Wanted): Promise<void> {
  const closing = new Closing();
  await closing.after(async () => {
    const questions = await openTest(config, say);
    const method = await openMethod(config.rollout.method);
    const used = enginesUsed(config, "evaluate", method.searches);
    const engines = await Engines.open(config, used, closing, { signal, budgetHint });
    const positions = used.includes("simulated") ? simulatorPositions(config, questions) : null;
    const policy = await openJudgedPolicy(config, { simulatorPositions: positions, embeds: used.includes("dense"), say, closing });
    const { seed, evaluation } = config;
    say(`policy ${left?.text ?? policy.text} | seed ${seed}`);
    if (policy.parts !== null) await engines.add(config, policy.parts, closing, signal);
    if (method.searches !== false && evaluation.robustness && engines.simulate === null)
      say("no simulator is configured: how the policy takes useless documents is not measured");
    const context = policy.judging(engines.get(evaluation.engine));
    const settings = judgeSettings(config, { method, engines, name: policy.name });
    const baseline = { ...context, prompts: withoutText(context.prompts) };
    for (const one of [method, ...settings.baselines])
      await checkMethodFits(one, questions, one === method ? context : baseline, policy.maxPositions);
    await policy.prepare();
    const log = out === undefined ? null : closing.add(openJudged(out), (one) => one.close());
    const onJudged = (row: JudgedRow): void => log?.append([row]);
    const step = left?.step ?? null;
    const from = steadyClock();
    const judged = await judge({ ...settings, questions, context, when, step, onJudged, signal });
    log?.sync();
    for (const line of policy.warnings()) say(`warning: ${line}`);
    say(evaluationText([judged], questions, context.rules));
    const counts = { ...engines.takeCounts(), ...policy.takeCounts() };
    const cost = costText(config, { seconds: (steadyClock() - from) / 1000, simulated: 0, counts });
    if (cost !== "") say(`${cost}\n`);
    for (const to of [json, ...(out === undefined ? [] : [join(out, evaluationFile)])])
      if (to !== undefined) await writeFileAtomic(to, evaluationJson(judged.rows));
  });
}

/** An empty `judged.jsonl`; what an earlier evaluation left beside it goes first. @throws FileError */
function openJudged(folder: string): JsonLines<JudgedRow> {
  try {
    mkdirSync(folder, { recursive: true });
    for (const name of [evaluationFile, judgedFile]) rmSync(join(folder, name), { force: true });
  } catch (cause) {
    const { code = "", message } = cause as NodeJS.ErrnoException;
    const [what, hint] = writeFault(code, message);
    throw new FileError({ where: `--out ${folder}`, what, hint: `${hint}; nothing was judged` }, { cause });
  }
  return new JsonLines(join(folder, judgedFile), "give the same command again, which begins anew");
}
