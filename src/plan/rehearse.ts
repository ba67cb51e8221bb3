/**
 * A run's program on a device that only counts: its models are opened and its step is taken, with a method whose rollouts are the largest that
 * the configuration allows. Every allocation is that of the program itself.
 */
import { methods } from "../agent/methods/index.ts";
import type { Method } from "../agent/methods/method.ts";
import type { Config } from "../config/index.ts";
import { QuestionSampler } from "../data/question-sampler.ts";
import type { Device, MemoryUse } from "../device/device.ts";
import { blocksFor } from "../generate/block-manager.ts";
import type { BatchGenerator } from "../generate/scheduler.ts";
import { compileTextStops } from "../generate/stop-automaton.ts";
import type { Sequence, StopTable } from "../generate/types.ts";
import { PhaseClock } from "../log/phase-clock.ts";
import { KvCache } from "../nn/kv-cache.ts";
import { KlWeight } from "../rl/kl.ts";
import type { StepRun } from "../run/run.ts";
import { lastStates } from "../search/dense/decoder-embedder.ts";
import { MOST_QUERIES, PassageMatrix } from "../search/dense/matrix.ts";
import { simulatorStop } from "../search/simulation.ts";
import { keep } from "../tensor/scope.ts";
import { full } from "../tensor/tensor.ts";
import { Closing } from "../setup/closing.ts";
import { cacheBytes, decodeRows, usualSimulatorTokens } from "../setup/cache-size.ts";
import { policyName, simulatorName, trainingContext } from "../setup/open-agents.ts";
import { hasCritic } from "../setup/model-roles.ts";
import { learningParameters, type Model } from "../setup/open-model.ts";
import { Engines, idleEngine } from "../setup/open-engines.ts";
import { openLearner } from "../setup/open-learner.ts";
import type { Models } from "../setup/open-models.ts";
import { openOn } from "../setup/open-policy.ts";
import { blankRollout, decodeUntil } from "../setup/prepare-device.ts";
import type { Ledger } from "./ledger.ts";
import { shapesOnly, type PlannedWeights } from "./models.ts";
import type { PlannedPassages } from "./passages.ts";

/** The program that is rehearsed: `trainStep`. */
export type TrainStep = (run: StepRun, step: number) => Promise<unknown>;

/** The lines of the table, besides those of the weights. */
export const parts = {
  gradients: "gradients",
  moments: "moments of AdamW",
  passages: "embeddings of passages",
  cache: "KV cache",
  activations: "activations",
  head: "LM head, one chunk",
  copies: "packed copies of weights",
  scratch: "scratch of kernels",
  captured: "captured decode steps",
  rollout: "rollout: rows, logits, stop tables",
} as const;

export const phases = {
  loading: "loading",
  rollout: "rollout, validation",
  reference: "reference policy",
  values: "critic",
  update: "update",
  watch: "rewarded rollouts again",
} as const;

/** What one forward and backward holds at most. */
export interface WorstBatch {
  /** Tokens of each sequence. */
  readonly lengths: readonly number[];
  /** Of all tokens, those that the policy may have sampled. */
  readonly lossTokens: number;
}

/** Rollouts of full length packed into one micro-batch, and a shorter one that fills it. */
export function worstBatch({ train, rollout }: Config, maxPositions: number): WorstBatch {
  const longest = Math.min(rollout.maxContextTokens, maxPositions) - 1;
  const whole = Math.max(1, Math.floor(train.microBatchTokens / longest));
  const rest = train.microBatchTokens - whole * longest;
  const rollouts = train.questionsPerStep * train.groupSize;
  const lengths = [...Array.from({ length: Math.min(whole, rollouts) }, () => longest), ...(rest > 0 && whole < rollouts ? [rest] : [])];
  const tokens = lengths.reduce((sum, length) => sum + length, 0);
  const share = Math.min(1, ((rollout.maxTurns + 1) * rollout.maxNewTokens) / longest);
  return { lengths, lossTokens: Math.max(1, Math.round(share * tokens)) };
}

export interface RehearseOptions {
  /** Told of the models, whose weights are undefined: on a device that computes, they must be filled. */
  readonly opened?: (models: Models) => void;
  /** Embeddings that are searched. */
  readonly passages?: PlannedPassages | null;
}

/**
 * Runs it, keeping the books in `ledger`, which observes `device`.
 * @throws DeviceError where a kernel refuses its sizes.
 */
export async function rehearse(
  asked: Config,
  planned: readonly PlannedWeights[],
  device: Device,
  ledger: Ledger,
  step: TrainStep,
  { opened, passages = null }: RehearseOptions = {},
): Promise<void> {
  const closing = new Closing();
  // What a few steps record holds as much as what many do.
  const readInterval = Math.min(2, asked.device.readInterval === 0 ? device.readInterval : asked.device.readInterval);
  // Advantages that are rewards: no rollout is left out. From the first step on the policy learns. Rollouts have no text to look for answers in.
  const critic = hasCritic(asked);
  const config: Config = {
    ...asked,
    device: { ...asked.device, readInterval },
    algorithm: { ...asked.algorithm, advantage: critic ? "gae" : "reinforce", whiten: false, dynamicSampling: 0, maskTruncated: false },
    critic: { ...asked.critic, headStartSteps: 0 },
    compat: { ...asked.compat, promptAnswers: false },
  };
  const book = bookOf(ledger);
  try {
    ledger.begin(phases.loading);
    const copies = planned.map(({ copy }) => copy);
    const models = await openOn(device, config, copies, closing, shapesOnly(planned, book));
    opened?.(models);
    book(parts.passages);
    const search = passages === null ? null : await embedded(config, passages, device, models, closing, () => book(parts.rollout));
    const { policy, reference, generator, criticModel } = models;
    book(parts.moments);
    const learner = openLearner(config, { device, policy, criticModel }, closing);
    // They stay from the first update on.
    ledger.begin(phases.rollout);
    book(parts.gradients);
    const learning = [policy, ...(criticModel === null ? [] : [criticModel])].flatMap((one) => [...learningParameters(one).values()]);
    for (const weight of learning)
      weight.grad = keep(full(device, weight.shape, 0, { usage: "parameter", label: `gradient of ${weight.label}` }));

    const { questionsPerStep } = config.train;
    const questions = Array.from({ length: questionsPerStep }, (_, i) => ({
      id: String(i),
      question: "",
      goldenAnswers: [""],
      dataSource: "",
    }));
    const clock = new Phases((name) => {
      ledger.begin(phases[name]);
      book(name === "rollout" ? parts.rollout : parts.activations);
    });
    // Nobody searches: the simulator's sequences are opened besides.
    const engines = new Engines();
    const engine = idleEngine("none");
    const still = { kind: "constant", peak: 0, warmupSteps: 0, finalFraction: 1, totalSteps: 1 } as const;
    const context = trainingContext(config, generator, policy, engine);
    const run: StepRun = {
      ...{ config, device, generator, policy, reference, context, clock, engine, engines, ...learner },
      method: worst(config, generator, models, context.stops(methods.zerosearch.dialect.stops), search),
      reward: () => 1,
      questions: new QuestionSampler(questions, questionsPerStep, config.seed),
      schedule: still,
      criticSchedule: still,
      rate: { factor: 1 },
      klWeight: new KlWeight(config.algorithm.klCoef, { target: 0, horizon: 1 }),
      signal: new AbortController().signal,
    };
    await step(run, 1);
  } finally {
    await closing.close();
  }
}

type StepPhase = Exclude<keyof typeof phases, "loading">;

/** Tells which phase of a step begins. */
class Phases extends PhaseClock {
  readonly #begin: (phase: StepPhase) => void;

  constructor(begin: (phase: StepPhase) => void) {
    super();
    this.#begin = begin;
  }

  override start(phase: StepPhase): void {
    super.start(phase);
    this.#begin(phase);
  }
}

/** Says what is made next is for, but for what kernels and caches take for themselves. */
export function bookOf(ledger: Ledger): (part: string) => void {
  return (part) => {
    ledger.classify = (use) => kernelPart(use) ?? part;
  };
}

/** The line of what a kernel takes for itself, or a cache. */
function kernelPart({ kind, label }: MemoryUse): string | null {
  if (kind === "copy") return parts.copies;
  if (kind === "storage") return /^(key|value) cache of layer /.test(label) ? parts.cache : null;
  if (label.startsWith("scratch of kernel log_prob")) return parts.head;
  return label.startsWith("reserved") ? parts.captured : parts.scratch;
}

/** The embeddings of a run, after the largest batch of passages; returns the largest search among them. */
async function embedded(
  { dense }: Config,
  { passages, width }: PlannedPassages,
  device: Device,
  { embedder }: Models,
  closing: Closing,
  embedding: () => void,
): Promise<() => Promise<void>> {
  const dimensions = width ?? embedder?.decoder.config.width ?? 0;
  const matrix = closing.add(new PassageMatrix({ device, passages, dimensions, dtype: dense.dtype }), (one) => one.dispose());
  embedding();
  const embed = (): void => {
    if (embedder === null) return;
    const most = Math.max(embedder.maxPositions, Math.min(dense.batchTokens, MOST_TEXTS * embedder.maxPositions));
    const texts = Array.from({ length: Math.ceil(most / embedder.maxPositions) }, (_, i) =>
      new Array<number>(Math.min(embedder.maxPositions, most - i * embedder.maxPositions)).fill(0),
    );
    lastStates(embedder.decoder, texts).dispose();
  };
  const search = async (): Promise<void> => {
    embed();
    await matrix.search(
      Array.from({ length: MOST_QUERIES }, () => new Float32Array(dimensions)),
      dense.documents,
    );
  };
  await search();
  return search;
}

/** Texts that are embedded at once. */
const MOST_TEXTS = 256;

/**
 * The worst that rollouts can come to: all rows of the policy decode, then, while what those hold is still held, all rows of the simulator, each
 * after a prefill as large as it gets, for steps enough that a device captures them. Rollouts that do not fit the largest micro-batch are empty.
 */
function worst(
  config: Config,
  generator: BatchGenerator,
  { policy, simulator }: Models,
  policyStop: StopTable,
  search: (() => Promise<void>) | null,
): Method {
  const decode = async (): Promise<void> => {
    const acting = await crowd(config, generator, policyName, policy, config.rollout.maxContextTokens, policyStop);
    await search?.();
    // From here on the simulator has more rows, and comes first.
    acting.at(-1)?.close();
    if (simulator !== null) {
      const { tokenizer, decoder } = simulator;
      const stop = compileTextStops([simulatorStop(config.simulator.documents)], tokenizer, decoder.config.vocabulary);
      const searching = await crowd(config, generator, simulatorName, simulator, usualSimulatorTokens(config), stop);
      for (const sequence of searching) sequence.close();
    }
    for (const sequence of acting) sequence.close();
  };
  const { lengths, lossTokens } = worstBatch(config, policy.maxPositions);
  const share = lossTokens / lengths.reduce((sum, length) => sum + length, 0);
  let decoded: Promise<void> | null = null;
  let rollouts = 0;
  return {
    name: "worst",
    run: async (question, { key, settings: { sampling } }) => {
      const length = lengths[rollouts++] ?? 0;
      await (decoded ??= decode());
      const sampled = Math.min(length, Math.max(1, Math.round(length * share)));
      const nothing = { status: "answered", answer: null, searches: [], invalidActions: 0, turns: 1, text: "" } as const;
      return { ...blankRollout(Math.max(1, length), sampled, key, sampling), question, ...nothing };
    },
  };
}

/**
 * As many sequences of a model as may decode together, with prompts that fill its cache, started and decoding.
 * @param usual - tokens of a usual sequence, by which the cache is sized
 */
async function crowd(
  config: Config,
  generator: BatchGenerator,
  name: string,
  model: Model,
  usual: number,
  stop: StopTable,
): Promise<Sequence[]> {
  const { decoder, maxPositions, adapter } = model;
  const { vocabulary } = decoder.config;
  const interval = config.device.readInterval;
  const blocks = Math.floor(cacheBytes(config, model, usual) / KvCache.bytesFor(decoder.config, 1, config.model.cacheDtype));
  const room = 16 * interval + 1;
  const lengths = promptLengths(decodeRows(config), blocks, maxPositions, room);
  const sequences = lengths.map((length, question) => {
    const key = { step: 0, question, rollout: 0 };
    const prompt = new Array<number>(length).fill(question % vocabulary); // nothing to share
    return generator.open({ model: name, adapter, key, seed: 0, purpose: "policySample", prompt });
  });
  const longest = lengths[0] ?? 1;
  const request = { stop, maxNewTokens: room, sampling: { temperature: 1, topK: 0, topP: 1 } };
  await decodeUntil(sequences, request, longest + Math.min(3 * interval, maxPositions - longest - 1));
  return sequences;
}

/** Tokens of a prefill (`BatchGeneratorOptions.maxPrefillTokens`): more prompts would only be more prefills. */
const prefillTokens = 2048;

/** Lengths of prompts whose sequences fit the cache together with `room` tokens more each: the first as long as can be, the others alike. */
export function promptLengths(rows: number, blocks: number, maxPositions: number, room: number): number[] {
  const longest = Math.max(1, maxPositions - room);
  const own = blocksFor(Math.min(longest + room, maxPositions));
  // The generator leaves some blocks free for rows that grow.
  const spare = (count: number): number => blocks - Math.ceil(count / 8) - 1;
  const each = blocksFor(room + 1);
  const others = Math.max(0, Math.min(rows - 1, Math.floor((spare(rows) - own) / each)));
  const share = others === 0 ? 0 : Math.floor((spare(rows) - own) / others);
  const length = Math.max(1, Math.min(longest, share * 64 - room, Math.ceil(prefillTokens / Math.max(1, others))));
  return [longest, ...Array.from({ length: others }, () => length)];
}
