/** Policy and simulator put together into what rollouts need. */
import type { AgentContext } from "../agent/methods/method.ts";
import { searchTool } from "../agent/dialects/tools.ts";
import type { PromptSettings } from "../agent/prompts.ts";
import type { Config } from "../config/index.ts";
import { promptSet } from "../data/prompt-set.ts";
import type { Device } from "../device/device.ts";
import { BatchGenerator, type GeneratorModel } from "../generate/scheduler.ts";
import type { Question } from "../rl/trajectory.ts";
import { AdaptiveNoise, type NoiseSchedule } from "../search/curriculum.ts";
import type { Engine } from "../search/search-engine.ts";
import { simulatorPrompt, simulatorTemplateOf } from "../search/simulator-prompt.ts";
import { compileStopsOnce } from "../generate/stop-automaton.ts";
import { promptText } from "../text/prompt.ts";
import { toolChat, type ToolChat } from "../text/tool-chat.ts";
import { ConfigError } from "../util/errors.ts";
import type { ScoreRules } from "../util/normalise-answer.ts";
import { cacheBytes, cachedModels, decodeRows } from "./cache-size.ts";
import type { Model } from "./open-model.ts";

/** The names under which the generator knows the models. */
export const policyName = "policy";
export const simulatorName = "simulator";

/**
 * One generator over policy and simulator. What the policy computes with changes, what the simulator does not, even where they share
 * the weights: each has a cache of its own, and every sequence its adapter.
 */
export function openGenerator(config: Config, device: Device, policy: Model, simulator: Model | null): BatchGenerator {
  const [own = 0, other = 0] = cachedModels(config, policy, simulator).map(([model, usual]) => cacheBytes(config, model, usual));
  const models: Record<string, GeneratorModel> = { [policyName]: { decoder: policy.decoder, cacheBytes: own } };
  if (simulator !== null) models[simulatorName] = { decoder: simulator.decoder, frozen: true, cacheBytes: other };
  return new BatchGenerator({
    device,
    models,
    cacheDtype: config.model.cacheDtype,
    maxRows: decodeRows(config),
    ...(config.device.readInterval === 0 ? {} : { readInterval: config.device.readInterval }),
  });
}

/**
 * Positions of the simulator's longest sequence: its documents and a prompt that holds a question, its answer and a query of the
 * policy's. A text has at most as many tokens as bytes; a token that is no text comes back as U+FFFD, three bytes long.
 */
export function simulatorPositions({ simulator, rollout }: Config, questions: readonly Question[]): number {
  const template = simulatorTemplateOf(simulator.prompt, promptSet);
  const longest = questions.reduce(
    (most, { question, goldenAnswers: [answer = ""] }) => Math.max(most, Buffer.byteLength(question) + Buffer.byteLength(answer)),
    0,
  );
  const empty = (["useful", "noisy"] as const).map((kind) =>
    Buffer.byteLength(promptText(simulatorPrompt(template, kind, { question: "", answer: "", query: "" }))),
  );
  return simulator.maxNewTokens + 3 * rollout.maxNewTokens + Math.max(...empty) + longest + chatTokens;
}

/** More than any chat template puts around a message. */
const chatTokens = 256;

/**
 * The prompts of the configuration, through the policy's chat template where it has one.
 * @throws FileError where a prompt is a file that is not there, ConfigError where it has no place for the question.
 */
export function promptSettings(
  { model, rollout: { prompt, chatTemplateKwargs } }: Config,
  { chatTemplate }: Pick<Model, "chatTemplate">,
): PromptSettings {
  const set = prompt === "paper" ? null : promptSet(prompt);
  let tools: ToolChat | null | undefined;
  const offered =
    chatTemplate === null
      ? {}
      : { tools: () => (tools === undefined ? (tools = toolChat(chatTemplate, searchTool, chatTemplateKwargs)) : tools) };
  const chat: PromptSettings["chat"] =
    chatTemplate === null ? undefined : (content) => chatTemplate.renderPrompt([{ role: "user", content }], chatTemplateKwargs);
  // A set is for one model, which knows its words as they are: a template around them is one that is asked for.
  const around = chat === undefined || model.chatTemplate === null ? {} : { chat };
  if (set !== null && set.text === undefined) return { templates: set.policy, ...offered, ...around };
  if (set?.text?.includes("{question}") === false)
    throw new ConfigError({ where: `rollout.prompt=${prompt}`, what: "has no {question}", expected: "{question} where it is to stand" });
  const text = set?.text === undefined ? {} : { text: { template: set.text, file: prompt } };
  // As raw text it begins as the policy's tokenizer begins a text.
  return chat === undefined ? { ...text, encoding: { begin: true } } : { ...text, ...offered, chat };
}

/** What training rollouts share. */
export function trainingContext(config: Config, generator: BatchGenerator, policy: Model, engine: Engine): AgentContext {
  const { maxTurns, maxNewTokens, maxObservationTokens, maxContextTokens, temperature, topK, topP } = config.rollout;
  const { noStops, dropEos, lastSearch, promptAnswers } = config.compat;
  return {
    generator,
    tokenizer: policy.tokenizer,
    stops: compileStopsOnce(policy.tokenizer, policy.decoder.config.vocabulary),
    prompts: promptSettings(config, policy),
    engine,
    rules: scoreRules(config),
    onSearchFailure: config.search.onFailure,
    promptAnswers,
    settings: {
      model: policyName,
      adapter: policy.adapter,
      maxTurns,
      maxNewTokens,
      maxObservationTokens,
      maxContextTokens,
      seed: config.seed,
      purpose: "policySample",
      sampling: { temperature, topK, topP },
      faults: { noStops, dropEos, lastSearch },
    },
  };
}

/** How a configuration compares answers. */
export function scoreRules({ reward, compat }: Pick<Config, "reward" | "compat">): ScoreRules {
  const { emptyAnswers, containmentAsEm } = compat;
  return { normalizer: reward.normalizer, emptyAnswersAsSquad: emptyAnswers, ...(containmentAsEm ? { containmentAsEm } : {}) };
}

/**
 * The same for an evaluation with a search engine: greedy, but for compat.sampledEvaluation. The stop tables are the same ones, of which the
 * device keeps one copy each.
 */
export function evaluationContext({ compat }: Pick<Config, "compat">, training: AgentContext, engine: Engine): AgentContext {
  const { settings, onSearchFailure } = training;
  const sampling = compat.sampledEvaluation ? settings.sampling : { temperature: 0, topK: 0, topP: 1 };
  // Every question is judged.
  const failing = onSearchFailure === "leave-out" ? { onSearchFailure: "void" as const } : {};
  return { ...training, ...failing, engine, settings: { ...settings, purpose: "evaluation", sampling } };
}

/** The configured noise over a run. @throws ConfigError for a band of rewards that is none */
export function curriculum({ curriculum, train: { steps }, seed }: Config): NoiseSchedule | AdaptiveNoise {
  const { start, end, base, form, rewardLow, rewardHigh, change } = curriculum;
  if (form === "adaptive") return new AdaptiveNoise({ start, end, low: rewardLow, high: rewardHigh, change });
  return { start, end, base, steps, ...(form === "rising" ? {} : { form }), ...(form === "random" ? { seed } : {}) };
}
