/**
 * How long a step takes: its operations and bytes, at the rates that the bench has measured on the same kind of device.
 *
 * Work of one token, P being the weights it is multiplied with: 2 P forward, 4 P backward (2 P where weights do not learn), 2 P again where
 * activations are recomputed, and 4 T H D for each layer and forward over T tokens before it. A decode step reads all weights once.
 */
import type { Config } from "../config/index.ts";
import { dtypeBytes, type Dtype } from "../device/device.ts";
import { KvCache } from "../nn/kv-cache.ts";
import type { DecoderConfig } from "../nn/config.ts";
import { cacheBytes, decodeRows, usualSimulatorTokens } from "../setup/cache-size.ts";
import { hasCritic, usesLora, type Role } from "../setup/model-roles.ts";
import type { PlannedWeights } from "./models.ts";
import type { Rates } from "./rates.ts";

/** Seconds of one step. */
export interface StepTime {
  readonly prefill: number;
  readonly decode: number;
  readonly reference: number;
  readonly update: number;
  readonly total: number;
}

interface Played {
  readonly config: DecoderConfig;
  readonly dtype: Dtype;
  readonly maxPositions: number;
}

/** @param share - of the turns and tokens that a rollout may take, those it takes */
export function stepTime(config: Config, models: readonly PlannedWeights[], rates: Rates, share: number): StepTime {
  const { rollout, train, simulator, algorithm } = config;
  const play = (role: Role): Played | null => {
    for (const { copy, config: shape } of models) {
      const plan = copy.roles.find((one) => one.role === role);
      if (plan !== undefined) return { config: shape, dtype: copy.dtype, maxPositions: Math.min(plan.maxPositions, shape.maxPositions) };
    }
    return null;
  };
  const policy = play("policy") as Played;
  const searcher = play("simulator");
  const rollouts = train.questionsPerStep * train.groupSize;
  const context = Math.min(rollout.maxContextTokens, policy.maxPositions);
  const mostSampled = Math.min((rollout.maxTurns + 1) * rollout.maxNewTokens, context);
  const sampled = share * mostSampled;
  const tokens = Math.max(sampled, share * context);
  const seen = tokens / 2; // on the average, before a token

  const forward = ({ config: shape }: Played, before: number): number => 2 * productWeights(shape) + attention(shape, before);
  const read = rollouts * (tokens - sampled);
  const prefill = (read * (forward(policy, seen) - 2 * headWeights(policy.config))) / rates.prefillFlops;

  const decoding = (played: Played, total: number, longest: number, before: number, usual: number): number => {
    const shape = played.config;
    const cache = cacheBytes(config, { decoder: { config: shape }, maxPositions: played.maxPositions }, usual);
    const tokenBytes = KvCache.bytesFor(shape, 1, config.model.cacheDtype) / 64;
    const rows = Math.max(1, Math.min(decodeRows(config), cache / tokenBytes / Math.max(1, 2 * before)));
    // However many rows, the longest goes on to its end.
    const steps = Math.max(total / rows, longest);
    const bytes = steps * productWeights(shape) * dtypeBytes[played.dtype] + total * before * tokenBytes;
    return (
      Math.max(bytes / rates.decodeBytes, (total * forward(played, before)) / rates.decodeFlops) + steps * shape.layers * rates.layerSeconds
    );
  };
  const documents = simulator.maxNewTokens;
  const searches = share * rollout.maxTurns;
  const decode =
    decoding(policy, rollouts * sampled, mostSampled, seen, rollout.maxContextTokens) +
    (searcher === null
      ? 0
      : decoding(searcher, rollouts * searches * documents, rollout.maxTurns * documents, documents / 2, usualSimulatorTokens(config)));

  const judge = play("reference");
  const reference = judge === null || algorithm.klCoef === 0 ? 0 : (rollouts * tokens * forward(judge, seen)) / rates.prefillFlops;
  const passes = (usesLora(config) ? 2 : 3) + (train.recompute ? 1 : 0);
  // A critic has no LM head; its values are a forward more, of its own weights or the policy's.
  const own = play("critic");
  const critic = hasCritic(config) ? (own ?? policy) : null;
  const valued = critic === null ? 0 : rollouts * tokens * (forward(critic, seen) - 2 * headWeights(critic.config));
  const learnt = own === null ? 0 : passes * valued;
  const update = valued / rates.prefillFlops + (rollouts * tokens * passes * forward(policy, seen) + learnt) / rates.trainFlops;
  return { prefill, decode, reference, update, total: prefill + decode + reference + update };
}

/** Weights that a token is multiplied with: all matrices, and the head. */
export function productWeights(shape: DecoderConfig): number {
  const { width: C, mlpWidth: F, layers: L, heads: H, kvHeads: K, headDim: D } = shape;
  return L * (2 * C * H * D + 2 * C * K * D + 3 * C * F) + headWeights(shape);
}

function headWeights({ width: C, vocabulary: V }: DecoderConfig): number {
  return C * V;
}

function attention({ layers: L, heads: H, headDim: D }: DecoderConfig, before: number): number {
  return 4 * L * H * D * before;
}
