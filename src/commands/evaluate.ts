/** `zerosearch evaluate`: judges a policy as a training run does before and after, without training. */
import { rmSync } from "node:fs";
import { basename, join } from "node:path";
import { methods } from "../agent/methods/index.ts";
import { checkPromptsFit } from "../agent/prompts.ts";
import { writeFileAtomic } from "../checkpoint/atomic.ts";
import { enginesUsed, packagedConfig, readOverride, readYaml, resolveConfig, type ArgumentSpec, type Config } from "../config/index.ts";
import { judge, type JudgedRow } from "../evaluation/judge.ts";
import { evaluationJson, evaluationText, type When } from "../evaluation/report.ts";
import { JsonLines } from "../log/json-lines.ts";
import { policyOfRun, startOfRun, type FoundPolicy } from "../run/find-policy.ts";
import { openTest } from "../run/run-data.ts";
import { Closing } from "../setup/closing.ts";
import { simulatorPositions } from "../setup/open-agents.ts";
import { Engines } from "../setup/open-engines.ts";
import { openMethod } from "../setup/open-method.ts";
import { openPolicy } from "../setup/open-policy.ts";
import { prepareDevice } from "../setup/prepare-device.ts";
import { ConfigError } from "../util/errors.ts";
import { readArguments, say, untilInterrupted } from "./program.ts";

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
    when: { value: "WHEN", doc: "What the rows say of the policy: before or after training (after)." },
    json: { value: "FILE", doc: "Writes the rows there, as evaluation.json of a run." },
    out: {
      value: "FOLDER",
      doc: "Writes evaluation.json there, and judged.jsonl: every question with its whole trajectory and its scores.",
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
  const wish = { run: options.get("run"), file, overrides, purpose: "evaluate" } as const;
  const left = when === "after" ? await policyOfRun(wish) : null;
  const config =
    left?.config ?? startOfRun(wish) ?? resolveConfig([...readYaml(file ?? packagedConfig("quickstart")), ...overrides], "evaluate");
  await untilInterrupted((signal) => evaluate(config, { left, when, json: options.get("json"), out: options.get("out"), signal }));
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
  const { evaluation, rollout, lora, seed } = config;
  const closing = new Closing();
  try {
    const questions = await openTest(config);
    const engines = await Engines.open(config, "evaluate", closing);
    const inProcess = config.simulator.path !== null && enginesUsed(config, "evaluate").includes("simulated");
    const opened = await openPolicy(config, { simulatorPositions: inProcess ? simulatorPositions(config, questions) : null, closing });
    const { policy, simulator, generator } = opened;
    const named = `${config.model.policy}${lora.from === null ? "" : ` with the LoRA adapter ${lora.from}`}`;
    say(`policy ${left?.text ?? named} | seed ${seed}`);
    if (simulator !== null) await engines.add(config, generator, simulator, closing);
    const engine = engines.get(evaluation.engine);
    const { simulate } = engines;
    if (evaluation.robustness && simulate === null)
      say("no simulator is configured: how the policy takes useless documents is not measured");
    const context = opened.judging(engine);
    const method = await openMethod(rollout.method);
    const baselines = evaluation.baselines ? [methods.direct, methods.rag].filter((one) => one !== method) : [];
    for (const { dialect } of [method, ...baselines])
      if (dialect !== undefined) checkPromptsFit(questions, dialect, context, Math.min(rollout.maxContextTokens, policy.maxPositions));
    await prepareDevice(opened.device, config, opened, { trains: false });
    const file = out === undefined ? null : join(out, "judged.jsonl");
    if (file !== null) rmSync(file, { force: true });
    const log = file === null ? null : closing.add(new JsonLines<JudgedRow>(file), (one) => one.close());
    const judged = await judge({
      method,
      baselines,
      engines: [engine],
      questions,
      context,
      model: basename(policy.source),
      when,
      step: left?.step ?? null,
      seed,
      samples: evaluation.bootstrapSamples,
      simulated: !evaluation.robustness || simulate === null ? null : { useful: simulate(0), noisy: simulate(1) },
      onJudged: (row) => log?.append([row]),
      signal,
    });
    log?.sync();
    say(evaluationText([judged], questions));
    for (const to of [json, ...(out === undefined ? [] : [join(out, "evaluation.json")])])
      if (to !== undefined) await writeFileAtomic(to, evaluationJson(judged.rows));
  } finally {
    await closing.close();
  }
}
