/** How large the key and value caches of a run are: what `rollout.cacheMiB` says, and what 0 stands for. */
import type { Config } from "../config/index.ts";
import { blocksFor } from "../generate/block-manager.ts";
import { KvCache } from "../nn/kv-cache.ts";
import type { DecoderConfig } from "../nn/config.ts";

/**
 * The largest decode batch. The paper's 64 x 5 rollouts decode in one wave; of more rows than this a step's products take as long as they are
 * many on any GPU, so that nothing is gained.
 */
const mostRows = 512;

/** Taken where nobody knows how much memory there is. */
const unknownMiB = 512;

/** A model as far as its cache goes. */
export interface Cached {
  readonly decoder: { readonly config: DecoderConfig };
  readonly maxPositions: number;
}

/** Models with a cache, and the tokens of a usual sequence of each. */
export type CachedModels = readonly (readonly [model: Cached, usual: number])[];

/** Rows of the largest decode batch. */
export function decodeRows({ train }: Pick<Config, "train">): number {
  return Math.min(mostRows, train.questionsPerStep * train.groupSize);
}

/** Tokens of a usual sequence of the simulator: prompt and documents. */
export function usualSimulatorTokens({ simulator, rollout }: Config): number {
  return simulator.maxNewTokens + rollout.maxNewTokens + 512;
}

/** Bytes of a model's cache: room for all rows at their usual length, and for one at its longest; what does not fit at once waits. */
export function cacheBytes(config: Config, { decoder, maxPositions }: Cached, usual: number): number {
  const of = (tokens: number, sequences: number): number =>
    KvCache.bytesFor(decoder.config, sequences * blocksFor(Math.min(tokens, maxPositions)), config.model.cacheDtype);
  return Math.max(Math.min(of(usual, decodeRows(config)), config.rollout.cacheMiB * 2 ** 20), of(maxPositions, 1));
}

/** The policy's and the simulator's. */
export function cachedModels(config: Config, policy: Cached, simulator: Cached | null): CachedModels {
  const own = [policy, config.rollout.maxContextTokens] as const;
  return simulator === null ? [own] : [own, [simulator, usualSimulatorTokens(config)]];
}

/** The configuration with a cache of so many MiB. */
export function withCache(config: Config, cacheMiB: number): Config {
  return { ...config, rollout: { ...config.rollout, cacheMiB } };
}

/** Bytes of all caches with `cacheMiB`. */
function allBytes(config: Config, models: CachedModels, cacheMiB: number): number {
  return models.reduce((sum, [model, usual]) => sum + cacheBytes(withCache(config, cacheMiB), model, usual), 0);
}

/** The configuration with the largest `cacheMiB` whose caches hold no more than `bytes` beyond the least there can be, nor more than rollouts can use. */
export function cacheWithin(config: Config, models: CachedModels, bytes: number): Config {
  const least = allBytes(config, models, 1);
  let [low, high] = [1, Math.max(1, Math.ceil(allBytes(config, models, Number.MAX_SAFE_INTEGER) / 2 ** 20))];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (allBytes(config, models, middle) - least <= bytes) low = middle;
    else high = middle - 1;
  }
  return withCache(config, low);
}

/** The configuration for where nobody knows how much memory there is. */
export function cacheUnknown(config: Config): Config {
  return withCache(config, unknownMiB);
}
