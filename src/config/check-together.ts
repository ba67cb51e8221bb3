/** What must fit together, checked once every key is right by itself. */
import { methods } from "../agent/methods/index.ts";
import type { Method } from "../agent/methods/method.ts";
import { deviceUses } from "../device/options.ts";
import { ConfigError } from "../util/errors.ts";
import { checkAlgorithm } from "./check-algorithm.ts";
import { findKey, valueAt } from "./keys.ts";
import type { Config } from "./schema.ts";

/** What a configuration is for; "compare" is an evaluation whose engines and questions are named beside it (`checkEngines`). */
export type Purpose = "train" | "evaluate" | "compare" | "ask" | "sft" | "collect";

/**
 * The search engines that are asked: in training, in judging, and a simulator that is given to see how the policy takes noise. A user's own
 * question is asked with the one that judges, but for a simulator, which would need its answer.
 * @param searches - whether the method asks any; one that is a module does, as far as its name tells
 */
export function enginesUsed(config: Config, purpose: Purpose, searches = searchesByName(config.rollout.method)): string[] {
  const { search, evaluation, data, train, simulator } = config;
  if (purpose === "sft" || purpose === "compare") return [];
  if (purpose === "collect") return [evaluation.engine];
  if (purpose === "ask") return searches && evaluation.engine !== "simulated" ? [evaluation.engine] : [];
  const trains = searches && purpose === "train";
  const validates = trains && data.validation !== null && train.validateEvery > 0;
  // One of the baselines is RAG.
  const tests = data.test !== null && (searches || evaluation.baselines);
  // A policy behind an endpoint leaves nothing to open a simulator of this process on.
  const opensSimulator = simulator.endpoint !== null || (simulator.path !== null && (trains || evaluation.endpoint === null));
  const simulates = searches && tests && evaluation.robustness && opensSimulator;
  const used = [trains && search.engine, (validates || tests) && evaluation.engine, simulates && "simulated"];
  return [...new Set(used.filter((name) => name !== false && name !== null))];
}

function searchesByName(name: string): boolean {
  return Object.entries<Method>(methods).find(([known]) => known === name)?.[1].searches !== false;
}

/** What engines need that an evaluation asks besides those of its configuration. @throws ConfigError, the first mistake */
export function checkEngines(config: Config, engines: readonly string[]): void {
  const [mistake] = checkTogether(config, "compare", () => "configuration", engines);
  if (mistake !== undefined) throw mistake;
}

/** @param given - the engines that are asked, where the configuration does not say */
export function checkTogether(
  config: Config,
  purpose: Purpose,
  locate: (path: readonly string[]) => string,
  given?: readonly string[],
): ConfigError[] {
  const { device, rollout, train, data, curriculum, model, algorithm, simulator, bm25, dense } = config;
  const mistakes: ConfigError[] = [];
  // Judging obeys no setting of training.
  const judging = purpose !== "train";
  const need = (right: boolean, key: string, what: string, expected: string, hint?: string): void => {
    if (right) return;
    const given = valueAt(config, key);
    const got = findKey(key)?.path === true ? JSON.stringify(given) : String(given);
    mistakes.push(new ConfigError({ where: locate(key.split(".")), what: `${key} ${what}`, expected, got, hint }));
  };

  const { maxContextTokens, maxNewTokens, maxTurns, maxObservationTokens } = rollout;
  const able = Object.entries<readonly string[]>(deviceUses).flatMap(([name, uses]) => (uses.includes("precision") ? [name] : []));
  const rounds = device.precision === "f32" || device.kind === "auto" || able.includes(device.kind);
  need(rounds, "device.precision", `cannot be had with device.kind ${device.kind}`, `f32, or device.kind ${able.join(" or ")}`);
  need(
    judging || train.microBatchTokens >= maxContextTokens,
    "train.microBatchTokens",
    "cannot hold one whole rollout",
    `at least rollout.maxContextTokens (${maxContextTokens})`,
    "a sequence is never split over two passes; see docs/batch-sizes.md",
  );
  const rollouts = train.questionsPerStep * train.groupSize;
  need(
    judging || train.updatesPerStep <= rollouts,
    "train.updatesPerStep",
    "asks for more updates than there are rollouts in a step",
    `at most train.questionsPerStep x train.groupSize (${rollouts})`,
  );
  if (!judging) checkAlgorithm(config, need);
  const turn = maxNewTokens + (maxTurns > 0 ? maxObservationTokens : 0);
  const room = `more than rollout.maxNewTokens + rollout.maxObservationTokens (${turn})`;
  need(turn < maxContextTokens, "rollout.maxContextTokens", "has no room for one turn", room);
  const { start, end } = curriculum;
  need(judging || end >= start, "curriculum.end", "is below curriculum.start", `at least ${start}`, "noise rises as training goes on");
  const { rewardLow, rewardHigh } = curriculum;
  need(rewardLow <= rewardHigh, "curriculum.rewardHigh", "is below curriculum.rewardLow", `at least ${rewardLow}`);
  const compared = judging || algorithm.klCoef > 0 || model.referencePolicy === null;
  need(compared, "model.referencePolicy", "is never used", "null where algorithm.klCoef is 0");
  const asked = (judging && purpose !== "collect") || data.train !== null;
  need(asked, "data.train", "is missing", "a path", "Give it in a file (--config FILE) or as data.train=...");
  const tuned = purpose !== "sft" || config.sft.data !== null;
  need(tuned, "sft.data", "is missing", "a file of examples, {messages} or {prompt, output} a line", "docs/sft.md shows them.");
  const engines = given ?? enginesUsed(config, purpose);
  const here = (purpose !== "train" && purpose !== "ask") || config.evaluation.endpoint === null;
  const unable = purpose === "train" ? "cannot be trained" : "is never asked";
  need(here, "evaluation.endpoint", unable, "null: zerosearch evaluate judges a policy behind an endpoint");
  const real = (purpose !== "ask" && purpose !== "collect") || config.evaluation.engine !== "simulated";
  need(
    real,
    "evaluation.engine",
    purpose === "collect"
      ? "is a simulator: what it wrote is not what one learns from"
      : "is told the right answer, which nobody has given",
    "a real engine, such as bm25 over data.corpus",
  );
  const { path, endpoint, adapter } = simulator;
  const one = "one of them: a model in this process, or a server";
  need(path === null || endpoint === null, "simulator.path", "and simulator.endpoint are both given", one);
  if (purpose === "collect") checkCollect(config, need);
  const simulates = !engines.includes("simulated") || path !== null || endpoint !== null;
  need(simulates, "simulator.path", "is missing", `${one} (simulator.endpoint)`);
  const isOpen = purpose === "compare" && given === undefined;
  const adapts = adapter === null || path !== null;
  need(adapts, "simulator.adapter", "is never used", "null with simulator.endpoint: the server has its own");
  need(
    config.search.budget === null || isOpen || engines.includes("http") || engines.includes("mcp"),
    "search.budget",
    "is never used",
    "null, or an engine that is paid (http, mcp)",
  );
  const { api } = config.http;
  need(!engines.includes("http") || api !== null, "http.api", "is missing", "a service such as serper, or a YAML file of your own");
  const { command, url } = config.mcp;
  const server = "one of them: a program to start, or the address of a server (mcp.url)";
  need(!engines.includes("mcp") || command !== null || url !== null, "mcp.command", "is missing", server);
  const passages = data.corpus !== null || bm25.index !== null;
  need(passages || !engines.includes("bm25"), "data.corpus", "is missing", "a path, or an index in bm25.index: bm25 has nothing to search");
  if (engines.includes("dense")) {
    const given = (["path", "encoder", "endpoint"] as const).filter((name) => dense[name] !== null);
    const embedder = "one of dense.path (a decoder), dense.encoder and dense.endpoint (a server): what makes the embeddings";
    need(given.length > 0, "dense.path", "is missing", embedder);
    need(given.length < 2, `dense.${given[1] ?? "path"}`, `and dense.${given[0] ?? "path"} are both given`, embedder);
    need(dense.endpoint === null || dense.endpointModel !== "", "dense.endpointModel", "is missing", "the name of a model at the endpoint");
    const searched = data.corpus !== null || dense.index !== null;
    need(searched, "data.corpus", "is missing", "a path, or an index in dense.index: dense has nothing to search");
  }
  return mistakes;
}

/** Of `zerosearch collect`: an endpoint where one is asked, and none where none is. */
function checkCollect(
  { collect, judge }: Config,
  need: (right: boolean, key: string, what: string, expected: string, hint?: string) => void,
): void {
  const server = "a base URL such as http://127.0.0.1:6001/v1";
  const [asks, judges] = [collect.policy === "endpoint", judge.kind === "endpoint"];
  need(!asks || collect.endpoint !== null, "collect.endpoint", "is missing", `${server}, as collect.policy is endpoint`);
  need(asks || collect.endpoint === null, "collect.endpoint", "is never used", "null where collect.policy is not endpoint");
  need(!judges || judge.endpoint !== null, "judge.endpoint", "is missing", `${server}, as judge.kind is endpoint`);
  need(judges || judge.endpoint === null, "judge.endpoint", "is never used", "null where judge.kind is not endpoint");
  need(judge.kind === "model" || judge.path === null, "judge.path", "is never used", "null where judge.kind is not model");
}
