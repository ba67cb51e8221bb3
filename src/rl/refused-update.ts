/** What is said of an update that was refused because its gradient norm is not finite: plain data, bounded in size, and in one sentence. */
import type { TrajectoryKey } from "../generate/types.ts";
import type { Scored } from "./trajectory.ts";
import {
  causeOf,
  firstFault,
  largestOf,
  normOf,
  notFiniteOf,
  steepest,
  steepness,
  type TokenNumber,
  type TokenNumbers,
} from "./refusal-cause.ts";
import type { TensorFault, TensorLook, TensorNorm } from "./tensor-faults.ts";

/** A token that the policy sampled and that has a say in the loss. */
export interface MeasuredToken {
  /** In `ids`. */
  readonly position: number;
  readonly numbers: TokenNumbers;
  /** Whether the hidden state that predicts it is finite. */
  readonly hiddenFinite: boolean;
}

/** A rollout that the update learnt from. */
export interface MeasuredRollout {
  readonly row: Scored;
  /** Which micro-batch it was in, from 0. */
  readonly microBatch: number;
  /** Its part of the loss, the loss scale taken out. */
  readonly loss: number;
  readonly tokens: readonly MeasuredToken[];
}

/** The first of a list, and how many more there are. */
export interface Some<T> {
  readonly shown: readonly T[];
  readonly more: number;
}

/** Key and position are those of the trajectory. */
export interface TokenFault {
  readonly rollout: TrajectoryKey;
  readonly position: number;
  readonly id: number;
  /** The token, and what stands around it; where there is something that decodes ids. */
  readonly text?: string;
  readonly before?: string;
  readonly after?: string;
  readonly numbers: TokenNumbers;
  /** Which of them are no numbers in f32; none: the loss is steepest here of all tokens of the rollout. */
  readonly notFinite: readonly TokenNumber[];
}

export interface RolloutFault {
  readonly rollout: TrajectoryKey;
  readonly microBatch: number;
  readonly loss: number;
  readonly reward: number;
  /** Policy tokens with a say in the loss, and those of them with a number that is none. */
  readonly tokens: number;
  readonly tokensNotFinite: number;
  /** All of it, prompt and documents too; null for those that come late, and where nothing decodes ids. */
  readonly text: string | null;
}

export interface MicroBatchLoss {
  readonly rollouts: number;
  /** Its part of the loss, the loss scale taken out. */
  readonly loss: number;
}

/**
 * What came first, in the order forward, loss, backward: `weights` were not finite before the update; the `forward` overflowed; a number that
 * was `given` to the loss is none; the `loss` of a token overflowed; only the `gradients` of weights did; only their `norm` did; or
 * `nothing` is found.
 */
export const refusalCauses = ["weights", "forward", "given", "loss", "gradients", "norm", "nothing"] as const;
export type RefusalCause = (typeof refusalCauses)[number];

/** What `explainUpdate` finds. */
export interface RefusedUpdate {
  readonly cause: RefusalCause;
  /** The same in words, one sentence. */
  readonly summary: string;
  /** The one where it came first, then in the order of the batch; where no token is at fault, those where the loss is steepest. Rollouts too. */
  readonly tokens: Some<TokenFault>;
  readonly rollouts: Some<RolloutFault>;
  readonly microBatches: Some<MicroBatchLoss>;
  /** In the order of the forward pass. */
  readonly weights: Some<TensorFault>;
  /** In the order of the backward pass, from the head down. */
  readonly gradients: Some<TensorFault>;
  /** The largest gradients that are finite, and the norm of all of these. */
  readonly largest: readonly TensorNorm[];
  readonly norm: number;
}

export interface Found {
  readonly measured: readonly MeasuredRollout[];
  readonly weights: TensorLook;
  readonly gradients: TensorLook;
  /** Rollouts whose gradient is not finite when each is computed alone; null where that was not asked. */
  readonly blamed: ReadonlySet<Scored> | null;
  /** What the loss was multiplied by. */
  readonly lossScale: number;
  /** Makes text of ids. */
  readonly decode?: ((ids: readonly number[]) => string) | undefined;
}

/** Most of each kind that is shown. */
const most = { tokens: 200, tokensOfRollout: 16, rollouts: 64, texts: 8, steepest: 8, microBatches: 100, tensors: 100 };
/** Tokens before and after one that are shown with it. */
const [idsBefore, idsAfter] = [24, 12];

/** Puts together what was found, and says what came first. */
export function refusedUpdate(found: Found): RefusedUpdate {
  const { measured, weights, gradients } = found;
  const first = firstFault(measured);
  const wrong = measured
    .filter((one) => found.blamed?.has(one.row) === true || one.tokens.some((token) => notFiniteOf(token).length > 0))
    .sort((a, b) => Number(b.row === first?.row) - Number(a.row === first?.row));
  const faulty = wrong.length > 0 ? wrong : [...measured].sort((a, b) => steepness(b) - steepness(a)).slice(0, most.steepest);
  const tokens = faulty.map((rollout) => tokenFaults(rollout, found, first?.token));
  const microBatches: MicroBatchLoss[] = [];
  for (const { microBatch, loss } of measured) {
    const { rollouts, loss: before } = microBatches[microBatch] ?? { rollouts: 0, loss: 0 };
    microBatches[microBatch] = { rollouts: rollouts + 1, loss: before + loss };
  }
  const listed = tokens.flatMap(({ shown }) => shown);
  return {
    ...causeOf(found),
    tokens: {
      shown: listed.slice(0, most.tokens),
      more: tokens.reduce((sum, { more }) => sum + more, 0) + Math.max(0, listed.length - most.tokens),
    },
    rollouts: some(
      faulty.map((rollout, i) => rolloutFault(rollout, i < most.texts ? found.decode : undefined)),
      most.rollouts,
    ),
    microBatches: some(microBatches, most.microBatches),
    weights: some(weights.faults, most.tensors),
    gradients: some(gradients.faults, most.tensors),
    largest: largestOf(gradients),
    norm: normOf(gradients),
  };
}

function some<T>(list: readonly T[], count: number): Some<T> {
  return { shown: list.slice(0, count), more: Math.max(0, list.length - count) };
}

function tokenFaults(
  { row: { trajectory }, tokens }: MeasuredRollout,
  { decode }: Found,
  first: MeasuredToken | undefined,
): Some<TokenFault> {
  const { ids, key } = trajectory;
  const wrong = tokens.filter((token) => notFiniteOf(token).length > 0).sort((a, b) => Number(b === first) - Number(a === first));
  const { shown, more } = some(wrong.length > 0 ? wrong : steepest(tokens).slice(0, 1), most.tokensOfRollout);
  const texts = (t: number): Pick<TokenFault, "text" | "before" | "after"> => {
    if (decode === undefined) return {};
    return {
      text: decode(ids.slice(t, t + 1)),
      before: decode(ids.slice(Math.max(0, t - idsBefore), t)),
      after: decode(ids.slice(t + 1, t + 1 + idsAfter)),
    };
  };
  return {
    shown: shown.map((token) => {
      const { position, numbers } = token;
      return { rollout: key, position, id: ids[position] as number, ...texts(position), numbers, notFinite: notFiniteOf(token) };
    }),
    more,
  };
}

function rolloutFault({ row, microBatch, loss, tokens }: MeasuredRollout, decode: Found["decode"]): RolloutFault {
  const { trajectory, reward } = row;
  return {
    rollout: trajectory.key,
    microBatch,
    loss,
    reward,
    tokens: tokens.length,
    tokensNotFinite: tokens.filter((token) => notFiniteOf(token).length > 0).length,
    text: decode?.(trajectory.ids) ?? null,
  };
}
