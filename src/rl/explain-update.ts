/**
 * Why an update was refused: its forward is computed again (weights are as they were), the loss is taken token by token, and the gradients that
 * the update left are looked at. To be called after a refused update and before the next one; a step that is fine never comes here.
 */
import type { Decoder } from "../nn/decoder.ts";
import type { Parameter, Tensor } from "../tensor/tensor.ts";
import { accumulateValues, learntBy, trunk, type CriticModel, type CriticUpdateSettings } from "./critic.ts";
import { zeroGradients } from "./forward.ts";
import { tokenMean } from "./loss-weights.ts";
import { hasGradient, microBatches } from "./mini-batches.ts";
import { packMicroBatch, type MicroBatch, type TokenLogProbs } from "./packing.ts";
import { newStats, partOf, readForward, readSlopes, type Forward, type Seen, type Slopes } from "./read-loss.ts";
import { forwardFails, tokensAreFine, type TokenNumbers } from "./refusal-cause.ts";
import { refusedUpdate, type MeasuredRollout, type MeasuredToken, type RefusedUpdate } from "./refused-update.ts";
import { lookAt } from "./tensor-faults.ts";
import type { Scored } from "./trajectory.ts";
import { accumulate, learners, lossOfTokens, type UpdateSettings } from "./update.ts";
import { lossOfValues, packTargets } from "./value-targets.ts";

export interface ExplainOptions {
  /** What the loss of the refused update was multiplied by, as its statistics say; 1 unless told. */
  readonly lossScale?: number;
  /** Makes text of ids, for people; without it tokens are ids alone. */
  readonly decode?: (ids: readonly number[]) => string;
}

/**
 * What of an `update` that was refused is not finite, and what of it came first. Takes what `update` was given. Weights and moments stay as they
 * are; gradients do not.
 * @throws as `update`
 */
export async function explainUpdate(
  policy: Decoder,
  batch: readonly Scored[],
  settings: UpdateSettings,
  reference: TokenLogProbs | null = null,
  { lossScale = 1, decode }: ExplainOptions = {},
): Promise<RefusedUpdate> {
  const { critic } = settings;
  const weighing = (settings.lossWeights ?? tokenMean)(batch);
  const scale = lossScale * weighing.scale;
  const packing = { reference: settings.klCoef === 0 ? null : reference, weight: weighing.weight };
  const trained = batch.filter((row) => hasGradient(row, settings));
  const measured = await measure(trained, settings.microBatchTokens, async (rows) => {
    const whole = packMicroBatch(rows, packing);
    const seen = await readForward(policy, whole, settings, critic?.head ?? null, true);
    return eachOf(rows, whole, async (row, from, to) => {
      const micro = packMicroBatch([row], packing);
      const now = partOf(seen, from, to);
      const targets = critic === undefined ? null : { ...packTargets([row], critic.values), weight: micro.weight };
      const slopes = await readSlopes(policy.device, now, ({ logProb: own, entropy, value }, [stats, valueStats]) => {
        const root = lossOfTokens({ logProb: own as Tensor, entropy: entropy as Tensor }, micro, settings, { scale, stats });
        if (critic !== undefined && targets !== null)
          lossOfValues(value as Tensor, targets, { clip: critic.clip, scale: critic.coef * scale, stats: valueStats });
        return root;
      });
      const numbers = (n: number): TokenNumbers => ({
        ...policyNumbers(now, slopes, micro, n, lossScale),
        ...(targets === null ? {} : valueNumbers(now, slopes, targets, n, lossScale)),
      });
      return { loss: slopes.loss / lossScale, tokens: tokensOf(row, micro, now, numbers) };
    });
  });
  const weights = learners(policy, settings);
  return look(measured, { weights, learning: weights }, { lossScale, decode }, (row) => {
    const rows = [row];
    const [stats, values] = newStats(policy.device);
    const sums = { policy: stats, values: critic === undefined ? null : values };
    accumulate(policy, { rows, micro: packMicroBatch(rows, packing) }, settings, scale, sums).dispose();
    for (const tensor of [stats, values]) tensor.dispose();
  });
}

/** As `explainUpdate`, of an `updateCritic` that was refused. @throws as that */
export async function explainCriticUpdate(
  critic: CriticModel,
  given: readonly Scored[],
  asked: CriticUpdateSettings,
  { lossScale = 1, decode }: ExplainOptions = {},
): Promise<RefusedUpdate> {
  const { decoder, adapter, head } = critic;
  const { batch, values } = learntBy(given, asked);
  const settings = { ...asked, values };
  const { scale: share, weight } = (settings.lossWeights ?? tokenMean)(batch);
  const scale = lossScale * share;
  const trained = batch.filter(({ trajectory }) => trajectory.lossMask.includes(1));
  const measured = await measure(trained, settings.microBatchTokens, async (rows) => {
    const whole = packMicroBatch(rows, { weight });
    const seen = await readForward(decoder, whole, { ...settings, adapter }, head, false);
    return eachOf(rows, whole, async (row, from, to) => {
      const micro = packMicroBatch([row], { weight });
      const now = partOf(seen, from, to);
      const targets = { ...packTargets([row], settings.values), weight: micro.weight };
      const slopes = await readSlopes(decoder.device, now, ({ value }, [, stats]) =>
        lossOfValues(value as Tensor, targets, { clip: settings.clip, scale, stats }),
      );
      const numbers = (n: number): TokenNumbers => valueNumbers(now, slopes, targets, n, lossScale);
      return { loss: slopes.loss / lossScale, tokens: tokensOf(row, micro, now, numbers) };
    });
  });
  const learning = [...trunk(critic).values(), ...head.parameters().values()];
  const frozen = adapter === undefined ? [] : decoder.parameters().values();
  return look(measured, { weights: [...frozen, ...learning], learning }, { lossScale, decode }, (row) => {
    const [others, stats] = newStats(decoder.device);
    accumulateValues(critic, [row], settings, { weight, scale, stats });
    for (const tensor of [others, stats]) tensor.dispose();
  });
}

/** Rollouts that give a gradient which is not finite by themselves are looked for until there are so many. */
const blamedMost = 8;

/** Looks at weights and gradients, and puts all of it together. `again` adds the gradients of one rollout. */
async function look(
  measured: readonly MeasuredRollout[],
  { weights: all, learning }: { readonly weights: readonly Parameter[]; readonly learning: readonly Parameter[] },
  { lossScale, decode }: { readonly lossScale: number; readonly decode: ExplainOptions["decode"] },
  again: (row: Scored) => void,
): Promise<RefusedUpdate> {
  // Frozen weights of other types have to be read as a whole, and what they do is seen in the forward.
  const looked = forwardFails(measured) ? all : all.filter(({ dtype }) => dtype === "f32");
  const weights = await lookAt(new Map(looked.map((parameter) => [parameter.name, parameter])));
  const made = new Map(learning.flatMap(({ name, grad }) => (grad === null ? [] : [[name, grad] as const])).reverse());
  const gradients = await lookAt(made, lossScale);
  const search = gradients.faults.length > 0 && weights.faults.length === 0 && tokensAreFine(measured);
  const blamed = search ? new Set<Scored>() : null;
  for (const { row } of measured) {
    if (blamed === null || blamed.size === blamedMost) break;
    zeroGradients(learning);
    again(row);
    if ((await lookAt(made)).faults.length > 0) blamed.add(row);
  }
  return refusedUpdate({ measured, weights, gradients, blamed, lossScale, decode });
}

type RolloutNumbers = Pick<MeasuredRollout, "loss" | "tokens">;

/** Measures micro-batch by micro-batch, cut as the update cut them. */
async function measure(
  rows: readonly Scored[],
  microBatchTokens: number,
  measureOne: (rows: readonly Scored[]) => Promise<RolloutNumbers[]>,
): Promise<MeasuredRollout[]> {
  const measured: MeasuredRollout[] = [];
  for (const [microBatch, part] of microBatches(rows, microBatchTokens).entries()) {
    const numbers = await measureOne(part);
    part.forEach((row, i) => measured.push({ row, microBatch, ...(numbers[i] as RolloutNumbers) }));
  }
  return measured;
}

/** Each rollout of a micro-batch, with the place of its tokens among the M. */
async function eachOf<T>(
  rows: readonly Scored[],
  { offsets }: MicroBatch,
  one: (row: Scored, from: number, to: number) => Promise<T>,
): Promise<T[]> {
  const all: T[] = [];
  for (const [i, row] of rows.entries()) all.push(await one(row, offsets[i] as number, offsets[i + 1] as number));
  return all;
}

function policyNumbers(now: Forward, slopes: Slopes, micro: MicroBatch, n: number, lossScale: number): TokenNumbers {
  const own = now.logProb?.[n] as number;
  const old = micro.oldLogProb[n] as number;
  const reference = micro.referenceLogProb?.[n];
  return {
    logProb: own,
    entropy: now.entropy?.[n] as number,
    oldLogProb: old,
    ...(reference === undefined ? {} : { referenceLogProb: reference, k3: Math.expm1(reference - own) - (reference - own) }),
    advantage: micro.advantage[n] as number,
    weight: micro.weight[n] as number,
    ratio: Math.exp(own - old),
    ...(slopes.logProb === undefined ? {} : { logProbGradient: (slopes.logProb[n] as number) / lossScale }),
    ...(slopes.entropy === undefined ? {} : { entropyGradient: (slopes.entropy[n] as number) / lossScale }),
  };
}

function valueNumbers(
  now: Forward,
  slopes: Slopes,
  targets: ReturnType<typeof packTargets> & { readonly weight: Float32Array },
  n: number,
  lossScale: number,
): TokenNumbers {
  return {
    value: now.value?.[n] as number,
    oldValue: targets.oldValue[n] as number,
    return: targets.returns[n] as number,
    weight: targets.weight[n] as number,
    ...(slopes.value === undefined ? {} : { valueGradient: (slopes.value[n] as number) / lossScale }),
  };
}

/** Tokens that have a say in the loss: those of weight 0 have none, whatever their numbers. */
function tokensOf(
  { trajectory }: Scored,
  { weight }: MicroBatch,
  { hiddenFinite }: Seen,
  numbers: (n: number) => TokenNumbers,
): MeasuredToken[] {
  const positions = trajectory.lossMask.flatMap((mask, t) => (mask === 1 ? [t] : []));
  return positions.flatMap((position, n): MeasuredToken[] =>
    weight[n] === 0 ? [] : [{ position, numbers: numbers(n), hiddenFinite: hiddenFinite[n] as boolean }],
  );
}
