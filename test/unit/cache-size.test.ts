import { join } from "node:path";
import { expect, it } from "vitest";
import { loadConfig } from "../../src/checkpoint/load-model.ts";
import { packagedConfig, readYaml, resolveConfig, packageFolder } from "../../src/config/index.ts";
import { KvCache } from "../../src/nn/kv-cache.ts";
import { cacheBytes, usualSimulatorTokens } from "../../src/setup/open-agents.ts";

it("the quickstart's caches hold all rows at their usual length: 128 of 9 and of 11 blocks", async () => {
  const config = resolveConfig(readYaml(packagedConfig("quickstart")));
  const blocks = async (role: string, usual: number): Promise<number> => {
    const decoder = { config: await loadConfig(join(packageFolder, "checkpoints", "quickstart", role)) };
    return cacheBytes(config, { decoder, maxPositions: 687 }, usual) / KvCache.bytesFor(decoder.config, 1, config.model.cacheDtype);
  };
  expect(await blocks("policy", config.rollout.maxContextTokens)).toBe(128 * 9);
  expect(await blocks("simulator", usualSimulatorTokens(config))).toBe(128 * 11);
});
