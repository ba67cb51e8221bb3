/** What must fit together, checked once every key is right by itself. */
import { ConfigError } from "../util/errors.ts";
import type { Config } from "./schema.ts";

/** What a configuration is for. */
export type Purpose = "train" | "evaluate";

/** The search engines that are asked: in training, in judging, and a simulator that is given to see how the policy takes noise. */
export function enginesUsed(config: Config, purpose: Purpose): string[] {
  const { search, evaluation, data, train, simulator } = config;
  const validates = purpose === "train" && data.validation !== null && train.validateEvery > 0;
  const tests = data.test !== null;
  const simulates = tests && evaluation.robustness && (simulator.path !== null || simulator.endpoint !== null);
  const used = [purpose === "train" && search.engine, (validates || tests) && evaluation.engine, simulates && "simulated"];
  return [...new Set(used.filter((name) => name !== false && name !== null))];
}

export function checkTogether(config: Config, purpose: Purpose, locate: (path: readonly string[]) => string): ConfigError[] {
  const { device, rollout, train, data, curriculum, model, algorithm, simulator } = config;
  const mistakes: ConfigError[] = [];
  const need = (right: boolean, key: string, what: string, expected: string, got: string | number, hint?: string) => {
    if (!right) mistakes.push(new ConfigError({ where: locate(key.split(".")), what: `${key} ${what}`, expected, got: String(got), hint }));
  };

  need(
    device.precision === "f32" || device.kind !== "cpu",
    "device.precision",
    "cannot be had on the CPU",
    "f32, or device.kind webgpu",
    device.precision,
  );
  need(
    train.microBatchTokens >= rollout.maxContextTokens,
    "train.microBatchTokens",
    "cannot hold one whole rollout",
    `at least rollout.maxContextTokens (${rollout.maxContextTokens})`,
    train.microBatchTokens,
    "a sequence is never split over two passes; see docs/batch-sizes.md",
  );
  const rollouts = train.questionsPerStep * train.groupSize;
  need(
    train.updatesPerStep <= rollouts,
    "train.updatesPerStep",
    "asks for more updates than there are rollouts in a step",
    `at most train.questionsPerStep x train.groupSize (${rollouts})`,
    train.updatesPerStep,
  );
  need(
    algorithm.name === "reinforce" || train.groupSize >= 2,
    "train.groupSize",
    `leaves ${algorithm.name} without a baseline`,
    "at least 2 (algorithm.name=reinforce needs none)",
    train.groupSize,
  );
  const turn = rollout.maxNewTokens + (rollout.maxTurns > 0 ? rollout.maxObservationTokens : 0);
  need(
    turn < rollout.maxContextTokens,
    "rollout.maxContextTokens",
    "has no room for one turn",
    `more than rollout.maxNewTokens + rollout.maxObservationTokens (${turn})`,
    rollout.maxContextTokens,
  );
  need(
    curriculum.end >= curriculum.start,
    "curriculum.end",
    "is below curriculum.start",
    `at least ${curriculum.start}`,
    curriculum.end,
    "noise rises as training goes on",
  );
  need(
    algorithm.klCoef > 0 || model.referencePolicy === null,
    "model.referencePolicy",
    "is never used",
    "null where algorithm.klCoef is 0",
    JSON.stringify(model.referencePolicy),
  );
  const trains = purpose === "train";
  need(
    !trains || data.train !== null,
    "data.train",
    "is missing",
    "a path",
    "null",
    "Give it in a file (--config FILE) or as data.train=...",
  );
  const engines = enginesUsed(config, purpose);
  need(
    simulator.path === null || simulator.endpoint === null,
    "simulator.path",
    "and simulator.endpoint are both given",
    "one of them: a model in this process, or a server",
    JSON.stringify(simulator.path),
  );
  need(
    !engines.includes("simulated") || simulator.path !== null || simulator.endpoint !== null,
    "simulator.path",
    "is missing",
    "one of them: a model in this process, or a server (simulator.endpoint)",
    "null",
  );
  need(
    simulator.adapter === null || simulator.path !== null,
    "simulator.adapter",
    "is never used",
    "null with simulator.endpoint: the server has its own",
    JSON.stringify(simulator.adapter),
  );
  need(!engines.includes("bm25") || data.corpus !== null, "data.corpus", "is missing", "a path: bm25 has nothing to search", "null");
  return mistakes;
}
