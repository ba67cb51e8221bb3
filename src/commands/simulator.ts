/** `zerosearch simulator report`: what a simulator is worth on held-out questions, beside a real engine. */
import {
  argumentsHelp,
  packagedConfig,
  parseArguments,
  readOverride,
  readYaml,
  resolveConfig,
  type ArgumentSpec,
  type Config,
} from "../config/index.ts";
import { writeFileAtomic } from "../checkpoint/atomic.ts";
import { Progress, steadyClock } from "../log/progress.ts";
import { openTest } from "../run/run-data.ts";
import type { Engine } from "../search/search-engine.ts";
import { Closing } from "../setup/closing.ts";
import { locateData } from "../setup/locate-data.ts";
import { scoreRules, simulatorPositions } from "../setup/open-agents.ts";
import { Engines } from "../setup/open-engines.ts";
import { openMethod } from "../setup/open-method.ts";
import { openPolicy } from "../setup/open-policy.ts";
import { prepareDevice } from "../setup/prepare-device.ts";
import { measureGap, type Gap } from "../simulator/gap.ts";
import { queriesOf, type QuerySource } from "../simulator/queries.ts";
import { reportOn, type SetRow } from "../simulator/report.ts";
import { gapText, reportMarkdown, reportTable } from "../simulator/report-text.ts";
import { ConfigError } from "../util/errors.ts";
import { budgetHint, say, sayBase, untilInterrupted } from "./program.ts";

const spec: ArgumentSpec = {
  program: "zerosearch simulator report",
  summary:
    "Asks a simulator (simulator.path or simulator.endpoint) for useful and noisy sets on the questions of data.test, and a real engine (evaluation.engine) for the same: how many hold the answer, how many give it away, what they are like.",
  options: {
    config: { value: "FILE", doc: "YAML file as for training (configs/quickstart.yaml where it is left out)." },
    searches: {
      value: "FILE",
      doc: "Queries to ask: rollouts.jsonl of a run or of zerosearch collect, or judged.jsonl of an evaluation. Without it, metadata.queries of the questions, or their own text.",
    },
    gap: { doc: "Also lets the policy answer with both, the simulator's noise set to the real engine's share of useless first sets." },
    "no-engine": { doc: "Asks no real engine." },
    device: { value: "KIND", doc: "Short for device.kind=KIND." },
    json: { value: "FILE", doc: "Writes the report there." },
    markdown: { value: "FILE", doc: "Writes the tables there, as Markdown." },
  },
  settings: true,
};

/** What `--json` writes. */
interface Report {
  readonly simulator: string;
  readonly engine: string | null;
  readonly rows: readonly SetRow[];
  /** Sets and, where they are counted, tokens that the simulator wrote in a second, all under way at once. */
  readonly setsPerSecond: number;
  readonly tokensPerSecond: number | null;
  readonly gap: Gap | null;
}

export async function main(argv: readonly string[]): Promise<void> {
  const [action, ...rest] = argv;
  if (action === undefined || action.startsWith("-")) {
    process.stdout.write(argumentsHelp(spec));
    return;
  }
  if (action !== "report")
    throw new ConfigError({ where: "zerosearch simulator", what: "unknown action", expected: "report", got: action });
  const { options, settings } = parseArguments(rest, spec);
  if (options.has("help")) {
    process.stdout.write(argumentsHelp(spec));
    return;
  }
  const device = options.get("device");
  const overrides = [...settings, ...(device === undefined ? [] : [`device.kind=${device}`])].map(readOverride);
  sayBase(options);
  const file = options.get("config") ?? packagedConfig("quickstart");
  const config = resolveConfig([...readYaml(file), ...overrides], "evaluate");
  const wanted = { searches: options.get("searches"), gap: options.has("gap"), compares: !options.has("no-engine") };
  if (wanted.gap && !wanted.compares)
    throw new ConfigError({ where: "--gap", what: "compares with a real engine", expected: "no --no-engine beside it" });
  await untilInterrupted(async (signal) => {
    const { opened } = await locateData(config, { signal });
    const report = await measure(opened, { ...wanted, signal });
    say(`\n${reportTable(report)}`);
    if (report.gap !== null) say(`\n${gapText(report.gap, report.engine ?? "")}`);
    const [json, markdown] = [options.get("json"), options.get("markdown")];
    if (json !== undefined) await writeFileAtomic(json, `${JSON.stringify(report, null, 1)}\n`);
    if (markdown !== undefined) await writeFileAtomic(markdown, reportMarkdown(report));
  });
}

interface Wanted {
  readonly searches: string | undefined;
  readonly gap: boolean;
  readonly compares: boolean;
  readonly signal: AbortSignal;
}

async function measure(config: Config, { searches, gap, compares, signal }: Wanted): Promise<Report> {
  const { simulator, evaluation, seed } = config;
  if (simulator.path === null && simulator.endpoint === null)
    throw new ConfigError({
      where: "simulator.path",
      what: "is missing",
      expected: "a model, or a server (simulator.endpoint)",
      got: "null",
    });
  if (compares && evaluation.engine === "simulated")
    throw new ConfigError({
      where: "evaluation.engine",
      what: "is a simulator",
      expected: "a real engine, or --no-engine",
      got: "simulated",
    });
  const closing = new Closing();
  return closing.after(async () => {
    const questions = await openTest(config, say);
    const source: QuerySource = searches === undefined ? "questions" : { file: searches };
    const queries = await queriesOf(questions, source);
    const method = await openMethod(config.rollout.method);
    const used = ["simulated", ...(compares ? [evaluation.engine] : [])];
    const engines = await Engines.open(config, used, closing, { signal, budgetHint });
    const opened = await openPolicy(config, {
      simulatorPositions: simulatorPositions(config, questions),
      embeds: used.includes("dense"),
      closing,
    });
    const { generator } = opened;
    await engines.add(config, opened, closing, signal);
    await prepareDevice(opened.device, config, opened, { trains: false });
    const { simulate } = engines;
    if (simulate === null) throw new ConfigError({ where: "simulator.path", what: "is not open", expected: "a simulator" });
    const engine: Engine | null = compares ? engines.get(evaluation.engine) : null;
    generator.takeCounts();
    engines.takeCounts();
    const total = queries.length * (engine === null ? 3 : 4);
    const progress = new Progress({ label: "asking", total, unit: "sets", plainInterval: 15_000 });
    const begun = steadyClock();
    let ended = begun;
    let sets = 0;
    const rows = await reportOn(queries, {
      ...{
        simulators: { useful: simulate(0), noisy: simulate(1) },
        engine,
        documents: simulator.documents,
        rules: scoreRules(config),
        seed,
        signal,
      },
      onSet: (done, kind) => {
        if (kind !== "real") [ended, sets] = [steadyClock(), sets + 1];
        progress.update(Math.min(done, total));
      },
    }).finally(() => progress.finish());
    const seconds = (ended - begun) / 1000;
    const written = generator.takeCounts().get("simulator")?.sampledTokens ?? engines.takeCounts()["simulator_completion_tokens"] ?? 0;
    const answering = { label: "answering", total: 2 * questions.length, plainInterval: 15_000 };
    const bar = gap ? new Progress(answering) : null;
    const context = opened.judging(engines.get(evaluation.engine));
    const measured =
      bar === null || engine === null
        ? null
        : await measureGap(questions, {
            ...{ context, method, engine, simulator: simulate, seed, signal },
            onFinished: (_, finished) => bar.update(finished),
          }).finally(() => bar.finish());
    return {
      simulator: simulator.path ?? [simulator.endpoint].flat().join(", "),
      engine: engine === null ? null : evaluation.engine,
      rows,
      setsPerSecond: sets / seconds,
      tokensPerSecond: written === 0 ? null : written / seconds,
      gap: measured,
    };
  });
}
