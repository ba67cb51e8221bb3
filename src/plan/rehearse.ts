/**
 * A run's program on a device that only counts: the models are opened, then rollouts, the reference's log-probabilities and an update are
 * asked for, at the largest sizes that the configuration allows. Every allocation is that of the program itself.
 */
import { methods } from "../agent/methods/index.ts";
import type { Config } from "../config/index.ts";
import type { Device, MemoryUse } from "../device/device.ts";
import { blocksFor } from "../generate/block-manager.ts";
import type { BatchGenerator } from "../generate/scheduler.ts";
import type { Sequence } from "../generate/types.ts";
import { KvCache } from "../nn/kv-cache.ts";
import type { Scored, Trajectory } from "../rl/trajectory.ts";
import { tokenLogProbs, update, type ForwardSettings } from "../rl/update.ts";
import { compileTextStops } from "../generate/text-stops.ts";
import { simulatorStop } from "../search/simulation.ts";
import { keep } from "../tensor/scope.ts";
import { full } from "../tensor/tensor.ts";
import { Closing } from "../setup/closing.ts";
import { cacheBytes, decodeRows, openGenerator, policyName, simulatorName, usualSimulatorTokens } from "../setup/open-agents.ts";
import { learningParameters, type Model } from "../setup/open-model.ts";
import { openLearner } from "../setup/open-learner.ts";
import type { Models } from "../setup/open-models.ts";
import type { Ledger } from "./ledger.ts";
import { openHollowModels, type PlannedWeights } from "./models.ts";

/** The lines of the table, besides those of the weights. */
export const parts = {
  gradients: "gradients",
  moments: "moments of AdamW",
  cache: "KV cache",
  activations: "activations",
  head: "LM head, one chunk",
  copies: "packed copies of weights",
  scratch: "scratch of kernels",
  captured: "captured decode steps",
  rollout: "rollout: rows, logits, stop tables",
} as const;

export const phases = { loading: "loading", rollout: "rollout, validation", reference: "reference policy", update: "update" } as const;

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

/**
 * Runs it, keeping the books in `ledger`, which observes `device`. `opened` is told of the models, whose weights are undefined: on a
 * device that computes, they must be filled.
 * @throws DeviceError where a kernel refuses its sizes.
 */
export async function rehearse(
  asked: Config,
  planned: readonly PlannedWeights[],
  device: Device,
  ledger: Ledger,
  opened?: (models: Models) => void,
): Promise<void> {
  const closing = new Closing();
  // What a few steps record holds as much as what many do.
  const readInterval = Math.min(2, asked.device.readInterval === 0 ? device.readInterval : asked.device.readInterval);
  const config: Config = { ...asked, device: { ...asked.device, readInterval } };
  const book = (part: string): void => {
    ledger.classify = (use) => kernelPart(use) ?? part;
  };
  try {
    ledger.begin(phases.loading);
    const models = await openHollowModels(config, planned, device, book);
    opened?.(models);
    book(parts.cache);
    const { policy, simulator, reference } = models;
    const generator = closing.add(openGenerator(config, device, policy, simulator), (one) => one.dispose());
    book(parts.moments);
    const { optimizer } = openLearner(config, { device, policy }, closing);

    const { train, algorithm } = config;
    const settings: ForwardSettings = {
      microBatchTokens: train.microBatchTokens,
      cacheDtype: config.model.cacheDtype,
      recompute: train.recompute,
      adapter: policy.adapter,
    };
    ledger.begin(phases.rollout);
    // They stay from the first update on.
    book(parts.gradients);
    for (const weight of learningParameters(policy).values())
      weight.grad = keep(full(device, weight.shape, 0, { usage: "parameter", label: `gradient of ${weight.label}` }));

    book(parts.rollout);
    await rollOut(config, generator, models);
    const batch = scored(worstBatch(config, policy.maxPositions));
    let known: Awaited<ReturnType<typeof tokenLogProbs>> | null = null;
    if (reference !== null) {
      ledger.begin(phases.reference);
      book(parts.activations);
      const trajectories = batch.map(({ trajectory }) => trajectory);
      known = await tokenLogProbs(reference.decoder, trajectories, { ...settings, adapter: reference.adapter });
      // While they are waited for, the generator finds that it has nothing to do, and frees what it had captured.
      for (let i = 0; i < 10; i++) await nextTask();
    }
    ledger.begin(phases.update);
    book(parts.activations);
    const { clipLow, clipHigh, klCoef, entropyCoef } = algorithm;
    await update(policy.decoder, optimizer, batch, { ...settings, clipLow, clipHigh, klCoef, entropyCoef }, 0, known);
  } finally {
    await closing.close();
  }
}

/** The line of what a kernel takes for itself. */
function kernelPart({ kind, label }: MemoryUse): string | null {
  if (kind === "copy") return parts.copies;
  if (kind === "storage") return null;
  if (label.startsWith("scratch of kernel log_prob")) return parts.head;
  return label.startsWith("reserved") ? parts.captured : parts.scratch;
}

function scored({ lengths, lossTokens }: WorstBatch): Scored[] {
  const tokens = lengths.reduce((sum, length) => sum + length, 0);
  return lengths.map((length, i) => {
    const sampled = Math.min(length, Math.max(1, Math.round((length * lossTokens) / tokens)));
    const ids = new Array<number>(length + 1).fill(0);
    const trajectory: Trajectory = {
      key: { step: 1, question: i, rollout: 0 },
      promptLength: 1,
      ids,
      lossMask: ids.map((_, t) => (t > length - sampled ? 1 : 0)),
      logProbs: ids.map(() => 0),
      sampling: { temperature: 1, topK: 0, topP: 1 },
    };
    return { trajectory, reward: 1, advantage: 1 };
  });
}

/**
 * All rows of the policy decode, then, while what those hold is still held, all rows of the simulator: each after a prefill as large as
 * it gets, for steps enough that a device captures them.
 */
async function rollOut(config: Config, generator: BatchGenerator, { policy, simulator }: Models): Promise<void> {
  const acting = new Crowd(config, generator, policyName, policy, config.rollout.maxContextTokens, methods.zerosearch.dialect.stops);
  await acting.begun();
  // From here on the simulator has more rows, and comes first.
  acting.closeOne();
  if (simulator !== null) {
    const stops = [simulatorStop(config.simulator.documents)];
    const searching = new Crowd(config, generator, simulatorName, simulator, usualSimulatorTokens(config), stops);
    await searching.begun();
    searching.close();
  }
  acting.close();
}

/** As many sequences as may decode together; none comes to its end before it is closed. */
class Crowd {
  private readonly sequences: readonly Sequence[];
  /** Tokens of the first sequence when enough steps have been taken. */
  private readonly enough: number;
  private closed = false;
  private failure: Error | null = null;

  /** `usual`: tokens of a usual sequence, by which the cache is sized. */
  constructor(config: Config, generator: BatchGenerator, name: string, model: Model, usual: number, stops: readonly string[]) {
    const { decoder, maxPositions, adapter } = model;
    const { vocabulary } = decoder.config;
    const interval = config.device.readInterval;
    const blocks = Math.floor(cacheBytes(config, model, usual) / KvCache.bytesFor(decoder.config, 1, config.model.cacheDtype));
    const room = 16 * interval + 1;
    const lengths = promptLengths(decodeRows(config), blocks, maxPositions, room);
    const longest = lengths[0] ?? 1;
    this.enough = longest + Math.min(3 * interval, maxPositions - longest - 1);
    const stop = compileTextStops(stops, { eosIds: [], tokenBytes: () => noBytes }, vocabulary);
    this.sequences = lengths.map((length, i) => {
      const key = { step: 0, question: i, rollout: 0 };
      const prompt = new Array<number>(length).fill(i % vocabulary); // nothing to share
      return generator.open({ model: name, adapter, key, seed: 0, purpose: "policySample", prompt });
    });
    for (const sequence of this.sequences)
      sequence.generate({ stop, maxNewTokens: room, sampling: { temperature: 1, topK: 0, topP: 1 } }).catch((error: unknown) => {
        if (!this.closed) this.failure ??= error as Error;
      });
  }

  /** Resolves when enough steps have been taken. @throws what the generator refuses */
  async begun(): Promise<void> {
    const [first] = this.sequences;
    while (this.failure === null && first !== undefined && first.ids.length < this.enough) await nextTask();
    if (this.failure !== null) throw this.failure;
  }

  closeOne(): void {
    this.closed = true;
    this.sequences.at(-1)?.close();
  }
  close(): void {
    this.closed = true;
    for (const sequence of this.sequences) sequence.close();
  }
}

function nextTask(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

/** Tokens of a prefill (`BatchGeneratorOptions.maxPrefillTokens`): more prompts would only be more prefills. */
const prefillTokens = 2048;
const noBytes = new Uint8Array(0);

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
