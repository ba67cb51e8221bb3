import { join } from "node:path";
import { expect, it } from "vitest";
import { loadConfig } from "../../src/checkpoint/load-model.ts";
import { packagedConfig, readOverride, readYaml, resolveConfig, packageFolder, type Config } from "../../src/config/index.ts";
import { fromHuggingFace } from "../../src/nn/config.ts";
import { smol135M } from "../helpers/random-checkpoint.ts";
import { KvCache } from "../../src/nn/kv-cache.ts";
import { cacheBytes, cachedModels, cacheWithin, decodeRows, usualSimulatorTokens, withCache } from "../../src/setup/cache-size.ts";

it("the quickstart's caches hold all rows at their usual length: 128 of 9 and of 11 blocks", async () => {
  const config = resolveConfig(readYaml(packagedConfig("quickstart")));
  const blocks = async (role: string, usual: number): Promise<number> => {
    const decoder = { config: await loadConfig(join(packageFolder, "checkpoints", "quickstart", role)) };
    return cacheBytes(config, { decoder, maxPositions: 687 }, usual) / KvCache.bytesFor(decoder.config, 1, config.model.cacheDtype);
  };
  expect(await blocks("policy", config.rollout.maxContextTokens)).toBe(128 * 9);
  expect(await blocks("simulator", usualSimulatorTokens(config))).toBe(128 * 11);
});

const shape = fromHuggingFace({ ...smol135M, num_hidden_layers: 4 });
const model = { decoder: { config: shape }, maxPositions: 700 };
const config = resolveConfig([...readYaml(packagedConfig("quickstart")), readOverride("rollout.cacheMiB=0")]);
const block = KvCache.bytesFor(shape, 1, config.model.cacheDtype);
const MiB = 2 ** 20;

it("the paper's 320 rollouts decode in one wave", () => {
  const { train } = resolveConfig(readYaml(join(packageFolder, "configs", "paper", "qwen2.5-3b.yaml")));
  expect(decodeRows({ train })).toBe(320);
  expect(decodeRows({ train: { ...train, questionsPerStep: 1000 } })).toBe(512);
});

it("a cache of what is left holds no more than rollouts can use, and no more than is left beyond the least there can be", () => {
  const models = cachedModels(config, model, model);
  const bytes = (one: Config): number => models.reduce((sum, [each, usual]) => sum + cacheBytes(one, each, usual), 0);
  const least = bytes(withCache(config, 1));
  const most = bytes(withCache(config, 1e9));
  // 128 rows of 560 tokens, and of 664: 96 + 56 + 512.
  expect(most).toBe(128 * (9 + 11) * block);
  expect(bytes(cacheWithin(config, models, 1e15))).toBe(most);
  expect(bytes(cacheWithin(config, models, 0))).toBe(least);
  let before = 0;
  for (const left of [1, 7, 20.5, 60, 200].map((n) => n * MiB)) {
    const sized = cacheWithin(config, models, left);
    expect(bytes(sized) - least).toBeLessThanOrEqual(left);
    // One MiB more for each would be too much, or of no use.
    const more = bytes(withCache(config, sized.rollout.cacheMiB + 1));
    expect(more - least > left || more === bytes(sized) || more === most).toBe(true);
    expect(bytes(sized)).toBeGreaterThanOrEqual(before);
    before = bytes(sized);
  }
});
