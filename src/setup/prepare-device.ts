/**
 * Compiles what a run asks of a device's kernels before they are used, with progress: the run's own parts are asked for everything, on a
 * device that computes nothing, at the numbers of rows that kernels tell apart.
 */
import type { Config } from "../config/index.ts";
import type { Device, DeviceProgram } from "../device/device.ts";
import { rowsFor } from "../generate/decode-rows.ts";
import { BatchGenerator } from "../generate/scheduler.ts";
import { compileTextStops } from "../generate/stop-automaton.ts";
import type { GenerateRequest, SamplingSettings, Sequence, TrajectoryKey } from "../generate/types.ts";
import { Progress, type TextStream } from "../log/progress.ts";
import { Decoder } from "../nn/decoder.ts";
import { KvCache } from "../nn/kv-cache.ts";
import type { Trajectory } from "../rl/trajectory.ts";
import { tokenValues, updateCritic } from "../rl/critic.ts";
import { tokenLogProbs, update } from "../rl/update.ts";
import { lastStates } from "../search/dense/decoder-embedder.ts";
import { MOST_QUERIES, PassageMatrix } from "../search/dense/matrix.ts";
import { DeviceError } from "../util/errors.ts";
import { nextTask } from "../util/next-task.ts";
import { Closing } from "./closing.ts";
import { decodeRows } from "./cache-size.ts";
import { openLearner } from "./open-learner.ts";
import type { Model } from "./open-model.ts";

/** Rows of a decode batch, or tokens of a prefill. Tiles vary with the row count. */
const pagedRows = [1, 2, 3, 4, 5, 8, 9, 16, 17, 32, 33, 48, 64, 65, 96, 128, 129, 192, 256, 257, 384, 512, 1024, 2048];
/** Tokens of a micro-batch, all of them sampled by the policy. */
const trainedRows = [1, 7, 16, 17, 64, 65, 100, 128, 256, 512, 1000, 1024, 2048, 4096, 8192, 16384];
const nothing = new Uint8Array(0);
/** A vocabulary without text: a device that computes nothing makes none. */
export const wordless = { eosIds: [], tokenBytes: () => nothing };
/** The longest sequence here: more tokens are several. */
const longest = 2048;
/** Layers are alike, but that nothing learns below the first. */
const layers = 2;

type Copy = Pick<Model, "decoder" | "adapter">;

/** The models of a run by role, as far as kernels depend on them. */
interface PreparedModels {
  readonly policy: Copy;
  readonly simulator: Copy | null;
  readonly reference: Copy | null;
  /** What a critic of its own stands on. */
  readonly criticModel: Copy | null;
}

/** Returns at once on devices that have nothing to compile. @throws DeviceError when a kernel does not compile. */
export async function prepareDevice(
  device: Device,
  config: Config,
  models: PreparedModels,
  { trains, stream = process.stdout }: { readonly trains: boolean; readonly stream?: TextStream },
): Promise<void> {
  await compile(device, modelProgram(config, models, { trains }), stream);
}

async function compile(device: Device, program: DeviceProgram, stream: TextStream): Promise<void> {
  if (device.prepare === undefined) return;
  let progress: Progress | null = null;
  await device.prepare(program, (done, total) => {
    progress ??= new Progress({ label: "compiling kernels", total, unit: "kernels", plainInterval: 2000, stream });
    progress.update(done);
  });
  // Assigned in the callback, which the compiler does not see.
  (progress as Progress | null)?.finish();
}

/** The same for the model that makes embeddings, and the search among them. @throws as `prepareDevice` */
export async function prepareEmbedder(
  device: Device,
  config: Config,
  { decoder }: Pick<Model, "decoder">,
  stream: TextStream = process.stdout,
): Promise<void> {
  await compile(device, (dry) => eachCopy(dry, { decoder, adapter: undefined }, false, (copy) => embed(config, copy)), stream);
}

/** Asks a device for all that these models do in a run: rollouts, the reference's log-probabilities and, where it `trains`, updates. */
export function modelProgram(
  config: Config,
  { policy, simulator, reference, criticModel }: PreparedModels,
  { trains }: { readonly trains: boolean },
): DeviceProgram {
  return async (device) => {
    await eachCopy(device, policy, trains, async (copy) => {
      await rollOut(config, copy);
      if (trains) await learn(config, copy);
    });
    if (simulator !== null) await eachCopy(device, simulator, false, (copy) => rollOut(config, copy));
    if (criticModel !== null && trains) await eachCopy(device, criticModel, true, (copy) => learnValues(config, copy));
    if (reference !== null) await eachCopy(device, reference, false, (copy) => score(config, copy));
  };
}

/** A model with few layers and no contents: one for each rank of its adapter, which may differ between layers. */
async function eachCopy(device: Device, { decoder, adapter }: Copy, learns: boolean, work: (copy: Copy) => Promise<void>): Promise<void> {
  const config = { ...decoder.config, layers: Math.min(layers, decoder.config.layers), maxPositions: longest + 8 };
  for (const rank of adapter === undefined ? [0] : ranksOf(decoder, adapter)) {
    const copy = new Decoder(config, device, { dtype: decoder.dtype });
    copy.setTrainable(learns && adapter === undefined);
    if (adapter !== undefined)
      copy.addAdapter(adapter, { rank, alpha: rank, targets: decoder.adapterShape(adapter).targets, trainable: learns });
    await work({ decoder: copy, adapter });
    copy.dispose();
  }
}

function ranksOf(decoder: Decoder, adapter: string): Set<number> {
  const pairs = decoder.blocks.flatMap(({ linears }) => [...linears.values()].map((linear) => linear.adapters.get(adapter)));
  return new Set(pairs.flatMap((pair) => (pair === undefined ? [] : [pair.a.rows])));
}

/** Prefills and decode steps. */
async function rollOut(config: Config, { decoder, adapter }: Copy): Promise<void> {
  const { device } = decoder;
  const { cacheDtype } = config.model;
  const { vocabulary } = decoder.config;
  const maxRows = rowsFor(decodeRows(config));
  const cacheBytes = KvCache.bytesFor(decoder.config, 2 * maxRows + longest / 64, cacheDtype);
  const generator = new BatchGenerator({
    device,
    models: { it: { decoder, cacheBytes } },
    cacheDtype,
    maxRows,
    readInterval: 1,
    sharing: false,
  });
  const stop = compileTextStops([], wordless, vocabulary);
  const request = { stop, maxNewTokens: 4, sampling: { temperature: 1, topK: 0, topP: 1 } };
  const ask = async (sequences: number, prompt: number): Promise<void> => {
    const opened = Array.from({ length: sequences }, (_, question) =>
      generator.open({
        model: "it",
        adapter,
        key: { step: 0, question, rollout: 0 },
        seed: 0,
        purpose: "policySample",
        prompt: new Array<number>(prompt).fill(0),
      }),
    );
    await unlessRefused(decodeUntil(opened, request, prompt + 1));
    for (const sequence of opened) sequence.close();
  };
  // The last token of a prompt is the first that decodes.
  for (const rows of pagedRows) await (rows <= maxRows ? ask(rows, 2) : ask(1, rows + 1));
  await generator.dispose();
  const cache = new KvCache(device, decoder.config, 2, cacheDtype);
  cache.copyBlocks([[0, 1]]);
  cache.dispose();
}

/** Embeddings of texts of all sizes, and searches. */
async function embed({ dense }: Config, { decoder }: Copy): Promise<void> {
  const { width } = decoder.config;
  const dimensions = dense.dimensions === 0 ? width : dense.dimensions;
  for (const tokens of [...trainedRows.filter((rows) => rows < dense.batchTokens), dense.batchTokens]) {
    const sequences = Array.from({ length: Math.ceil(tokens / decoder.maxPositions) }, (_, i) =>
      new Array<number>(Math.min(decoder.maxPositions, tokens - i * decoder.maxPositions)).fill(0),
    );
    const states = lastStates(decoder, sequences);
    await unlessRefused(states.readFloats());
    states.dispose();
  }
  const matrix = new PassageMatrix({ device: decoder.device, passages: 2048, dimensions, dtype: dense.dtype });
  for (const queries of pagedRows.filter((rows) => rows <= MOST_QUERIES))
    await matrix.search(
      Array.from({ length: queries }, () => new Float32Array(dimensions)),
      dense.documents,
    );
  matrix.dispose();
}

/** Log-probabilities under frozen weights. */
async function score(config: Config, { decoder, adapter }: Copy): Promise<void> {
  for (const { rollouts, settings } of microBatches(config))
    await unlessRefused(tokenLogProbs(decoder, rollouts, { ...settings, adapter }));
}

/** Values of a critic, and its updates. */
async function learnValues(config: Config, copy: Copy): Promise<void> {
  const closing = new Closing();
  const { critic } = openLearner(config, { device: copy.decoder.device, policy: copy, criticModel: copy }, closing);
  for (const { rollouts, settings } of microBatches(config)) {
    if (critic === null || critic.own === null) break;
    const batch = rollouts.map((trajectory) => ({ trajectory, reward: 1, advantage: 1, returns: trajectory.logProbs }));
    const values = new Map(rollouts.map((one) => [one, new Float64Array(one.ids.length)]));
    await unlessRefused(tokenValues(critic, rollouts, settings));
    await unlessRefused(updateCritic(critic, critic.own.optimizer, batch, { ...settings, values, clip: config.critic.clip }, 0));
  }
  await closing.close();
}

/** Updates. */
async function learn(config: Config, copy: Copy): Promise<void> {
  const { loss, clipLow, clipHigh, dualClip, klIn, klEstimator, entropyCoef } = config.algorithm;
  const klCoef = klIn === "loss" ? config.algorithm.klCoef : 0;
  const { coef, clip, trunk } = config.critic;
  const closing = new Closing();
  // A critic of its own is prepared by itself.
  const alone = trunk === "own" ? copy : null;
  const { optimizer, critic } = openLearner(config, { device: copy.decoder.device, policy: copy, criticModel: alone }, closing);
  for (const { rollouts, settings } of microBatches(config)) {
    const batch = rollouts.map((trajectory) => ({ trajectory, reward: 1, advantage: 1, returns: trajectory.logProbs }));
    const values = new Map(rollouts.map((one) => [one, new Float64Array(one.ids.length)]));
    const shared = critic?.own === null ? { critic: { head: critic.head, coef, clip, values } } : {};
    const known = klCoef === 0 ? null : new Map(rollouts.map((one) => [one, new Float32Array(one.ids.length - 1)]));
    const all = { ...settings, adapter: copy.adapter, loss, clipLow, clipHigh, dualClip, klCoef, klEstimator, entropyCoef, ...shared };
    await unlessRefused(update(copy.decoder, optimizer, batch, all, 0, known));
  }
  await closing.close();
}

/** Micro-batches of all sizes that a run may have, and how each goes through a model. */
function microBatches({ train, rollout, model }: Config) {
  const { maxContextTokens: context, temperature, topK, topP } = rollout;
  const most = Math.min(train.microBatchTokens, train.questionsPerStep * train.groupSize * context);
  return [...trainedRows.filter((rows) => rows < most), most].map((tokens) => ({
    rollouts: Array.from({ length: Math.ceil(tokens / longest) }, (_, question) => {
      const own = Math.min(longest, tokens - question * longest);
      return blankRollout(own, own, { step: 0, question, rollout: 0 }, { temperature, topK, topP });
    }),
    settings: { microBatchTokens: tokens, cacheDtype: model.cacheDtype, recompute: train.recompute },
  }));
}

/** Sizes that a kernel refuses are refused again where a run comes to them. */
async function unlessRefused(work: Promise<unknown>): Promise<void> {
  try {
    await work;
  } catch (error) {
    if (!(error instanceof DeviceError)) throw error;
  }
}

/** A rollout that only has a size: `length` tokens and one that the last of them predicts, of which the policy sampled the last `sampled`. */
export function blankRollout(length: number, sampled: number, key: TrajectoryKey, sampling: SamplingSettings): Trajectory {
  const ids = new Array<number>(length + 1).fill(0);
  const lossMask = ids.map((_, t) => (t > length - sampled ? 1 : 0));
  return { key, promptLength: 1, ids, lossMask, logProbs: ids.map(() => 0), sampling };
}

/**
 * Starts sequences together. Resolves when the first has `tokens`, of which the last must come before the end of its request: that end is what a
 * device would have to compute. Whoever closes the sequences ends them.
 * @throws what the generator refuses
 */
export async function decodeUntil(sequences: readonly Sequence[], request: GenerateRequest, tokens: number): Promise<void> {
  const [first] = sequences;
  let waiting = true;
  let failure: Error | null = null;
  for (const sequence of sequences)
    sequence.generate(request).catch((error: unknown) => {
      if (waiting) failure ??= error as Error;
    });
  while (failure === null && first !== undefined && first.ids.length < tokens) await nextTask();
  waiting = false;
  if (failure !== null) throw failure as Error;
}
