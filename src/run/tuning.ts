/** Fine-tuning as a program does it: over a stream of examples, shown as it goes, saved, and gone on with. */
import { rm } from "node:fs/promises";
import { loadTensors } from "../checkpoint/load-model.ts";
import { latestCheckpoint, saveCheckpoint } from "../checkpoint/run-state.ts";
import { saveTensors } from "../checkpoint/save-tensors.ts";
import { Progress, steadyClock } from "../log/progress.ts";
import type { Decoder } from "../nn/decoder.ts";
import type { AdamW } from "../optim/adamw.ts";
import type { LossScaler, LossScalerState } from "../optim/loss-scaler.ts";
import { BatchStream, fineTuneStep, type Example } from "../sft/fine-tune.ts";
import { abortReason } from "../util/abort.ts";
import { ZeroSearchError } from "../util/errors.ts";
import { nextTask } from "../util/next-task.ts";

/** One update, the `step`-th. */
export interface TuningRow {
  readonly step: number;
  /** That went through the model so far. */
  readonly tokens: number;
  readonly loss: number;
  readonly gradNorm: number;
  readonly learningRate: number;
  /** Mean loss of the held-out examples after it, where it was measured. */
  readonly validationLoss?: number;
}

export interface TuningOptions {
  /** In words, for the bar and for errors. */
  readonly label: string;
  readonly decoder: Decoder;
  /** The LoRA adapter that learns; all weights unless told. */
  readonly adapter?: string | undefined;
  readonly optimizer: AdamW;
  readonly lossScaler: LossScaler | null;
  /** Tokens that go through the model; the last batch may be more, or what is left of the examples. */
  readonly tokens: number;
  /** The examples, at least for so many tokens: the same ones at each call. `share` tells how much is done, 0 to 1. */
  readonly examples: (share: () => number) => Iterator<Example>;
  readonly tokensPerUpdate: number;
  readonly microBatchTokens: number;
  readonly recompute?: boolean;
  /** Examples that are longer are left out. */
  readonly maxTokens: number;
  /** At update `u` (from 0), with `share` of the tokens done. */
  readonly learningRate: (u: number, share: number) => number;
  readonly states: TuningStates;
  /** When it is saved: after so many updates, or so many minutes; 0 is never. */
  readonly saveEvery?: number;
  readonly saveMinutes?: number;
  /** Mean loss of held-out examples, measured after every so many updates and at the end. */
  readonly validation?: { readonly every: number; readonly measure: () => Promise<number> } | undefined;
  readonly onUpdate?: (row: TuningRow) => void;
  /** Fires when it is to stop: it is saved then. */
  readonly signal?: AbortSignal | undefined;
}

/** Where it is saved, and what. */
export interface TuningStates {
  readonly folder: string;
  readonly seed: number;
  /** What learns, as a part of a state. */
  readonly model: { readonly write: (path: string) => Promise<void>; readonly load: (path: string) => Promise<void> };
  /** Bytes of logs, and whatever else is to be remembered, by name. */
  readonly logBytes?: () => Readonly<Record<string, number>>;
}

/** Updates whose mean loss is the one at the end. */
const toldLosses = 100;
const MODEL = "model";
const OPTIMIZER = "optimizer.safetensors";

/**
 * Fine-tunes from where the newest state stands to the end; the states are deleted by whoever keeps the result (`forgetStates`).
 * @returns the mean loss of the last hundred updates, and how many examples were too long
 * @throws ZeroSearchError where training has diverged; the signal's reason, once it is saved; FileError where it cannot be saved.
 */
export async function tune(options: TuningOptions): Promise<{ readonly loss: number; readonly tooLong: number }> {
  const { label, decoder, adapter, optimizer, lossScaler, states, validation, signal, saveEvery = 0, saveMinutes = 0 } = options;
  const { step: resumeAt, losses } = await restore(options);
  let tokens = 0;
  let updates = 0;
  let saved = resumeAt;
  let savedAt = steadyClock();
  const stream = new BatchStream(
    options.examples(() => tokens / options.tokens),
    options.tokensPerUpdate,
    options.maxTokens,
  );
  let progress: Progress | null = null;
  const save = async (done: number): Promise<void> => {
    if (done === saved) return;
    await saveCheckpoint({
      folder: states.folder,
      keep: 1,
      state: {
        step: done,
        updates: optimizer.step,
        seed: states.seed,
        device: decoder.device.description,
        build: "",
        best: null,
        logBytes: { ...states.logBytes?.() },
        extra: { losses: losses.slice(-toldLosses), ...(lossScaler === null ? {} : { lossScale: { ...lossScaler.state() } }) },
      },
      parts: [
        { name: MODEL, write: states.model.write },
        { name: OPTIMIZER, write: (path) => saveTensors(path, optimizer.stateTensors()) },
      ],
    });
    [saved, savedAt] = [done, steadyClock()];
  };
  for (; tokens < options.tokens; updates++) {
    // A device that computes at once never lets Node look at its signals.
    if (updates >= resumeAt) await nextTask();
    if (signal?.aborted === true && updates >= resumeAt) {
      await save(updates);
      throw abortReason(signal);
    }
    const batch = stream.next();
    const share = tokens / options.tokens;
    const batchTokens = batch.reduce((sum, { ids }) => sum + ids.length, 0);
    tokens += batchTokens;
    if (updates < resumeAt) continue;
    progress ??= new Progress({
      label: `${label}: tokens`,
      total: options.tokens,
      from: tokens - batchTokens,
      unit: "tokens",
      plainInterval: 10_000,
    });
    const learningRate = options.learningRate(updates, share);
    const { microBatchTokens, recompute = false } = options;
    const stats = await fineTuneStep(decoder, optimizer, batch, { learningRate, microBatchTokens, recompute, adapter });
    if (!Number.isFinite(stats.gradNorm) && !stats.overflowed)
      throw new ZeroSearchError({
        where: `${label}, update ${updates + 1}`,
        what: "the gradient norm is not finite: training has diverged",
        got: String(stats.gradNorm),
        hint: "Lower the learning rate.",
      });
    losses.push(stats.loss);
    const isLast = tokens >= options.tokens;
    const measured =
      validation !== undefined && (isLast || (updates + 1) % validation.every === 0) ? await validation.measure() : undefined;
    options.onUpdate?.({
      step: updates + 1,
      tokens,
      loss: stats.loss,
      gradNorm: stats.gradNorm,
      learningRate,
      ...(measured === undefined ? {} : { validationLoss: measured }),
    });
    const fields = { loss: recent(losses, 20), "grad norm": stats.gradNorm };
    if (measured === undefined) progress.update(Math.min(tokens, options.tokens), fields);
    else progress.mark(Math.min(tokens, options.tokens), { ...fields, "validation loss": measured });
    const minutes = (steadyClock() - savedAt) / 60_000;
    const due = (saveEvery > 0 && (updates + 1) % saveEvery === 0) || (saveMinutes > 0 && minutes >= saveMinutes);
    if (due && !isLast) await save(updates + 1);
  }
  progress?.finish();
  return { loss: recent(losses, toldLosses), tooLong: stream.tooLong };
}

/** Deletes the states of a tuning that is done. */
export async function forgetStates(folder: string): Promise<void> {
  await rm(folder, { recursive: true, force: true });
}

/** @returns updates done, and the losses of the last of them */
async function restore({ optimizer, lossScaler, states }: TuningOptions): Promise<{ readonly step: number; readonly losses: number[] }> {
  const found = await latestCheckpoint(states.folder);
  if (found === null) return { step: 0, losses: [] };
  await states.model.load(found.part(MODEL));
  await loadTensors(found.part(OPTIMIZER), optimizer.stateTensors());
  optimizer.resume(found.state.updates);
  const { lossScale, losses } = found.state.extra;
  if (lossScale !== undefined) lossScaler?.resume(lossScale as unknown as LossScalerState);
  // A loss that is no number is null in JSON; states from before hold none.
  return { step: found.state.step, losses: Array.isArray(losses) ? losses.map((loss) => (typeof loss === "number" ? loss : NaN)) : [] };
}

/** Linear warm-up times a half cosine from 1 to `finalFraction`. */
export function cosineRate(
  { peak, warmupUpdates, finalFraction }: { readonly peak: number; readonly warmupUpdates: number; readonly finalFraction: number },
  u: number,
  share: number,
): number {
  const warm = Math.min(1, (u + 1) / Math.max(1, warmupUpdates));
  return peak * warm * (finalFraction + (1 - finalFraction) * 0.5 * (1 + Math.cos(Math.PI * Math.min(1, share))));
}

function recent(values: readonly number[], count: number): number {
  const last = values.slice(-count);
  return last.reduce((sum, value) => sum + value, 0) / Math.max(1, last.length);
}
